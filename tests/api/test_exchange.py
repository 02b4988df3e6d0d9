"""Models in from Hugging Face's form and out again, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alexandra.backends import huggingface
from alexandra.cli import app
from alexandra.errors import UsageError
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network, compile_program

NETWORKS = Path(__file__).parents[2] / "examples/networks"


def test_a_model_goes_in_and_out_unchanged(tmp_path: Path) -> None:
    small = {"vocab": 11, "width": 8, "layers": 2, "heads": 2, "kv_heads": 1, "hidden": 12}
    graph = compile_network(NETWORKS / "llama3.nl", constants=small)
    weights = initialise(graph, 1)
    source = huggingface.save(huggingface.describe(graph, weights), tmp_path / "source")
    (source / "tokenizer.json").write_text("{}")
    run = CliRunner()
    done = run.invoke(app, ["huggingface", "import", str(source), str(tmp_path / "mine"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["family"] == "llama"
    made = compile_program(tmp_path / "mine" / "network.nl")
    assert made.weights() == weights
    done = run.invoke(app, ["huggingface", "export", str(tmp_path / "mine" / "network.nl"), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert huggingface.load(tmp_path / "out").weights == weights
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"


def test_a_network_without_weights_is_not_exported(tmp_path: Path) -> None:
    from alexandra.api.exchange import export_model

    with pytest.raises(UsageError, match="names no weights\nwrite FILE"):
        export_model(NETWORKS / "gpt2.nl", tmp_path / "out")

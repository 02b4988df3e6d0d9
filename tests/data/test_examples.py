"""Python code, prose and a table each go from raw to a trained, registered model, in the examples."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from alexandra.api import operations

pytestmark = pytest.mark.slow


def output_of(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["prose", "code"])
def test_raw_text_becomes_a_language_model_that_learns(repository: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("tokenizers")
    printed = output_of(str(repository / "examples/data/text.py"), kind, str(tmp_path))
    before, after = re.search(r"^loss (\S+) -> (\S+)$", printed, re.MULTILINE).groups()  # type: ignore[union-attr]
    assert float(after) < float(before) - 0.5
    assert "passed: True" in printed and (tmp_path / "corpus/report.html").exists()
    reply = operations.ask(kind, question='{"text": "The"}', stage="experiment", registry=tmp_path / "registry")
    assert reply.answers[0].value and reply.answers[0].verdict.startswith("experiment; accuracy")


def test_events_become_a_registered_specialist(repository: Path, tmp_path: Path) -> None:
    printed = output_of(str(repository / "examples/data/table.py"), str(tmp_path))
    assert "registered" in printed and (tmp_path / "registry").is_dir()

"""`alexandra diff` and `compile --develop` as a user types them."""

import json
from pathlib import Path

import pytest

from alexandra.api.programs import read_graph
from alexandra.backends.pytorch_memory import training_memory
from alexandra.cli import main
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network
from alexandra.objectives.spec import AdamW, CrossEntropy, Program

BASE = (
    "LAYER INPUT name=x size=4 LAYER DENSE name=h size=8 activation=relu LAYER OUTPUT name=y size=2 CONNECT x -> h -> y"
)


def run(*words: str) -> int:
    try:
        main(list(words))
    except SystemExit as done:
        return int(done.code or 0)
    return 0


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "a.nl").write_text(BASE)
    changed = BASE.replace("size=8 activation=relu", "size=16").replace("=y", "=z").replace("> y", "> z")
    (tmp_path / "b.nl").write_text(changed)
    return str(tmp_path / "a.nl"), str(tmp_path / "b.nl")


def test_diff_says_what_changed_and_what_it_costs(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("diff", *files) == 0
    text = capsys.readouterr().out
    assert "~ h: size 8 -> 16; activation relu -> linear" in text
    assert "parameters: 58 -> 114 (+96.6%)" in text
    assert run("diff", *files, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["equal"] is False and record["changed"][0]["attrs"]["size"] == [8, 16]


def test_rounds_that_changed_alike_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """LET layers = 12;
LAYER INPUT name=t shape=(SEQ) dtype=int32
LAYER EMBEDDING name=e vocab=9 size=8
REPEAT layers AS block
BEGIN RESIDUAL BEGIN LAYER ATTENTION name=look heads=2 LAYER DENSE name=mix size=8 END END
LAYER OUTPUT name=y size=9
CONNECT t -> e -> block -> y"""
    (tmp_path / "a.nl").write_text(text)
    (tmp_path / "b.nl").write_text(text.replace("LAYER DENSE name=mix size=8", "").replace("heads=2", "heads=4"))
    files = str(tmp_path / "a.nl"), str(tmp_path / "b.nl")
    assert run("diff", *files) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "- LAYER DENSE name=block_1.mix size=8   (and in 11 more, block_2 to block_12)",
        "~ block_1.look: heads 2 -> 4   (and in 11 more, block_2 to block_12)",
        "~ block_1.add: reads e, block_1.mix -> e, block_1.look",
    ]
    assert lines[3].startswith("~ block_2.add: reads block_1.add, block_2.mix") and "10 more, block_3" in lines[3]
    assert lines[5].startswith("parameters: 4,089 -> 3,225") and "give it: --sequence" in lines[6] and len(lines) == 7
    assert run("diff", *files, "--sequence", "10", "--let", "layers=2") == 0
    assert "FLOPs per row: 20,640 -> 18,080" in capsys.readouterr().out


def test_diff_of_a_network_with_itself_is_equal(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("diff", files[0], files[0]) == 0
    assert "equal: 3 layers" in capsys.readouterr().out


def test_diff_of_a_missing_file_is_one_message(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("diff", files[0], "nowhere.nl") == 2
    assert "no file 'nowhere.nl'" in capsys.readouterr().err


def test_develop_shows_the_flat_program_beside_the_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loop.nl"
    path.write_text("REPEAT 2 AS t BEGIN LAYER TANH END " + BASE.replace("x -> h", "x -> t -> h"))
    assert run("compile", str(path), "--develop", "--cost") == 0
    text = capsys.readouterr().out
    assert "LAYER TANH name=t_2.tanh" in text and "parameters" in text


def test_the_cost_of_training_is_what_backends_predict(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("alexandra._native")
    from alexandra.backends.native_memory import planned_memory

    assert run("compile", files[0], "--cost", "--batch", "5", "--json") == 0
    cost = json.loads(capsys.readouterr().out)["cost"]
    graph, program = read_graph(Path(files[0])), Program(CrossEntropy(), AdamW(), batch_size=5)
    tiers = planned_memory(graph, program)
    assert cost["memory_training_native_bytes"] == sum(tiers.values()) - tiers["inference"]
    assert cost["memory_training_torch_bytes"] == training_memory(graph, program)["total"]


def test_compile_refuses_weights_that_are_missing_or_of_another_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.nl"
    path.write_text(f'{BASE} FILE "net.safetensors"')
    assert run("compile", str(path)) == 1
    assert "no file" in (error := capsys.readouterr().err) and 'FILE "net.safetensors"' in error
    graph = compile_network(path)
    initialise(graph).save(tmp_path / "net.safetensors", graph)
    assert run("compile", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["has_weights"] is True
    path.write_text(f'{BASE.replace("size=8", "size=9")} FILE "net.safetensors"')
    assert run("compile", str(path)) == 1
    assert "holds weights of network 'net'" in capsys.readouterr().err

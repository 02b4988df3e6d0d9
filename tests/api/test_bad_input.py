"""Each bad input has its one clear error, exit code 1, and leaves nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexandra.cli import main

TASK = 'TASK t BEGIN DATA csv("ok.csv") TARGET y {} END'
NET = "NETWORK n BEGIN LAYER INPUT name=x size=AUTO LAYER OUTPUT name=y size=5 activation=softmax CONNECT x -> y END"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3))
    y = np.where(x[:, 0] + rng.normal(size=100) > 0, "yes", "no")
    rows = [",".join([*(f"{v:.4f}" for v in row), label]) for row, label in zip(x, y, strict=True)]
    (tmp_path / "ok.csv").write_text("\n".join(["a,b,c,y", *rows]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(argv))
    assert stopped.value.code == 1
    return capsys.readouterr().err


FILES = {
    "one.csv": ("a,y\n" + "\n".join(f"{i},no" for i in range(50)), "one class only: 'no'"),
    "empty.csv": ("", "is empty"),
    "header.csv": ("a,b,y\n", "has a header and no rows"),
    "junk.csv": (bytes(np.random.default_rng(1).integers(0, 256, 4000, dtype=np.uint8)), "is not a text table"),
    "ragged.csv": ("a,b,y\n1,2,no\n1,2,3,yes\n", "the header has 3 fields, line 3 has 4"),
    "wide.csv": (",".join(f"c{i}" for i in range(10_000)) + ",y\n" + "1," * 10_000 + "0\n", "10,001 columns"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_table_is_named(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, words = FILES[name]
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(path.name for path in folder.iterdir())
    error = refused(capsys, "solve", name, "--target", "y")
    assert f"'{name}'" in error or "target 'y'" in error
    assert words in error
    assert sorted(path.name for path in folder.iterdir()) == before


TASKS = {
    "METRIC rocauc": "Did you mean 'roc_auc'?",
    "METRIC accuracy ACCEPT accuracy >= 99.9%": "even a perfect score reaches only 96.3% at n=100",
    'NETWORKS "net.nl"': "its output 'y' has size 5, but the target needs 2",
    'NETWORKS "none.nl"': "there is no file 'none.nl'",
    "METRIC rmse": "rmse",
    "DROP d": "no column 'd'",
}


@pytest.mark.parametrize("clause", TASKS)
def test_a_task_that_cannot_be_met_is_refused_before_training(
    folder: Path, capsys: pytest.CaptureFixture[str], clause: str
) -> None:
    (folder / "net.nl").write_text(NET)
    (folder / "t.task").write_text(TASK.format(clause))
    assert TASKS[clause] in refused(capsys, "solve", "t.task")
    assert not (folder / "runs").exists()


def test_a_missing_target_lists_the_columns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "solve", "ok.csv", "--target", "Y1")
    assert "has no column 'Y1'" in error
    assert "a, b, c, y" in error


def test_a_leaking_column_is_named_with_the_way_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (folder / "ok.csv").read_text().splitlines()
    coded = ["ward," + lines[0], *(f"{'A7' if line.endswith('yes') else 'B2'},{line}" for line in lines[1:])]
    (folder / "leak.csv").write_text("\n".join(coded))
    error = refused(capsys, "solve", "leak.csv", "--target", "y")
    assert "column 'ward' gives the target away" in error
    assert "--drop 'ward'" in error

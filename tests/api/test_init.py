"""`alexandra init` writes a task that says every default, parses, and is solved unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars
import pytest

from alexandra.api import init_task, operations
from alexandra.cli import main
from alexandra.errors import DataError, TaskError, UsageError
from alexandra.lang.fmt import format_text
from alexandra.lang.task import load_task
from alexandra.lang.task_spec import resolved

TRICKY = 'no "never"\nat all'


def write_table(folder: Path, n: int = 300, name: str = "rows.csv", **more: object) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    y = np.where(x[:, 0] + rng.normal(size=n) > 0, "Yes", TRICKY)
    columns = {"customer id": [f"c{i}" for i in range(n)], "END": x[:, 0], "a // b": x[:, 1], "one": ["k"] * n}
    path = folder / name
    polars.DataFrame({**columns, "y": y, **more}).write_csv(path)
    return path


def test_the_file_parses_to_the_task_with_every_default_and_is_laid_out(tmp_path: Path) -> None:
    made = init_task.write(write_table(tmp_path), "y")
    assert made.path == tmp_path / "rows.task"
    task = load_task(made.path)
    assert task == made.task == resolved(task, 300, "binary"), "no default is left open"
    assert (task.target, task.positive, task.drop) == ("y", "Yes", ("customer id", "one"))
    assert format_text(made.program, "task") == made.program
    for statement in ("TAGS", "SPLIT folds=5 SEED 0", "METRIC", "VERIFY", "ACCEPT", "NETWORKS FAMILY", "BUDGET"):
        assert f"\n  {statement}" in made.program


def test_every_column_stands_there_with_its_kind_and_what_is_dropped_with_its_reason(tmp_path: Path) -> None:
    made = init_task.write(write_table(tmp_path, copy=["?"] * 299 + ["!"]), "y")
    remarks = [line.split() for line in made.program.splitlines() if line.startswith("//")]
    assert ["//", "a", "//", "b", "number", "300", "distinct"] in remarks
    assert ["//", "y", "category", "2", "distinct", "target"] in remarks
    assert "// one: it is constant ('k')" in made.program
    assert "// customer id: it looks like an identifier (300 distinct values in 300 rows)" in made.program


def test_what_gives_the_target_away_is_dropped_and_named(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    table = polars.read_csv(path)
    table.with_columns(polars.col("y").replace({"Yes": "A", TRICKY: "B"}).alias("leak")).write_csv(path)
    made = init_task.write(path, "y")
    assert "leak" in made.task.drop
    assert "// leak: it gives the target away: its 2 values give the class away" in made.program
    everything = tmp_path / "all.csv"
    table.select("y", polars.col("y").alias("same")).write_csv(everything)
    with pytest.raises(TaskError, match="every column gives the target 'y' away: 'same'"):
        init_task.write(everything, "y")
    assert not (tmp_path / "all.task").exists()


def test_the_written_task_is_solved_unchanged(tmp_path: Path) -> None:
    made = init_task.write(write_table(tmp_path), "y", out=tmp_path / "tasks" / "mine.task")
    assert made.task.data.location == "../rows.csv"
    small = made.program.replace("0..4 layers, 32..256 wide", "0..0 layers, 32..32 wide").replace("=5 S", "=2 S")
    made.path.write_text(small)
    solution = operations.solve(made.path, registry=tmp_path / "r", runs=tmp_path / "runs", promote=False)
    assert solution.best == "linear"
    assert solution.data.features == ["END", "a // b"]
    assert str(solution.data.metric) == "roc_auc"


def test_numbers_dates_and_several_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    days = [f"2026-01-{1 + i % 28:02d}" for i in range(300)]
    path = write_table(tmp_path, day=days, amount=rng.normal(size=300), kind=rng.choice(["a", "b", "c"], 300))
    made = init_task.write(path, "amount", out=tmp_path / "amount.task")
    assert "METRIC rmse" in made.program and not made.task.positive
    assert "SPLIT time=day train=70% validation=15% test=15%" in made.program
    assert "METRIC accuracy" in init_task.write(path, "kind", out=tmp_path / "kind.task").program


def test_nothing_is_written_over_without_force(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    init_task.write(path, "y")
    mine = tmp_path / "rows.task"
    mine.write_text("mine")
    with pytest.raises(UsageError, match="rows.task' is there already\n--force writes over it"):
        init_task.write(path, "y")
    assert mine.read_text() == "mine"
    init_task.write(path, "y", force=True)
    assert load_task(mine).target == "y"


def test_refusals_name_what_is_wrong_and_leave_nothing(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="no class 'maybe'"):
        init_task.write(path, "y", positive="maybe")
    with pytest.raises(DataError, match="Yy"):
        init_task.write(path, "Yy")
    with pytest.raises(UsageError, match="is no task file"):
        init_task.write(path, "y", out=tmp_path / "task.txt")
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_prints_one_json_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["init", str(write_table(tmp_path)), "--target", "y", "--json"])
    assert not stopped.value.code
    record = json.loads(capsys.readouterr().out)
    assert record["path"] == str(tmp_path / "rows.task")
    assert Path(record["path"]).read_text() == record["program"]
    assert {column["name"]: column["kind"] for column in record["columns"]}["END"] == "number"
    with pytest.raises(SystemExit) as stopped:
        main(["init", str(tmp_path / "rows.csv"), "--target", "y", "--force"])
    printed = capsys.readouterr().out
    assert f"wrote {tmp_path / 'rows.task'}: 300 rows, 2 columns to learn from" in printed
    assert "left out    one: it is constant ('k')" in printed

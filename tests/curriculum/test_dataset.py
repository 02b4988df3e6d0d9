"""Data sets: the same bytes however they are made, resumable, and proved again from their inputs alone."""

from __future__ import annotations

import json
import multiprocessing
import re
from pathlib import Path
from typing import Any

import polars
import pytest

from alexandra.curriculum import SPLITS, Validation, dataset, edge_cases, generate, validate
from alexandra.curriculum.questions import tree_record
from alexandra.errors import DataError
from alexandra.maths import parse

Rows = list[dict[str, Any]]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, found: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    generate([1, 2], 300, tmp_path / "data", seed=5)
    return tmp_path / "data"


def faults(found: Validation) -> dict[str, int]:
    return {name: count for name, count in found.faults.items() if count}


def test_a_data_set_has_every_split_and_proves_itself(small: Path) -> None:
    found = validate(small)
    hard = sum(len(edge_cases(n)) for n in (1, 2))
    assert found.ok and found.rows == 600 + hard and found.problems == ()
    assert found.counts == {n: {"train": 210, "val": 30, "test_iid": 30, "test_ood": 30} for n in (1, 2)}
    assert found.statistics[1]["most_depth"] == 1 and found.statistics[2]["mean_nodes"] > 5
    kinds = [f"{split}.{suffix}" for split in SPLITS for suffix in ("jsonl", "parquet")]
    names = {f"level_{n}/{name}" for n in (1, 2) for name in (*kinds, "manifest.json")}
    assert set(files(small)) == names | {"edge_cases/test_hard.jsonl"}
    ids = [row["id"] for n in (1, 2) for split in SPLITS for row in rows(small / f"level_{n}/{split}.jsonl")]
    assert len(set(ids)) == 600


def test_a_line_is_the_seeds_record(small: Path) -> None:
    first = rows(small / "level_2/train.jsonl")[0]
    assert list(first) == [
        "id", "level", "split", "input_polish", "input_expr", "expected_result", "expected_exact", "expected_symbolic",
        "bindings", "key",
    ]  # fmt: skip
    assert (
        first["level"] == 2
        and first["split"] == "train"
        and first["input_expr"] == tree_record(parse(first["input_polish"]))
    )


def test_workers_and_interruptions_do_not_change_a_byte(tmp_path: Path) -> None:
    plain = generate([2], 3000, tmp_path / "a", seed=1)
    generate([2], 3000, tmp_path / "b", seed=1, workers=2)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert not plain[0].reused and generate([2], 3000, tmp_path / "a", seed=1)[0].reused

    class StopError(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if done >= 2000:
            raise StopError

    with pytest.raises(StopError):
        generate([2], 3000, tmp_path / "c", seed=1, progress=stop)
    kept = list((tmp_path / "c").rglob("pool-*.txt"))
    assert len(kept) >= 2 and not list((tmp_path / "c").rglob("*.jsonl"))
    kept[0].write_bytes(kept[0].read_bytes()[:-9])
    drawn: list[int] = []
    draw = dataset._draw_block

    def counted(task: tuple[int, int, bool, int, int, str]) -> str:
        drawn.append(task[3])
        return draw(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "_draw_block", counted)
        generate([2], 3000, tmp_path / "c", seed=1)
    assert files(tmp_path / "c") == files(tmp_path / "a")
    assert len(drawn) < 5, "the blocks that were whole are not drawn again"


def _generate(folder: str) -> None:
    generate([1], 3000, folder, seed=2)


def test_two_commands_in_one_folder_do_no_harm(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_generate, args=(str(tmp_path / "both"),)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    _generate(str(tmp_path / "one"))
    assert files(tmp_path / "both") == files(tmp_path / "one")


def test_a_damaged_file_is_written_again(small: Path) -> None:
    before = files(small)
    path = small / "level_1/val.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert faults(validate(small))["damaged"] == 1
    assert [one.reused for one in generate([1, 2], 300, small, seed=5)] == [False, True]
    assert files(small) == before


def test_progress_ends_at_the_count(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    generate([1], 2500, tmp_path, progress=lambda *step: seen.append(step))
    assert seen == [("level 1", 2000, 2500), ("level 1", 2500, 2500)]


@pytest.mark.parametrize(
    ("levels", "count", "words"),
    [
        ([8], 10, "no level '?8"),
        ([1], 0, "0 items cannot be generated"),
        ([1], 2_000_000, r"level 1 has [\d,]+ distinct items for train, 1,400,000 of 2,000,000 were asked"),
    ],
)
def test_what_cannot_be_generated_is_refused_before_anything_is_written(
    tmp_path: Path, levels: list[int], count: int, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        generate([*levels, 2], count, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_data_set_is_not_overwritten(small: Path) -> None:
    before = files(small)
    with pytest.raises(DataError, match="holds another data set: seed is 5, not 6"):
        generate([1], 300, small, seed=6)
    assert files(small) == before
    manifest = small / "level_1/manifest.json"
    manifest.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="is no manifest of a data set"):
        generate([1], 300, small, seed=5)
    assert faults(validate(small)) == {"damaged": 1}


# --- proof -------------------------------------------------------------------------------------------------------


def changed(row: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**row, **fields}


def test_each_fault_is_found_and_named(small: Path) -> None:
    path = small / "level_2/test_iid.jsonl"
    good = rows(path)
    commuted = next(row for row in good if row["input_expr"]["BinOp"]["op"] in ("Add", "Mul"))
    tree = parse(commuted["input_polish"])
    other = f"({tree.op} {tree.args[1]} {tree.args[0]})"  # type: ignore[attr-defined]
    train = rows(small / "level_2/train.jsonl")[0]
    larger = rows(small / "level_2/test_ood.jsonl")[0]
    cases: list[tuple[str, dict[str, Any] | str, str]] = [
        ("wrong", changed(good[0], expected_exact="12345/7"), "is .*, not 12345/7"),
        ("wrong", changed(good[0], expected_result=1e9), "expected_result is 1000000000.0"),
        ("outside", changed(larger, split="test_iid"), "is not an input of level 2"),
        ("outside", changed(good[0], level=9), "there is no level 9"),
        ("misplaced", changed(train, split="test_iid"), "belongs to train, not test_iid"),
        ("misplaced", changed(good[0], split="tset"), "there is no split 'tset'"),
        ("misplaced", changed(good[0], split="edge"), "is no edge case"),
        ("duplicates", changed(commuted, input_polish=other), "occurs again"),
        ("leaks", train, "also in level 2 test_iid"),
        ("misplaced", changed(good[0], split="val"), "belongs to test_iid, not val"),
        ("misplaced", changed(larger, id="L2-9"), "the line says 'test_ood'"),
        ("malformed", changed(good[0], key="0" * 32), "the key of"),
        ("malformed", changed(good[0], input_polish="(+ 1"), "'\\(' is never closed"),
        ("malformed", {name: value for name, value in good[0].items() if name != "bindings"}, "no field 'bindings'"),
        ("malformed", "[1]", "not a JSON object"),
        ("malformed", "{", "Expecting"),
    ]
    (small / "level_2/manifest.json").unlink()
    for fault, row, words in cases:
        line = row if isinstance(row, str) else json.dumps(row)
        bad = good if fault in ("duplicates", "leaks") or row is larger else good[1:]
        path.write_text("".join(json.dumps(one) + "\n" for one in bad) + line + "\n", encoding="utf-8")
        found = validate(small)
        assert found.faults[fault] == 1 and not found.ok, (fault, row, found.problems)
        problem = next(text for text in found.problems if text.startswith(fault))
        assert f"test_iid.jsonl:{len(bad) + 1}: " in problem or fault == "leaks"
        assert re.search(words, problem), problem


def test_one_file_can_be_proved_alone_and_workers_agree(small: Path) -> None:
    alone = validate(small / "level_1/val.jsonl")
    assert alone.rows == 30 and alone.counts[1]["val"] == 30 and alone.ok
    assert validate(small, workers=2) == validate(small)


def test_a_folder_without_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.jsonl file at"):
        validate(tmp_path)


def test_parquet_holds_the_lines(small: Path) -> None:
    frame = polars.read_parquet(small / "level_2/train.parquet")
    lines = rows(small / "level_2/train.jsonl")
    assert frame["id"].to_list() == [line["id"] for line in lines]
    assert frame["expected_result"].to_list() == [line["expected_result"] for line in lines]
    assert [json.loads(text) for text in frame["input_expr"]] == [line["input_expr"] for line in lines]
    assert set(frame.columns) == set(lines[0])


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7])
def test_every_level_is_generated_and_proved(number: int, tmp_path: Path) -> None:
    generate([number], 60, tmp_path, seed=3)
    found = validate(tmp_path)
    assert found.ok and sum(found.counts[number].values()) == 60, found.problems


@pytest.mark.parametrize("number", [3, 5, 6, 7])
def test_a_wrong_answer_of_any_level_is_found(number: int, tmp_path: Path) -> None:
    generate([number], 60, tmp_path, seed=3)
    path = tmp_path / f"level_{number}/train.jsonl"
    good = rows(path)
    write(path, [changed(row, expected_exact=good[i - 1]["expected_exact"]) for i, row in enumerate(good)])
    found = faults(validate(path))
    assert found["wrong"] > 0.8 * len(good)


def test_one_format_may_be_left_out(tmp_path: Path) -> None:
    generate([1], 30, tmp_path, formats=("jsonl",))
    assert not list(tmp_path.rglob("*.parquet")) and validate(tmp_path).ok
    with pytest.raises(DataError, match="formats: jsonl, parquet"):
        generate([1], 30, tmp_path / "other", formats=("csv",))

"""`generate` and `validate` as their user types them: files, words, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alexandra.api import maths_ops
from alexandra.cli import main
from alexandra.errors import UsageError


def run(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_generate_writes_what_validate_proves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generate", "--all-levels", "--count", "50", "--out", str(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "level 2     50 items written: train 35, val 5, test_iid 5, test_ood 5" in printed
    assert "alexandra validate" in printed
    assert run("validate", str(tmp_path)) == 0
    assert "malformed 0, wrong 0, outside 0" in capsys.readouterr().out


def test_the_seeds_own_flags_are_understood_and_a_second_run_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("generate", "--level", "1", "--samples", "30", "--output", str(tmp_path), "--json")
    assert run(*command) == 0
    (first,) = json.loads(capsys.readouterr().out)
    assert first == {
        "level": 1,
        "folder": str(tmp_path / "level_1"),
        "counts": {"train": 21, "val": 3, "test_iid": 3, "test_ood": 3},
        "reused": False,
    }
    assert run(*command) == 0
    assert json.loads(capsys.readouterr().out)[0]["reused"] is True


def test_a_wrong_answer_ends_in_exit_code_1_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maths_ops.generate(tmp_path, [1], count=40)
    path = tmp_path / "level_1/train.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    record = json.loads(lines[4])
    lines[4] = json.dumps({**record, "expected_exact": "1000", "expected_result": 1000.0})
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert run("validate", str(tmp_path)) == 1
    printed = capsys.readouterr().out
    assert "wrong 1" in printed and "damaged 1" in printed and f"{path}:5: {record['input_polish']} is " in printed
    assert run("validate", str(path), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False and found["faults"]["wrong"] == 1 and found["counts"]["1"]["train"] == 27


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("generate", "--out", "x"), 2, "say which levels"),
        (("generate", "--level", "1", "--all-levels"), 2, "say which levels"),
        (("generate", "--level", "8", "--out", "x"), 1, "no level 8\nknown: 1, 2, 3"),
        (("generate", "--level", "1", "--count", "9999999", "--out", "x"), 1, "level 1 has"),
        (("generate", "--level", "1", "--workers", "-1", "--out", "x"), 2, "--workers -1 is no number of processes"),
        (("validate", "nowhere"), 1, "no .jsonl file at 'nowhere'"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == code
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_level_means_every_level_in_python(tmp_path: Path) -> None:
    assert [one.level for one in maths_ops.generate(tmp_path, count=20)] == [1, 2, 3, 4, 5, 6, 7]
    assert maths_ops.validate(tmp_path).ok
    with pytest.raises(UsageError, match="--workers -1"):
        maths_ops.validate(tmp_path, workers=-1)

"""The list of bugs is whole and its edits are real; a sample of them is noticed (the whole list: mutants.py)."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PLACE = Path(__file__).with_name("mutants.py")


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", PLACE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


mutants = loaded()


def source(path: str) -> str:
    return str((mutants.ROOT / mutants.SOURCE / path).read_text(encoding="utf-8"))


def edited(one) -> str:  # type: ignore[no-untyped-def]
    data = source(one.path).encode()
    return (data[: one.start] + one.new.encode() + data[one.stop :]).decode()


def test_two_hundred_bugs_are_drawn_the_same_way_every_time() -> None:
    first, again = mutants.chosen(10, 0), mutants.chosen(10, 0)
    assert len(first) >= 200 and first == again
    assert {one.path for one in first} == set(mutants.TARGETS)
    assert len(mutants.written()[0]) >= 40


def test_every_edit_is_a_program_and_another_one() -> None:
    for path in mutants.TARGETS:
        whole = ast.dump(ast.parse(source(path)))
        for one in mutants.edits(path, source(path))[::7]:
            assert ast.dump(ast.parse(edited(one))) != whole, one.name
    for one in mutants.written()[0]:
        assert ast.dump(ast.parse(edited(one))) != ast.dump(ast.parse(source(one.path))), one.name


def test_what_is_said_to_change_nothing_is_still_there() -> None:
    known = {one.key for path in mutants.TARGETS for one in mutants.edits(path, source(path))}
    assert set(mutants.written()[1]) <= known


def test_every_target_is_there() -> None:
    for targets in mutants.TARGETS.values():
        assert all((mutants.ROOT / target).exists() for target in targets)


@pytest.mark.slow
def test_a_sample_of_twenty_is_noticed(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, str(PLACE), "--sample", "20", "--seed", "7", "--json", str(out)]
    assert subprocess.run(command, check=False).returncode == 0
    found = json.loads(out.read_text())
    assert found["mutants"] == 20 and found["rate"] >= 0.95, found["survivors"]

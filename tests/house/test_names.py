"""Modules are named after what they hold, open with a header that says so, and comments hold no promises."""

from __future__ import annotations

import ast
import re
import tokenize
from pathlib import Path

FORBIDDEN_NAMES = {
    "util", "utils", "common", "helper", "helpers", "core", "manager", "managers", "misc", "v2", "new", "real",
    "legacy", "old", "tmp", "stuff",
}  # fmt: skip
PROMISES = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def modules(root: Path) -> list[Path]:
    return sorted((root / "src").rglob("*.py"))


def test_no_file_or_folder_has_a_name_that_says_nothing(repository: Path) -> None:
    folders = ("src", "csrc", "include", "tests", "benchmarks")
    places = [p for folder in folders for p in (repository / folder).rglob("*")]
    bad = [p.relative_to(repository).as_posix() for p in places if p.stem.removeprefix("test_") in FORBIDDEN_NAMES]
    assert not bad, f"name the concept instead: {bad}"


def test_every_module_opens_with_a_header(repository: Path) -> None:
    bare = []
    for path in modules(repository):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if tree.body and not ast.get_docstring(tree):
            bare.append(path.relative_to(repository).as_posix())
    assert not bare, f"a module says in three to eight lines what it is and what it is not: {bare}"


def test_no_comment_promises_later_work(repository: Path) -> None:
    found = []
    for path in modules(repository):
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.COMMENT and PROMISES.search(token.string):
                    found.append(f"{path.relative_to(repository)}:{token.start[0]}")
    assert not found, f"make it real or open an issue: {found}"

"""The page docs/curriculum.md: every level's pins, counts, examples and edge cases, made from the table of levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alexandra.curriculum.edge_cases import edge_cases
from alexandra.curriculum.items import TEST_OOD, Item
from alexandra.curriculum.levels import LEVELS
from alexandra.curriculum.pins import Level
from alexandra.curriculum.sample import level
from alexandra.maths import to_infix

SHOWN = 6
SEED = 7
_HEAD = """# The seven levels

Made by `python -m alexandra.curriculum.gallery > docs/curriculum.md` from the table of levels; not edited by hand. How
levels are counted, split and checked is told in [Mathematics and the curriculum](maths.md). Pins are fixed: a level is
never made easier.

| level | skill | size | distinct items | out of distribution |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [
        f"| {row.number} | {row.skill} | {row.size:,} | {_count(row, row.distinct)} | {_count(row, row.distinct_ood)} |"
        for row in LEVELS.values()
    ]
    return _HEAD + "\n".join(rows) + "\n" + "".join(_section(row) for row in LEVELS.values())


def _count(row: Level, number: int) -> str:
    return f"{'at least' if row.at_least else 'exactly'} {number:,}"


def _section(row: Level) -> str:
    lines = [f"\n## Level {row.number}: {row.skill}\n", _pins(row.pins), ""]
    lines += ["| question | in infix | answer |", "|---|---|---|"]
    lines += [_row(item) for item in level(row.number, SHOWN, SEED)]
    lines += ["\nOut of distribution:\n", "| question | in infix | answer |", "|---|---|---|"]
    lines += [_row(item) for item in level(row.number, SHOWN // 2, SEED, TEST_OOD)]
    lines += ["\nEdge cases:\n", "| question | in infix | answer |", "|---|---|---|"]
    lines += [_row(item) for item in edge_cases(row.number)[:SHOWN]]
    return "\n".join(lines) + "\n"


def _pins(pins: Mapping[str, Any]) -> str:
    rows = ["| pin | value |", "|---|---|"]
    for name, value in pins.items():
        words = " to ".join(str(end) for end in value) if isinstance(value, tuple) else str(value)
        rows.append(f"| {name.replace('_', ' ')} | {words.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def _row(item: Item) -> str:
    values = ", ".join(f"{name} = {value}" for name, value in item.bindings)
    question = f"`{item.input}`" + (f" at {values}" if values else "")
    return f"| {question} | `{to_infix(item.expr)}` | `{item.answer}` |"


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())

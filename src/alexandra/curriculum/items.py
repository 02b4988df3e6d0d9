"""One item of a curriculum: a question, its exact answer, where it belongs, and its line of a data set.

An item is counted and placed by the canonical key of its question alone: the split follows from the key, not from a
seed, so what is held out stays held out in every data set that anyone generates. Records are the lines of the seed's
JSONL files; `expected_result` is a float for readers, `expected_exact` is what is checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from alexandra.curriculum.questions import Answer, Bindings, Question, question_key, tree_json
from alexandra.errors import AlexandraError, DataError
from alexandra.maths import Apply, Expr, Number, parse, symbols
from alexandra.maths.expr import OPERATORS

TRAIN, VAL, TEST_IID, TEST_OOD = SPLITS = ("train", "val", "test_iid", "test_ood")
# Upper ends on the unit interval of keys; test_ood has inputs of its own.
SHARES = {TRAIN: 0.8, VAL: 0.9, TEST_IID: 1.0}
FIELDS = (
    "input_polish", "input_expr", "expected_result", "expected_exact", "expected_symbolic", "bindings", "key",
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """`expected` is the exact answer; `bindings` are (symbol, value) pairs; `split` is one of SPLITS."""

    id: str
    level: int
    expr: Expr
    expected: Answer
    key: str
    split: str
    bindings: Bindings = ()

    @property
    def input(self) -> str:
        """The question in the prefix language (without its bindings)."""
        return self.expr.text()

    @property
    def question(self) -> Question:
        return Question(self.expr, self.bindings)

    @property
    def answer(self) -> str:
        """The exact answer as text: 5, 1/3, (* 2 x)."""
        return str(self.expected)

    def record(self) -> dict[str, Any]:
        """A line of a data set."""
        found: dict[str, Any] = json.loads(line(self.id, self.level, self.split, columns(self)))
        return found

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Item:
        """The inverse of `record` (what can be derived is derived again); DataError when a field is missing or bad."""
        try:
            expr = parse(record["input_polish"])
            bindings = tuple((str(name), Fraction(value)) for name, value in record["bindings"])
            found = parse(record["expected_exact"])
            expected: Answer = found.value if isinstance(found, Number) else found
            item_key = question_key(expr, bindings)
            return cls(
                str(record["id"]), int(record["level"]), expr, expected, item_key, str(record["split"]), bindings
            )
        except KeyError as error:
            raise DataError(f"a record has no field {error.args[0]!r}") from error
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise DataError(f"a record is not one of a curriculum: {error}") from error


def columns(item: Item) -> tuple[str, ...]:
    """The JSON texts of FIELDS, in their order."""
    expected = item.expected
    number = as_float(expected)
    symbolic = "null" if isinstance(expected, Fraction) else tree_json(expected)
    values = ", ".join([f'["{name}", {as_float(value)}]' for name, value in item.bindings])
    result = "null" if number is None else repr(number)
    return (
        f'"{item.expr.text()}"',
        tree_json(item.expr),
        result,
        f'"{expected}"',
        symbolic,
        f"[{values}]",
        f'"{item.key}"',
    )


def line(name: str, level: int, split: str, parts: tuple[str, ...]) -> str:
    """A line of a JSONL file, without its end."""
    fields = ", ".join([f'"{field}": {part}' for field, part in zip(FIELDS, parts, strict=True)])
    return f'{{"id": "{name}", "level": {level}, "split": "{split}", {fields}}}'


def split_of(item_key: str) -> str:
    """train, val or test_iid, by the first 32 bits of the canonical key."""
    place = int(item_key[:8], 16) / 2**32
    return next(name for name, end in SHARES.items() if place < end)


def as_float(value: Answer) -> float | None:
    """The nearest float, None where there is none (a function, a set, a number that is too large)."""
    if isinstance(value, Apply) and (OPERATORS[value.op].kind == "collection" or symbols(value)):
        return None
    try:
        return float(value)
    except (OverflowError, AlexandraError):
        return None

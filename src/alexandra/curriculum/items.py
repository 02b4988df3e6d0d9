"""One item of a curriculum: an input, its exact answer, where it belongs; and the check of any answer to it.

An item is counted and placed by the canonical key of its input alone (maths/canonical_form.py): the split follows from
the key, not from a seed, so what is held out stays held out in every data set that anyone generates. Records are the
lines of the seed's JSONL files; `expected_result` is a float for readers, `expected_exact` is what is checked.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from alexandra.errors import DataError, LanguageError
from alexandra.maths import Apply, Expr, Number, Symbol, key, parse

TRAIN, VAL, TEST_IID, TEST_OOD = SPLITS = ("train", "val", "test_iid", "test_ood")
# Upper ends on the unit interval of keys; test_ood has inputs of its own.
SHARES = {TRAIN: 0.8, VAL: 0.9, TEST_IID: 1.0}


@dataclass(frozen=True)
class Item:
    """`expected` is the exact answer; `bindings` are (symbol, value) pairs; `split` is one of SPLITS."""

    id: str
    level: int
    expr: Expr
    expected: Fraction
    key: str
    split: str
    bindings: tuple[tuple[str, Fraction], ...] = ()

    @property
    def input(self) -> str:
        """The question in the prefix language."""
        return self.expr.text()

    @property
    def answer(self) -> str:
        """The exact answer as text: 5, -3, 1/3."""
        return str(self.expected)

    def record(self) -> dict[str, Any]:
        """A line of a data set."""
        return {
            "id": self.id,
            "level": self.level,
            "split": self.split,
            "input_polish": self.input,
            "input_expr": tree_record(self.expr),
            "expected_result": as_float(self.expected),
            "expected_exact": self.answer,
            "expected_symbolic": None,
            "bindings": [[name, as_float(value)] for name, value in self.bindings],
            "key": self.key,
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Item:
        """The inverse of `record` (what can be derived is derived again); DataError when a field is missing or bad."""
        try:
            expr = parse(record["input_polish"])
            bindings = tuple((str(name), Fraction(value)) for name, value in record["bindings"])
            expected = Fraction(record["expected_exact"])
            return cls(
                str(record["id"]), int(record["level"]), expr, expected, key(expr), str(record["split"]), bindings
            )
        except KeyError as error:
            raise DataError(f"a record has no field {error.args[0]!r}") from error
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise DataError(f"a record is not one of a curriculum: {error}") from error


def split_of(item_key: str) -> str:
    """train, val or test_iid, by the first 32 bits of the canonical key."""
    place = int(item_key[:8], 16) / 2**32
    return next(name for name, end in SHARES.items() if place < end)


def as_float(value: Fraction) -> float | None:
    """The nearest float, None where there is none."""
    try:
        return float(value)
    except OverflowError:
        return None


_NAMES = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "%": "Mod", "^": "Pow"}


def tree_record(expr: Expr) -> dict[str, Any]:
    """The tree as the seed's JSON has it: {"BinOp": {"op": "Add", "left": ..., "right": ...}}."""
    if isinstance(expr, Number):
        value = expr.value
        whole = value.denominator == 1
        return {"Value": {"Integer": value.numerator} if whole else {"Rational": [value.numerator, value.denominator]}}
    if isinstance(expr, Symbol):
        return {"Value": {"Symbol": expr.name}}
    assert isinstance(expr, Apply)
    inner = [tree_record(arg) for arg in expr.args]
    if len(inner) == 1:
        return {"UnaryOp": {"op": "Neg", "operand": inner[0]}}
    return {"BinOp": {"op": _NAMES[expr.op], "left": inner[0], "right": inner[1]}}


def check_value(answer: object, expected: Fraction) -> bool:
    """Whether `answer` is `expected`, in any form of a finished number; never raises.

    A number (a float counts with its exact binary value) or text: 5, 5.0, 10/2, (/ 10 2), (- 5). Sums, products and
    powers are refused, however equal: an echo of the question is no answer.
    """
    if isinstance(answer, str):
        try:
            value = _numeral(parse(answer))
        except LanguageError:
            return False
        return value is not None and value == expected
    if isinstance(answer, Expr):
        value = _numeral(answer)
        return value is not None and value == expected
    if isinstance(answer, bool) or not isinstance(answer, numbers.Real):
        return False
    if isinstance(answer, numbers.Rational):
        return Fraction(int(answer.numerator), int(answer.denominator)) == expected
    number = float(answer)
    return math.isfinite(number) and Fraction(number) == expected


def _numeral(expr: Expr, divisions: int = 1) -> Fraction | None:
    """The value of a number, of the negative of a numeral, or of one division of two; None for anything else."""
    if isinstance(expr, Number):
        return expr.value
    if not isinstance(expr, Apply):
        return None
    if len(expr.args) == 1:
        inner = _numeral(expr.args[0], divisions)
        return None if inner is None else -inner
    if expr.op != "/" or not divisions:
        return None
    above, below = (_numeral(arg, divisions - 1) for arg in expr.args)
    return above / below if above is not None and below else None

"""Expressions as numbers and back: digits of two whole operands and their operator in, a sign and digits out.

Nothing is computed here: an input becomes one-hot digits (or tokens, for networks that embed), an answer becomes one
class per head: `sign` (0 plus, 1 minus) and `digit_2`, `digit_1`, `digit_0`, the last being the ones. How many digits
there are is learnt from training rows; an input that does not fit is refused, not cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from alexandra.errors import DataError
from alexandra.ir.graph import Graph
from alexandra.maths import Apply, Expr, Number, parse
from alexandra.tables import Table

INPUT = "input"
SIGN = "sign"
DIGITS = 10


@dataclass(frozen=True)
class DigitCoder:
    """How inputs (op a b) and whole answers are written as arrays; `features` and `kinds` are the table's columns."""

    operators: tuple[str, ...]
    operand_digits: int
    answer_digits: int

    features: ClassVar[tuple[str, ...]] = (INPUT,)
    kinds: ClassVar[Mapping[str, str]] = {INPUT: "text"}

    @classmethod
    def fit(cls, inputs: Sequence[str], answers: np.ndarray) -> DigitCoder:
        """Operators and digit counts of these rows."""
        parts = [_parts(parse(text)) for text in inputs]
        if not parts or None in parts:
            raise DataError("a digit coder is fitted on inputs (op a b) with whole operands from 0 up")
        known = [part for part in parts if part is not None]
        widest = max(max(a, b) for _, a, b in known)
        return cls(tuple(sorted({op for op, _, _ in known})), len(str(widest)), len(str(int(np.abs(answers).max()))))

    @property
    def width(self) -> int:
        """Features of a row."""
        return len(self.operators) + 2 * self.operand_digits * DIGITS

    @property
    def tokens_per_row(self) -> int:
        return 1 + 2 * self.operand_digits

    @property
    def vocabulary(self) -> int:
        """Tokens: the ten digits, then the operators."""
        return DIGITS + len(self.operators)

    @property
    def heads(self) -> dict[str, int]:
        """Output name -> number of classes."""
        return {SIGN: 2, **{f"digit_{place}": DIGITS for place in reversed(range(self.answer_digits))}}

    def tokens(self, inputs: Sequence[str]) -> np.ndarray:
        """int32 [rows, tokens_per_row]: operator, digits of the first operand, digits of the second."""
        return np.array([self._row(text) for text in inputs], dtype=np.int32).reshape(-1, self.tokens_per_row)

    def one_hot(self, inputs: Sequence[str]) -> np.ndarray:
        """float32 [rows, width]: one place per operator, then ten per digit."""
        tokens = self.tokens(inputs)
        operators = tokens[:, :1] - DIGITS == np.arange(len(self.operators))
        digits = tokens[:, 1:, None] == np.arange(DIGITS)
        return np.concatenate([operators, digits.reshape(len(tokens), -1)], axis=1).astype(np.float32)

    def arrays(self, graph: Graph, inputs: Sequence[str]) -> dict[str, np.ndarray]:
        """What `graph` reads: tokens where its input is int32, else one-hot digits."""
        source = graph.inputs[0]
        embeds = source.attrs.get("dtype") == "int32"
        return {source.name: self.tokens(inputs) if embeds else self.one_hot(inputs)}

    def targets(self, answers: np.ndarray) -> dict[str, np.ndarray]:
        """Class index per head, int64 [rows] each."""
        values = answers.astype(np.int64)
        found = {SIGN: (values < 0).astype(np.int64)}
        for place in reversed(range(self.answer_digits)):
            found[f"digit_{place}"] = np.abs(values) // 10**place % 10
        return found

    def decode(self, outputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """int64 answers and the probability of each: the product over the heads."""
        values = np.zeros(len(outputs[SIGN]), dtype=np.int64)
        probability = outputs[SIGN].max(axis=1).astype(np.float64)
        for place in range(self.answer_digits):
            head = outputs[f"digit_{place}"]
            values += head.argmax(axis=1) * 10**place
            probability *= head.max(axis=1)
        return np.where(outputs[SIGN].argmax(axis=1) == 1, -values, values), probability

    def _row(self, text: str) -> list[int]:
        parts = _parts(parse(text, "<input>"))
        if parts is None or parts[0] not in self.operators or max(parts[1:]) >= 10**self.operand_digits:
            raise DataError(
                f"{text!r} is not a question that this specialist reads",
                hint=f"it reads ({' or '.join(self.operators)}) of two whole numbers from 0 to "
                f"{10**self.operand_digits - 1}, for instance ({self.operators[0]} 2 3)",
            )
        op, a, b = parts
        written = f"{a:0{self.operand_digits}d}{b:0{self.operand_digits}d}"
        return [DIGITS + self.operators.index(op), *map(int, written)]

    def to_dict(self) -> dict[str, Any]:
        return {
            "operators": list(self.operators),
            "operand_digits": self.operand_digits,
            "answer_digits": self.answer_digits,
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> DigitCoder:
        return cls(tuple(body["operators"]), int(body["operand_digits"]), int(body["answer_digits"]))


def inputs_of(table: Table) -> list[str]:
    """The questions of a table, as texts."""
    return [str(text) for text in table[INPUT].texts()]


def _parts(expr: Expr) -> tuple[str, int, int] | None:
    """Operator and operands of (op a b) with whole operands from 0 up; None for any other expression."""
    if not isinstance(expr, Apply) or len(expr.args) != 2:
        return None
    numbers = [arg.value for arg in expr.args if isinstance(arg, Number)]
    if len(numbers) != 2 or any(number < 0 or number.denominator != 1 for number in numbers):
        return None
    return expr.op, int(numbers[0]), int(numbers[1])

"""Checks of answers: one for each kind of question; every equivalent form is right, an echo of the question is not.

Answers are text (prefix, infix or LaTeX: maths/reader.py), expressions or numbers. A number must be finished: 5, 5.0,
10/2, (/ 10 2), \\frac{10}{2}; sums and products are refused, however equal. An expression must not hold a derive, an
integrate or a solve. No check raises on an answer.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterator
from fractions import Fraction

from alexandra.curriculum.questions import Answer, Question
from alexandra.errors import AlexandraError
from alexandra.maths import Apply, Expr, Number, Symbol, derivative, equal, read, symbols
from alexandra.maths.expr import OPERATORS, nodes

_PLAIN = re.compile(r"\s*(-?[0-9]{1,300})(?:\.0{1,30}|/([0-9]{1,300}))?\s*")
STEPS = ("floor", "ceil", "%")  # an antiderivative with jumps is none


def check_value(answer: object, expected: Fraction) -> bool:
    """Whether `answer` is the number `expected`, in any form of a finished number."""
    if isinstance(answer, str):
        plain = _PLAIN.fullmatch(answer)
        if plain is not None:
            above, below = int(plain[1]), int(plain[2] or 1)
            return below != 0 and above * expected.denominator == expected.numerator * below
        found = _read(answer)
        value = None if found is None else numeral(found)
        return value is not None and value == expected
    if isinstance(answer, Expr):
        value = numeral(answer)
        return value is not None and value == expected
    if isinstance(answer, bool) or not isinstance(answer, numbers.Real):
        return False
    if isinstance(answer, numbers.Rational):
        return Fraction(int(answer.numerator), int(answer.denominator)) == expected
    number = float(answer)
    return math.isfinite(number) and Fraction(number) == expected


def numeral(expr: Expr, divisions: int = 1) -> Fraction | None:
    """The value of a number, of the negative of a numeral, or of one division of two; None for anything else."""
    if isinstance(expr, Number):
        return expr.value
    if not isinstance(expr, Apply):
        return None
    if expr.op == "-" and len(expr.args) == 1:
        inner = numeral(expr.args[0], divisions)
        return None if inner is None else -inner
    if expr.op != "/" or not divisions:
        return None
    above, below = (numeral(arg, divisions - 1) for arg in expr.args)
    return above / below if above is not None and below else None


def _read(answer: object, names: tuple[str, ...] = ()) -> Expr | None:
    if isinstance(answer, Expr):
        return answer
    if isinstance(answer, bool):
        return None
    if isinstance(answer, int | Fraction):
        return Number(answer)
    if isinstance(answer, float):
        return Number(Fraction(answer)) if math.isfinite(answer) else None
    if not isinstance(answer, str):
        return None
    try:
        return read(answer, names)
    except AlexandraError:
        return None


def _finished(expr: Expr | None) -> bool:
    """Nothing is left to be worked out by a task."""
    return expr is not None and not any(
        isinstance(node, Apply) and OPERATORS[node.op].kind == "task" for node in nodes(expr)
    )


def check_number(answer: object, question: Question, expected: Answer) -> bool:
    """Levels whose answers are rational numbers."""
    return isinstance(expected, Fraction) and check_value(answer, expected)


def check_expression(answer: object, question: Question, expected: Answer) -> bool:
    """A derivative: any expression that is proved equal."""
    found = _read(answer, symbols(question.expr))
    if found is None or not _finished(found):
        return False
    return _same(found, Number(expected) if isinstance(expected, Fraction) else expected)


def _same(a: Expr, b: Expr) -> bool:
    if a == b:
        return True
    try:
        return equal(a, b).kind == "equal"
    except (AlexandraError, ArithmeticError, ValueError, RecursionError):
        return False


def check_integral(answer: object, question: Question, expected: Answer) -> bool:
    """A definite integral is a number; an antiderivative is right when its derivative is the integrand."""
    if isinstance(expected, Fraction):
        return check_value(answer, expected)
    task = question.expr
    assert isinstance(task, Apply) and isinstance(task.args[1], Symbol)
    name = task.args[1].name
    found = _read(answer, (name,))
    if found is None or not _finished(found) or any(isinstance(n, Apply) and n.op in STEPS for n in nodes(found)):
        return False
    if found == expected:
        return True
    try:
        return _same(derivative(found, name), task.args[0])
    except AlexandraError:
        return False


def check_solution(answer: object, question: Question, expected: Answer) -> bool:
    """Solutions of an equation or of a system: numbers, sets, tuples, or equations such as x = 4."""
    task = question.expr
    assert isinstance(task, Apply)
    names = [arg.name for arg in task.args[len(task.args) // 2 :] if isinstance(arg, Symbol)]
    found = _read(answer, tuple(names))
    if found is None or not _finished(found):
        return False
    values = _values(found, names)
    wanted = _values(Number(expected) if isinstance(expected, Fraction) else expected, names)
    if values is None or wanted is None or len(values) != len(wanted):
        return False
    return all(any(_same_row(row, one) for one in values) for row in wanted) and all(
        any(_same_row(row, one) for row in wanted) for one in values
    )


def _values(found: Expr, names: list[str]) -> list[list[Expr]] | None:
    """The solutions as rows, a value for each name; None when the form is another."""
    if isinstance(found, Apply) and found.op == "set":
        if len(names) > 1 and found.args and all(isinstance(one, Apply) and one.op == "=" for one in found.args):
            return _values(Apply("tuple", found.args), names)
        rows = [_row(one, names) for one in found.args]
    else:
        rows = [_row(found, names)]
    kept = [row for row in rows if row is not None]
    return kept if len(kept) == len(rows) else None


def _row(one: Expr, names: list[str]) -> list[Expr] | None:
    if isinstance(one, Apply) and one.op == "tuple":
        parts: tuple[Expr, ...] = one.args
    else:
        parts = (one,)
    if len(parts) != len(names):
        return None
    named = dict(_named(parts))
    if named:
        return [named[name] for name in names] if set(named) == set(names) else None
    return None if any(isinstance(part, Apply) and part.op == "=" for part in parts) else list(parts)


def _named(parts: tuple[Expr, ...]) -> Iterator[tuple[str, Expr]]:
    """x = 4 and 4 = x as (x, 4)."""
    for part in parts:
        if isinstance(part, Apply) and part.op == "=":
            left, right = part.args
            if isinstance(left, Symbol):
                yield left.name, right
            elif isinstance(right, Symbol):
                yield right.name, left


def _same_row(wanted: list[Expr], found: list[Expr]) -> bool:
    for right, given in zip(wanted, found, strict=True):
        value = numeral(right)
        if value is not None:
            if not check_value(given, value):
                return False
        elif not _same(given, right):
            return False
    return True

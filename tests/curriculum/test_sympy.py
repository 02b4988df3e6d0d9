"""SymPy, an independent system, agrees with the answers of every level."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy

from alexandra.curriculum import LEVELS, Item, level
from alexandra.maths import Apply, Constant, Expr, Number, Symbol

X, Y = sympy.Symbol("x", real=True), sympy.Symbol("y", real=True)
SIGNS = {"+": lambda a, b: a + b, "*": lambda a, b: a * b, "/": lambda a, b: a / b, "^": lambda a, b: a**b}
NAMES = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "exp": sympy.exp, "ln": sympy.log, "sqrt": sympy.sqrt,
    "abs": sympy.Abs, "floor": sympy.floor, "ceil": sympy.ceiling, "log": lambda a: sympy.log(a, 10),
}  # fmt: skip
POINTS = [sympy.Rational(text) for text in ("13/7", "29/10", "1/3", "-17/9", "41/6", "-3/11", "57/4", "101/5", "-89/6")]


def in_sympy(expr: Expr) -> sympy.Expr:
    if isinstance(expr, Number):
        return sympy.Rational(expr.value.numerator, expr.value.denominator)
    if isinstance(expr, Constant):
        return {"pi": sympy.pi, "e": sympy.E}[expr.name]
    if isinstance(expr, Symbol):
        return sympy.Symbol(expr.name, real=True)
    assert isinstance(expr, Apply)
    args = [in_sympy(arg) for arg in expr.args]
    if expr.op == "-":
        return -args[0] if len(args) == 1 else args[0] - args[1]
    return SIGNS[expr.op](*args) if expr.op in SIGNS else NAMES[expr.op](*args)


def is_zero(left: sympy.Expr, right: sympy.Expr) -> bool:
    """Equal to 25 digits at the points where both have real values."""
    if not (left - right).free_symbols:
        return left == right or bool(abs((left - right).evalf(50)) < sympy.Float("1e-45"))
    met = 0
    for point in POINTS:
        a, b = (side.subs(X, point).evalf(40) for side in (left, right))
        if a.is_real and b.is_real and a.is_finite and b.is_finite:
            met += 1
            if abs(a - b) > sympy.Float("1e-25") * max(1, abs(a)):
                return False
    return met > 0


def agrees(item: Item) -> bool:
    expected = item.expected
    if item.level <= 4:
        assert isinstance(expected, Fraction)
        values = {sympy.Symbol(name, real=True): sympy.Rational(str(value)) for name, value in item.bindings}
        return is_zero(in_sympy(item.expr).subs(values), sympy.Rational(expected.numerator, expected.denominator))
    task = item.expr
    assert isinstance(task, Apply)
    if item.level == 7:
        return solves(task, expected)
    body = in_sympy(task.args[0])
    if len(task.args) == 4:
        assert isinstance(expected, Fraction)
        ends = (X, in_sympy(task.args[2]), in_sympy(task.args[3]))
        return bool(sympy.integrate(body, ends) == sympy.Rational(expected.numerator, expected.denominator))
    answer = in_sympy(Number(expected) if isinstance(expected, Fraction) else expected)
    return is_zero(sympy.diff(body, X), answer) if item.level == 5 else is_zero(sympy.diff(answer, X), body)


def solves(task: Apply, expected: Fraction | Expr) -> bool:
    """SymPy's own solutions are the expected ones."""
    sides = [in_sympy(arg.args[0]) - in_sympy(arg.args[1]) for arg in task.args if isinstance(arg, Apply)]
    given = Number(expected) if isinstance(expected, Fraction) else expected
    if len(sides) == 2:
        assert isinstance(given, Apply)
        return bool(sympy.linsolve(sides, [X, Y]) == sympy.FiniteSet(tuple(in_sympy(arg) for arg in given.args)))
    is_set = isinstance(given, Apply) and given.op == "set"
    ours = [in_sympy(arg) for arg in given.args] if is_set else [in_sympy(given)]
    theirs = list(sympy.solveset(sides[0], X, sympy.Reals))
    return len(theirs) == len(ours) and all(any(is_zero(one, other) for other in theirs) for one in ours)


@pytest.mark.parametrize("number", sorted(LEVELS))
def test_sympy_agrees_with_some_answers(number: int) -> None:
    for split in ("", "test_ood"):
        assert [(item.input, item.answer) for item in level(number, 6, 21, split) if not agrees(item)] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", sorted(LEVELS))
def test_sympy_agrees_with_2000_answers_of_each_level(number: int) -> None:
    assert [(item.input, item.answer) for item in level(number, 2000, 22) if not agrees(item)] == []

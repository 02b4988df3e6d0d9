"""Infix for people: the usual signs and precedence, and brackets wherever they are needed to read the same tree.

`+ - * / %` group to the left, `^` to the right; a negative is `-x` and stands in brackets wherever it is an operand.
Functions and tasks are written as calls, sets in braces, tuples in brackets. reader.py reads it.
"""

from __future__ import annotations

from alexandra.maths.expr import OPERATORS, Apply, Expr, Number

_ATOM, _NEGATIVE, _LOOSEST = 9, 3, 0


def to_infix(expr: Expr) -> str:
    """`(+ (* 2 x) 1)` as `2 * x + 1`, `(sin x)` as `sin(x)`."""
    return _write(expr)[0]


def _write(expr: Expr) -> tuple[str, int]:
    """The text, and how tightly its outermost sign binds."""
    if not isinstance(expr, Apply):
        if isinstance(expr, Number) and expr.value < 0:
            return expr.text(), _LOOSEST
        is_fraction = isinstance(expr, Number) and expr.value.denominator != 1
        return expr.text(), OPERATORS["/"].precedence if is_fraction else _ATOM
    row = OPERATORS[expr.op]
    if row.name.isalpha():
        inner = ", ".join([_write(arg)[0] for arg in expr.args])
        if row.kind == "collection":
            return (f"{{{inner}}}" if expr.op == "set" else f"({inner}{',' * (len(expr.args) == 1)})"), _ATOM
        return f"{expr.op}({inner})", _ATOM
    if len(expr.args) == 1:
        return f"-{_inside(expr.args[0], _NEGATIVE + 1)}", _LOOSEST
    level = row.precedence
    power = expr.op == "^"
    left = _inside(expr.args[0], level + power)
    right = _inside(expr.args[1], level + (not power))
    return f"{left} {expr.op} {right}", level


def _inside(expr: Expr, wanted: int) -> str:
    """`expr` as an operand of a sign that needs it to bind at least as tightly as `wanted`."""
    text, level = _write(expr)
    return text if level >= wanted else f"({text})"

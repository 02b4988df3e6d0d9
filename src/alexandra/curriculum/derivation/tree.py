"""Plain trees: an int, the name of a symbol or constant, or (operator, operand, ...). A negative is ("~", tree).

Lighter than maths.Expr, which checks and prints every node that it makes. A rational is ("/", p, q); `negative` keeps
numbers whole: ("~", 3) does not occur, it is -3.
"""

from __future__ import annotations

from typing import Any

from alexandra.maths import Apply, Constant, Expr, Number, Symbol

Tree = int | str | tuple[Any, ...]  # (operator, Tree, ...)


def tree(expr: Expr) -> Tree:
    """An expression as a plain tree."""
    if isinstance(expr, Number):
        value = expr.exact
        return value if isinstance(value, int) else ("/", value.numerator, value.denominator)
    if isinstance(expr, Symbol | Constant):
        return expr.name
    assert isinstance(expr, Apply)
    parts = [tree(arg) for arg in expr.args]
    return negative(parts[0]) if expr.op == "-" and len(parts) == 1 else (expr.op, *parts)


def negative(part: Tree) -> Tree:
    return -part if isinstance(part, int) else ("~", part)


def text(part: Tree) -> str:
    """The prefix language; maths.parse reads it."""
    if isinstance(part, tuple):
        if is_ratio(part):
            return f"{part[1]}/{part[2]}"
        name = "-" if part[0] == "~" else part[0]
        return f"({' '.join([name, *map(text, part[1:])])})"
    return str(part)


def is_ratio(part: Tree) -> bool:
    """A quotient of two whole numbers that can be written p/q."""
    return (
        isinstance(part, tuple)
        and part[0] == "/"
        and isinstance(part[1], int)
        and isinstance(part[2], int)
        and part[2] > 0
    )

"""Derivatives: one rule for each operator and function, by one symbol, tidied as they are built.

floor, ceil and % have the derivative of their smooth parts: they are constant between their steps. abs u has u / abs
u. The rule for u ^ v with both variable is u ^ v * (v' ln u + v u' / u).
"""

from __future__ import annotations

from collections.abc import Callable

from alexandra.maths.expr import Apply, DomainError, Expr, Number, Symbol
from alexandra.maths.tidy import ONE, TWO, ZERO, apply, minus, negative, occurs, over, plus, product, tidy, to

TEN = Number(10)

# f -> f'(u) for a tidy u
_OUTER: dict[str, Callable[[Expr], Expr]] = {
    "sin": lambda u: apply("cos", u),
    "cos": lambda u: negative(apply("sin", u)),
    "tan": lambda u: over(ONE, to(apply("cos", u), TWO)),
    "exp": lambda u: apply("exp", u),
    "ln": lambda u: over(ONE, u),
    "log": lambda u: over(ONE, product(u, Apply("ln", (TEN,)))),
    "sqrt": lambda u: over(ONE, product(TWO, apply("sqrt", u))),
    "abs": lambda u: over(u, apply("abs", u)),
    "floor": lambda u: ZERO,
    "ceil": lambda u: ZERO,
}


def derivative(expr: Expr, name: str) -> Expr:
    """The derivative of a tree of operators and functions by the symbol `name`, tidy."""
    return _of(tidy(expr), name)


def _of(expr: Expr, name: str) -> Expr:
    if isinstance(expr, Symbol):
        return ONE if expr.name == name else ZERO
    if not isinstance(expr, Apply) or not occurs(name, expr):
        return ZERO
    op, args = expr.op, expr.args
    if op in _OUTER:
        return product(_OUTER[op](args[0]), _of(args[0], name))
    if op == "-" and len(args) == 1:
        return negative(_of(args[0], name))
    if op not in _RULES:
        raise DomainError("not_a_value", f"({op} ...) has no derivative")
    return _RULES[op](args[0], args[1], name)


def _sum(u: Expr, v: Expr, name: str) -> Expr:
    return plus(_of(u, name), _of(v, name))


def _difference(u: Expr, v: Expr, name: str) -> Expr:
    return minus(_of(u, name), _of(v, name))


def _product(u: Expr, v: Expr, name: str) -> Expr:
    return plus(product(_of(u, name), v), product(u, _of(v, name)))


def _quotient(u: Expr, v: Expr, name: str) -> Expr:
    if not occurs(name, v):
        return over(_of(u, name), v)
    return over(minus(product(_of(u, name), v), product(u, _of(v, name))), to(v, TWO))


def _power(u: Expr, v: Expr, name: str) -> Expr:
    if not occurs(name, v):
        return product(v, to(u, minus(v, ONE)), _of(u, name))
    if not occurs(name, u):
        return product(to(u, v), apply("ln", u), _of(v, name))
    inner = plus(product(_of(v, name), apply("ln", u)), over(product(v, _of(u, name)), u))
    return product(to(u, v), inner)


def _remainder(u: Expr, v: Expr, name: str) -> Expr:
    """u % v is u - v floor(u / v)."""
    return minus(_of(u, name), product(_of(v, name), Apply("floor", (over(u, v),))))


_RULES: dict[str, Callable[[Expr, Expr, str], Expr]] = {
    "+": _sum,
    "-": _difference,
    "*": _product,
    "/": _quotient,
    "^": _power,
    "%": _remainder,
}

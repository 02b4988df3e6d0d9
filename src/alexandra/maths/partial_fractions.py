"""Quotients of polynomials in one symbol over the rationals, split into partial fractions that integrate to
logarithms."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from alexandra.maths import univariate as uni
from alexandra.maths.expr import Apply, Expr


@dataclass(frozen=True)
class Fractions:
    """whole + sum of value / (x - root)^times + sum of value * q' / q."""

    whole: uni.Coefficients
    simple: list[tuple[Fraction, Fraction, int]]
    logarithmic: list[tuple[Fraction, uni.Coefficients]]


def rational_function(expr: Expr, name: str) -> tuple[uni.Coefficients, uni.Coefficients] | None:
    """Numerator and denominator, None when the expression is no quotient of polynomials."""
    plain = uni.coefficients(expr, name)
    if plain is not None:
        return plain, [1]
    if not isinstance(expr, Apply) or expr.op not in "+-*/^":
        return None
    if expr.op == "^":
        exponent = uni.coefficients(expr.args[1], name)
        base = rational_function(expr.args[0], name)
        if (
            base is None
            or exponent is None
            or len(exponent) != 1
            or type(exponent[0]) is not int
            or abs(exponent[0]) > 12
        ):
            return None
        above, below = base if exponent[0] > 0 else base[::-1]
        return _power(above, abs(exponent[0])), _power(below, abs(exponent[0]))
    parts = [rational_function(arg, name) for arg in expr.args]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    if len(found) == 1:
        return uni.scaled(found[0][0], -1), found[0][1]
    (a, b), (c, d) = found
    if max(map(len, (a, b, c, d))) > 30:
        return None
    if expr.op == "*":
        return uni.multiplied(a, c), uni.multiplied(b, d)
    if expr.op == "/":
        return (uni.multiplied(a, d), uni.multiplied(b, c)) if c else None
    sign = 1 if expr.op == "+" else -1
    return uni.added(uni.multiplied(a, d), uni.multiplied(c, b), sign), uni.multiplied(b, d)


def _power(a: uni.Coefficients, n: int) -> uni.Coefficients:
    found: uni.Coefficients = [1]
    for _ in range(n):
        found = uni.multiplied(found, a)
    return found


def parts_of(above: uni.Coefficients, below: uni.Coefficients) -> Fractions | None:
    """The partial fractions; None where a part would not integrate to logarithms and powers."""
    if not below:
        return None
    whole, rest = uni.divided(above, below)
    roots, left = uni.rational_roots(below)
    simple: list[tuple[Fraction, Fraction, int]] = []
    for root, times in roots:
        for power, value in _at_root(rest, below, root, times):
            if value:
                simple.append((value, root, power))
    if len(left) <= 1:
        return Fractions(whole, simple, [])
    remaining = _without(rest, below, simple, left)
    slope = uni.derived(left)
    if not remaining:
        return Fractions(whole, simple, [])
    if len(remaining) != len(slope):
        return None
    factor = Fraction(remaining[-1]) / slope[-1]
    if uni.scaled(slope, factor) != remaining:
        return None
    return Fractions(whole, simple, [(factor, left)])


def _at_root(rest: uni.Coefficients, below: uni.Coefficients, root: Fraction, times: int) -> list[tuple[int, Fraction]]:
    """Coefficients of 1 / (x - root)^k for k = times .. 1, from the series of rest / (below / (x - root)^times)."""
    cofactor = below
    for _ in range(times):
        cofactor, _ = uni.divided(cofactor, [-root, 1])
    shifted, divisor = _shifted(rest, root), _shifted(cofactor, root)
    found = []
    series: list[Fraction] = []
    for k in range(times):
        value = Fraction(shifted[k] if k < len(shifted) else 0)
        for j in range(1, k + 1):
            if j < len(divisor):
                value -= divisor[j] * series[k - j]
        series.append(value / divisor[0])
        found.append((times - k, series[k]))
    return found


def _shifted(a: uni.Coefficients, root: Fraction) -> uni.Coefficients:
    """The coefficients of a(x + root)."""
    found: uni.Coefficients = []
    for value in reversed(a):
        found = uni.added(uni.multiplied(found, [root, 1]), [value])
    return found


def _without(
    rest: uni.Coefficients,
    below: uni.Coefficients,
    simple: list[tuple[Fraction, Fraction, int]],
    left: uni.Coefficients,
) -> uni.Coefficients:
    """The numerator over `left` once the simple fractions are taken off."""
    total = rest
    for value, root, times in simple:
        cofactor = below
        for _ in range(times):
            cofactor, _ = uni.divided(cofactor, [-root, 1])
        total = uni.added(total, uni.scaled(cofactor, value), -1)
    linear, _ = uni.divided(below, left)
    quotient, _ = uni.divided(total, linear)
    return quotient

"""Polynomials in one symbol over the rationals, as lists of coefficients (the constant first): division, roots,
parts.

For integrals and equations. Coefficients are ints or fractions; the zero polynomial is [].
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm

from alexandra.maths.arithmetic import IrrationalError, Rational, checked, rational_value
from alexandra.maths.expr import Apply, DomainError, Expr, Number, Symbol
from alexandra.maths.tidy import ZERO, plus, term, to

Coefficients = list[Rational]
MAX_DEGREE = 60
MAX_DIVISORS = 4_000  # candidates that the rational root theorem gives


def coefficients(expr: Expr, name: str) -> Coefficients | None:
    """The coefficients of a polynomial in `name` over the rationals; None for anything else."""
    if isinstance(expr, Symbol):
        return [0, 1] if expr.name == name else None
    if isinstance(expr, Number):
        return trimmed([expr.exact])
    if not isinstance(expr, Apply):
        return None
    if expr.op in "+-*/^":
        parts = [coefficients(arg, name) for arg in expr.args]
        if any(part is None for part in parts):
            return None
        return _combined(expr.op, [part for part in parts if part is not None])
    try:
        return trimmed([rational_value(expr, {})])
    except (IrrationalError, DomainError):
        return None


def _combined(op: str, parts: list[Coefficients]) -> Coefficients | None:
    a = parts[0]
    if len(parts) == 1:
        return scaled(a, -1)
    b = parts[1]
    if op in "+-":
        return added(a, b, 1 if op == "+" else -1)
    if op == "*":
        return multiplied(a, b) if len(a) + len(b) <= MAX_DEGREE else None
    if len(b) > 1:
        return None
    value = b[0] if b else 0
    if op == "/":
        return scaled(a, Fraction(1) / value) if value else None
    if type(value) is not int or value < 0 or value * (len(a) - 1) > MAX_DEGREE:
        return None
    found: Coefficients = [1]
    for _ in range(value):
        found = multiplied(found, a)
    return found


def trimmed(a: Coefficients) -> Coefficients:
    while a and not a[-1]:
        a = a[:-1]
    return a


def added(a: Coefficients, b: Coefficients, sign: int = 1) -> Coefficients:
    size = max(len(a), len(b))
    left, right = a + [0] * (size - len(a)), b + [0] * (size - len(b))
    return trimmed([checked(x + sign * y) for x, y in zip(left, right, strict=True)])


def scaled(a: Coefficients, factor: Rational) -> Coefficients:
    return trimmed([checked(x * factor) for x in a])


def multiplied(a: Coefficients, b: Coefficients) -> Coefficients:
    if not a or not b:
        return []
    found: Coefficients = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            found[i + j] += x * y
    return trimmed([checked(value) for value in found])


def divided(a: Coefficients, b: Coefficients) -> tuple[Coefficients, Coefficients]:
    """Quotient and remainder."""
    rest, found = list(a), [0] * max(0, len(a) - len(b) + 1)
    quotient: Coefficients = list(found)
    while len(rest) >= len(b):
        factor = checked(Fraction(rest[-1]) / b[-1])
        shift = len(rest) - len(b)
        quotient[shift] = factor
        rest = trimmed([value - factor * b[i - shift] if i >= shift else value for i, value in enumerate(rest)][:-1])
    return trimmed(quotient), [checked(value) for value in rest]


def derived(a: Coefficients) -> Coefficients:
    return trimmed([checked(i * value) for i, value in enumerate(a)][1:])


def at(a: Coefficients, x: Rational) -> Rational:
    total: Rational = 0
    for value in reversed(a):
        total = total * x + value
    return checked(total)


def in_lowest_terms(a: Coefficients) -> tuple[list[int], Fraction]:
    """Whole coefficients without a common factor, and the factor that was taken out."""
    below = lcm(*[value.denominator for value in a])
    whole = [int(value * below) for value in a]
    common = gcd(*whole)
    if whole[-1] < 0:
        common = -common
    return [value // common for value in whole], Fraction(common, below)


def rational_roots(a: Coefficients) -> tuple[list[tuple[Fraction, int]], Coefficients]:
    """Rational roots with their multiplicities in rising order, and what is left without them."""
    found: list[tuple[Fraction, int]] = []
    zero = 0
    while a and not a[0]:
        a, zero = a[1:], zero + 1
    if zero:
        found.append((Fraction(0), zero))
    whole, factor = in_lowest_terms(a) if a else ([], Fraction(1))
    rest: Coefficients = list(whole)
    if len(rest) > 1:
        for root in _candidates(whole):
            times = 0
            while len(rest) > 1 and not at(rest, root):
                rest, _ = divided(rest, [-root, 1])
                times += 1
            if times:
                found.append((root, times))
    return sorted(found), scaled(rest, factor)


def _candidates(whole: list[int]) -> list[Fraction]:
    above, below = _divisors(abs(whole[0])), _divisors(abs(whole[-1]))
    found = {Fraction(sign * p, q) for p in above for q in below for sign in (1, -1)}
    return sorted(found)[:MAX_DIVISORS]


def _divisors(value: int) -> list[int]:
    found = []
    d = 1
    while d * d <= value and d <= 100_000:
        if value % d == 0:
            found += [d, value // d]
        d += 1
    return found


def expression(a: Coefficients, name: str) -> Expr:
    """The tidy expression of a polynomial."""
    x = Symbol(name)
    parts = [term(value, to(x, Number(i)) if i else None) for i, value in enumerate(a) if value]
    return plus(*parts) if parts else ZERO

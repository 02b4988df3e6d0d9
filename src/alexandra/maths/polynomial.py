"""Polynomials and their quotients over the rationals: the exact normal form behind equality. No printing, no parsing.

A monomial is a sorted tuple of (symbol, exponent >= 1); a polynomial maps monomials to coefficients that are not zero,
so equal polynomials are equal dicts. Quotients are not reduced: a/b and c/d are equal when a*d and c*b are.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from alexandra.maths.expr import ExpressionError

Monomial = tuple[tuple[str, int], ...]
Polynomial = dict[Monomial, Fraction]

MAX_TERMS = 2_000
MAX_DEGREE = 2_000
MAX_COEFFICIENT_BITS = 2_000
MAX_WORK = 100_000  # products of two terms in one comparison: a few seconds at the worst
ONE: Polynomial = {(): Fraction(1)}


class TooManyTermsError(ExpressionError):
    """A normal form would grow over one of the limits above."""


@dataclass
class Work:
    """What is left of one comparison's MAX_WORK."""

    left: int = MAX_WORK

    def spend(self, products: int) -> None:
        self.left -= products
        if self.left < 0:
            raise TooManyTermsError(f"a normal form takes more than {MAX_WORK:,} products of terms")


def constant(value: Fraction) -> Polynomial:
    return {(): value} if value else {}


def add(a: Polynomial, b: Polynomial, work: Work) -> Polynomial:
    work.spend(len(a) + len(b))
    total = dict(a)
    for monomial, coefficient in b.items():
        value = total.get(monomial, Fraction(0)) + coefficient
        if value:
            total[monomial] = value
        else:
            total.pop(monomial, None)
    return _checked(total)


def negate(a: Polynomial) -> Polynomial:
    return {monomial: -coefficient for monomial, coefficient in a.items()}


def multiply(a: Polynomial, b: Polynomial, work: Work) -> Polynomial:
    work.spend(len(a) * len(b))
    total: Polynomial = {}
    for left, x in a.items():
        for right, y in b.items():
            monomial = _times(left, right)
            value = total.get(monomial, Fraction(0)) + x * y
            if value:
                total[monomial] = value
            else:
                total.pop(monomial, None)
    return _checked(total)


def _times(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers = dict(a)
    for name, exponent in b:
        powers[name] = powers.get(name, 0) + exponent
    return tuple(sorted(powers.items()))


def _checked(a: Polynomial) -> Polynomial:
    if len(a) > MAX_TERMS:
        raise TooManyTermsError(f"a polynomial of {len(a)} terms is over the limit of {MAX_TERMS:,}")
    for monomial, coefficient in a.items():
        if max(coefficient.numerator.bit_length(), coefficient.denominator.bit_length()) > MAX_COEFFICIENT_BITS:
            raise TooManyTermsError(f"a coefficient is over the limit of {MAX_COEFFICIENT_BITS:,} bits")
        if sum(exponent for _, exponent in monomial) > MAX_DEGREE:
            raise TooManyTermsError(f"a degree is over the limit of {MAX_DEGREE:,}")
    return a


def degree(a: Polynomial) -> int:
    return max((sum(exponent for _, exponent in monomial) for monomial in a), default=0)


@dataclass(frozen=True)
class Quotient:
    """above / below; `below` is never the zero polynomial."""

    above: Polynomial
    below: Polynomial

    @property
    def is_zero(self) -> bool:
        return not self.above

    @property
    def constant(self) -> Fraction | None:
        """The value of a quotient without symbols, else None."""
        if set(self.above) | set(self.below) <= {()}:
            return self.above.get((), Fraction(0)) / self.below[()]
        return None


def quotient(above: Polynomial, below: Polynomial) -> Quotient:
    """above / below, a constant divisor worked in and a divisor of equal terms cancelled."""
    if set(below) == {()}:
        factor = 1 / below[()]
        return Quotient(above if factor == 1 else {m: c * factor for m, c in above.items()}, ONE)
    return Quotient(above, below)


def sum_of(a: Quotient, b: Quotient, work: Work) -> Quotient:
    if a.below == b.below:
        return quotient(add(a.above, b.above, work), a.below)
    above = add(multiply(a.above, b.below, work), multiply(b.above, a.below, work), work)
    return quotient(above, multiply(a.below, b.below, work))


def product_of(a: Quotient, b: Quotient, work: Work) -> Quotient:
    return quotient(multiply(a.above, b.above, work), multiply(a.below, b.below, work))


def power_of(a: Quotient, exponent: int, work: Work) -> Quotient:
    """a ^ exponent; the caller refuses zero to a negative power."""
    if exponent < 0:
        assert a.above
        a, exponent = quotient(a.below, a.above), -exponent
    if max(degree(a.above), degree(a.below), 1) * exponent > MAX_DEGREE and a.constant is None:
        raise TooManyTermsError(f"the power {exponent} is over the limit of degree {MAX_DEGREE:,}")
    return Quotient(_power(a.above, exponent, work), _power(a.below, exponent, work))


def _power(a: Polynomial, exponent: int, work: Work) -> Polynomial:
    """By repeated squaring; sizes are checked at every step."""
    result = ONE
    while exponent:
        if exponent & 1:
            result = multiply(result, a, work)
        exponent >>= 1
        if exponent:
            a = multiply(a, a, work)
    return result


def difference_of(a: Quotient, b: Quotient, work: Work) -> Polynomial:
    """The numerator of a - b: the zero polynomial exactly when a and b are equal."""
    return add(multiply(a.above, b.below, work), negate(multiply(b.above, a.below, work)), work)

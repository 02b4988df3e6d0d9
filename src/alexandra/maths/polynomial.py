"""Sums of products of powers of atoms with whole coefficients: the arithmetic under the normal forms of forms.py.

An atom is a number (a symbol, pi, a prime, sin x ... see forms.py); a monomial is a sorted tuple of (atom, exponent),
exponents whole or fractions, also negative; a polynomial maps monomials to whole coefficients that are not zero. Some
atoms have rules: cos^2 is 1 - sin^2, |u|^2 is u^2, a prime's exponent lies in 0 .. 1, so does that of a root's base.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from alexandra.maths.expr import ExpressionError

Exponent = int | Fraction
Monomial = tuple[tuple[int, Exponent], ...]
Polynomial = dict[Monomial, int]

MAX_TERMS = 2_000
MAX_DEGREE = 2_000
MAX_COEFFICIENT_BITS = 8_000
MAX_WORK = 100_000  # products of two terms in one comparison
ONE: Polynomial = {(): 1}
# exponent -> (the exponent that stays, what the rest is: a polynomial over a whole number)
Rule = Callable[[Exponent], tuple[Exponent, tuple[Polynomial, int]]]


class TooManyTermsError(ExpressionError):
    """A normal form would grow over one of the limits above."""


class Ring:
    """The rules of the atoms and what is left of one comparison's MAX_WORK."""

    def __init__(self) -> None:
        self.left = MAX_WORK
        self.rules: dict[int, Rule] = {}  # atoms whose exponents must stay in a range
        self.bounds: dict[int, int] = {}  # for these, the exponents 0 <= e < bound (1 or 2) stay as they are

    def spend(self, products: int) -> None:
        self.left -= products
        if self.left < 0:
            raise TooManyTermsError(f"a normal form takes more than {MAX_WORK:,} products of terms")

    def add(self, a: Polynomial, b: Polynomial, x: int = 1, y: int = 1) -> Polynomial:
        """x a + y b."""
        self.spend(len(a) + len(b))
        total = dict(a) if x == 1 else {monomial: x * value for monomial, value in a.items()}
        for monomial, coefficient in b.items():
            value = total.get(monomial, 0) + y * coefficient
            if value:
                total[monomial] = value
            else:
                total.pop(monomial, None)
        return checked(total)

    def multiply(self, a: Polynomial, b: Polynomial) -> tuple[Polynomial, int]:
        """The product as a polynomial over a whole number (which rules may bring in)."""
        if a == ONE:
            return b, 1
        if b == ONE:
            return a, 1
        self.spend(len(a) * len(b))
        total: Polynomial = {}
        broken: list[tuple[Monomial, int]] = []
        bounds = self.bounds
        for left, x in a.items():
            for right, y in b.items():
                monomial = times(left, right)
                if bounds and left and right and self._breaks(monomial):
                    broken.append((monomial, x * y))
                    continue
                value = total.get(monomial, 0) + x * y
                if value:
                    total[monomial] = value
                else:
                    total.pop(monomial, None)
        below = 1
        for monomial, value in broken:
            part, over = self.reduced(monomial)
            total, below = self.add(total, part, over, value * below), below * over
        return checked(total), below

    def _breaks(self, monomial: Monomial) -> bool:
        bounds = self.bounds
        return any(atom in bounds and not (0 <= exponent < bounds[atom]) for atom, exponent in monomial)

    def reduced(self, monomial: Monomial) -> tuple[Polynomial, int]:
        """The monomial by the rules: a polynomial over a whole number."""
        for place, (atom, exponent) in enumerate(monomial):
            if atom in self.bounds and not 0 <= exponent < self.bounds[atom]:
                stays, (part, over) = self.rules[atom](exponent)
                if stays == exponent:
                    continue  # nothing to do at this exponent (a negative power that waits for a division)
                rest = monomial[:place] + (((atom, stays),) if stays else ()) + monomial[place + 1 :]
                inner, below = self.reduced(rest)
                product, again = self.multiply(inner, part)
                return product, below * again * over
        return {monomial: 1}, 1

    def power(self, a: Polynomial, exponent: int) -> tuple[Polynomial, int]:
        """By repeated squaring; sizes are checked at every step."""
        result, below, under = ONE, 1, 1
        while exponent:
            if exponent & 1:
                result, over = self.multiply(result, a)
                below *= over * under
            exponent >>= 1
            if exponent:
                a, over = self.multiply(a, a)
                under = under * under * over
        return result, below


def times(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    if a[-1][0] < b[0][0]:
        return a + b
    powers = dict(a)
    for atom, exponent in b:
        total = powers.get(atom, 0) + exponent
        if total:
            powers[atom] = total if type(total) is int or total.denominator != 1 else total.numerator
        else:
            del powers[atom]
    return tuple(sorted(powers.items()))


def raised(a: Monomial, exponent: Exponent) -> Monomial:
    """a ^ exponent, exponent by exponent."""
    if exponent == 1:
        return a
    return tuple((atom, short(power * exponent)) for atom, power in a) if exponent else ()


def short(exponent: Exponent) -> Exponent:
    return exponent.numerator if exponent.denominator == 1 else exponent


def checked(a: Polynomial) -> Polynomial:
    if len(a) > MAX_TERMS:
        raise TooManyTermsError(f"a polynomial of {len(a)} terms is over the limit of {MAX_TERMS:,}")
    for monomial, coefficient in a.items():
        if coefficient.bit_length() > MAX_COEFFICIENT_BITS:
            raise TooManyTermsError(f"a coefficient is over the limit of {MAX_COEFFICIENT_BITS:,} bits")
        if len(monomial) == 1:
            if not -MAX_DEGREE <= monomial[0][1] <= MAX_DEGREE:
                raise TooManyTermsError(f"a degree is over the limit of {MAX_DEGREE:,}")
        elif sum([exponent if exponent > 0 else -exponent for _, exponent in monomial]) > MAX_DEGREE:
            raise TooManyTermsError(f"a degree is over the limit of {MAX_DEGREE:,}")
    return a

"""Normal forms: quotients of polynomials in atoms; normal.py makes them of expressions.

An expression becomes such a quotient, so that equal forms are equal wherever both are.

Atoms are symbols, pi, primes (for roots), and functions of normal forms: exp of one monomial, sin and cos, ln of |u|,
roots of u, |u|, floor. Identities built in: exp(a + b), ln of products, roots of products, sin^2 + cos^2 = 1, sums
and multiples of angles (when `expand`), exact values at multiples of pi / 4 and pi / 6, u^v = exp(v ln u) for a
positive u. Each holds wherever both of its sides have a value; that forms differ proves nothing unless only symbols
occur in them.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd

from alexandra.maths.polynomial import ONE, Exponent, Monomial, Polynomial, Ring, raised, short, times

MAX_MULTIPLE = 24  # of an angle that is expanded
MAX_FACTOR = 10_000  # primes up to this are found in numbers under roots and logarithms
HALF = Fraction(1, 2)


class NowhereDefinedError(Exception):
    """A part divides by zero, or raises zero to a negative power, whatever its symbols are."""


class FinerAnglesError(Exception):
    """An angle was met in a smaller part than those so far; the forms are made anew."""


class Form:
    """num / (over * den); `over` is a whole number above 0, `den` is never zero."""

    __slots__ = ("den", "num", "over")

    def __init__(self, num: Polynomial, over: int = 1, den: Polynomial = ONE) -> None:
        if over != 1 and num:
            common = gcd(over, *num.values())
            if common != 1:
                over //= common
                num = {monomial: value // common for monomial, value in num.items()}
        self.num, self.over, self.den = num, over if num else 1, den if num else ONE

    @property
    def constant(self) -> Fraction | None:
        """The value of a form without atoms, else None."""
        if self.den == ONE and (not self.num or set(self.num) == {()}):
            return Fraction(self.num.get((), 0), self.over)
        return None

    def key(self) -> tuple[frozenset[tuple[Monomial, int]], int, frozenset[tuple[Monomial, int]]]:
        return frozenset(self.num.items()), self.over, frozenset(self.den.items())


ZERO_FORM, ONE_FORM = Form({}), Form(ONE)


class Forms(Ring):
    """The atoms of one comparison, and forms over them. `angles`: how finely the angle of a monomial is divided."""

    def __init__(self, expand: bool = False, angles: dict[object, int] | None = None) -> None:
        super().__init__()
        self.expand = expand
        self.angles = angles if angles is not None else {}
        self.ids: dict[object, int] = {}
        self.keys: list[tuple[object, ...]] = []
        self.bases: dict[int, Form] = {}  # of atoms that stand for |u| or a root of u: u
        self.restricted = False  # whether a function or a power that is not defined everywhere was met

    # --- arithmetic ---------------------------------------------------------------------------------------------

    def number(self, value: int | Fraction) -> Form:
        return Form({(): value.numerator}, value.denominator) if value else ZERO_FORM

    def negative(self, a: Form) -> Form:
        return Form({monomial: -value for monomial, value in a.num.items()}, a.over, a.den)

    def sum(self, a: Form, b: Form, sign: int = 1) -> Form:
        if not b.num:
            return a
        if a.den is b.den or a.den == b.den:
            if a.over == b.over:
                return Form(self.add(a.num, b.num, 1, sign), a.over, a.den)
            common = gcd(a.over, b.over)
            num = self.add(a.num, b.num, b.over // common, sign * (a.over // common))
            return Form(num, a.over // common * b.over, a.den)
        left, x = self.multiply(a.num, b.den)
        right, y = self.multiply(b.num, a.den)
        den, z = self.multiply(a.den, b.den)
        num = self.add(left, right, y * b.over, sign * x * a.over)
        return self._over(Form(num, x * y * a.over * b.over, den), z)

    def _over(self, form: Form, factor: int) -> Form:
        """The form of num / (over * den / factor)."""
        if factor == 1:
            return form
        return Form({monomial: value * factor for monomial, value in form.num.items()}, form.over, form.den)

    def product(self, a: Form, b: Form) -> Form:
        num, x = self.multiply(a.num, b.num)
        den, y = self.multiply(a.den, b.den)
        return self._over(Form(num, a.over * b.over * x, den), y)

    def inverse(self, a: Form) -> Form:
        if not a.num:
            raise NowhereDefinedError
        if len(a.num) == 1:
            ((monomial, value),) = a.num.items()
            part, below = self.reduced(raised(monomial, -1)) if monomial else (ONE, 1)
            num, over = self.multiply(a.den, part)
            sign = a.over if value > 0 else -a.over
            return Form({m: v * sign for m, v in num.items()}, abs(value) * below * over)
        return Form({m: v * a.over for m, v in a.den.items()}, 1, a.num)

    def whole_power(self, a: Form, exponent: int) -> Form:
        if exponent < 0:
            a, exponent = self.inverse(a), -exponent
        if exponent == 1:
            return a
        num, x = self.power(a.num, exponent)
        den, y = self.power(a.den, exponent)
        return self._over(Form(num, x * a.over**exponent, den), y)

    # --- atoms --------------------------------------------------------------------------------------------------

    def atom(self, *key: object) -> int:
        found = self.ids.get(key)
        if found is None:
            found = self.ids[key] = len(self.keys)
            self.keys.append(key)
        return found

    def of_atom(self, atom: int, exponent: Exponent = 1) -> Form:
        if not exponent:
            return ONE_FORM
        part, below = self.reduced(((atom, short(exponent)),))
        return Form(part, below)

    def of_monomial(self, monomial: Monomial) -> Form:
        part, below = self.reduced(monomial)
        return Form(part, below)

    def is_positive(self, atom: int) -> bool:
        """Never negative where it has a value."""
        return self.keys[atom][0] in ("pi", "prime", "exp", "abs", "root")

    def prime(self, p: int) -> int:
        atom = self.atom("prime", p)
        if atom not in self.rules:

            def rule(exponent: Exponent) -> tuple[Exponent, tuple[Polynomial, int]]:
                whole = exponent.numerator // exponent.denominator
                part: tuple[Polynomial, int] = ({(): p**whole}, 1) if whole >= 0 else (ONE, p**-whole)
                return short(exponent - whole), part

            self.rules[atom], self.bounds[atom] = rule, 1
        return atom

    def based(self, kind: str, base: Form) -> int:
        """The atom |u| or the atom whose fractional powers are the roots of u."""
        atom = self.atom(kind, base.key())
        if atom not in self.rules:
            bound = 2 if kind == "abs" else 1

            def rule(exponent: Exponent) -> tuple[Exponent, tuple[Polynomial, int]]:
                whole = exponent.numerator // exponent.denominator // bound * bound
                if whole <= 0:
                    return exponent, (ONE, 1)
                power = self.whole_power(base, whole)
                return short(exponent - whole), (power.num, power.over)

            self.rules[atom], self.bounds[atom], self.bases[atom] = rule, bound, base
        return atom

    def cosine(self, key: object) -> int:
        """The atom cos u beside sin u."""
        atom = self.atom("cos", key)
        if atom not in self.rules:
            sine = self.atom("sin", key)

            def rule(exponent: Exponent) -> tuple[Exponent, tuple[Polynomial, int]]:
                if exponent < 2 or exponent.denominator != 1:
                    return exponent, (ONE, 1)
                half = int(exponent) // 2
                return exponent - 2 * half, self.power({(): 1, ((sine, 2),): -1}, half)

            self.rules[atom], self.bounds[atom] = rule, 2
        return atom

    # --- comparison ---------------------------------------------------------------------------------------------

    def same(self, a: Form, b: Form) -> bool:
        """Whether a - b is zero by the rules."""
        if a.over == b.over and a.num == b.num and a.den == b.den:
            return True
        return self.is_zero(self.sum(a, b, -1).num)

    def is_zero(self, num: Polynomial) -> bool:
        """Negative powers are cleared first, so that the rules can see the whole."""
        for _ in range(4):
            lowest: dict[int, Exponent] = {}
            for monomial in num:
                for atom, exponent in monomial:
                    if exponent < 0 and atom in self.bounds:
                        lowest[atom] = min(lowest.get(atom, 0), exponent)
            if not num or not lowest:
                break
            factor = tuple((atom, -(e.numerator // e.denominator)) for atom, e in sorted(lowest.items()))
            cleared: Polynomial = {}
            below = 1
            for monomial, value in num.items():
                part, over = self.reduced(times(monomial, factor))
                cleared, below = self.add(cleared, part, over, below * value), below * over
            num = cleared
        return not num


def _split_number(value: int) -> tuple[dict[int, int], int]:
    """Small primes of value >= 1 with their exponents, and what is left."""
    found: dict[int, int] = {}
    p = 2
    while p * p <= value and p <= MAX_FACTOR:
        while value % p == 0:
            found[p] = found.get(p, 0) + 1
            value //= p
        p += 1 if p == 2 else 2
    if 1 < value <= MAX_FACTOR * MAX_FACTOR and p * p > value:
        found[value] = found.get(value, 0) + 1
        value = 1
    return found, value


class Functions(Forms):
    """Powers, logarithms and exponentials of forms."""

    def number_power(self, value: Fraction, exponent: Fraction) -> Form:
        """value ^ exponent for value > 0."""
        result = ONE_FORM
        for number, sign in ((value.numerator, 1), (value.denominator, -1)):
            primes, rest = _split_number(number)
            for p, power in {**primes, **({rest: 1} if rest > 1 else {})}.items():
                result = self.product(result, self.of_atom(self.prime(p), sign * power * exponent))
        return result

    def number_ln(self, value: Fraction) -> Form:
        result = ZERO_FORM
        for number, sign in ((value.numerator, 1), (value.denominator, -1)):
            primes, rest = _split_number(number)
            for p, power in {**primes, **({rest: 1} if rest > 1 else {})}.items():
                part = Form({((self.atom("lnprime", p), 1),): sign * power})
                result = self.sum(result, part)
        return result

    def rational_power(self, a: Form, exponent: Fraction) -> Form:
        """a ^ exponent for an exponent that is not whole: `a` is not negative wherever that has a value."""
        self.restricted = True
        if not a.num:
            if exponent < 0:
                raise NowhereDefinedError
            return ZERO_FORM
        if a.den != ONE:
            if exponent.denominator != 2:
                return (
                    self.of_atom(self.based("root", a), exponent) if exponent > 0 else self._opaque_power(a, exponent)
                )
            above = self.product(Form(a.num, a.over), Form(a.den))
            below = self.whole_power(self.absolute(Form(a.den)), abs(exponent.numerator))
            root = self.rational_power(above, exponent)
            return self.product(root, self.inverse(below) if exponent > 0 else below)
        if len(a.num) > 1:
            common = gcd(*a.num.values())
            plain = Form({monomial: value // common for monomial, value in a.num.items()})
            scale = self.number_power(Fraction(common, a.over), exponent)
            return self.product(scale, self.of_atom(self.based("root", plain), exponent))
        ((monomial, value),) = a.num.items()
        result = self.number_power(Fraction(abs(value), a.over), exponent)
        odd = [(x, e) for x, e in monomial if not self.is_positive(x) and (e.denominator == 1 and e % 2)]
        together = value < 0 or len(odd) > 1
        for x, e in monomial:
            if together and (x, e) in odd:
                continue
            power = short(e * exponent)
            plain_power = (x, e) in odd or self.is_positive(x) or e.denominator != 1
            if plain_power or (power.denominator == 1 and power % 2 == 0):
                result = self.product(result, self.of_atom(x, power))
            else:
                result = self.product(result, self.of_atom(self.absolute_atom(x), power))
        if together:
            base = Form({tuple(odd): 1 if value > 0 else -1})
            result = self.product(result, self.of_atom(self.based("root", base), exponent))
        return result

    def _opaque_power(self, a: Form, exponent: Fraction) -> Form:
        return self.inverse(self.of_atom(self.based("root", a), -exponent))

    def absolute_atom(self, atom: int) -> int:
        return self.based("abs", Form({((atom, 1),): 1}))

    def absolute(self, a: Form) -> Form:
        value = a.constant
        if value is not None:
            return self.number(abs(value))
        result = Form({(): 1}, a.over)
        for part, sign in ((a.num, 1), (a.den, -1)):
            one = self._absolute(part)
            result = self.product(result, one if sign > 0 else self.inverse(one))
        return result

    def _absolute(self, a: Polynomial) -> Form:
        if len(a) > 1:
            common = gcd(*a.values()) * (1 if a[min(a)] > 0 else -1)
            base = Form({monomial: value // common for monomial, value in a.items()})
            return self.product(self.number(abs(common)), self.of_atom(self.based("abs", base)))
        ((monomial, value),) = a.items()
        result = self.number(abs(value))
        for atom, exponent in monomial:
            plain = self.is_positive(atom) or exponent.denominator != 1 or exponent % 2 == 0
            chosen = atom if plain else self.absolute_atom(atom)
            result = self.product(result, self.of_atom(chosen, exponent))
        return result

    def ln(self, a: Form) -> Form:
        """ln |a|: the same as ln a wherever that has a value."""
        self.restricted = True
        if not a.num:
            raise NowhereDefinedError
        above, below = self._ln(a.num), self._ln(a.den)
        return self.sum(self.sum(above, below, -1), self.number_ln(Fraction(a.over)), -1)

    def _ln(self, a: Polynomial) -> Form:
        if len(a) > 1:
            common = gcd(*a.values())
            sign = 1 if a[min(a)] > 0 else -1
            base = frozenset((monomial, sign * value // common) for monomial, value in a.items())
            return self.sum(self.number_ln(Fraction(common)), self.of_atom(self.atom("ln", base)))
        ((monomial, value),) = a.items()
        result = self.number_ln(Fraction(abs(value)))
        for atom, exponent in monomial:
            kind = self.keys[atom]
            if kind[0] == "exp":
                part = Form({kind[1]: 1})  # type: ignore[dict-item]
            elif kind[0] == "prime":
                part = Form({((self.atom("lnprime", kind[1]), 1),): 1})
            elif kind[0] == "abs" or kind[0] == "root":
                part = self.ln(self.bases[atom])
            else:
                part = self.of_atom(self.atom("ln", atom))
            result = self.sum(result, self.product(part, self.number(Fraction(exponent))))
        return result

    def exp(self, a: Form) -> Form:
        if a.den != ONE:
            sign = 1 if a.num[min(a.num)] > 0 else -1
            key = (a if sign > 0 else self.negative(a)).key()
            return self.of_atom(self.atom("exp", key), sign)
        result = ONE_FORM
        for monomial, value in a.num.items():
            result = self.product(result, self._exp_of_term(monomial, Fraction(value, a.over)))
        return result

    def _exp_of_term(self, monomial: Monomial, value: Fraction) -> Form:
        """exp(value * monomial)."""
        if len(monomial) == 1 and monomial[0][1] == 1:
            kind = self.keys[monomial[0][0]]
            if kind[0] == "lnprime":
                return self.of_atom(self.prime(kind[1]), value)  # type: ignore[arg-type]
            if kind[0] == "ln" and isinstance(kind[1], int):
                return self.of_atom(self.absolute_atom(kind[1]), value)
            if kind[0] == "ln":
                base = Form(dict(kind[1]))  # type: ignore[call-overload]
                return self.of_atom(self.based("abs", base), value)
        return self.of_atom(self.atom("exp", monomial), short(value))

    def general_power(self, a: Form, b: Form) -> Form:
        """a ^ b: whole and rational exponents, exp(b ln a) for a positive a, else an atom of its own."""
        exponent = b.constant
        if exponent is not None:
            if exponent.denominator == 1:
                if not a.num and exponent < 0:
                    raise NowhereDefinedError
                return self.whole_power(a, int(exponent)) if exponent else ONE_FORM
            return self.rational_power(a, exponent)
        base = a.constant
        positive = len(a.num) == 1 and a.den == ONE and next(iter(a.num.values())) > 0
        positive = positive and all(self.is_positive(atom) for monomial in a.num for atom, _ in monomial)
        if positive or (base is not None and base > 0):
            return self.exp(self.product(b, self.ln(a)))
        self.restricted = True
        whole, rest = self.whole_part(b)
        if whole and a.num:
            return self.product(self.whole_power(a, whole), self.general_power(a, rest))
        return self.of_atom(self.atom("pow", a.key(), b.key()))

    def whole_part(self, a: Form) -> tuple[int, Form]:
        """The whole number in the constant term, and the form without it."""
        if a.den != ONE:
            return 0, a
        whole = a.num.get((), 0) // a.over
        return whole, self.sum(a, self.number(whole), -1) if whole else a

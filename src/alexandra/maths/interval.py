"""Rigorous intervals: an expression at a point, enclosed between two decimals; to tell values apart without doubt.

Ends are decimals of `digits` figures, rounded outwards; exp, ln and log10 are correctly rounded by the decimal module
and widened by one unit; sine and cosine come from Taylor's series at the lower end, widened by the width (their slope
is at most 1) and by the remainder of the series. What cannot be decided at this precision is an UndecidedError.
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from alexandra.maths.arithmetic import IrrationalError, Rational, pi_multiple
from alexandra.maths.expr import Apply, Constant, DomainError, Expr, Number, Symbol

Interval = tuple[Decimal, Decimal]
ZERO, ONE = Decimal(0), Decimal(1)
MAX_EXPONENT = 10**6  # of ten; beyond, a value is too large
_LIMITS = {"Emax": decimal.MAX_EMAX, "Emin": decimal.MIN_EMIN, "traps": [decimal.InvalidOperation]}


class UndecidedError(Exception):
    """An interval is too wide to say on which side of the end of a domain it lies."""


@lru_cache(maxsize=16)
def _contexts(digits: int) -> tuple[decimal.Context, decimal.Context, decimal.Context]:
    """Rounding down, up and to nearest."""
    modes = decimal.ROUND_FLOOR, decimal.ROUND_CEILING, decimal.ROUND_HALF_EVEN
    down, up, near = (decimal.Context(prec=digits, rounding=mode, **_LIMITS) for mode in modes)  # type: ignore[arg-type]
    return down, up, near


class Arithmetic:
    """Interval arithmetic with so many digits; symbols stand for exact rationals or for intervals."""

    def __init__(self, digits: int, point: Mapping[str, Rational | Interval] | None = None) -> None:
        self.digits = digits
        self.down, self.up, self.near = _contexts(digits)
        self.point = point or {}
        self.exact = {name: value for name, value in self.point.items() if not isinstance(value, tuple)}

    def of(self, expr: Expr) -> Interval:
        """An interval that holds the value; DomainError where there is surely none, else UndecidedError."""
        if isinstance(expr, Number):
            return self.rational(expr.exact)
        if isinstance(expr, Symbol):
            if expr.name not in self.point:
                raise DomainError("unbound_symbol", f"the symbol {expr.name!r} has no value")
            value = self.point[expr.name]
            return value if isinstance(value, tuple) else self.rational(value)
        if isinstance(expr, Constant):
            return _pi(self.digits) if expr.name == "pi" else self.exp((ONE, ONE))
        assert isinstance(expr, Apply)
        if expr.op == "^":
            return self._power(expr)
        if expr.op in ("sin", "cos", "tan"):
            return self._circular(expr)
        args = [self.of(arg) for arg in expr.args]
        if expr.op == "-" and len(args) == 1:
            return _mirrored(args[0])
        if expr.op not in _METHODS:
            raise DomainError("not_a_value", f"({expr.op} ...) is no number")
        found: Interval = getattr(self, _METHODS[expr.op])(*args)
        if max(found[0].adjusted(), found[1].adjusted()) > MAX_EXPONENT:
            raise DomainError("too_large", f"a value has more than {MAX_EXPONENT:,} digits")
        return found

    def rational(self, value: Rational) -> Interval:
        above, below = Decimal(value.numerator), Decimal(value.denominator)
        return self.down.divide(above, below), self.up.divide(above, below)

    def add(self, a: Interval, b: Interval) -> Interval:
        return self.down.add(a[0], b[0]), self.up.add(a[1], b[1])

    def subtract(self, a: Interval, b: Interval) -> Interval:
        return self.down.subtract(a[0], b[1]), self.up.subtract(a[1], b[0])

    def multiply(self, a: Interval, b: Interval) -> Interval:
        ends = [(x, y) for x in a for y in b]
        return min(self.down.multiply(x, y) for x, y in ends), max(self.up.multiply(x, y) for x, y in ends)

    def divide(self, a: Interval, b: Interval) -> Interval:
        if b[0] <= 0 <= b[1]:
            if b[0] == b[1]:
                raise DomainError("division_by_zero", "a divisor is zero")
            raise UndecidedError
        ends = [(x, y) for x in a for y in b]
        return min(self.down.divide(x, y) for x, y in ends), max(self.up.divide(x, y) for x, y in ends)

    def remainder(self, a: Interval, b: Interval) -> Interval:
        if b == (ZERO, ZERO):
            raise DomainError("modulo_by_zero", "a remainder by zero does not exist")
        return self.subtract(a, self.multiply(b, self.floor(self.divide(a, b))))

    def _power(self, expr: Apply) -> Interval:
        base, exponent = expr.args
        number = exponent
        if isinstance(exponent, Apply) and exponent.op == "-" and len(exponent.args) == 1:
            (inner,) = exponent.args
            number = Number(-inner.value) if isinstance(inner, Number) else exponent
        if isinstance(number, Symbol) and number.name in self.exact:
            number = Number(Fraction(self.exact[number.name]))
        if isinstance(number, Number) and number.value.denominator == 1:
            return self.whole_power(self.of(base), number.value.numerator)
        low, high = self.of(base)
        power = self.of(exponent)
        if high < 0:
            if power[0] == power[1] and power[0] == power[0].to_integral_value():
                return self.whole_power((low, high), int(power[0]))
            if power[0].to_integral_value(decimal.ROUND_CEILING) <= power[1]:
                raise UndecidedError
            raise DomainError("negative_base", "a negative number is raised to a power that is not whole")
        if low <= 0:
            if low == high == 0 and power[0] > 0:
                return low, high
            if low == high == 0 and power[1] < 0:
                raise DomainError("zero_to_negative", "zero is raised to a negative power")
            raise UndecidedError
        return self.exp(self.multiply(power, self.ln((low, high))))

    def whole_power(self, a: Interval, n: int) -> Interval:
        if n < 0:
            if a == (ZERO, ZERO):
                raise DomainError("zero_to_negative", "zero is raised to a negative power")
            return self.divide((ONE, ONE), self.whole_power(a, -n))
        if n > MAX_EXPONENT:
            return self._huge_power(a, n)
        result: Interval = (ONE, ONE)
        even = n % 2 == 0
        low, high = a
        if even and low < 0:
            low, high = self.abs(a)
        square = low, high
        while n:
            if n & 1:
                result = self.multiply(result, square)
            n >>= 1
            if n:
                square = self.multiply(square, square)
            if max(result[0].adjusted(), result[1].adjusted()) > MAX_EXPONENT:
                raise DomainError("too_large", f"a value has more than {MAX_EXPONENT:,} digits")
        return result

    def _huge_power(self, a: Interval, n: int) -> Interval:
        if a in ((ZERO, ZERO), (ONE, ONE)):
            return a
        raise DomainError("too_large", "a power is too large")

    def exp(self, a: Interval) -> Interval:
        if a[1] > 2 * MAX_EXPONENT:
            raise DomainError("too_large", f"a value has more than {MAX_EXPONENT:,} digits")
        low = Decimal(0) if a[0] < -2 * MAX_EXPONENT else self.near.next_minus(self.near.exp(a[0]))
        high = self.near.exp(max(a[1], Decimal(-2 * MAX_EXPONENT)))
        return max(low, Decimal(0)), self.near.next_plus(high)

    def ln(self, a: Interval) -> Interval:
        self._positive(a)
        return self.near.next_minus(self.near.ln(a[0])), self.near.next_plus(self.near.ln(a[1]))

    def log(self, a: Interval) -> Interval:
        self._positive(a)
        return self.near.next_minus(self.near.log10(a[0])), self.near.next_plus(self.near.log10(a[1]))

    def _positive(self, a: Interval) -> None:
        if a[1] <= 0:
            raise DomainError("log_of_nonpositive", "the logarithm of a number that is not positive does not exist")
        if a[0] <= 0:
            raise UndecidedError

    def sqrt(self, a: Interval) -> Interval:
        if a[1] < 0:
            raise DomainError("root_of_negative", "the square root of a negative number is not real")
        if a[0] < 0:
            raise UndecidedError
        low = self.near.next_minus(self.near.sqrt(a[0])) if a[0] else a[0]
        return low, self.near.next_plus(self.near.sqrt(a[1])) if a[1] else a[1]

    def abs(self, a: Interval) -> Interval:
        if a[0] >= 0:
            return a
        return _mirrored(a) if a[1] <= 0 else (Decimal(0), max(a[0].copy_abs(), a[1]))

    def floor(self, a: Interval) -> Interval:
        low, high = (end.to_integral_value(decimal.ROUND_FLOOR) for end in a)
        if low != high:
            raise UndecidedError
        return low, high

    def ceil(self, a: Interval) -> Interval:
        return _mirrored(self.floor(_mirrored(a)))

    def _circular(self, expr: Apply) -> Interval:
        (arg,) = expr.args
        try:
            turns = pi_multiple(arg, self.exact)
        except (IrrationalError, DomainError):
            turns = None
        if turns is None:
            angle = self.of(arg)
        else:  # whole turns are taken off exactly
            angle = self.multiply(self.rational(turns % 2), _pi(self.digits))
        if expr.op != "tan":
            return self.circular(angle, expr.op)
        if turns is not None and turns % 1 == Fraction(1, 2):
            raise DomainError("tan_pole", "tan has no value where cos is zero")
        return self.divide(self.circular(angle, "sin"), self.circular(angle, "cos"))

    def circular(self, a: Interval, name: str) -> Interval:
        """sin or cos of an interval."""
        radius = self.up.subtract(a[1], a[0])
        if radius > 1 or a[0].adjusted() > 1000:
            raise UndecidedError
        digits = self.digits + 10 + max(0, a[0].adjusted())
        value = _taylor(a[0], name, digits)
        slack = self.up.add(radius, Decimal(1).scaleb(-self.digits - 2))
        low, high = self.down.subtract(value, slack), self.up.add(value, slack)
        return max(low, Decimal(-1)), min(high, Decimal(1))


def _mirrored(a: Interval) -> Interval:
    """-a; the minus sign would round to the precision of the thread."""
    return a[1].copy_negate(), a[0].copy_negate()


_METHODS = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder", "exp": "exp", "ln": "ln",
    "log": "log", "sqrt": "sqrt", "abs": "abs", "floor": "floor", "ceil": "ceil",
}  # fmt: skip


def _taylor(x: Decimal, name: str, digits: int) -> Decimal:
    """sin or cos of x within 10 ^ -(digits - 8 - the digits before the point of x)."""
    near = _contexts(digits)[2]
    whole_turn = near.multiply(Decimal(2), _pi(digits)[0])
    x = near.remainder_near(x, whole_turn)
    shrinks = 0
    while x.copy_abs() > Decimal("0.1"):
        x = near.divide(x, Decimal(3))
        shrinks += 1
    square = near.multiply(x, x)
    sine, term, number = x, x, 1
    tiny = Decimal(1).scaleb(-digits)
    while term.copy_abs() > tiny:
        term = near.divide(near.multiply(term, square).copy_negate(), Decimal((number + 1) * (number + 2)))
        number += 2
        sine = near.add(sine, term)
    if name == "cos":
        cosine = near.sqrt(near.subtract(Decimal(1), near.multiply(sine, sine)))
        for _ in range(shrinks):  # cos 3x = 4 cos^3 x - 3 cos x
            cube = near.multiply(near.multiply(cosine, cosine), cosine)
            cosine = near.subtract(near.multiply(Decimal(4), cube), near.multiply(Decimal(3), cosine))
        return cosine
    for _ in range(shrinks):  # sin 3x = 3 sin x - 4 sin^3 x
        cube = near.multiply(near.multiply(sine, sine), sine)
        sine = near.subtract(near.multiply(Decimal(3), sine), near.multiply(Decimal(4), cube))
    return sine


@lru_cache(maxsize=16)
def _pi(digits: int) -> Interval:
    """Machin, 1706: pi = 16 arctan 1/5 - 4 arctan 1/239, in whole numbers with guard digits."""
    scale: int = 10 ** (digits + 10)

    def arctan_of_inverse(n: int) -> int:
        term: int = scale // n
        total = term
        k = 1
        while term:
            term //= -(n * n)
            if term == -1:
                break
            k += 2
            total += term // k
        return total

    value = Decimal(16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)).scaleb(
        -digits - 10, _contexts(digits + 20)[2]
    )
    down, up, _ = _contexts(digits)
    slack = Decimal(1).scaleb(-digits - 5)
    return down.subtract(value, slack), up.add(value, slack)


def enclose(expr: Expr, point: Mapping[str, Rational] | None = None, digits: int = 30) -> Interval:
    """Decimals (low, high) around the value of `expr`; DomainError when there is none, also when that is not known."""
    for precision in (digits, 4 * digits, 16 * digits):
        try:
            return Arithmetic(precision + 5, point).of(expr)
        except UndecidedError:
            continue
        except decimal.InvalidOperation:
            break
    raise DomainError("undecided", f"the value of {expr.text()[:80]} could not be enclosed")


def nearest_float(expr: Expr) -> float:
    """The value as a float, within one unit in the last place."""
    low, high = enclose(expr)
    return float((low + high) / 2)

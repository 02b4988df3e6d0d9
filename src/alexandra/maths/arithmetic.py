"""Exact rational values: the operators and functions on ints and fractions, every way to have no value named.

A whole number is an int here and only a quotient that is not whole a Fraction, because ints are several times faster.
A function gives a rational or None, "irrational", where its exact value is not one (sqrt of 2, sin of 1): values.py
goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from alexandra.maths.expr import MAX_BITS, Apply, Constant, DomainError, Expr, Number, Symbol

Rational = int | Fraction


class IrrationalError(Exception):
    """A value is no rational number, or not by the rules of this module."""


def rational_value(expr: Expr, bindings: Mapping[str, Rational]) -> Rational:
    """The value of a tree of operators and functions; IrrationalError when a part of it is not rational."""
    if isinstance(expr, Number):
        return expr.exact
    if isinstance(expr, Apply):
        args = expr.args
        if expr.op in ARITHMETIC:
            if len(args) == 1:
                return -rational_value(args[0], bindings)
            return ARITHMETIC[expr.op](rational_value(args[0], bindings), rational_value(args[1], bindings))
        if expr.op in FUNCTIONS:
            found = _special(expr, bindings)
            if found is None:
                found = FUNCTIONS[expr.op](rational_value(args[0], bindings))
            if found is None:
                raise IrrationalError
            return found
        raise IrrationalError
    if isinstance(expr, Symbol):
        if expr.name not in bindings:
            hint = f"bind it: {{{expr.name!r}: 2}}"
            raise DomainError("unbound_symbol", f"the symbol {expr.name!r} has no value", hint=hint)
        return bindings[expr.name]
    assert isinstance(expr, Constant)
    raise IrrationalError


def checked(value: Rational) -> Rational:
    """`value` in its short form; DomainError when it is too large."""
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise DomainError("too_large", f"a value has more than {MAX_BITS:,} bits above or below its fraction bar")
    return value.numerator if value.denominator == 1 else value


def add(a: Rational, b: Rational) -> Rational:
    return checked(a + b)


def subtract(a: Rational, b: Rational) -> Rational:
    return checked(a - b)


def multiply(a: Rational, b: Rational) -> Rational:
    return checked(a * b)


def divide(a: Rational, b: Rational) -> Rational:
    if not b:
        raise DomainError("division_by_zero", f"{_short(a)} is divided by zero")
    return checked(a // b if type(a) is int and type(b) is int and a % b == 0 else Fraction(a) / b)


def remainder(a: Rational, b: Rational) -> Rational:
    if not b:
        raise DomainError("modulo_by_zero", f"the remainder of {_short(a)} by zero does not exist")
    return checked(a % b)


def power(a: Rational, b: Rational) -> Rational:
    """a ^ b; 0 ^ 0 is 1. The size is checked before anything is multiplied."""
    if b.denominator != 1:
        return _root_power(a, Fraction(b))
    if not a:
        if b < 0:
            raise DomainError("zero_to_negative", f"zero is raised to the power {_short(b)}")
        return 0 if b else 1
    if abs(a) == 1:
        return a if b.numerator % 2 else 1
    bits = max(a.numerator.bit_length(), a.denominator.bit_length()) - 1
    if bits * abs(b.numerator) > MAX_BITS:
        raise DomainError("too_large", f"the power {_short(b)} of {_short(a)} has more than {MAX_BITS:,} bits")
    return checked(a ** int(b) if b >= 0 else Fraction(a) ** int(b))


def _root_power(a: Rational, b: Fraction) -> Rational:
    """a ^ b for a b that is not whole."""
    if a < 0:
        raise DomainError("negative_base", f"{_short(a)} is raised to the power {_short(b)}, which is not whole")
    if not a:
        return power(a, -1 if b < 0 else 1)
    above, below = whole_root(a.numerator, b.denominator), whole_root(a.denominator, b.denominator)
    if above is None or below is None:
        raise IrrationalError
    return power(checked(Fraction(above, below)), b.numerator)


def whole_root(a: int, n: int) -> int | None:
    """The whole n-th root of a >= 0, None when there is none."""
    if a < 2:
        return a
    if n == 2:
        root = math.isqrt(a)
        return root if root * root == a else None
    if n >= a.bit_length():
        return None
    low, high = 1, 1 << (a.bit_length() // n + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if middle**n <= a:
            low = middle
        else:
            high = middle - 1
    return low if low**n == a else None


def _short(value: Rational) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"


# The binary operators; unary minus is the one that has a single operand.
ARITHMETIC: dict[str, Callable[[Rational, Rational], Rational]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
    "^": power,
}


# --- functions -----------------------------------------------------------------------------------------------------


def square_root(a: Rational) -> Rational | None:
    if a < 0:
        raise DomainError("root_of_negative", f"the square root of {_short(a)} is not real")
    above, below = whole_root(a.numerator, 2), whole_root(a.denominator, 2)
    if above is None or below is None:
        return None
    return above if below == 1 else Fraction(above, below)


def _positive(a: Rational, name: str) -> None:
    if a <= 0:
        raise DomainError("log_of_nonpositive", f"{name} of {_short(a)} does not exist")


def natural_logarithm(a: Rational) -> Rational | None:
    _positive(a, "ln")
    return 0 if a == 1 else None


def decimal_logarithm(a: Rational) -> Rational | None:
    """The exponent when `a` is a rational power of ten (10 ^ (p/q) is rational only for a whole p/q)."""
    _positive(a, "log")
    sign, number = (1, a.numerator) if a.denominator == 1 else (-1, a.denominator)
    if min(a.numerator, a.denominator) != 1:
        return None
    exponent = 0
    while number % 10 == 0:
        number //= 10
        exponent += 1
    return sign * exponent if number == 1 else None


def _at_zero(value: int) -> Callable[[Rational], Rational | None]:
    """sin, cos, tan, exp of a rational are rational at zero alone (Lindemann, 1882)."""
    return lambda a: None if a else value


FUNCTIONS: dict[str, Callable[[Rational], Rational | None]] = {
    "sin": _at_zero(0),
    "cos": _at_zero(1),
    "tan": _at_zero(0),
    "exp": _at_zero(1),
    "ln": natural_logarithm,
    "log": decimal_logarithm,
    "sqrt": square_root,
    "abs": lambda a: a if a >= 0 else -a,
    "floor": math.floor,
    "ceil": math.ceil,
}

_HALF = Fraction(1, 2)
# sine at k * pi / 6 and tangent at k * pi / 4 where they are rational (Niven, 1956)
_SINE: dict[int, Rational] = {0: 0, 1: _HALF, 3: 1, 5: _HALF, 6: 0, 7: -_HALF, 9: -1, 11: -_HALF}
_TANGENT = {0: 0, 1: 1, 3: -1}


def _special(expr: Apply, bindings: Mapping[str, Rational]) -> Rational | None:
    """Values whose argument is not rational itself: sin, cos, tan of multiples of pi; ln of exp, exp of ln, ln e.

    None when the rules of FUNCTIONS apply.
    """
    (arg,) = expr.args
    if expr.op in ("sin", "cos", "tan"):
        turns = pi_multiple(arg, bindings)
        return None if turns is None else _circular(expr.op, Fraction(turns))
    if expr.op == "ln" and isinstance(arg, Apply) and arg.op == "exp":
        return rational_value(arg.args[0], bindings)
    if expr.op == "ln" and isinstance(arg, Constant) and arg.name == "e":
        return 1
    if expr.op == "exp" and isinstance(arg, Apply) and arg.op == "ln":
        value = rational_value(arg.args[0], bindings)
        _positive(value, "ln")
        return value
    return None


def _circular(name: str, turns: Fraction) -> Rational:
    """The function at turns * pi, where it is rational."""
    if name == "tan":
        place = turns % 1 * 4
        if place == 2:
            raise DomainError("tan_pole", f"tan has no value at {turns} * pi")
        value: Rational | None = _TANGENT.get(int(place)) if place.denominator == 1 else None
    else:
        place = (turns + (_HALF if name == "cos" else 0)) % 2 * 6
        value = _SINE.get(int(place)) if place.denominator == 1 else None
    if value is None:
        raise IrrationalError
    return value


def pi_multiple(expr: Expr, bindings: Mapping[str, Rational]) -> Rational | None:
    """The rational r of r * pi as it is usually written; None for anything else."""
    if isinstance(expr, Constant):
        return 1 if expr.name == "pi" else None
    if not isinstance(expr, Apply) or expr.op not in ("*", "/", "-", "+"):
        return None
    parts = [pi_multiple(arg, bindings) for arg in expr.args]
    if len(parts) == 1:
        return None if parts[0] is None else -parts[0]
    a, b = parts
    if expr.op in "+-":
        if a is None or b is None:
            return None
        return a + b if expr.op == "+" else a - b
    if expr.op == "*" and a is None and b is not None:
        return multiply(b, rational_value(expr.args[0], bindings))
    if a is None or b is not None:
        return None
    return ARITHMETIC[expr.op](a, rational_value(expr.args[1], bindings))

"""Exact values: rational arithmetic on an expression, with every way to have no value named (expr.DOMAIN_ERRORS)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from alexandra.errors import suggest
from alexandra.maths.expr import MAX_BITS, Apply, DomainError, Expr, ExpressionError, Number, Symbol, too_large
from alexandra.maths.language import parse

Value = int | Fraction | float | str
Bindings = Mapping[str, Value]


def evaluate(expr: Expr | str, bindings: Bindings | None = None) -> Fraction:
    """The exact value of `expr`, its symbols replaced by `bindings`; DomainError when there is none.

    A binding is an int, a Fraction, text ("1/3", "0.1") or a float, which stands for its exact binary value.
    """
    tree = parse(expr) if isinstance(expr, str) else expr
    return _value(tree, {name: exact(value, name) for name, value in (bindings or {}).items()})


def exact(value: Value, what: str = "a value") -> Fraction:
    """The rational that `value` is; ExpressionError when it is none."""
    if isinstance(value, str):
        number = parse(value)
        if not isinstance(number, Number):
            raise ExpressionError(f"{what}: {value!r} is not a number", hint="write 3, -3, 0.25 or 1/3")
        return number.value
    if isinstance(value, bool) or not isinstance(value, int | Fraction | float):
        raise ExpressionError(f"{what}: {value!r} is not a number", hint="give an int, a Fraction, a float or text")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError(f"{what}: {value!r} is not finite")
    return _checked(Fraction(value))


def _value(expr: Expr, bindings: Mapping[str, Fraction]) -> Fraction:
    if isinstance(expr, Number):
        return expr.value
    if isinstance(expr, Symbol):
        if expr.name not in bindings:
            known = suggest(expr.name, bindings) if bindings else f"bind it: {{{expr.name!r}: 2}}"
            raise DomainError("unbound_symbol", f"the symbol {expr.name!r} has no value", hint=known)
        return bindings[expr.name]
    assert isinstance(expr, Apply)
    values = [_value(arg, bindings) for arg in expr.args]
    if len(values) == 1:
        return -values[0]
    return ARITHMETIC[expr.op](values[0], values[1])


def _checked(value: Fraction) -> Fraction:
    if too_large(value):
        raise DomainError("too_large", f"a value has more than {MAX_BITS:,} bits above or below its fraction bar")
    return value


def add(a: Fraction, b: Fraction) -> Fraction:
    return _checked(a + b)


def subtract(a: Fraction, b: Fraction) -> Fraction:
    return _checked(a - b)


def multiply(a: Fraction, b: Fraction) -> Fraction:
    return _checked(a * b)


def divide(a: Fraction, b: Fraction) -> Fraction:
    if not b:
        raise DomainError("division_by_zero", f"{_short(a)} is divided by zero")
    return _checked(a / b)


def remainder(a: Fraction, b: Fraction) -> Fraction:
    if not b:
        raise DomainError("modulo_by_zero", f"the remainder of {_short(a)} by zero does not exist")
    return _checked(a % b)


def power(a: Fraction, b: Fraction) -> Fraction:
    """a ^ b for a whole b; 0 ^ 0 is 1. The size is checked before anything is multiplied."""
    if b.denominator != 1:
        raise DomainError("non_integer_exponent", f"the exponent {_short(b)} is not a whole number")
    if not a:
        if b < 0:
            raise DomainError("zero_to_negative", f"zero is raised to the power {_short(b)}")
        return Fraction(0 if b else 1)
    if abs(a) == 1:
        return a if b.numerator % 2 else Fraction(1)
    bits = max(a.numerator.bit_length(), a.denominator.bit_length()) - 1
    if bits * abs(b.numerator) > MAX_BITS:
        raise DomainError("too_large", f"the power {_short(b)} of {_short(a)} has more than {MAX_BITS:,} bits")
    return _checked(Fraction(a ** int(b)))


# The binary operators; unary minus is the one that has a single operand.
ARITHMETIC: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
    "^": power,
}


def _short(value: Fraction) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"

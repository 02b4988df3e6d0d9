"""Expressions over measured facts: a value and its bounds, for one model or for many at once.

Facts carry intervals, so an expression has a value, a lower and an upper bound, computed by interval
arithmetic: the bounds hold whatever the true values inside the facts' intervals are. What is not known is
NaN and stays NaN; what has no finite value (a division by zero, a logarithm of zero) is not known either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alexandra.lang.expr import Arith, Expr, Fact, Function, Gap, Neg, Number, Word


@dataclass(frozen=True)
class Bounds:
    """value, low and high: arrays of one shape, or of shape () for a single model."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def exact(cls, value: float | np.ndarray) -> Bounds:
        array = np.asarray(value, dtype=np.float64)
        return cls(array, array, array)


# A fact's bounds, and whether a percentage added to it means points (True) or a share of its size (False).
Lookup = Callable[[Fact | Gap], tuple[Bounds, bool]]


def measure(node: Expr, lookup: Lookup) -> Bounds:
    """The bounds of an expression; NaN where a fact is missing or the value is not finite."""
    with np.errstate(all="ignore"):
        out = _measure(node, lookup)
        known = np.isfinite(out.value) & np.isfinite(out.low) & np.isfinite(out.high)
        return Bounds(*(np.where(known, part, np.nan) for part in (out.value, out.low, out.high)))


def _measure(node: Expr, lookup: Lookup) -> Bounds:
    match node:
        case Number(value):
            return Bounds.exact(value)
        case Fact() | Gap():
            return lookup(node)[0]
        case Neg(operand):
            inner = _measure(operand, lookup)
            return Bounds(-inner.value, -inner.high, -inner.low)
        case Arith(left, op, right):
            first = _measure(left, lookup)
            if op in "+-" and _is_relative(left, right, lookup):
                assert isinstance(right, Number)
                sizes = [np.abs(part) * right.value for part in (first.value, first.low, first.high)]
                second = _span(*sizes)
            else:
                second = _measure(right, lookup)
            return _ARITHMETIC[op](first, second)
        case Function(name, args):
            return _FUNCTIONS[name](*(_measure(arg, lookup) for arg in args))
        case Word():
            return Bounds.exact(np.nan)
    raise AssertionError(node)


def _is_relative(left: Expr, right: Expr, lookup: Lookup) -> bool:
    """x + 5% is relative when x is a fact outside 0..1 (an error, a profit, a count) or has a unit."""
    if not (isinstance(right, Number) and right.unit == "%"):
        return False
    if isinstance(left, Fact | Gap):
        return not lookup(left)[1]
    return isinstance(left, Number) and left.unit in ("s", "B")


def _span(value: np.ndarray, *ends: np.ndarray) -> Bounds:
    """`value` with the smallest and largest of `ends` as its bounds."""
    low, high = ends[0], ends[0]
    for end in ends[1:]:
        low, high = np.minimum(low, end), np.maximum(high, end)
    return Bounds(value, low, high)


def _add(a: Bounds, b: Bounds) -> Bounds:
    return Bounds(a.value + b.value, a.low + b.low, a.high + b.high)


def _subtract(a: Bounds, b: Bounds) -> Bounds:
    return Bounds(a.value - b.value, a.low - b.high, a.high - b.low)


def _multiply(a: Bounds, b: Bounds) -> Bounds:
    return _span(a.value * b.value, a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high)


def _divide(a: Bounds, b: Bounds) -> Bounds:
    crosses = (b.low <= 0) & (b.high >= 0)
    inverse = Bounds(*(np.where(crosses, np.nan, 1 / part) for part in (b.value, b.high, b.low)))
    product = _multiply(a, inverse)
    return Bounds(np.where(crosses, np.nan, a.value / b.value), product.low, product.high)


def _rising(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Bounds], Bounds]:
    return lambda a: Bounds(function(a.value), function(a.low), function(a.high))


def _absolute(a: Bounds) -> Bounds:
    out = _span(np.abs(a.value), np.abs(a.low), np.abs(a.high))
    return Bounds(out.value, np.where((a.low <= 0) & (a.high >= 0), 0.0, out.low), out.high)


def _extreme(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., Bounds]:
    def run(first: Bounds, *others: Bounds) -> Bounds:
        for other in others:
            first = Bounds(
                function(first.value, other.value), function(first.low, other.low), function(first.high, other.high)
            )
        return first

    return run


_ARITHMETIC: dict[str, Callable[[Bounds, Bounds], Bounds]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
}
_FUNCTIONS: dict[str, Callable[..., Bounds]] = {
    "log10": _rising(np.log10),
    "log": _rising(np.log),
    "sqrt": _rising(np.sqrt),
    "abs": _absolute,
    "min": _extreme(np.minimum),
    "max": _extreme(np.maximum),
}
_COMPARISONS: dict[str, Callable[[Bounds, Bounds], np.ndarray]] = {
    ">=": lambda a, b: a.low >= b.high,
    ">": lambda a, b: a.low > b.high,
    "<=": lambda a, b: a.high <= b.low,
    "<": lambda a, b: a.high < b.low,
    "==": lambda a, b: a.value == b.value,
    "!=": lambda a, b: a.value != b.value,
}
OPPOSITE = {">=": "<", ">": "<=", "<=": ">", "<": ">=", "==": "!=", "!=": "=="}


def proven(a: Bounds, op: str, b: Bounds) -> np.ndarray:
    """Where a op b holds for the whole intervals (== and != compare values); False where anything is unknown."""
    with np.errstate(invalid="ignore"):
        known = ~(np.isnan(a.value) | np.isnan(b.value))
        return np.asarray(_COMPARISONS[op](a, b) & known)


def shortfall(a: Bounds, op: str, b: Bounds) -> np.ndarray:
    """How far the deciding bounds are from proving a op b: negative by how much they clear it."""
    if op in (">=", ">"):
        return np.asarray(b.high - a.low)
    if op in ("<=", "<"):
        return np.asarray(a.high - b.low)
    return np.asarray(np.abs(a.value - b.value))

"""The levels: one literal table of what is asked at each, how inputs are drawn, and how answers are checked.

The pins (operands, operators, nesting, size of answers) are fixed: a level is never made easier. Candidate i of seed s
is a pure function of (s, level, i): it is read off Philox words at place i of one stream, never from seed + i, so any
range of candidates can be drawn anywhere, in any order. docs/maths.md has the counts and how they are proved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from math import isqrt

import numpy as np

from alexandra.curriculum.items import check_value
from alexandra.errors import DataError, suggest
from alexandra.maths import Apply, DomainError, Expr, Number, rational
from alexandra.rng import derive

# (seed, first, end) -> candidates number first .. end-1; None where the draw is not an item of the level
Draw = Callable[[int, int, int], list[Expr | None]]


@dataclass(frozen=True)
class Pins:
    """What inputs of a level consist of: whole operands, operators, how deep and how many operators, how large answers.

    `depth` and `operators_used` are (least, most). `ood_*` are those of test_ood: an item is out of distribution when
    it has a larger operand or is nested deeper than the level's own.
    """

    operators: str
    operands: tuple[int, int]
    depth: tuple[int, int]
    operators_used: tuple[int, int]
    largest_numerator: int
    largest_denominator: int
    ood_operands: tuple[int, int]
    ood_depth: tuple[int, int]
    ood_operators_used: tuple[int, int]


@dataclass(frozen=True)
class Level:
    """A row of the table.

    size       how many items the seed asks for
    distinct   how many inputs with different canonical keys there are in distribution, exactly or (`at_least`) at
               least; distinct_ood: out of distribution
    finite     candidates 0 .. distinct-1 are all different and there are no more
    """

    number: int
    skill: str
    example: str
    size: int
    distinct: int
    distinct_ood: int
    at_least: bool
    finite: bool
    pins: Pins
    draw: Draw
    draw_ood: Draw
    check: Callable[[object, Fraction], bool] = check_value

    def holds(self, expr: Expr, ood: bool = False) -> bool:
        """Whether `expr` is an input of this level (out of distribution when `ood`)."""
        return _holds(self.pins, expr, ood)

    def answer(self, expr: Expr) -> Fraction:
        """The exact answer to an input of this level."""
        return rational(expr)


def level_of(number: int) -> Level:
    """The row of the table; DataError names the levels that there are."""
    if number not in LEVELS:
        raise DataError(f"no level {number!r}", hint=suggest(str(number), map(str, LEVELS)))
    return LEVELS[number]


# --- what belongs to a level --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    depth: int
    used: int
    smallest: int
    largest: int


def _facts(pins: Pins, expr: Expr) -> _Facts | None:
    """What the pins speak of; None when a part is neither a whole number nor one of the operators on two operands."""
    used, operands = 0, []
    stack = [expr]
    while stack:
        node = stack.pop()
        if isinstance(node, Apply) and len(node.args) == 2 and node.op in pins.operators:
            used += 1
            stack.extend(node.args)
        elif isinstance(node, Number) and node.value.denominator == 1:
            operands.append(node.value.numerator)
        else:
            return None
    return _Facts(expr.depth, used, min(operands), max(operands))


def _holds(pins: Pins, expr: Expr, ood: bool) -> bool:
    facts = _facts(pins, expr)
    if facts is None:
        return False
    operands = pins.ood_operands if ood else pins.operands
    depth = pins.ood_depth if ood else pins.depth
    used = pins.ood_operators_used if ood else pins.operators_used
    within = (
        operands[0] <= facts.smallest
        and facts.largest <= operands[1]
        and depth[0] <= facts.depth <= depth[1]
        and used[0] <= facts.used <= used[1]
    )
    if ood:
        within = within and (facts.largest > pins.operands[1] or facts.depth > pins.depth[1])
    return within and _has_small_answer(pins, expr)


def _has_small_answer(pins: Pins, expr: Expr) -> bool:
    try:
        value = rational(expr)
    except DomainError:
        return False
    return abs(value.numerator) <= pins.largest_numerator and value.denominator <= pins.largest_denominator


# --- level 1: a finite pool, shuffled -----------------------------------------------------------------------------

_ARITHMETIC = Pins(
    operators="+-",
    operands=(0, 99),
    depth=(1, 1),
    operators_used=(1, 1),
    largest_numerator=1998,
    largest_denominator=1,
    ood_operands=(0, 999),
    ood_depth=(1, 1),
    ood_operators_used=(1, 1),
)
_SUMS = 100 * 101 // 2  # unordered pairs of 0 .. 99
_DIFFERENCES = 100 * 100


@lru_cache(maxsize=4)
def _pool_order(seed: int) -> np.ndarray:
    return derive(seed, "curriculum", 1, "pool").permutation(_SUMS + _DIFFERENCES)


def _draw_arithmetic(seed: int, first: int, end: int) -> list[Expr | None]:
    order = _pool_order(seed)
    end = min(end, len(order))
    flips = derive(seed, "curriculum", 1, "order").below(2, max(0, end - first), first).tolist()
    return [_arithmetic(int(order[i]), flip) for i, flip in zip(range(first, end), flips, strict=True)]


def _arithmetic(number: int, flip: int) -> Expr:
    """Input `number` of the pool: the sums of unordered pairs (in either order), then the differences."""
    if number >= _SUMS:
        a, b = divmod(number - _SUMS, 100)
        return _binary("-", a, b)
    b = (isqrt(8 * number + 1) - 1) // 2
    a = number - b * (b + 1) // 2
    return _binary("+", b, a) if flip else _binary("+", a, b)


def _binary(op: str, a: int, b: int) -> Expr:
    return Apply(op, (Number(a), Number(b)))


def _draw_larger_arithmetic(seed: int, first: int, end: int) -> list[Expr | None]:
    words = derive(seed, "curriculum", 1, "ood").words(4 * (end - first), 4 * first).reshape(-1, 4)
    drawn = [_binary("+-"[_below(w[0], 2)], _below(w[1], 1000), _below(w[2], 1000)) for w in words.tolist()]
    return [expr if _holds(_ARITHMETIC, expr, ood=True) else None for expr in drawn]


# --- level 2: shapes filled with operators and operands -----------------------------------------------------------

_NESTED = Pins(
    operators="+-*/",
    operands=(0, 20),
    depth=(2, 3),
    operators_used=(2, 4),
    largest_numerator=9999,
    largest_denominator=999,
    ood_operands=(0, 99),
    ood_depth=(2, 4),
    ood_operators_used=(2, 5),
)
_CHAINS, _PAIRS, _LONG_CHAINS = 164_052, 5_145_056, 20_282_457  # inputs of the first three shapes below
_LARGER_CHAINS = 16_851_770  # of the first shape with operands up to 99

# A shape is 0 for an operand, or the pair of its operands' shapes; sides are swapped at random.
Shape = int | tuple["Shape", "Shape"]
_ONE: Shape = (0, 0)
_CHAIN: Shape = (0, _ONE)
_PAIR: Shape = (_ONE, _ONE)
# shape -> its weight among the draws
SHAPES: dict[Shape, int] = {_CHAIN: 4, _PAIR: 8, (0, _CHAIN): 14, (_ONE, _CHAIN): 7, (0, _PAIR): 7}
DEEPER: dict[Shape, int] = {(0, (0, _CHAIN)): 2, (_ONE, (0, _CHAIN)): 1, (0, (_ONE, _CHAIN)): 1, (0, (0, _PAIR)): 1}
WORDS = (
    16  # 32-bit words of a candidate, used from the last: (ood's kind,) its shape, then operators and operands in order
)


def _draw_nested(seed: int, first: int, end: int, ood: bool = False) -> list[Expr | None]:
    path = ("curriculum", 2, "ood" if ood else "pool")
    rows = derive(seed, *path).words(WORDS * (end - first), WORDS * first).reshape(-1, WORDS).tolist()
    found: list[Expr | None] = []
    for row in rows:
        deeper = ood and _below(row.pop(), 2) == 1
        largest = _NESTED.ood_operands[1] if ood and not deeper else _NESTED.operands[1]
        expr = _filled(_chosen(DEEPER if deeper else SHAPES, row.pop()), row, largest)
        found.append(expr if _holds(_NESTED, expr, ood) else None)
    return found


def _below(word: int, bound: int) -> int:
    return (word * bound) >> 32


def _chosen(weights: dict[Shape, int], word: int) -> Shape:
    place = _below(word, sum(weights.values()))
    for shape, weight in weights.items():
        if place < weight:
            return shape
        place -= weight
    raise AssertionError("a place below the sum of the weights has a shape")


def _filled(shape: Shape, words: list[int], largest: int) -> Expr:
    """The shape with operators and operands from the end of `words`, which are used up."""
    if isinstance(shape, int):
        return Number(_below(words.pop(), largest + 1))
    choice = _below(words.pop(), 2 * len(_NESTED.operators))
    sides = shape if choice % 2 else (shape[1], shape[0])
    left = _filled(sides[0], words, largest)
    return Apply(_NESTED.operators[choice // 2], (left, _filled(sides[1], words, largest)))


_ROWS = (
    Level(
        number=1,
        skill="basic arithmetic",
        example="(+ 2 3)",
        size=10_000,
        distinct=_SUMS + _DIFFERENCES,
        distinct_ood=1000 * 1001 // 2 + 1000 * 1000 - _SUMS - _DIFFERENCES,
        at_least=False,
        finite=True,
        pins=_ARITHMETIC,
        draw=_draw_arithmetic,
        draw_ood=_draw_larger_arithmetic,
    ),
    Level(
        number=2,
        skill="nested operations",
        example="(+ (* 2 3) 4)",
        size=50_000,
        distinct=_CHAINS + _PAIRS + _LONG_CHAINS,
        distinct_ood=_LARGER_CHAINS - _CHAINS,
        at_least=True,
        finite=False,
        pins=_NESTED,
        draw=_draw_nested,
        draw_ood=partial(_draw_nested, ood=True),
    ),
)
LEVELS = {row.number: row for row in _ROWS}

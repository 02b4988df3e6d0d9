"""Levels 1 and 2: sums and differences, nested operations; answers are rational numbers.

Level 1 had whole operands up to 99 in its first version (15,050 items, too few for seeds to differ); since version 2
they go up to 999. The first version is what the shipped digit networks learn.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache, partial
from math import isqrt

import numpy as np

from alexandra.curriculum.checks import check_number
from alexandra.curriculum.pins import Level
from alexandra.curriculum.questions import Answer, Question
from alexandra.maths import Apply, DomainError, Expr, IrrationalError, Number, rational, rational_value
from alexandra.rng import derive


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


def value_of(question: Question) -> Answer:
    """The exact value of a question whose answer is a number."""
    return Fraction(rational_value(question.expr, dict(question.bindings)))


def value_proves(question: Question, answer: Answer) -> bool:
    """Evaluated again."""
    return isinstance(answer, Fraction) and rational(question.expr, dict(question.bindings)) == answer


# --- what belongs to a level ---------------------------------------------------------------------------------------


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
        elif isinstance(node, Number) and type(node.exact) is int:
            operands.append(node.exact)
        else:
            return None
    return _Facts(expr.depth, used, min(operands), max(operands))


def _holds(pins: Pins, question: Question, ood: bool) -> bool:
    facts = None if question.bindings else _facts(pins, question.expr)
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
    return within and has_small_value(question, pins.largest_numerator, pins.largest_denominator)


def has_small_value(question: Question, largest_numerator: int, largest_denominator: int) -> bool:
    """Whether the question has a rational value of this size."""
    try:
        value = rational_value(question.expr, dict(question.bindings))
    except (DomainError, IrrationalError):
        return False
    return abs(value.numerator) <= largest_numerator and value.denominator <= largest_denominator


# --- level 1 -------------------------------------------------------------------------------------------------------


def _arithmetic_pins(largest: int) -> Pins:
    return Pins("+-", (0, largest), (1, 1), (1, 1), 20 * largest + 18, 1, (0, 10 * largest + 9), (1, 1), (1, 1))


FIRST, SECOND = _arithmetic_pins(99), _arithmetic_pins(999)


def _pool_size(operands: int) -> int:
    """Sums of unordered pairs and differences of so many operands."""
    return operands * (operands + 1) // 2 + operands * operands


@lru_cache(maxsize=4)
def _pool_order(seed: int) -> np.ndarray:
    return derive(seed, "curriculum", 1, "pool").permutation(_pool_size(100))


def _draw_first(seed: int, first: int, end: int) -> list[Question | None]:
    order = _pool_order(seed)
    end = min(end, len(order))
    flips = derive(seed, "curriculum", 1, "order").below(2, max(0, end - first), first).tolist()
    return [_arithmetic(int(order[i]), flip, 100) for i, flip in zip(range(first, end), flips, strict=True)]


def _draw_second(seed: int, first: int, end: int) -> list[Question | None]:
    size = _pool_size(1000)
    words = derive(seed, "curriculum", 1, "pool 2").words(2 * (end - first), 2 * first).reshape(-1, 2).tolist()
    return [_arithmetic(_below(number, size), _below(flip, 2), 1000) for number, flip in words]


def _arithmetic(number: int, flip: int, operands: int) -> Question:
    """Input `number` of the pool: the sums of unordered pairs (in either order), then the differences."""
    sums = operands * (operands + 1) // 2
    if number >= sums:
        a, b = divmod(number - sums, operands)
        return _binary("-", a, b)
    b = (isqrt(8 * number + 1) - 1) // 2
    a = number - b * (b + 1) // 2
    return _binary("+", b, a) if flip else _binary("+", a, b)


def _binary(op: str, a: int, b: int) -> Question:
    return Question(Apply(op, (Number(a), Number(b))))


def _draw_larger(seed: int, first: int, end: int, pins: Pins, kind: str) -> list[Question | None]:
    words = derive(seed, "curriculum", 1, kind).words(4 * (end - first), 4 * first).reshape(-1, 4).tolist()
    most = pins.ood_operands[1] + 1
    found = [_binary("+-"[_below(w[0], 2)], _below(w[1], most), _below(w[2], most)) for w in words]
    return [one if _holds(pins, one, True) else None for one in found]


# --- level 2: shapes filled with operators and operands ------------------------------------------------------------

NESTED = Pins(
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


def _draw_nested(seed: int, first: int, end: int, ood: bool = False) -> list[Question | None]:
    path = ("curriculum", 2, "ood" if ood else "pool")
    rows = derive(seed, *path).words(WORDS * (end - first), WORDS * first).reshape(-1, WORDS).tolist()
    found: list[Question | None] = []
    for row in rows:
        deeper = ood and _below(row.pop(), 2) == 1
        largest = NESTED.ood_operands[1] if ood and not deeper else NESTED.operands[1]
        question = Question(_filled(_chosen(DEEPER if deeper else SHAPES, row.pop()), row, largest))
        found.append(question if _holds(NESTED, question, ood) else None)
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
    choice = _below(words.pop(), 2 * len(NESTED.operators))
    sides = shape if choice % 2 else (shape[1], shape[0])
    left = _filled(sides[0], words, largest)
    return Apply(NESTED.operators[choice // 2], (left, _filled(sides[1], words, largest)))


def _row_1(pins: Pins, version: int) -> Level:
    operands, larger = pins.operands[1] + 1, pins.ood_operands[1] + 1
    return Level(
        number=1,
        skill="basic arithmetic",
        example="(+ 2 3)",
        size=10_000,
        distinct=_pool_size(operands),
        distinct_ood=_pool_size(larger) - _pool_size(operands),
        at_least=False,
        pins=asdict(pins),
        draw=_draw_first if version == 1 else _draw_second,
        draw_ood=partial(_draw_larger, pins=pins, kind="ood" if version == 1 else "ood 2"),
        holds=partial(_holds, pins),
        answer=value_of,
        check=check_number,
        proves=value_proves,
        finite=version == 1,
        version=version,
    )


LEVEL_1_FIRST, LEVEL_1 = _row_1(FIRST, 1), _row_1(SECOND, 2)
LEVEL_2 = Level(
    number=2,
    skill="nested operations",
    example="(+ (* 2 3) 4)",
    size=50_000,
    distinct=_CHAINS + _PAIRS + _LONG_CHAINS,
    distinct_ood=_LARGER_CHAINS - _CHAINS,
    at_least=True,
    pins=asdict(NESTED),
    draw=_draw_nested,
    draw_ood=partial(_draw_nested, ood=True),
    holds=partial(_holds, NESTED),
    answer=value_of,
    check=check_number,
    proves=value_proves,
)

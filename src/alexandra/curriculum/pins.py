"""What a level is: its pins, the row of the table that says how it is drawn, answered and checked, and drawing from
words.

Candidate i of seed s is a pure function of (s, level, i): it is read off WORDS Philox words at place i of one stream,
never from seed + i, so any range of candidates can be drawn anywhere, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from alexandra.curriculum.questions import Answer, Question
from alexandra.rng import derive

WORDS = 32  # 32-bit words of a candidate
# (seed, first, end) -> candidates number first .. end-1; None where the draw is not an item of the level
Draw = Callable[[int, int, int], list[Question | None]]
T = TypeVar("T")


@dataclass(frozen=True)
class Level:
    """A row of the table.

    version    of the pins; an earlier one stays available and is never easier than the next
    pins       operands, operators, depth, size of answers: free-form, in every manifest, never eased
    size       how many items the seed asks for
    distinct   how many inputs with different canonical keys there are in distribution, exactly or (`at_least`) at
               least; distinct_ood: out of distribution
    finite     candidates 0 .. distinct-1 are all different and there are no more
    common     inputs of which there are so few that two seeds would draw the same: a sample takes one in four of them,
               which ones its seed decides
    holds      whether a question is an input of the level (out of distribution when the second argument is true)
    answer     the exact answer, worked out by the engine
    check      whether an answer is right, given the question and the exact answer
    proves     whether an exact answer is the answer to a question, by a way of its own where there is one
    """

    number: int
    skill: str
    example: str
    size: int
    distinct: int
    distinct_ood: int
    at_least: bool
    pins: Mapping[str, Any]
    draw: Draw
    draw_ood: Draw
    holds: Callable[[Question, bool], bool]
    answer: Callable[[Question], Answer]
    check: Callable[[object, Question, Answer], bool]
    proves: Callable[[Question, Answer], bool]
    finite: bool = False
    version: int = 1
    common: Callable[[Question], bool] | None = None


class Dice:
    """The words of one candidate, used up in order."""

    __slots__ = ("place", "words")

    def __init__(self, words: Sequence[int]) -> None:
        self.words, self.place = words, 0

    def below(self, bound: int) -> int:
        """A number from 0 to bound - 1."""
        word = self.words[self.place]
        self.place += 1
        return (word * bound) >> 32

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def one_of(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]

    def weighted(self, weights: Sequence[tuple[int, T]]) -> T:
        """One of (weight, value) rows."""
        place = self.below(sum([weight for weight, _ in weights]))
        for weight, value in weights:
            if place < weight:
                return value
            place -= weight
        raise AssertionError("a place below the sum of the weights has a value")


def drawn(number: int, kind: str, make: Callable[[Dice], Question | None]) -> Draw:
    """The draw of a level from the maker of one candidate."""

    def draw(seed: int, first: int, end: int) -> list[Question | None]:
        rows = derive(seed, "curriculum", number, kind).words(WORDS * (end - first), WORDS * first)
        return [make(Dice(row)) for row in rows.reshape(-1, WORDS).tolist()]

    return draw

"""How good the brain is, by what it writes itself: greedy accuracy with intervals, verified@k beside it, abstention.

An answer counts when the level's check accepts it. `verified` asks the engine, from the question alone; it does not see
the answer that the item was made from, so "emitted as verified and wrong" can be counted against that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from alexandra.curriculum.items import Item
from alexandra.curriculum.levels import level_of
from alexandra.curriculum.questions import Question
from alexandra.errors import AlexandraError
from alexandra.maths import Apply
from alexandra.rng import derive
from alexandra.statistics import wilson
from alexandra.train.grapheme.brain import Solver, Written

UPPER = 0.975  # of the normal distribution: two-sided 95 %
TEMPERATURE = 0.7

Answerer = Callable[[Sequence[Question]], list[Written]]


@dataclass(frozen=True)
class Answered:
    """One item's outcome. `right` judges by the exact answer, `verified` is the engine's word from the question."""

    item: Item
    written: Written
    right: bool
    verified: bool


@dataclass(frozen=True)
class Score:
    """A share of right answers with its Wilson interval."""

    n: int
    right: int

    @property
    def share(self) -> float:
        return self.right / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        if not self.n:
            return 0.0, 1.0
        _, low, high = wilson(self.share, self.n, UPPER)
        return low, high

    def text(self) -> str:
        low, high = self.interval
        return f"{100 * self.share:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def verified(question: Question, answer: str, level: int) -> bool:
    """Whether the engine, given the question alone, proves the answer."""
    if not answer:
        return False
    row = level_of(level)
    try:
        return row.check(answer, question, row.answer(question))
    except (AlexandraError, ArithmeticError, RecursionError):
        return False


def judged(item: Item, written: Written) -> Answered:
    """One answer against the item's exact answer and before the engine."""
    right = bool(written.answer) and level_of(item.level).check(written.answer, item.question, item.expected)
    return Answered(item, written, right, verified(item.question, written.answer, item.level))


def answered(write: Answerer, items: Sequence[Item]) -> list[Answered]:
    """Every item's outcome."""
    found = write([item.question for item in items])
    return [judged(item, one) for item, one in zip(items, found, strict=True)]


def score(outcomes: Sequence[Answered]) -> Score:
    return Score(len(outcomes), sum(one.right for one in outcomes))


def verified_at(solver: Solver, outcomes: Sequence[Answered], k: int, seed: int = 0) -> Score:
    """The share with a proved answer among the greedy one and k - 1 samples: what a user with the engine gets."""
    open_items = [one.item for one in outcomes if not one.verified]
    solved = len(outcomes) - len(open_items)
    for number in range(1, k):
        if not open_items:
            break
        found = solver.write([item.question for item in open_items], TEMPERATURE, seed * 1000 + number)
        pairs = zip(open_items, found, strict=True)
        left = [item for item, one in pairs if not verified(item.question, one.answer, item.level)]
        solved += len(open_items) - len(left)
        open_items = left
    return Score(len(outcomes), solved)


@dataclass(frozen=True)
class Abstention:
    """Answers below `threshold` of confidence are withheld: what is left, and how often that is right."""

    threshold: float
    emitted: Score  # right among the answers that were emitted
    coverage: float  # emitted, of all


def threshold_for(outcomes: Sequence[Answered], precision: float) -> float:
    """The lowest confidence at which the answers above it are right this often; 1 where there is none."""
    ordered = sorted(outcomes, key=lambda one: -one.written.confidence)
    right, best = 0, 1.0
    for number, one in enumerate(ordered, 1):
        right += one.right
        if right >= precision * number:
            best = one.written.confidence
    return best


def abstention(outcomes: Sequence[Answered], threshold: float) -> Abstention:
    """What a threshold, chosen on validation items, does on others."""
    kept = [one for one in outcomes if one.written.confidence >= threshold]
    return Abstention(threshold, score(kept), len(kept) / len(outcomes) if outcomes else 0.0)


def calibration_error(outcomes: Sequence[Answered], bins: int = 10) -> float:
    """The mean distance between confidence and share of right answers over bins of confidence, by their size."""
    confidence = np.array([one.written.confidence for one in outcomes])
    right = np.array([one.right for one in outcomes])
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for place in range(bins):
        chosen = places == place
        if chosen.any():
            total += float(chosen.mean()) * abs(float(confidence[chosen].mean()) - float(right[chosen].mean()))
    return total


def shuffled(weights: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """The same numbers in every tensor, in another order: a model that must know nothing."""
    return {
        name: array.reshape(-1)[derive(seed, "shuffled", name).permutation(array.size)].reshape(array.shape)
        for name, array in weights.items()
    }


def echo(questions: Sequence[Question]) -> list[Written]:
    """A solver that answers with the question's own graph: the body of a task, without its head."""
    found = []
    for question in questions:
        expr = question.expr
        is_task = isinstance(expr, Apply) and expr.op in ("derive", "integrate", "solve")
        body = expr.args[0] if isinstance(expr, Apply) and is_task else expr
        found.append(Written(body.text(), 1.0, (), True))
    return found

"""Why a curriculum's network answers as it does: which part of a question it needs, and a few questions at length.

As explain.py does for columns: importance is how far the metric falls on held-out items when one part (the operator,
an operand) is taken from other items; a question's reasons are how far its answer moves. All of it goes through the
network's own forward.
"""

from __future__ import annotations

import numpy as np

from alexandra.maths import Apply, Expr, parse
from alexandra.rng import Stream, derive
from alexandra.tables import Column, Table
from alexandra.train.candidates import Candidate
from alexandra.train.crossfit import Settings
from alexandra.train.curriculum_code import INPUT, inputs_of
from alexandra.train.curriculum_specialist import CurriculumSpecialist
from alexandra.train.curriculum_task import finish
from alexandra.train.evaluate import outcomes_of
from alexandra.train.explain import BACKGROUND, REPEATS, Explained, Explanation, Importance
from alexandra.train.prepare import Prepared

PARTS = ("operator", "first operand", "second operand")


def explain(data: Prepared, candidate: Candidate, settings: Settings) -> Explanation:
    """Importances and explained items of the network that was measured, on its held-out items."""
    model = finish(data, candidate, 0, settings)
    rows = data.parts[0].test
    trees = [parse(text) for text in inputs_of(data.table.take(rows))]
    answers, probability = model.answers(_table(trees))
    whole = data.metric.fn(outcomes_of(data, rows, answers.astype(np.float64)))
    found = []
    for part in PARTS:
        falls = []
        for repeat in range(REPEATS):
            order = derive(settings.seed, "explain", part, repeat).permutation(len(trees))
            mixed = [_with_part(tree, trees[other], part) for tree, other in zip(trees, order.tolist(), strict=True)]
            falls.append(whole - data.metric.fn(outcomes_of(data, rows, model.predict_raw(_table(mixed)))))
        found.append(Importance(part, float(np.mean(falls)), float(np.std(falls))))
    found.sort(key=lambda one: -one.fall)
    wrong = np.flatnonzero(answers != data.y[rows])
    picked = [(int(i), "wrong answer") for i in wrong[:2]]
    picked += [(int(probability.argmin()), "least sure answer"), (int(probability.argmax()), "surest answer")]
    stream = derive(settings.seed, "explain", "background")
    explained = [_explained(data, model, trees, i, why, stream) for i, why in dict(picked).items()]
    return Explanation(len(rows), tuple(found), tuple(explained))


def _explained(
    data: Prepared, model: CurriculumSpecialist, trees: list[Expr], i: int, why: str, stream: Stream
) -> Explained:
    """Replace each part of question i by those of other questions and see how its answer moves."""
    row = int(data.parts[0].test[i])
    (before,) = model.predict_raw(_table([trees[i]]))
    effects = []
    for part in PARTS:
        others = stream.below(len(trees), BACKGROUND).tolist()
        moved = model.predict_raw(_table([_with_part(trees[i], trees[other], part) for other in others]))
        effects.append((part, _part(trees[i], part), float(before - moved.mean())))
    effects.sort(key=lambda one: -abs(one[2]))
    answer = f"{before:.6g} to {trees[i]}"
    return Explained(row, why, f"{data.y[row]:.6g}", answer, answer, float(before), tuple(effects))


def _table(trees: list[Expr]) -> Table:
    texts = np.array([tree.text() for tree in trees], dtype=object)
    return Table({INPUT: Column(INPUT, "text", texts, np.zeros(len(texts), dtype=bool))}, "questions")


def _part(tree: Expr, part: str) -> str:
    assert isinstance(tree, Apply)
    return tree.op if part == PARTS[0] else tree.args[PARTS.index(part) - 1].text()


def _with_part(tree: Expr, other: Expr, part: str) -> Expr:
    """`tree` with one part taken from `other`."""
    assert isinstance(tree, Apply) and isinstance(other, Apply)
    if part == PARTS[0]:
        return Apply(other.op, tree.args)
    place = PARTS.index(part) - 1
    args = list(tree.args)
    args[place] = other.args[place]
    return Apply(tree.op, tuple(args))

"""Why a specialist answers as it does: permutation importance, and reasons for single rows.

Importance is Breiman's ("Random forests", 2001, section 10): how far the task's metric falls on rows that the
model has not seen when one raw column is shuffled. A row's reasons are how far its answer moves when one raw
value is replaced by those of other rows. Both go through the model's own forward on raw columns, whatever the
encoding; effects that need two columns at once are not seen by either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from alexandra.errors import DataError
from alexandra.metrics import check
from alexandra.rng import derive
from alexandra.tables import Table
from alexandra.train.candidates import Candidate
from alexandra.train.crossfit import Settings, encode, seed_of, train_specialist
from alexandra.train.evaluate import outcomes_of
from alexandra.train.prepare import Prepared
from alexandra.train.specialist import Specialist

MAX_ROWS, REPEATS, BACKGROUND = 2000, 3, 20


@dataclass(frozen=True)
class Importance:
    """`fall` is the mean loss of the metric when `column` is shuffled, `spread` its standard deviation."""

    column: str
    fall: float
    spread: float


@dataclass(frozen=True)
class Explained:
    """One row: why it was picked, its truth and answer, and (column, value, effect on the shown probability)."""

    row: int
    why: str
    truth: str
    answer: str
    shown: str
    probability: float
    reasons: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class Explanation:
    """`rows` unseen rows of one part were used; importances are sorted, the largest first."""

    rows: int
    importances: tuple[Importance, ...]
    explained: tuple[Explained, ...]


def explain(data: Prepared, candidate: Candidate, settings: Settings, num_rows: int = 4) -> Explanation:
    """Train `candidate` on one part as crossfit did and look at its answers to that part's test rows.

    The first part on whose test rows the metric is defined is taken; an Explanation of 0 rows where there is none.
    """
    for part in data.parts:
        asked = part.test[derive(settings.seed, "explain", "rows").permutation(len(part.test))[:MAX_ROWS]]
        try:
            check(data.metric, outcomes_of(data, asked, _anything(data, len(asked))))
        except DataError:
            continue
        settings = replace(settings, seed=seed_of(settings, candidate.name, part.name), deadline=float("inf"))
        rows = part.train, part.valid
        model, _ = train_specialist(data, candidate, encode(data, part.train), rows, settings)
        table = data.table.take(asked).select(data.features)
        raw = model.predict_raw(table)
        found = importances(data, model, table, asked, raw)
        picked = [_explained(data, model, (table, asked, raw), i, why) for i, why in pick(data, asked, raw)[:num_rows]]
        return Explanation(len(asked), tuple(found), tuple(picked))
    return Explanation(0, (), ())


def _anything(data: Prepared, rows: int) -> np.ndarray:
    """Well-formed answers, to ask whether the metric is defined on the targets."""
    classes = len(data.target.classes)
    return np.full((rows, classes), 1.0 / classes) if classes else np.arange(rows, dtype=np.float64)


def importances(data: Prepared, model: Specialist, table: Table, rows: np.ndarray, raw: np.ndarray) -> list[Importance]:
    """The fall of the metric for each raw column, the largest first."""
    sign = 1.0 if data.metric.higher_is_better else -1.0
    whole = data.metric.fn(outcomes_of(data, rows, raw))
    out = []
    for name in data.features:
        falls = []
        for repeat in range(REPEATS):
            order = derive(data.task.split.seed, "explain", name, repeat).permutation(len(rows))
            shuffled = table.replace(name, table[name].take(order))
            worse = data.metric.fn(outcomes_of(data, rows, model.predict_raw(shuffled)))
            falls.append(sign * (whole - worse))
        out.append(Importance(name, float(np.mean(falls)), float(np.std(falls))))
    return sorted(out, key=lambda one: -one.fall)


def pick(data: Prepared, rows: np.ndarray, raw: np.ndarray) -> list[tuple[int, str]]:
    """Rows worth a look: the surest right and wrong answers and the least sure one; the largest residuals."""
    if not data.classification:
        error = np.abs(raw - data.target.decode(data.y[rows]))
        order = np.argsort(-error, kind="stable")
        return [
            (int(order[0]), "largest error"),
            (int(order[1]), "second largest error"),
            (int(order[-1]), "smallest error"),
        ]
    sure, right = raw.max(axis=1), raw.argmax(axis=1) == data.y[rows]
    found = []
    if (~right).any():
        found.append((int(np.argmax(np.where(right, -1.0, sure))), "surest wrong answer"))
    if right.any():
        found.append((int(np.argmax(np.where(right, sure, -1.0))), "surest right answer"))
    found.append((int(np.argmin(sure)), "least sure answer"))
    return list({i: (i, why) for i, why in found}.values())


def _explained(
    data: Prepared, model: Specialist, asked: tuple[Table, np.ndarray, np.ndarray], i: int, why: str
) -> Explained:
    """Replace each value of row i by those of other rows and see how its answer moves."""
    table, rows, raw = asked
    classes = data.target.classes
    shown = int(raw[i].argmax()) if classes else 0
    before = float(raw[i, shown] if classes else raw[i])
    others = derive(data.task.split.seed, "explain", "background").below(len(rows), BACKGROUND)
    alone = table.take(np.full(BACKGROUND, i))
    effects = []
    for name in data.features:
        moved = model.predict_raw(alone.replace(name, table[name].take(others)))
        after = float((moved[:, shown] if classes else moved).mean())
        effects.append((name, str(table[name].texts()[i]) or "missing", before - after))
    effects.sort(key=lambda one: -abs(one[2]))
    truth = classes[int(data.y[rows[i]])] if classes else f"{data.target.decode(data.y[rows[i : i + 1]])[0]:.6g}"
    answer = classes[shown] if classes else f"{before:.6g}"
    return Explained(int(rows[i]), why, truth, answer, answer, before, tuple(effects[:6]))


def missed_rows(data: Prepared, answers: Sequence[np.ndarray]) -> np.ndarray:
    """For each test row (in the order of data.test_rows) by how many of the models it was answered wrongly."""
    truth = data.y[data.test_rows]
    return np.asarray(sum((raw.argmax(axis=1) != truth).astype(int) for raw in answers))

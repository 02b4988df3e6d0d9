"""What a model's outcomes are worth: one literal table of metrics, each defined once, over weighted rows.

A metric prepares outcomes once (sorting, binning) and then maps row weights [b, n] to b values: all weights 1 give
the metric, resampled weights give its bootstrap (statistics.py). Definitions agree with scikit-learn's where it has
them. Two classes: the probability of `Outcomes.positive` counts, and a row is called positive when it reaches the
threshold (0.5 unless given; `profit`: the break-even point of its gains; `recall_at`, `lift_at`: the last row that
fits). More classes: the mean over those that occur, one against the rest. No intervals, tasks or models here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial

import numpy as np

from alexandra.errors import DataError, TaskError, suggest
from alexandra.records import EMPTY, Outcomes

Params = Mapping[str, float]
Weighted = Callable[[np.ndarray], np.ndarray]  # weights [b, n], each row summing to n -> values [b]

SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)  # log_loss clips here, as scikit-learn does for float64
REQUIRED = math.nan  # a parameter without a default
BREAK_EVEN = -1.0  # profit's default threshold: derived from the gains


@dataclass(frozen=True)
class Metric:
    """A row of the table, or that row with parameters bound; `str(metric)` reads back through `metric(text)`.

    kind      "binary", "classification" (two or more classes), "regression" or "any"
    perfect   the value of a perfect prediction; infinite where it depends on the data (statistics.best_possible)
    bounds    the values that the metric can take; a margin is in points when they are 0 and 1, else relative
    rows      (outcomes, params) -> value per row [n], for a metric that is the mean over rows
    prepare   (outcomes, params) -> weights [b, n] -> values [b], for the others
    """

    name: str
    kind: str
    doc: str
    params: Params = field(default_factory=lambda: EMPTY, hash=False)
    _: KW_ONLY
    higher_is_better: bool
    perfect: float
    bounds: tuple[float, float]
    rows: Callable[[Outcomes, Params], np.ndarray] | None = None
    prepare: Callable[[Outcomes, Params], Weighted] | None = None

    def fn(self, outcomes: Outcomes, **params: float) -> float:
        """The metric's value; `params` override the bound ones. DataError when it is undefined on these outcomes."""
        bound = bind(self, params)
        check(bound, outcomes)
        if bound.rows is not None:
            return float(bound.rows(outcomes, bound.params).mean())
        return float(weighted(bound, outcomes)(np.ones((1, outcomes.n)))[0])

    @property
    def is_share(self) -> bool:
        """True when values lie in 0..1, so that a percentage means points."""
        return self.bounds == (0.0, 1.0)

    @property
    def is_proportion(self) -> bool:
        """True when each row counts 0 or 1."""
        return self.name in ("accuracy", "exact")

    def __str__(self) -> str:
        default = METRICS[self.name].params
        given = [(name, value) for name, value in self.params.items() if value != default[name]]
        texts = [f"{value * 100:.12g}%" if name == "share" else f"{name}={value:.12g}" for name, value in given]
        return f"{self.name}({', '.join(texts)})" if texts else self.name


def metric(name: str | Metric, *args: float, **params: float) -> Metric:
    """The metric called `name`, its parameters bound: metric("recall_at", 0.1), metric("profit(tp=100, fp=-10)")."""
    base, inside = (name, "") if isinstance(name, Metric) else _split(name)
    texts = [text.strip() for text in inside.split(",") if text.strip()]
    positional = [_number(base, text) for text in texts if "=" not in text] + list(args)
    if len(positional) > len(base.params):
        raise TaskError(f"metric {base.name!r} takes {len(base.params)} parameters, got {len(positional)}")
    given = dict(zip(base.params, positional, strict=False))
    for text in texts:
        key, equals, value = text.partition("=")
        if equals:
            given[key.strip()] = _number(base, value)
    return bind(base, {**given, **params})


def _split(text: str) -> tuple[Metric, str]:
    """The named row of the table, and what stands in brackets after the name."""
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    if match is None or match[1] not in METRICS:
        raise TaskError(f"unknown metric {text!r}", hint=suggest(match[1] if match else text, METRICS))
    return METRICS[match[1]], match[2] or ""


def _number(base: Metric, text: str) -> float:
    try:
        return float(text.strip()[:-1]) / 100 if text.strip().endswith("%") else float(text)
    except ValueError:
        raise TaskError(f"metric {base.name!r}: {text!r} is not a number") from None


def bind(base: Metric, params: Params) -> Metric:
    """`base` with `params` in place of its own; TaskError on unknown, missing or impossible ones."""
    for name, value in params.items():
        if name not in base.params:
            known = suggest(name, base.params) if base.params else "it takes none"
            raise TaskError(f"metric {base.name!r} has no parameter {name!r}", hint=known)
        low, high = _RANGES[name]
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not low <= value <= high:
            raise TaskError(f"metric {base.name!r}: {name}={value!r} is not a number from {low:g} to {high:g}")
    merged = {**base.params, **{name: float(value) for name, value in params.items()}}
    missing = [name for name, value in merged.items() if math.isnan(value)]
    if missing:
        wanted = " and ".join(missing)
        raise TaskError(f"metric {base.name!r} needs {wanted}", hint=f"for example {_EXAMPLES[base.name]}")
    if base.name == "profit" and not merged["tp"] > merged["fp"]:
        raise TaskError(f"profit needs tp above fp, got tp={merged['tp']:g}, fp={merged['fp']:g}")
    return replace(base, params=merged)


def usable(num_classes: int) -> list[str]:
    """The names of the metrics for a target with `num_classes` classes (0: a number)."""
    return [name for name, row in METRICS.items() if _fits(row, num_classes)]


def _fits(row: Metric, num_classes: int) -> bool:
    wanted = {"any": True, "binary": num_classes == 2, "classification": num_classes >= 2}
    return wanted.get(row.kind, num_classes == 0)


def check_kind(name: str | Metric, num_classes: int) -> Metric:
    """The metric, if it can measure a target with `num_classes` classes (0: a number); otherwise TaskError."""
    found = metric(name)
    if _fits(found, num_classes):
        return found
    target = f"has {num_classes} classes" if num_classes else "is a number"
    needs = {"binary": "has two classes", "classification": "has classes", "regression": "is a number"}[found.kind]
    raise TaskError(
        f"metric {found.name!r} needs a target that {needs}, but this target {target}",
        hint=f"usable here: {', '.join(usable(num_classes))}",
    )


def check(found: Metric, outcomes: Outcomes) -> None:
    """Refuse outcomes that are malformed, of the wrong kind, or on which the metric is undefined."""
    check_kind(found, len(outcomes.classes))
    check_outcomes(outcomes)
    if found.kind in ("binary", "classification") and found.name not in _ONE_CLASS_SUFFICES:
        present = np.unique(outcomes.targets)
        if len(present) < 2:
            only = outcomes.classes[int(present[0])]
            raise DataError(
                f"metric {found.name!r} is undefined: all {outcomes.n} rows are of class {only!r}",
                hint="measure on rows of at least two classes",
            )


def check_outcomes(outcomes: Outcomes) -> None:
    """DataError unless shapes agree, every number is finite, classes are in range and probabilities are such."""
    n, targets, predictions = outcomes.n, outcomes.targets, outcomes.predictions
    if n == 0:
        raise DataError("there are no outcomes to measure (0 rows)")
    shape = (n, len(outcomes.classes)) if outcomes.is_classification else (n,)
    if targets.shape != (n,) or predictions.shape != shape:
        raise DataError(
            f"outcomes with {n} keys need targets of shape {(n,)} and predictions of shape {shape}, "
            f"got {targets.shape} and {predictions.shape}"
        )
    if not np.isfinite(predictions).all():
        row = int(np.flatnonzero(~np.isfinite(predictions.reshape(n, -1)).all(axis=1))[0])
        raise DataError(f"predictions hold a value that is not finite (row {row})")
    if not outcomes.is_classification:
        if not np.isfinite(targets).all():
            row = int(np.flatnonzero(~np.isfinite(targets))[0])
            raise DataError(f"targets hold a value that is not finite (row {row})")
        return
    if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= len(outcomes.classes):
        raise DataError(f"targets must be class indices 0 .. {len(outcomes.classes) - 1}, got {targets.dtype} values")
    sums = predictions.sum(axis=1)
    if predictions.min() < -1e-6 or np.abs(sums - 1).max() > 1e-3:
        row = int(np.argmax(np.abs(sums - 1)))
        raise DataError(
            f"predictions must be probabilities that sum to 1 (row {row} sums to {sums[row]:.4g}, "
            f"the smallest entry is {predictions.min():.4g})"
        )


def positive_index(outcomes: Outcomes) -> int:
    """The column of the positive class, counted from 0."""
    count = len(outcomes.classes)
    if not -count <= outcomes.positive < count:
        raise DataError(f"positive={outcomes.positive} is not one of the {count} classes {outcomes.classes}")
    return outcomes.positive % count


def positive_scores(outcomes: Outcomes) -> np.ndarray:
    """The probability of the positive class, float64 [n]."""
    return outcomes.predictions[:, positive_index(outcomes)].astype(np.float64)


def threshold_of(found: Metric, outcomes: Outcomes) -> float:
    """The probability at which this metric calls a row positive: the task's threshold."""
    if "share" in found.params:
        ranked = np.sort(positive_scores(outcomes))[::-1]
        return float(ranked[_top(outcomes.n, found.params["share"]) - 1])
    value = found.params.get("threshold", 0.5)
    if value == BREAK_EVEN:
        tp, fp = found.params["tp"], found.params["fp"]
        value = min(1.0, max(0.0, -fp / (tp - fp)))
    return value


def predicted(outcomes: Outcomes, threshold: float = 0.5) -> np.ndarray:
    """Class index per row: two classes by the threshold, more by the largest probability (then it must be 0.5)."""
    if len(outcomes.classes) == 2:
        positive = positive_index(outcomes)
        return np.where(positive_scores(outcomes) >= threshold, positive, 1 - positive)
    if threshold != 0.5:
        raise DataError(f"threshold={threshold:g} needs two classes, this target has {len(outcomes.classes)}")
    return np.asarray(outcomes.predictions.argmax(axis=1))


def weighted(found: Metric, outcomes: Outcomes) -> Weighted:
    """Weights [b, n] -> the metric's values [b] on the weighted rows; NaN where it is undefined (a class is missing).

    The caller has called `check`, and silences division by zero where weights can leave a class out.
    """
    if found.prepare is not None:
        return found.prepare(outcomes, found.params)
    assert found.rows is not None
    values = found.rows(outcomes, found.params)
    return lambda w: np.asarray((w @ values) / w.sum(axis=1))


# --- metrics that are means over rows -------------------------------------------------------------------------


def _hits(o: Outcomes, p: Params) -> np.ndarray:
    return np.asarray(predicted(o, p.get("threshold", 0.5)) == o.targets, dtype=np.float64)


def _exact(o: Outcomes, p: Params) -> np.ndarray:
    if o.is_classification:
        return _hits(o, EMPTY)
    return np.asarray(np.abs(o.predictions - o.targets) <= p["tolerance"], dtype=np.float64)


def _log_loss(o: Outcomes, p: Params) -> np.ndarray:
    chosen = o.predictions[np.arange(o.n), o.targets].astype(np.float64)
    return np.asarray(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)))


def _brier(o: Outcomes, p: Params) -> np.ndarray:
    residual = o.predictions.astype(np.float64).copy()
    residual[np.arange(o.n), o.targets] -= 1.0
    return np.asarray((residual**2).sum(axis=1) / 2)


def _profit(o: Outcomes, p: Params) -> np.ndarray:
    acts = positive_scores(o) >= threshold_of(replace(METRICS["profit"], params=p), o)
    return np.where(acts, np.where(o.targets == positive_index(o), p["tp"], p["fp"]), 0.0)


def _absolute_error(o: Outcomes, p: Params) -> np.ndarray:
    return np.asarray(np.abs(o.predictions.astype(np.float64) - o.targets))


# --- ranked metrics: sorted once, equal scores in one block ---------------------------------------------------


class _Ranking:
    """Rows from the highest score down, and where each positive's block of equal scores starts and ends.

    `above` and `through` count rows, `hits_above` and `hits_through` positives, before the block and up to its end.
    """

    def __init__(self, scores: np.ndarray, is_positive: np.ndarray) -> None:
        self.order = np.argsort(-scores, kind="stable")
        ranked = scores[self.order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self.hits = np.flatnonzero(is_positive[self.order])
        block = np.searchsorted(starts, self.hits, side="right") - 1
        self.above, self.through = starts[block], np.r_[starts[1:], len(ranked)][block]
        self.hits_above = np.searchsorted(self.hits, self.above)
        self.hits_through = np.searchsorted(self.hits, self.through)

    def counts(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The positives' weights, and running totals of all weights and of theirs, each starting with a 0."""
        ordered = np.take(w, self.order, axis=1)
        positive = np.take(ordered, self.hits, axis=1)
        return positive, _running(ordered), _running(positive)


def _running(w: np.ndarray) -> np.ndarray:
    total = np.zeros((w.shape[0], w.shape[1] + 1))
    np.cumsum(w, axis=1, out=total[:, 1:])
    return total


def _auc(scores: np.ndarray, is_positive: np.ndarray) -> Weighted:
    """P(score of a positive > score of a negative) + P(equal) / 2."""
    r = _Ranking(scores, is_positive)

    def run(w: np.ndarray) -> np.ndarray:
        positive, every, hits = r.counts(w)
        higher = every[:, r.above] - hits[:, r.hits_above] + every[:, r.through] - hits[:, r.hits_through]
        pairs = hits[:, -1] * (every[:, -1] - hits[:, -1])
        return np.asarray(1 - (positive * higher).sum(axis=1) / 2 / pairs)

    return run


def _ap(scores: np.ndarray, is_positive: np.ndarray) -> Weighted:
    """Sum over thresholds of (step in recall) * precision, without interpolation."""
    r = _Ranking(scores, is_positive)

    def run(w: np.ndarray) -> np.ndarray:
        positive, every, hits = r.counts(w)
        precision = hits[:, r.hits_through] / np.maximum(every[:, r.through], 1.0)
        return np.asarray((positive * precision).sum(axis=1) / hits[:, -1])

    return run


def _per_class(one: Callable[[np.ndarray, np.ndarray], Weighted]) -> Callable[[Outcomes, Params], Weighted]:
    """Two classes: the positive one against the other. More: the mean over the classes that occur, one against rest."""

    def prepare(o: Outcomes, p: Params) -> Weighted:
        if len(o.classes) == 2:
            return one(positive_scores(o), o.targets == positive_index(o))
        parts = [one(o.predictions[:, c].astype(np.float64), o.targets == c) for c in np.unique(o.targets)]
        return lambda w: _mean_defined([part(w) for part in parts])

    return prepare


def _mean_defined(values: list[np.ndarray]) -> np.ndarray:
    """Mean over classes; a class that a resample left out is undefined there (NaN) and does not count."""
    stacked = np.array(values)
    defined = np.isfinite(stacked)
    return np.asarray(np.where(defined, stacked, 0.0).sum(axis=0) / defined.sum(axis=0))


def _top(n: int, share: float) -> int:
    """How many rows make up `share` of n: rounded half up, at least one."""
    return max(1, math.floor(share * n + 0.5))


def _recall_at(o: Outcomes, p: Params) -> Weighted:
    """Positives among the top rows over all positives; the tied block at the cut counts in proportion."""
    r, top = _Ranking(positive_scores(o), o.targets == positive_index(o)), _top(o.n, p["share"])

    def run(w: np.ndarray) -> np.ndarray:
        positive, every, hits = r.counts(w)
        before, through = every[:, r.above], every[:, r.through]
        share = np.clip((top - before) / np.maximum(through - before, 1.0), 0.0, 1.0)
        return np.asarray((positive * share).sum(axis=1) / hits[:, -1])

    return run


def _lift_at(o: Outcomes, p: Params) -> Weighted:
    recall, top = _recall_at(o, p), _top(o.n, p["share"])
    return lambda w: np.asarray(recall(w) * o.n / top)


# --- counted metrics ------------------------------------------------------------------------------------------


def _confusion(o: Outcomes, threshold: float) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, np.ndarray]:
    """Weighted counts per (target, predicted) pair that occurs, with the pair's target and predicted class."""
    count = len(o.classes)
    cells, cell_of = np.unique(o.targets * count + predicted(o, threshold), return_inverse=True)
    order = np.argsort(cell_of, kind="stable")
    starts = np.searchsorted(cell_of[order], np.arange(len(cells)))
    return (lambda w: np.add.reduceat(w[:, order], starts, axis=1)), cells // count, cells % count


def _balanced_accuracy(o: Outcomes, p: Params) -> Weighted:
    counts, target, answer = _confusion(o, p["threshold"])
    present = np.unique(target)

    def run(w: np.ndarray) -> np.ndarray:
        c = counts(w)
        recalls = [c[:, (target == k) & (answer == k)].sum(axis=1) / c[:, target == k].sum(axis=1) for k in present]
        return _mean_defined(recalls)

    return run


def _f1(o: Outcomes, p: Params) -> Weighted:
    counts, target, answer = _confusion(o, p["threshold"])
    scored = [positive_index(o)] if len(o.classes) == 2 else np.union1d(target, answer)

    def run(w: np.ndarray) -> np.ndarray:
        c = counts(w)
        values = []
        for k in scored:
            right = c[:, (target == k) & (answer == k)].sum(axis=1)
            both = c[:, target == k].sum(axis=1) + c[:, answer == k].sum(axis=1)
            values.append(2 * right / np.where(both > 0, both, 1.0))
        return np.asarray(np.mean(values, axis=0))

    return run


def calibration_bins(o: Outcomes, bins: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per row: the probability, whether it came true, and its bin of `bins` equal-width ones, open below.

    Two classes: the probability of the positive class. More: that of the most probable class.
    """
    if len(o.classes) == 2:
        probability, hit = positive_scores(o), o.targets == positive_index(o)
    else:
        probability, hit = o.predictions.max(axis=1).astype(np.float64), o.predictions.argmax(axis=1) == o.targets
    return probability, hit, np.clip(np.ceil(probability * bins) - 1, 0, bins - 1).astype(np.int64)


def _ece(o: Outcomes, p: Params) -> Weighted:
    """Guo et al. 2017: mean over the bins of |frequency - mean probability|, weighted by the bin's rows."""
    bins = int(p["bins"])
    probability, hit, bin_of = calibration_bins(o, bins)
    residual = np.zeros((o.n, bins))
    residual[np.arange(o.n), bin_of] = probability - hit
    return lambda w: np.asarray(np.abs(w @ residual).sum(axis=1) / w.sum(axis=1))


# --- regression -----------------------------------------------------------------------------------------------


def _rmse(o: Outcomes, p: Params) -> Weighted:
    squares = _absolute_error(o, p) ** 2
    return lambda w: np.asarray(np.sqrt((w @ squares) / w.sum(axis=1)))


def _r2(o: Outcomes, p: Params) -> Weighted:
    if o.n < 2 or np.ptp(o.targets) == 0:
        raise DataError(
            f"metric 'r2' is undefined: all {o.n} targets are {o.targets[0]:g}",
            hint="measure on targets that differ, or use rmse",
        )
    centred = o.targets.astype(np.float64) - o.targets.mean()
    sums_of = np.stack([centred, centred**2, _absolute_error(o, p) ** 2], axis=1)

    def run(w: np.ndarray) -> np.ndarray:
        total, squares, errors = (w @ sums_of).T
        spread = squares - total**2 / w.sum(axis=1)
        return np.asarray(1 - errors / np.where(spread > 0, spread, np.nan))

    return run


_ONE_CLASS_SUFFICES = ("accuracy", "exact", "log_loss", "brier", "ece", "profit")
_RANGES = {
    "threshold": (0.0, 1.0),
    "share": (1e-9, 1.0),
    "bins": (1.0, 1000.0),
    "tolerance": (0.0, math.inf),
    "tp": (-1e300, 1e300),
    "fp": (-1e300, 1e300),
}
_EXAMPLES = {"recall_at": "recall_at(10%)", "lift_at": "lift_at(10%)", "profit": "profit(tp=100, fp=-10)"}
_HALF, _SHARE = {"threshold": 0.5}, {"share": REQUIRED}
_GAINS = {"tp": REQUIRED, "fp": REQUIRED, "threshold": BREAK_EVEN}
_UNIT, _RATIO, _AMOUNT = (0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)
_score = partial(Metric, higher_is_better=True, perfect=1.0, bounds=_UNIT)
_error = partial(Metric, higher_is_better=False, perfect=0.0, bounds=_RATIO)
_loss = partial(_error, bounds=_UNIT)
_share = partial(_score, perfect=math.inf)
_ratio = partial(_share, bounds=_RATIO)
_gain = partial(_share, bounds=_AMOUNT)

METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        _score("roc_auc", "classification", "area under the ROC curve", prepare=_per_class(_auc)),
        _score("average_precision", "classification", "precision summed over steps of recall", prepare=_per_class(_ap)),
        _score("accuracy", "classification", "share of right answers", _HALF, rows=_hits),
        _score("balanced_accuracy", "classification", "mean recall of the classes", _HALF, prepare=_balanced_accuracy),
        _score("f1", "classification", "harmonic mean of precision and recall", _HALF, prepare=_f1),
        _error("log_loss", "classification", "mean negative log-probability of the right class", rows=_log_loss),
        _loss("brier", "classification", "half the squared error of the probabilities", rows=_brier),
        _loss("ece", "classification", "expected calibration error", {"bins": 15.0}, prepare=_ece),
        _share("recall_at", "binary", "share of the positives that rank in the top share", _SHARE, prepare=_recall_at),
        _ratio("lift_at", "binary", "precision in the top share over the base rate", _SHARE, prepare=_lift_at),
        _gain("profit", "binary", "mean gain per row of acting at the threshold", _GAINS, rows=_profit),
        _error("rmse", "regression", "root of the mean squared error, in the target's unit", prepare=_rmse),
        _error("mae", "regression", "mean absolute error, in the target's unit", rows=_absolute_error),
        _score("r2", "regression", "share of the target's variance explained", prepare=_r2, bounds=(-math.inf, 1.0)),
        _score("exact", "any", "share of answers exactly right", {"tolerance": 0.0}, rows=_exact),
    )
}

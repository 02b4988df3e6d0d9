"""How sure a measured number is: intervals, paired comparisons, and what a perfect score could show at this n.

Intervals: Wilson for shares of rows; DeLong's variance (Sun and Xu 2014) on the logit scale with Satterthwaite's
degrees of freedom for roc_auc; Student's t for other means over rows (rmse: on the log scale); else the percentile
bootstrap over rows. Rows are resampled as they came, classes not held fixed: how many positives a sample holds is
chance too. Every difference is a gain: positive when `a` is better, also where less is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import bdtrc, expit, logit, ndtr, ndtri, stdtr, stdtrit

from alexandra.errors import DataError, TaskError, suggest
from alexandra.metrics import (
    Metric,
    calibration_bins,
    check,
    metric,
    positive_index,
    positive_scores,
    predicted,
    weighted,
)
from alexandra.records import Interval, Outcomes
from alexandra.rng import Stream, derive

CONFIDENCE = 0.95
MOST_REPLICATES, FEWEST_REPLICATES, MOST_DRAWS = 2000, 100, 10_000_000
MOST_CELLS = 2_000_000  # weights held at a time while resampling


@dataclass(frozen=True)
class Paired:
    """Model `a` against model `b` on the items that both answered.

    `difference` is the gain of a over b in the metric's unit, positive when a is better; `low` and `high` bound it
    at 95 %. `p_value` is one-sided: how likely a gain this large is when a is not better. `wins` and `losses` count
    items that a answered better or worse. `relative`: a margin is a share of b's value, not points.
    """

    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    wins: int
    losses: int
    a: float
    b: float
    method: str
    relative: bool


# --- one model ------------------------------------------------------------------------------------------------


def interval(name: str | Metric, outcomes: Outcomes, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """The metric with its interval. No lower bound exceeds `best_possible`, so a perfect score is not certainty."""
    found = metric(name)
    check(found, outcomes)
    level = (1 + _confidence(confidence)) / 2
    if found.is_proportion:
        value, low, high = wilson(found.fn(outcomes), outcomes.n, level)
    elif found.name == "roc_auc":
        value, low, high = _delong(outcomes, level)
    elif found.rows is not None or found.name == "rmse":
        value, low, high = _mean_interval(found, outcomes, level)
    else:
        value, low, high = _bootstrap_interval(found, outcomes, level, seed)
    if found.higher_is_better:
        counts, positive = _counts(outcomes)
        low = min(low, best_possible(found, outcomes.n, counts, positive, confidence))
    smallest, largest = found.bounds
    return Interval(value, max(min(low, value), smallest), min(max(high, value), largest), outcomes.n)


def _confidence(confidence: float) -> float:
    if not 0.5 <= confidence < 1:
        raise TaskError(f"confidence={confidence!r} must lie from 0.5 to below 1, for example 0.95")
    return confidence


def _counts(outcomes: Outcomes) -> tuple[list[int], int]:
    if not outcomes.is_classification:
        return [], -1
    counts = np.bincount(outcomes.targets, minlength=len(outcomes.classes))
    return [int(count) for count in counts], positive_index(outcomes)


def wilson(value: float, n: int, level: float) -> tuple[float, float, float]:
    """Wilson 1927: the shares that a score test does not reject."""
    z2 = float(ndtri(level)) ** 2
    centre, half = value + z2 / (2 * n), math.sqrt(z2 * value * (1 - value) / n + z2 * z2 / (4 * n * n))
    return value, (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)


def _placements(outcomes: Outcomes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per scored class: which rows are its own, and per row the share of the other side that it ranks right [n].

    By midranks (Sun and Xu 2014). Several classes: those that occur, one against the rest.
    """
    if len(outcomes.classes) == 2:
        scored = [(positive_scores(outcomes), outcomes.targets == positive_index(outcomes))]
    else:
        present = np.unique(outcomes.targets)
        scored = [(outcomes.predictions[:, c].astype(np.float64), outcomes.targets == c) for c in present]
    result = []
    for scores, own in scored:
        ranks, placement = _midranks(scores), np.empty(outcomes.n)
        placement[own] = (ranks[own] - _midranks(scores[own])) / (~own).sum()
        placement[~own] = 1 - (ranks[~own] - _midranks(scores[~own])) / own.sum()
        result.append((own, placement))
    return result


def _midranks(scores: np.ndarray) -> np.ndarray:
    """Rank of each value from 1, the mean rank where values are equal."""
    _, block, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(sizes) - (sizes - 1) / 2)[block])


def _auc_influence(outcomes: Outcomes) -> tuple[float, np.ndarray]:
    """The AUC and each row's share in its error [n]: the squares add up to DeLong's variance."""
    values, influence, placed = [], np.zeros(outcomes.n), _placements(outcomes)
    for own, placement in placed:
        m, k = int(own.sum()), int((~own).sum())
        auc = float(placement[own].mean())
        scale = np.where(own, math.sqrt(m * max(m - 1, 1)), math.sqrt(k * max(k - 1, 1)))
        values.append(auc)
        influence += (placement - auc) / scale / len(placed)
    return float(np.mean(values)), influence


def _spread(influence: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Standard error of a sum of row influences, and its degrees of freedom (Satterthwaite, a group per class)."""
    sizes = np.bincount(targets)
    parts = np.bincount(targets, weights=influence**2)
    shares = float((parts**2 / np.maximum(sizes - 1, 1)).sum())
    variance = float(parts.sum())
    return math.sqrt(variance), variance**2 / shares if shares > 0 else math.inf


def _delong(outcomes: Outcomes, level: float) -> tuple[float, float, float]:
    auc, influence = _auc_influence(outcomes)
    sizes = np.bincount(outcomes.targets, minlength=len(outcomes.classes))
    if len(sizes) == 2 and (auc in (0.0, 1.0) or sizes.min() < 2):
        z = float(ndtri(level))
        return auc, _newcombe(auc, sizes[0], sizes[1], z), 1 - _newcombe(1 - auc, sizes[0], sizes[1], z)
    if auc in (0.0, 1.0):
        return auc, auc, auc
    error, freedom = _spread(influence, outcomes.targets)
    half = _quantile(level, freedom) * error / (auc * (1 - auc))
    return auc, float(expit(logit(auc) - half)), float(expit(logit(auc) + half))


def _newcombe(auc: float, m: int, k: int, z: float) -> float:
    """The lower end of Newcombe's 2006 interval (part 2, method 5), which does not collapse at a perfect AUC.

    It is the AUC whose score test, with Hanley and McNeil's variance, just does not reject the one observed. The
    upper end is the mirror image.
    """
    mean_size = (m + k) / 2 - 1

    def excess(theta: float) -> float:
        shape = 1 + mean_size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (auc - theta) ** 2 - z * z * theta * (1 - theta) * shape / (m * k)

    low, high = 0.0, auc
    for _ in range(60):  # bisection: excess falls from auc^2 at 0 to below 0 at auc
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low


def _mean_interval(found: Metric, outcomes: Outcomes, level: float) -> tuple[float, float, float]:
    _need_two(outcomes.n)
    if found.rows is None:  # rmse: the interval of the mean square, on the log scale
        rows = (outcomes.predictions.astype(np.float64) - outcomes.targets) ** 2
        value = math.sqrt(float(rows.mean()))
        half = _half_width(rows, level) / (2 * value * value) if value > 0 else 0.0
        return value, value * math.exp(-half), value * math.exp(half)
    rows = found.rows(outcomes, found.params)
    value, half = float(rows.mean()), _half_width(rows, level)
    return value, value - half, value + half


def _quantile(level: float, freedom: float) -> float:
    """Student's quantile; the normal one for endless degrees of freedom."""
    return float(stdtrit(freedom, level)) if math.isfinite(freedom) else float(ndtri(level))


def _half_width(rows: np.ndarray, level: float) -> float:
    return _quantile(level, len(rows) - 1) * float(rows.std(ddof=1)) / math.sqrt(len(rows))


def _need_two(n: int) -> None:
    if n < 2:
        raise DataError(f"an interval needs at least 2 rows, got {n}")


def _bootstrap_interval(found: Metric, outcomes: Outcomes, level: float, seed: int) -> tuple[float, float, float]:
    _need_two(outcomes.n)
    value = found.fn(outcomes)
    low, high = _ends(_resampled([weighted(found, outcomes)], outcomes.n, seed)[0], value, level)
    if found.name == "ece":  # noise counts as error: what calibrated probabilities would show is taken off, twice
        low -= 2 * _calibrated_ece(outcomes, int(found.params["bins"]))
    return value, low, high


def _calibrated_ece(outcomes: Outcomes, bins: int) -> float:
    """The ece that perfectly calibrated probabilities show on average at this n: E|noise| summed over the bins."""
    probability, _, bin_of = calibration_bins(outcomes, bins)
    variances = np.bincount(bin_of, weights=probability * (1 - probability))
    return float(math.sqrt(2 / math.pi) * np.sqrt(np.maximum(variances, 0.0)).sum() / outcomes.n)


def _ends(values: np.ndarray, value: float, level: float) -> tuple[float, float]:
    """Percentiles of the resampled values; the normal ends where there are too few of them for that."""
    if len(values) >= 1000:
        low, high = np.quantile(values, [1 - level, level])
        return float(low), float(high)
    half = float(ndtri(level)) * float(values.std(ddof=1))
    return value - half, value + half


def _resampled(functions: Sequence[Callable[[np.ndarray], np.ndarray]], n: int, seed: int) -> np.ndarray:
    """Each function of row weights on the same resamples, [functions, replicates]; undefined replicates left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.stack([f(w) for f in functions]) for w in _weights(n, derive(seed, "statistics", "bootstrap"))]
    values = np.concatenate(parts, axis=1)
    values = values[:, np.isfinite(values).all(axis=0)]
    if values.shape[1] < 2:
        raise DataError(f"{n} rows are too few to resample: the metric is undefined on almost every draw")
    return values


def _weights(n: int, stream: Stream) -> Iterator[np.ndarray]:
    """How often each row is drawn when n rows are drawn with replacement: chunks of [b, n], float64.

    The words are Philox4x64's, keyed by the stream: 2,000 resamples to 5,000 rows, then fewer (200 at 50,000).
    """
    source = np.random.Philox(key=stream.key + (stream.nonce << 64))
    left = min(MOST_REPLICATES, max(FEWEST_REPLICATES, MOST_DRAWS // n))
    while left > 0:
        b = min(left, max(1, MOST_CELLS // n))
        left -= b
        words = source.random_raw((b * n + 1) // 2).view(np.uint32)[: b * n].astype(np.uint64)
        drawn = ((words * np.uint64(n)) >> np.uint64(32)).astype(np.int64).reshape(b, n)
        drawn += np.arange(0, b * n, n)[:, None]
        yield np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n).astype(np.float64)


# --- what a perfect score could show ----------------------------------------------------------------------------


def best_possible(
    name: str | Metric, n: int, counts: Sequence[int] = (), positive: int = -1, confidence: float = CONFIDENCE
) -> float:
    """The bound that a perfect model reaches at this n: the largest lower bound, or the smallest upper bound.

    `counts` are the rows per class (an even split of two when not given). Shares of rows are bounded by Wilson;
    roc_auc by Newcombe's interval at 1; class-wise metrics by Wilson within each class, the losses combined as
    independent (Zou and Donner 2008); recall_at and lift_at by Wilson over the hits. Errors and r2 have no such
    bound: a perfect score has no spread to measure, and the bound is that score.
    """
    found = metric(name)
    z = float(ndtri((1 + _confidence(confidence)) / 2))
    if found.is_proportion:
        return n / (n + z * z)
    if not found.higher_is_better or found.name == "r2":
        return found.perfect
    sizes = list(counts) if counts else [n - n // 2, n // 2]
    own = sizes[positive]
    if found.name == "profit":
        share, gain = own / n, found.params["tp"]
        return gain * share - z * abs(gain) * math.sqrt(share * (1 - share) / max(n - 1, 1))
    if "share" in found.params:
        top = max(1, math.floor(found.params["share"] * n + 0.5))
        hits = min(top, own)
        recall = (hits / own) * hits / (hits + z * z) if own else 0.0
        return recall * n / top if found.name == "lift_at" else recall
    one_class = len(sizes) == 2 and found.name != "balanced_accuracy"
    scored = [own] if one_class else [size for size in sizes if size]
    losses = [_lost(found.name, size, n - size, z) for size in scored]
    return 1 - math.sqrt(sum(loss * loss for loss in losses)) / max(len(losses), 1)


def _lost(name: str, own: int, others: int, z: float) -> float:
    """How far below 1 the bound of one class lies."""
    if own == 0 or others == 0:
        return 1.0
    if name == "roc_auc":
        return 1 - _newcombe(1.0, own, others, z)
    return z * z / (2 * own + z * z) if name == "f1" else z * z / (own + z * z)


# --- two models -------------------------------------------------------------------------------------------------


def paired(
    name: str | Metric, a: Outcomes, b: Outcomes, seed: int = 0, *, method: str = "auto", confidence: float = CONFIDENCE
) -> Paired:
    """Compare two models on the items that both answered (at least two).

    `method` "auto" takes "mcnemar" (exact; shares of rows), "delong" (roc_auc), "mean" (Student's t on the rows'
    differences) or "bootstrap" (any metric), the first that applies; naming one asks for it.
    """
    found = metric(name)
    a, b = common(a, b)
    check(found, a)
    check(found, b)
    level = (1 + _confidence(confidence)) / 2
    chosen = _choose(found, method)
    value_a, value_b = found.fn(a), found.fn(b)
    gain = value_a - value_b if found.higher_is_better else value_b - value_a
    gains = _row_gains(found, a, b)
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    if chosen == "mcnemar":
        low, high, p_value = _mcnemar(wins, losses, a.n, level)
    elif chosen == "delong":
        low, high, p_value = _delong_paired(a, b, gain, level)
    elif chosen == "mean":
        half, error = _half_width(gains, level), float(gains.std(ddof=1)) / math.sqrt(a.n)
        low, high, p_value = gain - half, gain + half, _tail(gain, error, a.n - 1)
    else:
        low, high, p_value = _bootstrap_paired(found, a, b, gain, level, seed)
    return Paired(
        metric=str(found),
        difference=gain,
        low=min(low, gain),
        high=max(high, gain),
        p_value=max(p_value, 0.5**a.n),  # no sign test over n items shows more
        n=a.n,
        wins=wins,
        losses=losses,
        a=value_a,
        b=value_b,
        method=chosen,
        relative=not found.is_share,
    )


def _choose(found: Metric, method: str) -> str:
    suited = {"mcnemar": found.is_proportion, "delong": found.name == "roc_auc", "mean": found.rows is not None}
    suited["bootstrap"] = True
    if method == "auto":
        return next(name for name, suits in suited.items() if suits)
    if method not in suited:
        raise TaskError(f"unknown paired test {method!r}", hint=suggest(method, [*suited, "auto"]))
    if not suited[method]:
        usable = ", ".join(name for name, suits in suited.items() if suits)
        raise TaskError(f"the paired test {method!r} does not apply to {found.name!r}", hint=f"usable here: {usable}")
    return method


def common(a: Outcomes, b: Outcomes) -> tuple[Outcomes, Outcomes]:
    """Both restricted to the items that both answered, in one order; DataError when they cannot be compared."""
    for outcomes in (a, b):
        if len(set(outcomes.keys.tolist())) != outcomes.n:
            raise DataError("outcomes hold an item twice: keys must be unique", hint="count each distinct item once")
    if not np.array_equal(a.keys, b.keys):
        _, of_a, of_b = np.intersect1d(a.keys, b.keys, assume_unique=True, return_indices=True)
        if len(of_a) < 2:
            raise DataError(
                f"a paired comparison needs items that both models answered; of {a.n} and {b.n} only {len(of_a)} agree",
                hint="measure both models on the same rows",
            )
        a, b = take(a, of_a), take(b, of_b)
    _need_two(a.n)
    if a.classes != b.classes:
        b = _in_classes(b, a.classes)
    if not np.array_equal(a.targets, b.targets):
        row = int(np.flatnonzero(a.targets != b.targets)[0])
        raise DataError(
            f"the two models were measured against different answers: item {a.keys[row]} is "
            f"{a.targets[row]} for one and {b.targets[row]} for the other"
        )
    return a, replace(b, positive=a.positive)


def _in_classes(outcomes: Outcomes, classes: tuple[str, ...]) -> Outcomes:
    """The same outcomes with the columns in the order of `classes`."""
    if set(outcomes.classes) != set(classes) or len(outcomes.classes) != len(classes):
        raise DataError(f"the two models know different classes: {classes} and {outcomes.classes}")
    order = [outcomes.classes.index(label) for label in classes]
    targets = np.argsort(order)[outcomes.targets]
    return replace(outcomes, classes=classes, targets=targets, predictions=outcomes.predictions[:, order])


def take(outcomes: Outcomes, index: np.ndarray) -> Outcomes:
    """The outcomes of the rows at `index` (positions, or a mask)."""
    return replace(
        outcomes,
        keys=outcomes.keys[index],
        targets=outcomes.targets[index],
        predictions=outcomes.predictions[index],
        columns={name: column[index] for name, column in outcomes.columns.items()},
    )


def _row_gains(found: Metric, a: Outcomes, b: Outcomes) -> np.ndarray:
    """By how much a is better per row, in the metric's own terms: its rows, else ranks, right answers, or errors."""
    if found.rows is not None:
        gains = found.rows(a, found.params) - found.rows(b, found.params)
        return np.asarray(gains if found.higher_is_better else -gains)
    if not a.is_classification:
        return np.asarray(np.abs(b.predictions - a.targets) - np.abs(a.predictions - a.targets))
    if "threshold" in found.params:
        threshold = found.params["threshold"]
        right_a, right_b = predicted(a, threshold) == a.targets, predicted(b, threshold) == a.targets
        return np.asarray(np.subtract(right_a, right_b, dtype=np.float64))
    placed_a, placed_b = _placements(a), _placements(b)
    return np.asarray(sum(of_a - of_b for (_, of_a), (_, of_b) in zip(placed_a, placed_b, strict=True)))


def _tail(gain: float, error: float, freedom: float) -> float:
    """P(a gain this large | none); without any spread a gain is certain and its absence too."""
    if error == 0:
        return 0.0 if gain > 0 else 1.0
    return float(stdtr(freedom, -gain / error)) if math.isfinite(freedom) else float(ndtr(-gain / error))


def _mcnemar(wins: int, losses: int, n: int, level: float) -> tuple[float, float, float]:
    """Exact one-sided sign test on the items that differ; interval of Bonett and Price 2012 (one more of each)."""
    p_value = float(bdtrc(wins - 1, wins + losses, 0.5)) if wins else 1.0
    won, lost = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = float(ndtri(level)) * math.sqrt((won + lost - (won - lost) ** 2) / (n + 2))
    return won - lost - half, won - lost + half, p_value


def _delong_paired(a: Outcomes, b: Outcomes, gain: float, level: float) -> tuple[float, float, float]:
    (value_a, of_a), (value_b, of_b) = _auc_influence(a), _auc_influence(b)
    influence = of_a - of_b
    if value_a == value_b == 1.0:  # both rank perfectly: as unsure as one perfect score is
        counts, positive = _counts(a)
        slack = 1 - best_possible("roc_auc", a.n, counts, positive, 2 * level - 1)
        return -slack, slack, 1.0
    floor = 0.5 ** int(np.bincount(a.targets)[np.unique(a.targets)].min())  # a sign test on the smallest class
    error, freedom = _spread(influence, a.targets)
    if error < 1e-12:
        return gain, gain, floor if gain > 1e-12 else 1.0
    half = _quantile(level, freedom) * error
    return max(-1.0, gain - half), min(1.0, gain + half), max(_tail(gain, error, freedom), floor)


def _bootstrap_paired(
    found: Metric, a: Outcomes, b: Outcomes, gain: float, level: float, seed: int
) -> tuple[float, float, float]:
    """Both models on the same resamples. The p-value is the larger of the normal one and the share without a gain."""
    of_a, of_b = _resampled([weighted(found, a), weighted(found, b)], a.n, seed)
    gains = of_a - of_b if found.higher_is_better else of_b - of_a
    low, high = _ends(gains, gain, level)
    error = float(gains.std(ddof=1))
    return low, high, max(_tail(gain, error, math.inf), float((gains <= 0).mean()))


def better(comparison: Paired, alpha: float = 0.01) -> bool:
    """True when a gain over b is shown at level `alpha`, one-sided."""
    return comparison.difference > 0 and comparison.p_value <= alpha


def no_worse(comparison: Paired, margin: float = 0.01) -> bool:
    """True when a loss of `margin` is excluded: the lower bound of the gain lies above -margin.

    The margin is in points for a metric in 0..1 (1 % is 0.01) and a share of b's value for any other (rmse, profit).
    """
    allowed = margin * abs(comparison.b) if comparison.relative else margin
    return comparison.low > -allowed


def words(comparison: Paired, name: str | Metric | None = None, margin: float | None = None) -> str:
    """ "better by 0.012 [0.004, 0.020]", "worse by ..." or "not distinguishable, +0.001 [-0.006, 0.008]".

    With a metric it is named ("better in roc_auc by ..."); with a margin the sentence says whether it is kept.
    """
    c = comparison
    digits = ".3g" if c.relative else ".3f"
    where = f" in {metric(name)}" if name is not None else ""
    gain, low, high = f"{abs(c.difference):{digits}}", f"{c.low:{digits}}", f"{c.high:{digits}}"
    if c.low > 0:
        text = f"better{where} by {gain} [{low}, {high}]"
    elif c.high < 0:
        text = f"worse{where} by {gain} [{-c.high:{digits}}, {-c.low:{digits}}]"
    else:
        text = f"not distinguishable{where}, {'-' if c.difference < 0 else '+'}{gain} [{low}, {high}]"
    if margin is None:
        return text
    kept = "no worse within" if no_worse(c, margin) else "it may be worse by more than"
    return f"{text}; {kept} {margin * 100:g} %"

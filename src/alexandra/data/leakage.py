"""Columns that give the target away: how well one column alone predicts it, cross-validated.

Rules, each with the figure it rests on:
  copy   a column with few distinct values from which the class is read off (Cohen's kappa >= 0.95): the target
         renamed, recoded or with a few entries changed
  alone  one column reaches a macro one-against-rest ROC AUC (or an R2) of 0.995
  sum    a number target is exactly the sum or difference of columns, which are parts of it
They need 50 rows, and 10 in each class that is counted. A column may predict well and be innocent (0.975 for the
perimeter of a tumour): the thresholds sit above what honest measurements reach. What is known only after the
event but does not determine it cannot be seen in the data; `strongest` names the column to think about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alexandra.rng import derive
from alexandra.tables import Column, Table

LIMIT = 0.995
KAPPA_LIMIT = 0.95
MIN_ROWS, MIN_CLASS_ROWS = 50, 10
MAX_ROWS = 20_000
MAX_CELLS = 5_000_000
FOLDS = 5
CLASS_BINS, VALUE_BINS = 64, 256
MAX_TERMS = 40


@dataclass(frozen=True)
class Leak:
    """One column (for a sum: its name and the others' in `reason`), the metric and its value."""

    column: str
    rule: str
    metric: str
    figure: float
    reason: str


@dataclass(frozen=True)
class Strength:
    """How well one column alone predicts the target: cross-validated "roc_auc" or "r2", and kappa for classes."""

    column: str
    metric: str
    figure: float
    kappa: float = 0.0
    distinct: int = 0


def strengths(table: Table, features: list[str], y: np.ndarray, num_classes: int, seed: int = 0) -> list[Strength]:
    """One per feature, in order; `y` class indices (num_classes > 0) or values. Empty when there are too few rows.

    At most 20,000 rows and 5 million cells are looked at, drawn by `seed`.
    """
    n = len(y)
    limit = min(MAX_ROWS, max(MIN_ROWS * FOLDS, MAX_CELLS // max(1, len(features))))
    if n > limit:
        rows = np.unique(derive(seed, "leakage", "rows").below(n, limit))
        table, y, n = table.take(rows), y[rows], len(rows)
    if n < MIN_ROWS:
        return []
    fold = derive(seed, "leakage", "folds").below(FOLDS, n)
    if num_classes:
        counts = np.bincount(y, minlength=num_classes)
        if (counts >= MIN_CLASS_ROWS).sum() < 2:
            return []
        return [_of_classes(table[name], y, counts, fold) for name in features]
    return [_of_values(table[name], y, fold) for name in features]


def find_leaks(table: Table, features: list[str], y: np.ndarray, found: list[Strength], num_classes: int) -> list[Leak]:
    """The leaks among `features`, strongest first; `found` are their strengths."""
    leaks = [leak for strength in found if (leak := _judge(strength, num_classes)) is not None]
    leaks.sort(key=lambda leak: -leak.figure)
    if not num_classes and found:
        known = {leak.column for leak in leaks}
        terms = [s.column for s in sorted(found, key=lambda s: -s.figure) if table[s.column].kind == "number"]
        leaks += _sums(table, [name for name in terms if name not in known], y)
    return leaks


def _judge(strength: Strength, num_classes: int) -> Leak | None:
    name, figure = strength.column, strength.figure
    if num_classes and strength.kappa >= KAPPA_LIMIT and strength.distinct <= 2 * num_classes + 1:
        share = f"kappa {strength.kappa:.3f}"
        reason = f"its {strength.distinct} values give the class away ({share}), as a copy of the target does"
        return Leak(name, "copy", "kappa", strength.kappa, reason)
    if figure < LIMIT:
        return None
    words = "ROC AUC" if num_classes else "R2"
    return Leak(name, "alone", strength.metric, figure, f"it alone reaches {words} {figure:.4f} (limit {LIMIT})")


def _bins(column: Column, count: int) -> tuple[np.ndarray, int]:
    """Bin of each row (quantiles, levels as they are, missing apart) and how many distinct values there are."""
    if column.kind in ("number", "date"):
        values = column.numbers()
        present = values[~column.missing]
        distinct = np.unique(present)
        edges = (
            distinct if len(distinct) <= count else np.unique(np.quantile(present, np.linspace(0, 1, count + 1)[:-1]))
        )
        codes = np.searchsorted(edges, values, side="right")
        codes[column.missing] = len(edges) + 1
        return codes, len(distinct)
    names, codes = column.levels()
    return codes + 1, len(names)


def _of_classes(column: Column, y: np.ndarray, counts: np.ndarray, fold: np.ndarray) -> Strength:
    """Class frequencies per bin on the other folds score each row; AUC and kappa over all rows together."""
    codes, distinct = _bins(column, CLASS_BINS)
    num_bins, num_classes = int(codes.max()) + 1, len(counts)
    cells = np.bincount((fold * num_bins + codes) * num_classes + y, minlength=FOLDS * num_bins * num_classes)
    cells = cells.reshape(FOLDS, num_bins, num_classes).astype(np.float64)
    others = cells.sum(axis=0)[None] - cells
    prior = counts / counts.sum()
    scores = (others + prior) / (others.sum(axis=2, keepdims=True) + 1.0)
    counted = np.flatnonzero(counts >= MIN_CLASS_ROWS)
    rest = cells.sum(axis=2)
    auc = [_auc(scores[..., c].ravel(), cells[..., c].ravel(), (rest - cells[..., c]).ravel()) for c in counted]
    if column.kind in ("number", "date") and not column.missing.any():
        auc = [max(value, _ordered_auc(column.numbers(), y == c)) for value, c in zip(auc, counted, strict=True)]
    guess = scores.argmax(axis=2)
    hits = float(np.take_along_axis(cells, guess[..., None], axis=2).sum()) / len(y)
    guessed = np.bincount(guess.ravel(), weights=rest.ravel(), minlength=num_classes) / len(y)
    chance = float(guessed @ prior)
    kappa = (hits - chance) / (1.0 - chance) if chance < 1.0 else 0.0
    return Strength(column.name, "roc_auc", float(np.mean(auc)), kappa, distinct)


def _auc(scores: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> float:
    """ROC AUC over weighted cells; ties count half."""
    levels, codes = np.unique(scores, return_inverse=True)
    up = np.bincount(codes, weights=positives, minlength=len(levels))
    down = np.bincount(codes, weights=negatives, minlength=len(levels))
    below = np.cumsum(down) - down
    return float((up * (below + 0.5 * down)).sum() / (up.sum() * down.sum()))


def _ordered_auc(x: np.ndarray, positive: np.ndarray) -> float:
    """ROC AUC of the values as they are, in the better direction: nothing is fitted, so no folds are needed."""
    auc = _auc(x, positive.astype(np.float64), (~positive).astype(np.float64))
    return max(auc, 1.0 - auc)


def _of_values(column: Column, y: np.ndarray, fold: np.ndarray) -> Strength:
    """R2 of bin means (joined by straight lines between a number's bins) fitted on the other folds."""
    codes, distinct = _bins(column, VALUE_BINS)
    num_bins = int(codes.max()) + 1
    is_number = column.kind in ("number", "date")
    x = np.where(column.missing, 0.0, column.numbers()) if is_number else np.zeros(len(y))
    guess = np.empty(len(y))
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        if not train.any():
            continue
        count = np.bincount(codes[train], minlength=num_bins)
        means = (np.bincount(codes[train], weights=y[train], minlength=num_bins) + y[train].mean()) / (count + 1.0)
        plain = np.bincount(codes[train], weights=y[train], minlength=num_bins) / np.maximum(count, 1)
        means = np.where(count > 0, plain if is_number else means, means)
        guess[test] = means[codes[test]]
        if is_number:
            guess[test] = _joined(x, codes, means, count, (train, test), column.missing)
    spread = float(((y - y.mean()) ** 2).sum())
    r2 = 1.0 - float(((y - guess) ** 2).sum()) / spread if spread > 0 else 0.0
    return Strength(column.name, "r2", max(r2, _linear_r2(x, y, column.missing) if is_number else r2), 0.0, distinct)


def _joined(
    x: np.ndarray,
    codes: np.ndarray,
    means: np.ndarray,
    count: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    missing: np.ndarray,
) -> np.ndarray:
    """Straight lines through the bins' mean points (x, y); missing rows keep their bin's mean."""
    train, test = rows
    centre = np.bincount(codes[train], weights=x[train], minlength=len(count)) / np.maximum(count, 1)
    filled = count > 0
    if missing.any():
        filled[codes[missing][0]] = False
    if not filled.any():
        return np.asarray(means[codes[test]])
    line = np.interp(x[test], centre[filled], means[filled])
    return np.asarray(np.where(missing[test], means[codes[test]], line))


def _linear_r2(x: np.ndarray, y: np.ndarray, missing: np.ndarray) -> float:
    """Squared correlation; two parameters on 50 rows or more need no folds."""
    if missing.any() or x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def _sums(table: Table, names: list[str], y: np.ndarray) -> list[Leak]:
    """A Leak for each term when the target is exactly a sum or difference of two or more of the named columns."""
    names = [name for name in names[:MAX_TERMS] if not table[name].missing.any()]
    if len(names) < 2 or len(y) < 3 * len(names):
        return []
    x = np.stack([table[name].values for name in names], axis=1)
    scale = np.abs(x).max(axis=0)
    names, x, scale = [n for n, s in zip(names, scale, strict=True) if s > 0], x[:, scale > 0], scale[scale > 0]
    design = np.column_stack([x / scale, np.ones(len(y))])
    weights, *_ = np.linalg.lstsq(design, y, rcond=1e-10)
    factors = np.round(weights[:-1] / scale, 4)
    used = np.flatnonzero(factors)
    if len(used) < 2 or not np.isin(factors[used], (-1.0, 1.0)).all():
        return []
    miss = np.abs(x[:, used] @ factors[used] - y).max()
    if miss > 1e-6 * max(1.0, float(np.abs(y).max())):
        return []
    formula = " ".join(f"{'+' if factors[i] > 0 else '-'} {names[i]}" for i in used).removeprefix("+ ")
    return [Leak(names[i], "sum", "r2", 1.0, f"the target is exactly {formula}") for i in used]

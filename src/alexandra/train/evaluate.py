"""From answers to a Scorecard: every metric that fits the target, with intervals, on named items.

`score` is the one place that turns predictions into measured numbers; `evaluate_table` asks any model for
those predictions through its own predict function, ours or not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import DataError
from alexandra.lang.expr import Fact, facts_of
from alexandra.lang.task_spec import Task
from alexandra.metrics import METRICS, Metric, metric
from alexandra.records import Claim, Outcomes, Scorecard, Verdict
from alexandra.statistics import interval
from alexandra.train.prepare import Prepared
from alexandra.verifiers.base import run
from alexandra.verifiers.loading import load

CLASSIFICATION = ("accuracy", "balanced_accuracy", "f1", "log_loss", "brier", "ece")
BINARY = ("roc_auc", "average_precision")
REGRESSION = ("rmse", "mae", "r2")


def outcomes_of(data: Prepared, rows: np.ndarray, raw: np.ndarray) -> Outcomes:
    """Per-item outcomes of `raw` answers to `rows`; duplicates of one item are counted once (the first)."""
    keys = data.keys[rows]
    _, first = np.unique(keys, return_index=True)
    first.sort()
    y = data.y[rows][first] if data.classification else data.target.decode(data.y[rows][first])
    columns = {name: data.table[name].values[rows][first].astype(str) for name in group_columns(data.task)}
    return Outcomes(
        keys[first], y, raw[first], data.target.classes, columns, data.target.positive if data.classification else -1
    )


def group_columns(task: Task) -> list[str]:
    """Columns that the task's verifiers and ACCEPT compare groups of, in order, once."""
    names: list[str] = []
    for reference in task.verify:
        groups = reference.kwargs.get("groups", ())
        names += [str(name) for name in (groups if isinstance(groups, tuple) else (groups,))]
    return list(dict.fromkeys([*names, *(gap.column for gap in task.gaps())]))


def metrics_of(data: Prepared, full: bool) -> list[Metric]:
    """The task's own metric first, then (`full`) the standard ones of its kind, then others that ACCEPT reads."""
    num_classes = len(data.target.classes)
    standard = CLASSIFICATION + (BINARY if num_classes == 2 else ()) if num_classes else REGRESSION
    asked = [
        metric(fact.name, **fact.kwargs)
        for fact in facts_of(data.task.accept)
        if isinstance(fact, Fact) and fact.name in METRICS
    ]
    every = [data.metric, *(metric(name) for name in standard if full), *asked]
    return list({str(one): one for one in every}.values())


def score(data: Prepared, model: str, outcomes: Outcomes, *, full: bool = True) -> Scorecard:
    """Measure what the task and its kind name (only what the check reads unless `full`); verifiers judge the rest."""
    task = data.task
    measured = {str(one): interval(one, outcomes, seed=task.split.seed) for one in metrics_of(data, full)}
    verdicts = judge(data, outcomes)
    for verdict in verdicts:
        measured.update(verdict.facts)
    return Scorecard(
        task.name, model, measured, outcomes, task.split.seed, data.data_hash, "", verdicts=tuple(verdicts)
    )


def judge(data: Prepared, outcomes: Outcomes) -> list[Verdict]:
    """One verdict per verifier that the task names on the claim "these outcomes are this good"."""
    task = data.task
    context = {"metric": str(data.metric), "seed": task.split.seed}
    claim = Claim("outcomes", outcomes, context, task.name)
    found = [load(reference.name, reference.kwargs, folder=Path(task.folder)) for reference in task.verify]
    return [run(verifier, [claim])[0] for verifier in found]


def evaluate_table(data: Prepared, predict: Callable[[Any], Any], rows: np.ndarray, name: str) -> Scorecard:
    """Score `predict` on `rows`. It gets a pandas-free table (`Table`) or what it asks for, raw features only.

    It may return probabilities [n, classes], the positive class's probability [n], labels [n] or values [n].
    """
    answers = predict(data.table.take(rows).drop([data.target.name]))
    return score(data, name, outcomes_of(data, rows, as_raw(answers, data, len(rows))))


def as_raw(answers: Any, data: Prepared, rows: int) -> np.ndarray:
    """Bring what a foreign predict function returned into the shape of Outcomes.predictions."""
    array = np.asarray(answers)
    classes = data.target.classes
    if len(array) != rows:
        raise DataError(f"the model answered {len(array)} rows, but {rows} were asked")
    if not classes:
        return array.astype(np.float64).reshape(rows)
    if array.ndim == 2 and array.shape[1] == len(classes):
        return array.astype(np.float64)
    if array.dtype.kind in "OUS" or (len(classes) > 2 and array.ndim == 1) or array.dtype.kind in "biu":
        labels = array.reshape(rows).astype(str)
        unknown = sorted(set(labels) - set(classes))
        if unknown:
            raise DataError(f"the model answered {unknown[0]!r}", hint="allowed labels: " + ", ".join(classes))
        return np.asarray(labels[:, None] == np.array(classes)[None, :], dtype=np.float64)
    if array.ndim == 1 and len(classes) == 2:
        positive = array.astype(np.float64)
        pair = np.stack([1 - positive, positive], axis=1)
        return np.asarray(pair if data.target.positive == 1 else pair[:, ::-1])
    raise DataError(
        f"the model answered an array of shape {array.shape}",
        hint=f"return [rows, {len(classes)}] probabilities, [rows] labels, or [rows] probabilities of {classes[-1]!r}",
    )

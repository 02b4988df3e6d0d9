"""From a task to data that is ready to be learnt from: table, features, target, keys and disjoint parts.

Everything that can be refused is refused here, before anything is trained: a missing target, one class,
leaking columns, an ACCEPT that no score could meet. Nothing is fitted here but the target's coding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alexandra.data import readers
from alexandra.data.behaviour import task_rows
from alexandra.data.profile import Profile, profile, strongest_words
from alexandra.data.target import TargetEncoder
from alexandra.errors import TaskError
from alexandra.lang.expr import name_text
from alexandra.lang.task_spec import Task, resolved
from alexandra.metrics import Metric, check_kind
from alexandra.metrics import metric as metric_named
from alexandra.rng import derive
from alexandra.splits import PARTS, by_time, folds, holdout
from alexandra.storage import content_hash
from alexandra.tables import Table, row_keys

VALIDATION_SHARE = 0.12


@dataclass(frozen=True)
class Part:
    """One division of the rows; index arrays, disjoint by content key (and by group where one is named).

    Along time, rows that repeat a row of an earlier part stand in no part.
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Prepared:
    """Data and everything that was decided about it; `task` is complete, no default is left open."""

    task: Task
    table: Table
    profile: Profile
    features: list[str]
    target: TargetEncoder
    y: np.ndarray
    keys: np.ndarray
    parts: tuple[Part, ...]
    data_hash: str
    metric: Metric

    @property
    def classification(self) -> bool:
        return bool(self.target.classes)

    @property
    def encoding_target(self) -> np.ndarray:
        """What ENCODE takes means of, float64: the positive class [rows], each class [rows, k], or the values."""
        k = len(self.target.classes)
        if k > 2:
            return np.asarray(np.eye(k)[self.y])
        return (self.y == self.target.positive).astype(np.float64) if k else self.y

    @property
    def notes(self) -> tuple[str, ...]:
        """What reading and profiling decided, in words."""
        first = self.parts[0]
        left_out = self.table.n_rows - len(first.train) - len(first.valid) - len(first.test)
        repeats = f"{left_out:,} later rows repeat an earlier part's rows and are left out of validation and test"
        strongest = strongest_words(self.profile)
        return (*self.profile.warnings, *([repeats] if left_out else []), *([strongest] if strongest else []))

    @property
    def test_rows(self) -> np.ndarray:
        return np.concatenate([part.test for part in self.parts])


def load_table(task: Task, folder: Path) -> Table:
    """The task's rows, made from events where it says BEHAVIOUR; paths are relative to `folder`, the task file's."""
    table = readers.read(task.data, folder)
    return task_rows(table, task.behaviour, task.target) if task.behaviour else table


def prepare(task: Task, table: Table, *, keep_leaks: bool = False) -> Prepared:
    """Check and divide the data of `task`; DataError or TaskError says what is wrong and the way out."""
    for name in (*task.drop, *(task.encode.columns if task.encode else ())):
        table[name]
    unread = (*task.drop, *([task.behaviour.entity] if task.behaviour else []))
    report = profile(table.drop(unread), task.target, task.split.seed)
    if report.leaks and not keep_leaks:
        first = report.leaks[0]
        raise TaskError(
            f"column {first.column!r} gives the target away: {first.reason}",
            hint=f"if it is not known when the question is asked, add DROP {name_text(first.column)} to the task "
            f"(--drop {first.column!r}); if it is legitimate, --keep-leaks",
        )
    keep = np.flatnonzero(~table[task.target].missing)
    table = table.take(keep) if len(keep) < table.n_rows else table
    target = TargetEncoder.fit(table[task.target], positive=task.positive)
    task = resolved(task, table.n_rows, _kind(target))
    if len(target.classes) == 2:
        task = replace(task, positive=target.classes[target.positive])
    metric = _metric(task, len(target.classes))
    encoded = task.encode.columns if task.encode else ()
    features = [name for name in table.names if name in report.features or name in encoded]
    if not features:
        raise TaskError(
            "no feature column is left",
            hint="see the column report: every column was constant, an identifier or dropped",
        )
    keys = row_keys(table, features)
    y = target.encode(table[task.target])
    parts = _parts(task, table, keys, y if target.classes else None)
    decided = [*features, task.target, *filter(None, (task.split.group, task.split.time))]
    digest = content_hash("\n".join([*decided, *row_keys(table, decided).tolist()]).encode())
    return Prepared(task, table, report, features, target, y, keys, parts, digest, metric)


def _kind(target: TargetEncoder) -> str:
    if not target.classes:
        return "regression"
    return "binary" if len(target.classes) == 2 else "multiclass"


def _metric(task: Task, num_classes: int) -> Metric:
    assert task.metric is not None, "resolved() fills in the metric"
    found = metric_named(task.metric.name, **task.metric.kwargs)
    check_kind(found, num_classes)
    return found


@dataclass(frozen=True)
class _Rows:
    """What decides where a row goes: its content key, its group and its class (both may be absent)."""

    keys: np.ndarray
    groups: np.ndarray | None
    strata: np.ndarray | None

    def take(self, rows: np.ndarray) -> _Rows:
        groups, strata = (None if part is None else part[rows] for part in (self.groups, self.strata))
        return _Rows(self.keys[rows], groups, strata)

    def holdout(self, fractions: tuple[float, float, float], seed: int) -> np.ndarray:
        return holdout(self.keys, fractions, seed, groups=self.groups, strata=self.strata)


def _parts(task: Task, table: Table, keys: np.ndarray, strata: np.ndarray | None) -> tuple[Part, ...]:
    split = task.split
    rows = _Rows(keys, table[split.group].texts().astype(str) if split.group else None, strata)
    if split.folds:
        fold = folds(keys, split.folds, split.seed, groups=rows.groups, strata=strata)
        return tuple(_fold(number, fold == number, rows, split.seed) for number in range(split.folds))
    share = split.fractions or (0.7, 0.15, 0.15)
    if split.time:
        names = _without_repeats(by_time(table[split.time].values, share), keys)
    else:
        names = rows.holdout(share, split.seed)
    train, valid, test = (np.flatnonzero(names == name) for name in ("train", "validation", "test"))
    if min(len(train), len(valid), len(test)) == 0:
        raise TaskError(
            f"the split leaves train={len(train)}, validation={len(valid)}, test={len(test)} rows",
            hint="use SPLIT folds=5, or larger shares",
        )
    return (Part("holdout", train, valid, test),)


def _without_repeats(names: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Parts by time, without the rows of a later part whose content occurs in an earlier one (they get "")."""
    names = names.astype(object)
    earlier: np.ndarray = np.zeros(0, dtype=keys.dtype)
    for part in PARTS:
        here = names == part
        names[here & np.isin(keys, earlier)] = ""
        earlier = np.union1d(earlier, keys[names == part])
    return names


def _fold(number: int, is_test: np.ndarray, rows: _Rows, seed: int) -> Part:
    """One fold; validation rows are set apart inside its training rows, by content hash as well."""
    name = f"fold{number}"
    test, rest = np.flatnonzero(is_test), np.flatnonzero(~is_test)
    shares = (1 - VALIDATION_SHARE, VALIDATION_SHARE, 0.0)
    names = rows.take(rest).holdout(shares, derive(seed, "validation", name).integer())
    train, valid = rest[names == "train"], rest[names == "validation"]
    if len(train) == 0 or len(valid) == 0 or len(test) == 0:
        raise TaskError(
            f"{name} has train={len(train)}, validation={len(valid)}, test={len(test)} rows: too few distinct rows",
            hint="use fewer folds (SPLIT folds=2) or more data",
        )
    return Part(name, train, valid, test)

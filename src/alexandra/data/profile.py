"""What a table holds, before anything is learnt from it: kinds, gaps, identifiers, constants, leaks, duplicates.

The profile decides nothing silently: every column that is left out of the features has its reason in words, and
leaking columns stay among the features, for the caller to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alexandra.data.leakage import Leak, Strength, find_leaks, strengths
from alexandra.data.target import TargetEncoder
from alexandra.errors import DataError
from alexandra.tables import Column, Table, row_keys

IDENTIFIER_ROWS = 20
IDENTIFIER_SHARE = 0.95
RARE_CLASS_ROWS = 10
MISSING_SHARE = 0.5
_ID_NAME = re.compile(r"(^|[_\s.-])(id|ID|Id|uuid|guid|rowid|index)$|[a-z](ID|Id)$")


@dataclass(frozen=True)
class ColumnProfile:
    """One column in figures. role: "target", "feature" or "dropped"; `note` says why it is dropped, or what is odd."""

    name: str
    kind: str
    role: str
    distinct: int
    missing_share: float
    note: str = ""


@dataclass(frozen=True)
class Profile:
    """duplicates: rows whose features and target occur earlier; conflicting: rows whose features occur with
    another target. `features` are the columns to learn from, `dropped` the others with the reason. `strongest` is
    the column that predicts best alone. `warnings` say everything that a user should see, in words."""

    rows: int
    target: str
    classification: bool
    columns: tuple[ColumnProfile, ...]
    features: tuple[str, ...]
    dropped: Mapping[str, str]
    leaks: tuple[Leak, ...]
    strongest: Strength | None
    duplicates: int
    conflicting: int
    warnings: tuple[str, ...]


def profile(table: Table, target: str, seed: int = 0) -> Profile:
    """Look at every column of `table` before `target` is learnt; DataError when there is no target or one class."""
    column = table[target]
    present = ~column.missing
    coding = TargetEncoder.fit(column)
    labelled = table.take(present) if column.missing.any() else table
    y = coding.encode(labelled[target])
    facts = {name: _facts(table[name]) for name in table.names}
    dropped = {
        name: why for name in table.names if name != target and (why := _reason_to_drop(table[name], facts[name]))
    }
    features = [name for name in table.names if name != target and name not in dropped]
    if not features:
        raise _no_features(table, target, dropped)
    num_classes = len(coding.classes)
    found = strengths(labelled, features, y, num_classes, seed)
    leaks = find_leaks(labelled, features, y if num_classes else labelled[target].numbers(), found, num_classes)
    duplicates, conflicting = _repeats(labelled, features, target)
    strongest = max(found, key=lambda strength: strength.figure, default=None)
    notes = {**dropped, **{leak.column: f"gives the target away: {leak.reason}" for leak in reversed(leaks)}}
    columns = tuple(_column(table[name], facts[name], target, dropped, notes) for name in table.names)
    warnings = [
        *table.notes,
        *_target_warnings(column, coding, y),
        *(f"column {name!r} is left out: {why}" for name, why in dropped.items()),
        *(f"column {leak.column!r} gives the target away: {leak.reason}" for leak in leaks),
        *_gaps(table, features),
        *_repeat_warnings(duplicates, conflicting),
    ]
    return Profile(
        table.n_rows, target, coding.is_classification, columns, tuple(features), dropped, tuple(leaks), strongest,
        duplicates, conflicting, tuple(warnings),
    )  # fmt: skip


def strongest_words(report: Profile) -> str:
    """The reminder that goes with the strongest column; "" when nothing was measured."""
    best = report.strongest
    if best is None:
        return ""
    words = "ROC AUC" if best.metric == "roc_auc" else "R2"
    return (
        f"strongest single column: {best.column} ({words} {best.figure:.3f}); is it known when the question is asked?"
    )


@dataclass(frozen=True)
class _Facts:
    distinct: int
    present: int


def _facts(column: Column) -> _Facts:
    present = column.values[~column.missing]
    distinct = len(np.unique(present)) if column.kind in ("number", "date") else len(set(present.tolist()))
    return _Facts(distinct, len(present))


def _reason_to_drop(column: Column, facts: _Facts) -> str:
    """Why a column is no feature, "" when it is one."""
    if facts.present == 0:
        return "it is empty"
    if facts.distinct == 1 and facts.present == len(column):
        return f"it is constant ({column.texts()[0]!r})"
    if column.kind == "number":
        return _row_number(column, facts)
    unique = facts.distinct >= IDENTIFIER_SHARE * facts.present and facts.present >= IDENTIFIER_ROWS
    if column.kind == "category" and unique:
        return f"it looks like an identifier ({facts.distinct:,} distinct values in {facts.present:,} rows)"
    return ""


def _row_number(column: Column, facts: _Facts) -> str:
    """Whole numbers that are all different: an identifier when they count the rows or when the name says so."""
    if facts.present < IDENTIFIER_ROWS or facts.distinct < facts.present or column.missing.any():
        return ""
    values = column.values
    if not (values == np.floor(values)).all():
        return ""
    counts_rows = bool((np.diff(values) == 1).all()) or bool((np.diff(values) == -1).all())
    if counts_rows:
        return "it numbers the rows"
    if _ID_NAME.search(column.name):
        return f"it looks like an identifier ({facts.distinct:,} distinct whole numbers)"
    return ""


def _no_features(table: Table, target: str, dropped: Mapping[str, str]) -> DataError:
    if len(table.names) == 1:
        return DataError(f"{table.source!r} has no column beside the target {target!r}", hint="add feature columns")
    reasons = "; ".join(f"{name}: {why}" for name, why in list(dropped.items())[:5])
    return DataError(f"no column of {table.source!r} can be learnt from: {reasons}", hint="add feature columns")


def _repeats(table: Table, features: list[str], target: str) -> tuple[int, int]:
    """Rows that repeat features and target, and rows whose features also come with another target."""
    _, codes = np.unique(row_keys(table, features), return_inverse=True)
    _, answers = np.unique(row_keys(table, [target]), return_inverse=True)
    pairs, first = np.unique(np.stack([codes, answers], axis=1), axis=0, return_index=True)
    several = np.bincount(pairs[:, 0]) > 1
    return table.n_rows - len(first), int(several[codes].sum())


def _repeat_warnings(duplicates: int, conflicting: int) -> list[str]:
    out = []
    if duplicates:
        out.append(f"{duplicates:,} rows repeat an earlier row; equal rows stay in one part of the split")
    if conflicting:
        out.append(f"{conflicting:,} rows have equal features and different targets; no model can tell them apart")
    return out


def _target_warnings(column: Column, coding: TargetEncoder, y: np.ndarray) -> list[str]:
    out = []
    gone = int(column.missing.sum())
    if gone:
        out.append(f"target {column.name!r} is missing in {gone:,} rows, which are left out")
    if coding.is_classification:
        counts = np.bincount(y, minlength=len(coding.classes))
        for label, count in zip(coding.classes, counts.tolist(), strict=True):
            if count < RARE_CLASS_ROWS:
                out.append(f"class {label!r} has {count} rows only")
        if column.kind == "number" and len(coding.classes) > 2:
            out.append(f"target {column.name!r} is read as {len(coding.classes)} classes, not as a number")
    return out


def _gaps(table: Table, features: list[str]) -> list[str]:
    shares = {name: float(table[name].missing.mean()) for name in features}
    return [
        f"column {name!r} is missing in {share:.0%} of the rows"
        for name, share in shares.items()
        if share > MISSING_SHARE
    ]


def _column(
    column: Column, facts: _Facts, target: str, dropped: Mapping[str, str], notes: Mapping[str, str]
) -> ColumnProfile:
    role = "target" if column.name == target else "dropped" if column.name in dropped else "feature"
    share = float(column.missing.mean())
    return ColumnProfile(column.name, column.kind, role, facts.distinct, share, notes.get(column.name, ""))

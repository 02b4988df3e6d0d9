"""PROTECT: tasks that a new production model must not make worse.

A new model can only hurt a protected task that it could answer itself: one with its feature columns and classes. It
then answers the items of that task's production model, except those that it has learnt from, and the gate compares
both item by item. Tasks that it cannot answer are untouched by it; that is said, not assumed in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexandra.errors import AbstainError, NotFoundError, TaskError
from alexandra.lang.conditions import Reason
from alexandra.lang.task import parse_task
from alexandra.records import Outcomes
from alexandra.registry.artifact import ModelVersion
from alexandra.registry.store import Registry
from alexandra.statistics import take
from alexandra.train.curriculum_specialist import CurriculumSpecialist
from alexandra.train.evaluate import outcomes_of
from alexandra.train.kinds import load_table, prepare
from alexandra.train.specialist import Specialist

FEWEST_ITEMS = 30


@dataclass(frozen=True)
class Protection:
    """`pairs` task -> (before, after) for the gate; `trouble` what could not be compared; `notes` what is untouched."""

    pairs: dict[str, tuple[Outcomes, Outcomes]]
    trouble: tuple[Reason, ...]
    notes: tuple[str, ...]


def refuse_unknown(registry: Registry, names: Sequence[str]) -> None:
    """TaskError before training when a protected task has nothing in production."""
    for name in names:
        try:
            registry.get(f"{name}@production")
        except (NotFoundError, AbstainError) as error:
            raise TaskError(f"PROTECT names {name!r}: {error.message}", hint=error.hint) from error


def protect(registry: Registry, names: Sequence[str], specialist: Specialist | CurriculumSpecialist) -> Protection:
    """Compare `specialist` with the production model of every protected task that it could answer."""
    pairs: dict[str, tuple[Outcomes, Outcomes]] = {}
    trouble: list[Reason] = []
    notes: list[str] = []
    for name in names:
        found = _compare(registry, registry.get(f"{name}@production"), specialist)
        if isinstance(found, str):
            notes.append(f"protected task {name} is untouched: {found}")
        elif isinstance(found, Reason):
            trouble.append(found)
        else:
            pairs[name] = found
    return Protection(pairs, tuple(trouble), tuple(notes))


def _compare(
    registry: Registry, version: ModelVersion, specialist: Specialist | CurriculumSpecialist
) -> tuple[Outcomes, Outcomes] | Reason | str:
    """Outcomes before and after; a Reason when they cannot be had; words when the model cannot answer the task."""
    before = registry.scorecard(version).outcomes
    if set(before.classes) != set(specialist.classes):
        return "it has other classes"
    task = parse_task(str(version.lineage.get("task", "")), f"<task of {version.ref}>")
    title = f"PROTECT {version.task}"
    if task.data.kind == "frame":
        return Reason(title, None, "its table was in memory when it was solved and is not at hand")
    data = prepare(task, load_table(task, Path(str(version.lineage["folder"]))), keep_leaks=True)
    if not set(specialist.encoder.features) <= set(data.table.names):
        return "it has other columns"
    known = np.isin(data.keys, before.keys)
    fresh = ~specialist.learnt_from(specialist.keys(data.table))
    rows = np.flatnonzero(known & fresh)
    if len(rows) < FEWEST_ITEMS:
        return Reason(title, None, f"only {len(rows)} of its items were not among the new model's training rows")
    raw = specialist.predict_raw(data.table.take(rows))
    if specialist.classes:
        raw = raw[:, [specialist.classes.index(label) for label in data.target.classes]]
    after = outcomes_of(data, rows, raw)
    return take(before, np.flatnonzero(np.isin(before.keys, after.keys))), after

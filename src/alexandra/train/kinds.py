"""What differs between kinds of task data, in one table: read, prepare, candidates, baselines, making, explaining.

Everything else in solve (cross-fitting, measuring, choosing, checking, registering, the gate) is the same for all of
them. To add a kind, add its row; a source that has none is a table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from alexandra.lang.task_spec import Task
from alexandra.tables import Table
from alexandra.train import curriculum_baselines, curriculum_explain, curriculum_task
from alexandra.train import prepare as tables
from alexandra.train.baselines import Baseline, baselines
from alexandra.train.candidates import Candidate, candidates
from alexandra.train.crossfit import TABLES, Maker, Settings, fit_graph
from alexandra.train.explain import Explanation, explain
from alexandra.train.prepare import Prepared


class Prepare(Protocol):
    """Check and divide the data of a task."""

    def __call__(self, task: Task, table: Table, *, keep_leaks: bool = False) -> Prepared: ...


@dataclass(frozen=True)
class Kind:
    """A row: every step of solve that knows the kind of data."""

    load_table: Callable[[Task, Path], Table]
    prepare: Prepare
    candidates: Callable[[Prepared], list[Candidate]]
    baselines: Callable[[Prepared], list[Baseline]]
    maker: Maker
    explain: Callable[[Prepared, Candidate, Settings], Explanation]


def _table_candidates(data: Prepared) -> list[Candidate]:
    """The networks of the task; TaskError for one whose output cannot carry the target."""
    task = data.task
    found = candidates(task, Path(task.folder), classification=data.classification, rows=data.table.n_rows)
    for candidate in found:
        fit_graph(candidate.graph, 1, len(data.target.classes))
    return found


TABLE = Kind(
    tables.load_table, tables.prepare, _table_candidates, lambda data: baselines(data.classification), TABLES, explain
)
CURRICULUM = Kind(
    curriculum_task.load_table,
    curriculum_task.prepare,
    curriculum_task.candidates,
    curriculum_baselines.baselines,
    Maker(curriculum_task.encode, curriculum_task.train, curriculum_task.finish),
    curriculum_explain.explain,
)
KINDS = {"curriculum": CURRICULUM}


def kind_of(task: Task) -> Kind:
    """The row of the task's data source."""
    return KINDS.get(task.data.kind, TABLE)


def load_table(task: Task, folder: Path) -> Table:
    """The task's data as a table; paths are relative to `folder`, the task file's."""
    return kind_of(task).load_table(task, folder)


def prepare(task: Task, table: Table, *, keep_leaks: bool = False) -> Prepared:
    """Check and divide the data of `task`; DataError or TaskError says what is wrong and the way out."""
    return kind_of(task).prepare(task, table, keep_leaks=keep_leaks)

"""The facts of all versions of a task as NumPy columns, for rules that rank thousands at once.

Two indexed queries read the narrow rows and the named metrics; the result stays good until the registry's count
of transactions moves. The index tables carry no checksums, so the versions that are chosen in the end are read
whole and compared with what the columns said.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, select

from alexandra.errors import StorageError
from alexandra.registry.artifact import STAGES, ModelVersion, higher_is_better
from alexandra.registry.rows import index_rows, versions_of
from alexandra.registry.schema import HEAD, METRICS, VERSIONS, select_rows

_NARROW = (
    "id",
    "version",
    "stage",
    "created",
    "metric",
    "role",
    "samples",
    "parameters",
    "size_bytes",
    "latency_p95",
    "tags",
)
_NUMBERS = {"samples": "samples", "parameters": "parameters", "size": "size_bytes", "latency_p95": "latency_p95"}
_HEADLINE = ("metric", "accepted")
_NARROW_FACTS = frozenset({*_NUMBERS, *_HEADLINE, "stage", "role", "age"})


@dataclass(frozen=True)
class Candidates:
    """Every version of `task`, oldest first; row i of each array is one version.

    `measured` holds metrics [n, 3] (value, low, high) by name, NaN where a version does not have one.
    """

    task: str
    sequence: int
    headline: str
    tags: tuple[str, ...]
    narrow: Mapping[str, np.ndarray]
    measured: Mapping[str, np.ndarray]

    def in_stages(self, stages: Sequence[str]) -> np.ndarray:
        """Positions of the versions in these stages."""
        codes = [STAGES.index(stage) for stage in stages]
        return np.flatnonzero(np.isin(self.narrow["stage"], codes))

    def columns(self, rows: np.ndarray, judged_as: str | None) -> dict[str, np.ndarray | str]:
        """Columns as lang/ranking.py takes them, of the versions at `rows`; `judged_as` replaces their stage."""
        stage = np.array(STAGES)[self.narrow["stage"][rows]]
        out: dict[str, np.ndarray | str] = {
            "stage": np.full(len(rows), judged_as) if judged_as else stage,
            "role": self.narrow["role"][rows],
            "age": np.maximum(0.0, time.time() - self.narrow["created"][rows]),
            "metric_name": self.headline,
        }
        out |= {fact: self.narrow[column][rows] for fact, column in _NUMBERS.items()}
        for name, values in self.measured.items():
            out[name] = values[rows]
        out |= dict.fromkeys(_HEADLINE, self._improving(rows))
        out |= self._tag_columns(rows)
        return out

    def _improving(self, rows: np.ndarray) -> np.ndarray:
        """The task's metric turned so that more is better; NaN for versions that were measured in another one."""
        values = self.measured[self.headline][rows].copy()
        values[self.narrow["metric"][rows] != self.headline] = np.nan
        return np.asarray(values if higher_is_better(self.headline) else -values[:, [0, 2, 1]])

    def _tag_columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        texts = self.narrow["tags"][rows]
        owned = {found: frozenset(json.loads(str(found))) for found in set(texts.tolist())}
        return {
            f"tag:{tag}": np.array([tag in owned[found] for found in texts.tolist()], dtype=bool)
            for tag in sorted(frozenset().union(*owned.values()))
        }

    def versions(self, connection: Connection, rows: np.ndarray) -> tuple[ModelVersion, ...]:
        """The versions at `rows`, whole; StorageError when an index disagrees with a document."""
        keys = [int(key) for key in self.narrow["id"][rows]]
        found = {row["id"]: row for row in select_rows(connection, VERSIONS, VERSIONS.c.id.in_(keys))}
        if len(found) != len(keys):
            raise StorageError(f"versions of task {self.task!r} were lost between two reads")
        versions = versions_of(connection, [found[key] for key in keys])
        for row, version in zip(rows, versions, strict=True):
            self._compare(int(row), version)
        return tuple(versions)

    def _compare(self, row: int, version: ModelVersion) -> None:
        for name, values in self.measured.items():
            said = version.metrics.get(name)
            kept = index_rows(0, [[name, said.value, said.low, said.high, said.n]])[0] if said else {}
            expected = [np.nan if kept.get(key) is None else kept[key] for key in ("value", "low", "high")]
            if not np.array_equal(values[row], np.array(expected, dtype=np.float64), equal_nan=True):
                raise StorageError(f"the index of {name!r} does not match the document of {version.ref}")


def read_candidates(
    connection: Connection, task: str, facts: Sequence[str], kept: Candidates | None = None
) -> Candidates:
    """The versions of `task` with the metrics among `facts`; `kept` is returned when nothing was written since."""
    sequence = int(select_rows(connection, HEAD)[0]["sequence"])
    if kept is not None and kept.sequence == sequence:
        return kept
    of_task = VERSIONS.c.task == task
    rows = _fetch(
        connection, select(*(VERSIONS.c[name] for name in _NARROW)).where(of_task).order_by(VERSIONS.c.version)
    )
    narrow = _columns(rows)
    headline = str(narrow["metric"][-1]) if rows else ""
    names = sorted({*facts, headline} - _NARROW_FACTS)
    query = (
        select(METRICS.c.name, METRICS.c.id, METRICS.c.value, METRICS.c.low, METRICS.c.high)
        .join(VERSIONS, VERSIONS.c.id == METRICS.c.id)
        .where(of_task, METRICS.c.name.in_(names))
    )
    measured = _measured(_fetch(connection, query), names, narrow["id"])
    tags = tuple(json.loads(str(narrow["tags"][-1]))) if rows else ()
    return Candidates(task, sequence, headline, tags, narrow, measured)


def _fetch(connection: Connection, query: Select[Any]) -> list[tuple[Any, ...]]:
    """All rows as the driver gives them: building a Row object for each costs as much as reading it."""
    cursor = connection.execute(query).cursor
    assert cursor is not None
    return list(cursor.fetchall())


def _columns(rows: list[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    columns = dict(zip(_NARROW, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(_NARROW, ())
    out: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if name == "stage":
            codes = {stage: code for code, stage in enumerate(STAGES)}
            out[name] = np.array([codes[value] for value in values], dtype=np.int64)
        elif name in ("metric", "role", "tags"):
            out[name] = np.array(values, dtype=np.str_)
        elif name in ("id", "version"):
            out[name] = np.array(values, dtype=np.int64)
        else:
            out[name] = np.array(values, dtype=np.float64)
    return out


def _measured(rows: list[tuple[Any, ...]], names: Sequence[str], ids: np.ndarray) -> dict[str, np.ndarray]:
    """Metric rows laid beside the versions they belong to."""
    out = {name: np.full((len(ids), 3), np.nan) for name in names}
    if rows:
        order = np.argsort(ids)
        of_row, keys, *bounds = zip(*rows, strict=True)
        places = order[np.searchsorted(ids, np.array(keys, dtype=np.int64), sorter=order)]
        values = np.array(bounds, dtype=np.float64).T
        which = np.array(of_row, dtype=np.str_)
        for name in names:
            mine = which == name
            out[name][places[mine]] = values[mine]
    return out

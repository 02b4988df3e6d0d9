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

# fact -> the column of `versions` that holds it
_NUMBERS = {
    "samples": "samples",
    "parameters": "parameters",
    "size": "size_bytes",
    "latency_p95": "latency_p95",
    "age": "created",
}
_TEXTS = {"role": "role"}
_HEADLINE = ("metric", "accepted")
_OF_VERSIONS = frozenset({*_NUMBERS, *_TEXTS, *_HEADLINE, "stage"})
MODEL_TAGS = "model_tags"  # asked for like a fact by rules with `model HAS`


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
        stage = np.full(len(rows), judged_as) if judged_as else np.array(STAGES)[self.narrow["stage"][rows]]
        out: dict[str, np.ndarray | str] = {"stage": stage, "metric_name": self.headline}
        for fact, column in {**_NUMBERS, **_TEXTS}.items():
            if column in self.narrow:
                out[fact] = self.narrow[column][rows]
        if "age" in out:
            out["age"] = np.maximum(0.0, time.time() - self.narrow["created"][rows])
        for name, values in self.measured.items():
            out[name] = values[rows]
        out |= dict.fromkeys(_HEADLINE, self._improving(rows))
        return out | (self._tag_columns(rows) if "tags" in self.narrow else {})

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
    """The versions of `task` with what `facts` names; `kept` is returned when nothing was written since."""
    sequence = int(select_rows(connection, HEAD)[0]["sequence"])
    if kept is not None and kept.sequence == sequence:
        return kept
    of_task = VERSIONS.c.task == task
    newest = select(VERSIONS.c.metric, VERSIONS.c.tags).where(of_task).order_by(VERSIONS.c.version.desc()).limit(1)
    headline, tags = next(iter(_fetch(connection, newest)), ("", "[]"))
    columns = ["id", "stage", "metric", *(column for fact, column in {**_NUMBERS, **_TEXTS}.items() if fact in facts)]
    columns += ["tags"] * (MODEL_TAGS in facts)
    query = select(*(VERSIONS.c[name] for name in columns)).where(of_task).order_by(VERSIONS.c.version)
    narrow = _columns(columns, _fetch(connection, query))
    names = sorted({*facts, headline} - _OF_VERSIONS - {MODEL_TAGS})
    measured = {name: _measured(connection, task, name, narrow["id"]) for name in names}
    return Candidates(task, sequence, headline, tuple(json.loads(tags)), narrow, measured)


def _fetch(connection: Connection, query: Select[Any]) -> list[tuple[Any, ...]]:
    """All rows as the driver gives them: building a Row object for each costs as much as reading it."""
    cursor = connection.execute(query).cursor
    assert cursor is not None
    return list(cursor.fetchall())


def _columns(names: Sequence[str], rows: list[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    out: dict[str, np.ndarray] = {}
    for name, values in zip(names, columns, strict=True):
        if name == "stage":
            codes = {stage: code for code, stage in enumerate(STAGES)}
            out[name] = np.array([codes[value] for value in values], dtype=np.int64)
        elif name in ("metric", "role", "tags"):
            out[name] = np.array(values, dtype=np.str_)
        else:
            out[name] = np.array(values, dtype=np.int64 if name == "id" else np.float64)
    return out


def _measured(connection: Connection, task: str, name: str, ids: np.ndarray) -> np.ndarray:
    """value, low, high [n, 3] of one metric, beside the versions; NaN where there is none."""
    out = np.full((len(ids), 3), np.nan)
    wanted = select(METRICS.c.id, METRICS.c.value, METRICS.c.low, METRICS.c.high)
    of_task = METRICS.c.id.in_(select(VERSIONS.c.id).where(VERSIONS.c.task == task))
    rows = _fetch(connection, wanted.where(METRICS.c.name == name, of_task))
    if rows:
        found = np.array(rows, dtype=np.float64)
        order = np.argsort(ids)
        out[order[np.searchsorted(ids, found[:, 0], sorter=order)]] = found[:, 1:]
    return out

"""What a version has served since its promotion: counters that QUARANTINE WHEN reads. Not audited, only added up."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection

from alexandra.errors import StorageError
from alexandra.records import Interval
from alexandra.registry.schema import SERVING, Row, select_rows, update
from alexandra.registry.scorecards import interval_of, interval_values


@dataclass(frozen=True)
class Serving:
    """`metric` is the task's metric as last measured on answered requests, None when it never was."""

    requests: int = 0
    failures: int = 0
    metric: Interval | None = None

    @property
    def failed(self) -> float | None:
        """The share of requests that failed, None before the first request."""
        return self.failures / self.requests if self.requests else None


def read_serving(connection: Connection, row: Row) -> Serving:
    return _serving(_row(connection, row))


def add_serving(
    connection: Connection, row: Row, requests: int, failures: int, metric: Interval | float | None
) -> Serving:
    """Add counts and replace the metric when one is given, in a write transaction."""
    old = _row(connection, row)
    text = old["metric"]
    if metric is not None:
        measured = metric if isinstance(metric, Interval) else Interval(float(metric), float(metric), float(metric))
        text = json.dumps(interval_values(measured))
    new = update(
        connection,
        SERVING,
        old,
        requests=old["requests"] + int(requests),
        failures=old["failures"] + int(failures),
        metric=text,
    )
    return _serving(new)


def reset_serving(connection: Connection, row: Row) -> None:
    """Count from zero: the version is promoted."""
    update(connection, SERVING, _row(connection, row), requests=0, failures=0, metric="")


def _row(connection: Connection, row: Row) -> Row:
    found = select_rows(connection, SERVING, SERVING.c.id == row["id"])
    if not found:
        raise StorageError(f"the serving counters of {row['task']}:{row['version']} are lost")
    return found[0]


def _serving(row: Row) -> Serving:
    metric = interval_of(json.loads(row["metric"])) if row["metric"] else None
    return Serving(row["requests"], row["failures"], metric)

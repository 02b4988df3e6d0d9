"""From rows to records: a ModelVersion out of its row, its document and its aliases."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from alexandra.errors import StorageError
from alexandra.registry.artifact import ModelVersion, iso_time
from alexandra.registry.schema import ALIASES, DOCUMENTS, Row, select_rows
from alexandra.registry.scorecards import interval_of

_CHUNK = 500  # keys per query; every database takes that many


def versions_of(connection: Connection, rows: Sequence[Row]) -> list[ModelVersion]:
    """One ModelVersion per row, in order; StorageError when a row has no document."""
    documents: dict[int, str] = {}
    aliases: dict[int, list[str]] = {}
    for keys in _chunks([row["id"] for row in rows]):
        for found in select_rows(connection, DOCUMENTS, DOCUMENTS.c.id.in_(keys)):
            documents[found["id"]] = found["body"]
        for found in select_rows(connection, ALIASES, ALIASES.c.id.in_(keys)):
            aliases.setdefault(found["id"], []).append(found["alias"])
    return [_version(row, documents, tuple(aliases.get(row["id"], ()))) for row in rows]


def version_of(connection: Connection, row: Row) -> ModelVersion:
    return versions_of(connection, [row])[0]


def _chunks(keys: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


def _version(row: Row, documents: dict[int, str], aliases: tuple[str, ...]) -> ModelVersion:
    if row["id"] not in documents:
        raise StorageError(f"the document of {row['task']}:{row['version']} is lost")
    body = json.loads(documents[row["id"]])
    return ModelVersion(
        id=row["id"],
        task=row["task"],
        version=row["version"],
        name=row["name"],
        stage=row["stage"],
        created=iso_time(row["created"]),
        tags=tuple(json.loads(row["tags"])),
        metrics={name: interval_of(values) for name, *values in body["metrics"]},
        metric=row["metric"],
        samples=row["samples"],
        parameters=row["parameters"],
        size_bytes=row["size_bytes"],
        latency_p95=math.nan if row["latency_p95"] is None else row["latency_p95"],
        blobs=body["blobs"],
        scorecard=body["scorecard"],
        lineage=body["lineage"],
        aliases=aliases,
    )


def index_rows(key: int, metrics: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows of the index `metrics` for one version; what is not finite is NULL there."""
    rows = []
    for name, *values in metrics:
        bounds = [number if math.isfinite(number) else None for number in map(float, values[:3])]
        rows.append({"name": name, "id": key, "value": bounds[0], "low": bounds[1], "high": bounds[2], "n": values[3]})
    return rows

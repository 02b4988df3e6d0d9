"""The tables of a registry, and the checksum that every row carries.

`versions` holds what changes (stage, tags) beside narrow facts, `documents` what never changes. `metrics` and
`labels` are indexes made from them: a hit is checked against its document before it is used. Rows are written
by `insert` and `update`, which seal them, and read by `select_rows`, which refuses a row whose checksum does
not match. This module opens no database (database.py does).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update
from sqlalchemy.sql import ColumnElement

from alexandra.errors import StorageError
from alexandra.storage import content_hash

SCHEMA_VERSION = 1
CHECKSUM = "checksum"

Row = dict[str, Any]

METADATA = MetaData()


class DamagedRow(StorageError):
    """A row that is not as it was written; database.py adds the name of the database."""


def _checksum() -> Column[str]:
    return Column(CHECKSUM, Text, nullable=False)


# One row: the schema's version, how many write transactions there were, the checksum of the last audit row.
HEAD = Table(
    "head",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("schema", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("audit", Text, nullable=False),
    _checksum(),
)

VERSIONS = Table(
    "versions",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("task", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("metric", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("parameters", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("latency_p95", Double),
    Column("tags", Text, nullable=False),
    Column("content", Text, nullable=False, unique=True),
    _checksum(),
)
Index("versions_of_task", VERSIONS.c.task, VERSIONS.c.version, unique=True)
Index("versions_by_stage", VERSIONS.c.stage, VERSIONS.c.task)
Index(
    "one_production_per_task",
    VERSIONS.c.task,
    unique=True,
    sqlite_where=VERSIONS.c.stage == "production",
    postgresql_where=VERSIONS.c.stage == "production",
)

DOCUMENTS = Table(
    "documents",
    METADATA,
    Column("id", Integer, ForeignKey("versions.id"), primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
    _checksum(),
)

METRICS = Table(
    "metrics",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("id", Integer, ForeignKey("versions.id"), primary_key=True, autoincrement=False),
    Column("value", Double),
    Column("low", Double),
    Column("high", Double),
    Column("n", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("metrics_by_value", METRICS.c.name, METRICS.c.value)

LABELS = Table(
    "labels",
    METADATA,
    Column("tag", Text, primary_key=True),
    Column("id", Integer, ForeignKey("versions.id"), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

ALIASES = Table(
    "aliases",
    METADATA,
    Column("task", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("id", Integer, ForeignKey("versions.id"), nullable=False),
    _checksum(),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("origin", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("previous", Text, nullable=False),
    _checksum(),
)
Index("audit_of_task", AUDIT.c.task, AUDIT.c.id)

SERVING = Table(
    "serving",
    METADATA,
    Column("id", Integer, ForeignKey("versions.id"), primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("metric", Text, nullable=False),
    _checksum(),
)

CHECKED = tuple(table for table in METADATA.sorted_tables if CHECKSUM in table.c)

# SQLite only: elsewhere the server's own rights (no UPDATE, no DELETE on audit) say the same.
TRIGGERS = tuple(
    f"CREATE TRIGGER audit_refuses_{action.lower()} BEFORE {action} ON audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    for action in ("UPDATE", "DELETE")
)


def row_checksum(table: Table, values: Mapping[str, Any]) -> str:
    """SHA-256 over the table's name and every column but the checksum, the first 128 bits in hex."""
    body = [table.name, *(values[column.name] for column in table.c if column.name != CHECKSUM)]
    return content_hash(json.dumps(body, ensure_ascii=True).encode())[:32]


def insert(connection: Connection, table: Table, values: Row) -> Row:
    """Add one row, sealed; returns it as it was written."""
    row = dict(values)
    if table in CHECKED:
        row[CHECKSUM] = row_checksum(table, row)
    connection.execute(sql_insert(table), row)
    return row


def insert_index(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Add rows of an unsealed index table."""
    if rows:
        connection.execute(sql_insert(table), list(rows))


def update(connection: Connection, table: Table, row: Row, **changes: Any) -> Row:
    """Change a row that was read by `select_rows` (found again by its primary key) and seal it anew."""
    new = {**row, **changes}
    new[CHECKSUM] = row_checksum(table, new)
    key = [column == row[column.name] for column in table.primary_key.columns]
    connection.execute(sql_update(table).where(*key).values({name: new[name] for name in (*changes, CHECKSUM)}))
    return new


def select_rows(
    connection: Connection,
    table: Table,
    *where: ColumnElement[bool],
    order: Sequence[ColumnElement[Any]] = (),
    limit: int | None = None,
    offset: int = 0,
) -> list[Row]:
    """Rows as dicts, each verified; DamagedRow names the table and the key of a damaged one."""
    query = select(table).where(*where).order_by(*(order or table.primary_key.columns)).limit(limit)
    rows = [dict(found) for found in connection.execute(query.offset(offset or None)).mappings()]
    for row in rows:
        check_row(table, row)
    return rows


def check_row(table: Table, row: Row) -> None:
    """Refuse a row whose content does not match its checksum."""
    if table in CHECKED and row[CHECKSUM] != row_checksum(table, row):
        key = ", ".join(f"{column.name}={row[column.name]!r}" for column in table.primary_key.columns)
        raise DamagedRow(f"table {table.name!r}: the row {key} is damaged (its checksum does not match)")


def next_id(connection: Connection, table: Table) -> int:
    """The number of the next row; only inside a write transaction, where nobody else adds one."""
    return int(connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()) + 1

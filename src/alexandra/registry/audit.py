"""The audit log: append-only rows, each carrying the checksum of the one before.

Who did what to which version, from which stage to which, why, and on what evidence. SQLite refuses UPDATE and
DELETE on the table; the chain of checksums shows a row that was removed or changed by other means.
"""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection

from alexandra.registry.artifact import AuditEntry, iso_time
from alexandra.registry.schema import AUDIT, CHECKSUM, HEAD, Row, insert, next_id, select_rows, update


def default_actor() -> str:
    """The user's login name, or the number where there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def append(
    connection: Connection,
    actor: str,
    action: str,
    row: Row,
    *,
    target: str = "",
    reason: str = "",
    decision: Mapping[str, Any] | None = None,
) -> None:
    """Add one entry about the version `row` (its stage before the move is the origin), in a write transaction."""
    head = select_rows(connection, HEAD)[0]
    entry = insert(
        connection,
        AUDIT,
        {
            "id": next_id(connection, AUDIT),
            "time": iso_time(time.time()),
            "actor": printable(actor),
            "action": action,
            "task": row["task"],
            "version": row["version"],
            "origin": "" if action == "register" else row["stage"],
            "target": target,
            "reason": printable(reason),
            "decision": json.dumps(dict(decision or {}), sort_keys=True),
            "previous": head["audit"],
        },
    )
    update(connection, HEAD, head, audit=entry[CHECKSUM])


def entries(connection: Connection, task: str = "") -> list[AuditEntry]:
    """Oldest first; of one task or of all."""
    where = [AUDIT.c.task == task] if task else []
    names = [field.name for field in fields(AuditEntry) if field.name != "decision"]
    return [
        AuditEntry(decision=json.loads(row["decision"]), **{name: row[name] for name in names})
        for row in select_rows(connection, AUDIT, *where)
    ]


def printable(text: str) -> str:
    """One line without control characters, which a terminal or a database may not take."""
    return "".join(char if char.isprintable() else " " for char in text).strip()

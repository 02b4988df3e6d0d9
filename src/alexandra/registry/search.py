"""Conjunctive search: every criterion that is given must hold, newest version first.

The database finds by its indexes; every hit is then held against its own document, so that a damaged index is
an error and not a wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, select
from sqlalchemy.sql import ColumnElement

from alexandra.errors import RegistryError, StorageError
from alexandra.registry.artifact import ModelVersion
from alexandra.registry.rows import versions_of
from alexandra.registry.schema import LABELS, METRICS, VERSIONS, select_rows

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Criteria:
    """None and empty mean "any"; tags must all be there; metrics map a name to (least, most) of the value."""

    task: str | None = None
    name: str | None = None
    stage: str | None = None
    tags: tuple[str, ...] = ()
    metrics: Mapping[str, Bounds] = field(default_factory=dict)

    def conditions(self) -> list[ColumnElement[bool]]:
        wanted = {"task": self.task, "name": self.name, "stage": self.stage}
        out: list[ColumnElement[bool]] = [
            VERSIONS.c[key] == value for key, value in wanted.items() if value is not None
        ]
        for tag in self.tags:
            out.append(VERSIONS.c.id.in_(select(LABELS.c.id).where(LABELS.c.tag == tag)))
        for name, (least, most) in self.metrics.items():
            inside = [METRICS.c.name == name, METRICS.c.value.is_not(None)]
            inside += [METRICS.c.value >= least] if least is not None else []
            inside += [METRICS.c.value <= most] if most is not None else []
            out.append(VERSIONS.c.id.in_(select(METRICS.c.id).where(*inside)))
        return out

    def holds_for(self, version: ModelVersion) -> bool:
        """The same on the version's own document."""
        for name, (least, most) in self.metrics.items():
            value = version.metrics[name].value if name in version.metrics else float("nan")
            if not ((least is None or value >= least) and (most is None or value <= most) and value == value):
                return False
        return set(self.tags) <= set(version.tags)


def find(connection: Connection, criteria: Criteria, limit: int | None, offset: int) -> list[ModelVersion]:
    """Versions that meet all criteria, the one registered last first."""
    if (limit is not None and limit < 0) or offset < 0:
        raise RegistryError(f"limit and offset count versions from 0 up, got limit={limit}, offset={offset}")
    newest = [VERSIONS.c.id.desc()]
    rows = select_rows(connection, VERSIONS, *criteria.conditions(), order=newest, limit=limit, offset=offset)
    found = versions_of(connection, rows)
    for version in found:
        if not criteria.holds_for(version):
            raise StorageError(f"the search index of {version.ref} does not match its document")
    return found

"""The registry: immutable, numbered versions of specialists with their files, measurements, lineage and history.

`Registry(folder)` keeps registry.db and objects/ in a folder; a SQLAlchemy URL with a folder for the objects
works too. Many processes may use one registry at once, and a crash at any moment leaves it whole. Files and
rows are checked before they are handed out. Moving between stages is lifecycle.py's, choosing is oracle.py's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, delete, func, select

from alexandra.errors import AbstainError, NotFoundError, RegistryError, StorageError, suggest
from alexandra.records import EMPTY, Interval, Scorecard
from alexandra.registry import audit, scorecards
from alexandra.registry.artifact import (
    LATEST,
    STAGES,
    AuditEntry,
    ModelVersion,
    Ref,
    check_alias,
    check_file,
    check_name,
    check_stage,
    check_tags,
    check_task,
    content_key,
    improving,
    parse_ref,
)
from alexandra.registry.database import Database, parse_url
from alexandra.registry.objects import ObjectStore
from alexandra.registry.rows import index_rows, version_of, versions_of
from alexandra.registry.schema import (
    ALIASES,
    DOCUMENTS,
    LABELS,
    METRICS,
    SERVING,
    VERSIONS,
    Row,
    insert,
    insert_index,
    next_id,
    select_rows,
    update,
)
from alexandra.registry.search import Bounds, Criteria, find
from alexandra.registry.serving import Serving, add_serving, read_serving
from alexandra.storage import content_hash

DAY_SECONDS = 86_400.0
_REGISTER_STAGES = ("experiment", "quarantine", "archived")


class Registry:
    """One registry; cheap to open, safe to share between threads and across fork."""

    def __init__(self, location: str | Path, *, objects: str | Path | None = None, actor: str = "") -> None:
        """`location`: a folder (made when first written) or a database URL, which needs `objects`, a folder."""
        if "://" in str(location):
            url = parse_url(str(location))
            if objects is None:
                raise RegistryError(
                    "a registry in a database needs a folder for its files",
                    hint="Registry(url, objects='/shared/alexandra/objects')",
                )
            source = url.render_as_string(hide_password=True)
        else:
            folder = Path(location).expanduser()
            url = URL.create("sqlite", database=str(folder.absolute() / "registry.db"))
            source = str(folder / "registry.db")
            objects = objects or folder / "objects"
        self.location = source
        self.actor = actor or audit.default_actor()
        self.database = Database(url, source)
        self.objects = ObjectStore(Path(objects).expanduser().absolute())

    # ------------------------------------------------------------ writing

    def register(
        self,
        task: str,
        name: str,
        blob_files: Mapping[str, bytes],
        scorecard: Scorecard,
        lineage: Mapping[str, Any] = EMPTY,
        *,
        stage: str = "experiment",
        tags: Iterable[str] = (),
    ) -> ModelVersion:
        """The new version of `task`; the existing one when its files, task and name are the same.

        The task's own metric is `lineage["metric"]`, or the scorecard's first. Files are on the disk before the
        row that names them is committed.
        """
        check_task(task), check_name(name)
        tags = check_tags(tags)
        if stage not in _REGISTER_STAGES:
            check_stage(stage)
            raise RegistryError("a model enters production through its gate", hint="register it, then promote it")
        if not blob_files:
            raise RegistryError(f"{task}: model {name!r} has no files")
        metric = _headline(task, scorecard, lineage)
        blobs = {check_file(file): self.objects.put(blob_files[file]) for file in sorted(blob_files)}
        content = content_key(task, name, blobs)
        existing = self._by_content(content)
        if existing is not None:
            return existing
        encoded = scorecards.encode(scorecard)
        card = {file: self.objects.put(data) for file, data in encoded.items()}
        body = {"blobs": blobs, "scorecard": card, "metrics": _metric_rows(scorecard), "lineage": dict(lineage)}
        row = {
            "task": task,
            "name": name,
            "stage": stage,
            "created": time.time(),
            "metric": metric,
            "role": str(lineage.get("role") or ""),
            "samples": int(scorecard.n),
            "parameters": int(scorecard.parameters),
            "size_bytes": sum(len(data) for data in blob_files.values()),
            "latency_p95": float(scorecard.latency_p95_seconds) or None,
            "tags": json.dumps(tags),
            "content": content,
        }
        document = _json(body, f"{task}: the lineage of {name!r}")
        with self.database.write() as connection:
            found = select_rows(connection, VERSIONS, VERSIONS.c.content == content)
            if not found:
                self._put_again([*blob_files.values(), *encoded.values()])
                found = [_insert_version(connection, row, document)]
                audit.append(connection, self.actor, "register", found[0], target=stage)
            return version_of(connection, found[0])

    def _by_content(self, content: str) -> ModelVersion | None:
        with self.database.read() as connection:
            found = select_rows(connection, VERSIONS, VERSIONS.c.content == content)
            return version_of(connection, found[0]) if found else None

    def _put_again(self, files: Iterable[bytes]) -> None:
        """Objects that a sweep took between `put` and the transaction."""
        for data in files:
            if not self.objects.has(content_hash(data)):
                self.objects.put(data)

    def add_tags(self, ref: str | ModelVersion, *tags: str) -> ModelVersion:
        """Tag a version; tags it has already stay as they are."""
        return self._set_tags(ref, lambda old: (*old, *check_tags(tags)), "tag")

    def remove_tags(self, ref: str | ModelVersion, *tags: str) -> ModelVersion:
        """Take tags off a version; those it does not have are an error."""
        gone = check_tags(tags)

        def without(old: Sequence[str]) -> tuple[str, ...]:
            for tag in gone:
                if tag not in old:
                    raise NotFoundError(f"the version has no tag {tag!r}", hint=suggest(tag, old))
            return tuple(tag for tag in old if tag not in gone)

        return self._set_tags(ref, without, "untag")

    def _set_tags(self, ref: str | ModelVersion, change: Any, action: str) -> ModelVersion:
        with self.database.write() as connection:
            row = self.row_of(connection, ref)
            new = check_tags(change(json.loads(row["tags"])))
            audit.append(connection, self.actor, action, row, target=row["stage"], reason=" ".join(new))
            row = update(connection, VERSIONS, row, tags=json.dumps(new))
            connection.execute(delete(LABELS).where(LABELS.c.id == row["id"]))
            insert_index(connection, LABELS, [{"tag": tag, "id": row["id"]} for tag in new])
            return version_of(connection, row)

    def set_alias(self, ref: str | ModelVersion, alias: str) -> ModelVersion:
        """Let task@alias name this version; an alias that exists moves."""
        check_alias(alias)
        with self.database.write() as connection:
            row = self.row_of(connection, ref)
            old = select_rows(connection, ALIASES, ALIASES.c.task == row["task"], ALIASES.c.alias == alias)
            if old:
                update(connection, ALIASES, old[0], id=row["id"])
            else:
                insert(connection, ALIASES, {"task": row["task"], "alias": alias, "id": row["id"]})
            audit.append(connection, self.actor, "alias", row, target=row["stage"], reason=alias)
            return version_of(connection, row)

    def remove_alias(self, task: str, alias: str) -> None:
        """Forget task@alias; the version stays."""
        with self.database.write() as connection:
            row = self.row_of(connection, f"{task}@{alias}")
            if alias in STAGES:
                raise RegistryError(f"{alias!r} is a stage, not an alias")
            connection.execute(delete(ALIASES).where(ALIASES.c.task == task, ALIASES.c.alias == alias))
            audit.append(connection, self.actor, "unalias", row, target=row["stage"], reason=alias)

    def record(
        self, ref: str | ModelVersion, requests: int, failures: int = 0, metric: Interval | float | None = None
    ) -> Serving:
        """Add to what a version has served; `metric` is the task's metric as last measured on answered requests."""
        if not 0 <= failures <= requests:
            raise RegistryError(f"{failures} failures of {requests} requests cannot be")
        with self.database.write() as connection:
            return add_serving(connection, self.row_of(connection, ref), requests, failures, metric)

    # ------------------------------------------------------------ reading

    def get(self, ref: str) -> ModelVersion:
        """The version that `ref` names (artifact.py has the grammar).

        A task alone, or task@production, is an AbstainError when nothing is in production: it names the best
        experiment. What does not exist is a NotFoundError with a suggestion.
        """
        with self.database.read() as connection:
            return version_of(connection, self.row_of(connection, ref))

    def search(
        self,
        *,
        task: str | None = None,
        name: str | None = None,
        stage: str | None = None,
        tags: Iterable[str] = (),
        metrics: Mapping[str, Bounds] = EMPTY,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[ModelVersion]:
        """Versions that meet every criterion given, newest first.

        `metrics` maps a name to (least, most) for the measured value, None for an open end.
        """
        criteria = Criteria(task, name, check_stage(stage) if stage else None, check_tags(tags), dict(metrics))
        with self.database.read() as connection:
            return find(connection, criteria, limit, offset)

    def versions(self, task: str) -> list[ModelVersion]:
        """Every version of a task, oldest first; NotFoundError for an unknown task."""
        with self.database.read() as connection:
            rows = select_rows(connection, VERSIONS, VERSIONS.c.task == task, order=[VERSIONS.c.version])
            return versions_of(connection, rows or [self._unknown(connection, task)])

    def tasks(self) -> list[str]:
        """The names of all tasks, sorted."""
        with self.database.read() as connection:
            return _tasks(connection)

    def history(self, task: str = "") -> list[AuditEntry]:
        """The audit log of a task, or of all, oldest first."""
        with self.database.read() as connection:
            found = audit.entries(connection, task)
            if task and not found:
                self._unknown(connection, task)
            return found

    def blobs(self, ref: str | ModelVersion) -> dict[str, bytes]:
        """The files of a version by name, each checked against its hash."""
        version = self._version(ref)
        return {name: self.objects.get(digest, f"{version.ref} {name}") for name, digest in version.blobs.items()}

    def scorecard(self, ref: str | ModelVersion) -> Scorecard:
        """What was measured of a version, with the outcome of every item."""
        version = self._version(ref)
        files = {name: self.objects.get(digest, f"{version.ref} {name}") for name, digest in version.scorecard.items()}
        return scorecards.decode(files, version.ref)

    def served(self, ref: str | ModelVersion) -> Serving:
        """What a version has served since its promotion."""
        with self.database.read() as connection:
            return read_serving(connection, self.row_of(connection, ref))

    def _version(self, ref: str | ModelVersion) -> ModelVersion:
        return ref if isinstance(ref, ModelVersion) else self.get(ref)

    # ------------------------------------------------------------ looking after it

    def verify(self) -> list[str]:
        """Read and check everything: database, rows, history, every object. One sentence per fault; empty is well."""
        try:
            faults = self.database.deep_check()
            versions = self.search() if not faults else []
        except StorageError as error:
            return [error.message]
        for version in versions:
            for name, digest in {**version.blobs, **version.scorecard}.items():
                try:
                    self.objects.get(digest, f"{version.ref} {name}")
                except StorageError as error:
                    faults.append(error.message)
        return faults

    def gc(self, older_than_seconds: float = DAY_SECONDS) -> list[str]:
        """Delete objects that no version names and that are older than a day; returns their names."""
        with self.database.write() as connection:
            keep: set[str] = set()
            for row in select_rows(connection, DOCUMENTS):
                body = json.loads(row["body"])
                keep |= {*body["blobs"].values(), *body["scorecard"].values()}
            return self.objects.sweep(keep, older_than_seconds)

    # ------------------------------------------------------------ refs

    def row_of(self, connection: Connection, ref: str | ModelVersion) -> Row:
        """The row of `versions` that a ref names, inside the caller's transaction."""
        if isinstance(ref, ModelVersion):
            found = select_rows(connection, VERSIONS, VERSIONS.c.id == ref.id, VERSIONS.c.content == _content(ref))
            return found[0] if found else self._unknown(connection, ref.task, ref.ref)
        parsed = parse_ref(ref)
        if parsed.pointer in ("", "production") and parsed.version is None and not parsed.name:
            return self._production(connection, parsed.task)
        found = self._candidates(connection, parsed)
        return found[0] if found else self._unknown(connection, parsed.task, ref)

    def _production(self, connection: Connection, task: str) -> Row:
        of_task = VERSIONS.c.task == task
        found = select_rows(connection, VERSIONS, of_task, VERSIONS.c.stage == "production")
        if found:
            return found[0]
        message = f"no model of task {task!r} is in production"
        raise AbstainError(message, hint=self.way_out(connection, task))

    def way_out(self, connection: Connection, task: str) -> str:
        """What to do about a task without production: its best experiment. NotFoundError for an unknown task."""
        rows = select_rows(connection, VERSIONS, VERSIONS.c.task == task)
        if not rows:
            self._unknown(connection, task)
        experiments = [row for row in rows if row["stage"] == "experiment"]
        if not experiments:
            return f"it has no experiment either; alexandra registry list --task {task} shows its {len(rows)} versions"
        best = max(versions_of(connection, experiments), key=_quality)
        return (
            f"best experiment: {best.ref} {best.name}, {best.metric} {best.headline}; use it as {best.ref} or with "
            f"--stage experiment, or promote it: alexandra registry promote {best.ref}"
        )

    def _candidates(self, connection: Connection, ref: Ref) -> list[Row]:
        where = [VERSIONS.c.task == ref.task]
        if ref.name:
            where.append(VERSIONS.c.name == ref.name)
        if isinstance(ref.version, int):
            where.append(VERSIONS.c.version == ref.version)
        elif ref.pointer in STAGES:
            where.append(VERSIONS.c.stage == ref.pointer)
        elif ref.pointer:
            alias = select_rows(connection, ALIASES, ALIASES.c.task == ref.task, ALIASES.c.alias == ref.pointer)
            where.append(VERSIONS.c.id.in_([row["id"] for row in alias]))
        return select_rows(connection, VERSIONS, *where, order=[VERSIONS.c.version.desc()], limit=1)

    def _unknown(self, connection: Connection, task: str, ref: str = "") -> Row:
        """NotFoundError: the task, or the version of it, does not exist."""
        rows = select_rows(connection, VERSIONS, VERSIONS.c.task == task)
        if not rows:
            tasks = _tasks(connection)
            hint = suggest(task, tasks) if tasks else "the registry is empty: solve a task first"
            raise NotFoundError(f"unknown task {task!r}", hint=hint)
        aliases = [row["alias"] for row in select_rows(connection, ALIASES, ALIASES.c.task == task)]
        known = [f"versions 1 to {len(rows)}", f"stages {', '.join(STAGES)}", LATEST]
        known += [f"aliases {', '.join(sorted(aliases))}"] * bool(aliases)
        known.append(f"names {', '.join(sorted({row['name'] for row in rows}))}")
        raise NotFoundError(f"no version is named {ref!r}", hint=f"{task} has " + "; ".join(known))


def _content(version: ModelVersion) -> str:
    return content_key(version.task, version.name, version.blobs)


def _quality(version: ModelVersion) -> float:
    value = improving(version.metric, version.headline).value
    return value if value == value else float("-inf")


def _tasks(connection: Connection) -> list[str]:
    return [str(name) for name in connection.execute(select(VERSIONS.c.task).distinct()).scalars()]


def _headline(task: str, card: Scorecard, lineage: Mapping[str, Any]) -> str:
    """The name of the task's own metric, which the scorecard must hold."""
    if card.task != task:
        raise RegistryError(f"the scorecard is of task {card.task!r}, not of {task!r}")
    if not card.metrics:
        raise RegistryError(f"{task}: the scorecard measures nothing", hint="register what was evaluated")
    metric = str(lineage.get("metric") or next(iter(card.metrics)))
    if metric not in card.metrics:
        raise RegistryError(f"{task}: the scorecard has no metric {metric!r}", hint=suggest(metric, card.metrics))
    return metric


def _metric_rows(card: Scorecard) -> list[list[Any]]:
    """[name, value, low, high, n] of every metric, then of the verdicts' facts that no metric has the name of."""
    measured: dict[str, Interval] = dict(card.metrics)
    for verdict in card.verdicts:
        for name, value in verdict.facts.items():
            measured.setdefault(name, value)
    return [[name, *scorecards.interval_values(value)] for name, value in measured.items()]


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RegistryError(f"{what} cannot be kept as JSON: {error}") from error


def _insert_version(connection: Connection, row: Row, document: str) -> Row:
    """Give the next number of the task to `row` and write it with its document and indexes."""
    last = select(func.coalesce(func.max(VERSIONS.c.version), 0)).where(VERSIONS.c.task == row["task"])
    number, key = int(connection.execute(last).scalar_one()) + 1, next_id(connection, VERSIONS)
    written = insert(connection, VERSIONS, {**row, "id": key, "version": number})
    insert(connection, DOCUMENTS, {"id": key, "body": document})
    insert_index(connection, METRICS, index_rows(key, json.loads(document)["metrics"]))
    insert_index(connection, LABELS, [{"tag": tag, "id": key} for tag in json.loads(row["tags"])])
    insert(connection, SERVING, {"id": key, "requests": 0, "failures": 0, "metric": ""})
    return written

"""A registry's database: who may read, who may write, and what is checked before either.

SQLite by default: write-ahead log, 30 s busy timeout, BEGIN IMMEDIATE for writes, foreign keys, a connection
per operation (safe across fork), and a seal (seal.py) that is compared whenever a file has changed. Any other
SQLAlchemy URL works too: there the server answers for its pages, the row that counts transactions serialises
the writers, and rows still carry their checksums. This module knows no registry operation.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from alexandra.errors import MissingExtraError, RegistryError, StorageError
from alexandra.registry.schema import (
    AUDIT,
    CHECKED,
    HEAD,
    METADATA,
    SCHEMA_VERSION,
    TRIGGERS,
    VERSIONS,
    DamagedRow,
    Row,
    insert,
    select_rows,
    update,
)
from alexandra.registry.seal import LOCK_SECONDS, Seal, Stamp, file_lock, image_hash, read_seal, stamp, write_seal
from alexandra.storage import content_hash, publish, read_bytes

_WRITING = "alexandra_writing"
_HEADER_VERSIONS = slice(18, 20)  # SQLite file format 1.3: the read and write version, 2 is the write-ahead log
_RESTORE = "restore the folder from a backup, or, if nothing else is left: alexandra.registry.database.reseal({!r})"

# SQLite's error by prefix -> what to do; any other means damage.
_WAYS_OUT = {
    "SQLITE_FULL": "free some space; what was there before is unchanged",
    "SQLITE_IOERR": "free some space or check the disk; what was there before is unchanged",
    "SQLITE_CANTOPEN": "check that the folder exists and may be written to",
    "SQLITE_READONLY": "check that the folder may be written to",
    "SQLITE_BUSY": "another program holds the database; end it and try again",
    "SQLITE_CONSTRAINT": "nothing was changed",
}


class Database:
    """Opens on first use; `folder` holds registry.db, or only the lock's neighbours for another server."""

    def __init__(self, url: URL, source: str) -> None:
        self.url = url
        self.source = source
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._engine = _engine(url)
        self._verified: Stamp | None = None
        self._ready = False

    @property
    def path(self) -> Path:
        assert self.is_sqlite and self.url.database
        return Path(self.url.database)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction on a database that matches its seal."""
        self._open()
        if self.is_sqlite and self._stamp() != self._verified:
            with self._lock(shared=True):
                self._verify()
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction, alone; all of it is durable when this returns, none of it after an exception."""
        self._open()
        if not self.is_sqlite:
            with self._translated(), self._engine.connect() as connection, connection.begin():
                connection.execute(text("UPDATE head SET sequence = sequence WHERE id = 1"))
                _count(connection)
                yield connection
            return
        with self._lock(shared=False):
            if self._stamp() != self._verified:
                self._verify()
            with self._translated(), self._engine.connect() as connection:
                connection.execution_options(**{_WRITING: True})
                with connection.begin():
                    _count(connection)
                    yield connection
                seal = self._image(connection)
            write_seal(self.seal_path, seal)
            self._verified = self._stamp()

    def image(self) -> Seal:
        """What a seal of the database as it is now would say."""
        with self._translated(), self._engine.connect() as connection:
            return self._image(connection)

    def deep_check(self) -> list[str]:
        """Every row against its checksum, the audit chain, SQLite's own structure; one sentence per fault."""
        self._open()
        with self._translated(), self._engine.connect() as connection, connection.begin():
            return _faults(connection)

    def reseal(self) -> list[str]:
        """Seal the database as it is now, unless a row is damaged; returns the faults."""
        with self._lock(shared=False):
            faults = self.deep_check()
            if not faults:
                write_seal(self.seal_path, self.image())
        return faults

    @property
    def seal_path(self) -> Path:
        return self.path.with_suffix(".seal")

    def _lock(self, *, shared: bool) -> Any:
        return file_lock(self.path.with_suffix(".lock"), shared=shared)

    def _stamp(self) -> Stamp:
        return stamp(self.path, self._log, self.seal_path)

    @property
    def _log(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def _open(self) -> None:
        """Create what is not there yet; refuse a schema of another version."""
        if self._ready:
            return
        if self.is_sqlite:
            self._create_sqlite()
        else:
            self._create_on_server()
        self._ready = True

    def _create_sqlite(self) -> None:
        if self.path.exists() and self.path.stat().st_size:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the folder {str(self.path.parent)!r}: {error.strerror}") from error
        with self._lock(shared=False):
            if self.path.exists() and self.path.stat().st_size:
                return
            if self.seal_path.exists() or self.path.exists():
                state = "empty" if self.path.exists() else "missing"
                raise StorageError(f"{str(self.path)!r} is {state}, but the registry was in use", hint=self._hint())
            publish(self.path, _empty_database())

    def _create_on_server(self) -> None:
        with self._translated():
            try:
                with self._engine.begin() as connection:
                    if not inspect(connection).has_table(HEAD.name):
                        METADATA.create_all(connection)
                        insert(connection, HEAD, _first_head())
            except DBAPIError:  # another process was faster
                if not inspect(self._engine).has_table(HEAD.name):
                    raise

    def _verify(self) -> None:
        """Compare the database with its seal; the caller holds the lock."""
        sealed = read_seal(self.seal_path)
        whole = stamp(self._log)[0] is None
        if whole and sealed is not None and content_hash(read_bytes(self.path)) == sealed.image:
            with self._translated(), self._engine.connect() as connection, connection.begin():
                _head(connection)
        else:
            self._look_closer(sealed)
        self._verified = self._stamp()

    def _look_closer(self, sealed: Seal | None) -> None:
        """The file is not what the seal says: a write-ahead log to be read, a writer that died, or damage."""
        with self._translated(), self._engine.connect() as connection:
            found = self._image(connection)
            if sealed is None and found.sequence > 0:
                raise StorageError(f"the seal {str(self.seal_path)!r} is missing", hint=self._hint())
            if sealed is not None and found.sequence < sealed.sequence:
                lost = sealed.sequence - found.sequence
                raise StorageError(f"{str(self.path)!r} has lost its last {lost} transactions", hint=self._hint())
            if sealed is not None and found.sequence == sealed.sequence and found.image != sealed.image:
                raise StorageError(f"{str(self.path)!r} is damaged: its bytes do not match its seal", hint=self._hint())
            if sealed is None or found.sequence > sealed.sequence:
                self._seal_after_crash(connection, found)

    def _seal_after_crash(self, connection: Connection, found: Seal) -> None:
        """A writer died between its commit and its seal: believe the rows if every one of them is whole."""
        with connection.begin():
            faults = _faults(connection)
        if faults:
            raise StorageError(f"{str(self.path)!r} is damaged: {faults[0]}", hint=self._hint())
        try:
            write_seal(self.seal_path, found)
        except StorageError:
            pass  # a full or read-only disk: reading may go on, the next writer seals

    def _image(self, connection: Connection) -> Seal:
        with connection.begin():
            sequence = int(_head(connection)["sequence"])
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            return Seal(sequence, image_hash(raw))

    def _hint(self) -> str:
        return _RESTORE.format(str(self.path.parent))

    def _way_out(self, error: BaseException | None) -> str:
        """What helps against a database's error: room, rights and patience, or a backup."""
        name = getattr(error, "sqlite_errorname", "")
        for prefix, hint in _WAYS_OUT.items():
            if name.startswith(prefix):
                return hint
        return self._hint() if self.is_sqlite else ""

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Database errors as StorageError that names the database."""
        try:
            yield
        except DamagedRow as error:
            raise StorageError(f"{self.source!r}: {error.message}", hint=self._way_out(None)) from error
        except DBAPIError as error:
            raise StorageError(f"{self.source!r}: {str(error.orig).strip()}", hint=self._way_out(error.orig)) from error
        except (SQLAlchemyError, sqlite3.Error, MemoryError, UnicodeDecodeError) as error:
            raise StorageError(f"{self.source!r} cannot be read: {error}", hint=self._way_out(None)) from error


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return create_engine(url, poolclass=NullPool)
        except NoSuchModuleError as error:
            raise RegistryError(f"unknown kind of database {url.drivername!r}") from error
        except ModuleNotFoundError as error:
            message = f"the database {url.drivername!r} needs the Python module {error.name!r}"
            raise MissingExtraError(message) from error
    file = Path(url.database or "").absolute().as_uri() + "?mode=rw"  # a missing file stays missing

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(file, uri=True, timeout=LOCK_SECONDS, check_same_thread=False)

    engine = create_engine("sqlite://", poolclass=NullPool, creator=connect)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(raw: sqlite3.Connection, record: object) -> None:
    raw.isolation_level = None  # transactions begin where _on_begin says so
    for pragma in ("foreign_keys=ON", "synchronous=FULL", "trusted_schema=OFF"):
        raw.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get(_WRITING)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _empty_database() -> bytes:
    """The bytes of a registry.db with its tables, in write-ahead-log mode: published whole or not at all."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        METADATA.create_all(connection)
        for trigger in TRIGGERS:
            connection.execute(text(trigger))
        insert(connection, HEAD, _first_head())
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        data = bytearray(raw.serialize())
    engine.dispose()
    data[_HEADER_VERSIONS] = b"\2\2"
    return bytes(data)


def _first_head() -> Row:
    return {"id": 1, "schema": SCHEMA_VERSION, "created": time.time(), "sequence": 0, "audit": ""}


def _head(connection: Connection) -> Row:
    rows = select_rows(connection, HEAD)
    _check_schema(rows)
    return rows[0]


def _check_schema(rows: list[Row]) -> None:
    if len(rows) != 1:
        raise DamagedRow(f"table 'head' has {len(rows)} rows instead of 1")
    if rows[0]["schema"] != SCHEMA_VERSION:
        raise StorageError(
            f"the registry has schema {rows[0]['schema']}; this version of Alexandra reads {SCHEMA_VERSION}",
            hint="use the version of Alexandra that wrote it, or start a new registry",
        )


def _count(connection: Connection) -> None:
    head = _head(connection)
    update(connection, HEAD, head, sequence=head["sequence"] + 1)


def _faults(connection: Connection) -> list[str]:
    faults: list[str] = []
    if connection.dialect.name == "sqlite":
        said = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check").all()]
        faults += [] if said == ["ok"] else said
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        faults += [f"a broken reference: {tuple(row)}" for row in broken]
    try:
        rows = {table.name: select_rows(connection, table) for table in CHECKED}
    except DamagedRow as error:
        return [*faults, error.message]
    previous = ""
    for row in rows[AUDIT.name]:
        if row["previous"] != previous:
            faults.append(f"the audit log is broken before entry {row['id']}")
        previous = row["checksum"]
    if rows[HEAD.name][0]["audit"] != previous:
        faults.append("the audit log has lost its last entries")
    faults += _gaps(rows[VERSIONS.name])
    return faults


def _gaps(versions: list[Row]) -> list[str]:
    """Versions of a task are 1, 2, 3 ...; a missing number is a lost row."""
    numbers: dict[str, list[int]] = {}
    for row in versions:
        numbers.setdefault(row["task"], []).append(row["version"])
    return [
        f"versions of task {task!r} are lost"
        for task, found in sorted(numbers.items())
        if sorted(found) != list(range(1, len(found) + 1))
    ]


def parse_url(value: str) -> URL:
    """A SQLAlchemy URL; RegistryError says what is wrong with it."""
    try:
        url = make_url(value)
    except ArgumentError as error:
        message = f"{value!r} is not a database URL"
        raise RegistryError(message, hint="write a folder, or scheme://user@host/name") from error
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise RegistryError("a registry in memory would be empty for every other process", hint="give a folder")
    return url


def reseal(folder: str | Path) -> list[str]:
    """Accept the registry.db in `folder` as it is, if every row is whole; returns what is wrong if not."""
    path = Path(folder) / "registry.db"
    if not path.exists():
        raise StorageError(f"no file {str(path)!r}")
    return Database(URL.create("sqlite", database=str(path)), str(path)).reseal()

"""The seal of a registry.db: a file beside it that says how many transactions it holds and what its bytes hash to.

SQLite has no checksums of its own: a flipped bit can hide a row, and a damaged write-ahead log silently loses
its last transactions. After each write the whole database image is hashed and the seal published; a database
that does not match its seal is refused before anything is read from it. Writers hold an exclusive file lock
from their first statement until the seal is out, so that seals appear in the order of the transactions.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alexandra.errors import StorageError
from alexandra.storage import content_hash, json_bytes, parse_json, publish, read_bytes

LOCK_SECONDS = 30.0
_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Seal:
    """`sequence` write transactions have been made, and the image of the database hashes to `image`."""

    sequence: int
    image: str

    def to_bytes(self) -> bytes:
        body = {"sequence": self.sequence, "image": self.image}
        return json_bytes({**body, "checksum": content_hash(json_bytes(body))})


def write_seal(path: Path, seal: Seal) -> None:
    publish(path, seal.to_bytes())


def read_seal(path: Path) -> Seal | None:
    """None when there is no seal; StorageError when a byte of it is not as it was written."""
    if not path.exists():
        return None
    data = read_bytes(path)
    value = parse_json(data, str(path))
    try:
        seal = Seal(int(value["sequence"]), str(value["image"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{str(path)!r} is not a seal: {error}") from error
    if seal.to_bytes() != data:
        raise StorageError(f"{str(path)!r} is damaged (its checksum does not match)")
    return seal


def image_hash(connection: sqlite3.Connection) -> str:
    """SHA-256 of the database as this connection sees it: all pages, those in the write-ahead log included."""
    return content_hash(connection.serialize())


Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp(*paths: Path) -> Stamp:
    """What the file system says of some files; while it stays the same they need not be hashed again."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found.st_size else None


@contextmanager
def file_lock(path: Path, *, shared: bool) -> Iterator[None]:
    """Hold an flock; the kernel drops it when the process dies. StorageError after LOCK_SECONDS of waiting."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot open {str(path)!r}: {error.strerror}") from error
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _try_lock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise StorageError(
                    f"{str(path)!r} has been locked by another process for {LOCK_SECONDS:.0f} s",
                    hint="wait for the other command, or end it; a lock never outlives its process",
                )
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

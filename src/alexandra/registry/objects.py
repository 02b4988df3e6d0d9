"""The files of a registry: content-addressed objects, <folder>/ab/<sha256>, whole or absent.

An object's name is the hash of its bytes, and it is checked on every read. Objects are written before the row
that names them, so a crash leaves at most an object that nothing names; `sweep` removes those when they are
old. An object that was damaged is healed when the same content is put again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Set
from pathlib import Path

from alexandra.errors import StorageError
from alexandra.storage import PART_SUFFIX, content_hash, publish, read_bytes

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class ObjectStore:
    """Bytes by their SHA-256 below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        if not _DIGEST.match(digest):
            raise StorageError(f"{digest!r} is not the hash of an object")
        return self.folder / digest[:2] / digest

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its hash; what is there already is checked, and replaced when damaged."""
        digest = content_hash(data)
        path = self.path(digest)
        if path.exists() and self._is_whole(path, data):
            os.utime(path)  # young again: sweep leaves it to the registration in progress
        else:
            publish(path, data)
        return digest

    def get(self, digest: str, what: str) -> bytes:
        """The checked bytes; StorageError names the file, and `what` it was meant to be."""
        path = self.path(digest)
        if not path.exists():
            raise StorageError(f"{what}: its file {str(path)!r} is missing", hint="restore it from a backup")
        data = read_bytes(path)
        if content_hash(data) != digest:
            message = f"{what}: its file {str(path)!r} is damaged (its bytes do not match its name)"
            raise StorageError(message, hint="restore it from a backup, or register the same model again")
        return data

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def sweep(self, keep: Set[str], older_than_seconds: float) -> list[str]:
        """Delete old objects that are not in `keep`, and old unfinished writes; returns their names.

        Call it only while nobody can commit a row (inside a write transaction).
        """
        limit = time.time() - older_than_seconds
        removed = []
        for path in self._files():
            unused = path.name.endswith(PART_SUFFIX) or (bool(_DIGEST.match(path.name)) and path.name not in keep)
            if unused and path.stat().st_mtime < limit:
                path.unlink()
                removed.append(path.name)
        return removed

    def _files(self) -> Iterator[Path]:
        for folder in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
            yield from sorted(path for path in folder.iterdir() if path.is_file())

    @staticmethod
    def _is_whole(path: Path, data: bytes) -> bool:
        try:
            return read_bytes(path) == data
        except StorageError:
            return False

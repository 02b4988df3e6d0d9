"""Outputs that are whole or absent, written piece by piece: a folder under a hidden name, synced, renamed when it is
done.

Also the arrays and document files that stages hand on. What a killed run left behind has a hidden name and is swept
away when the next run begins; one lock keeps two runs out of one work folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alexandra import storage
from alexandra.data.formats.streams import blocks, zstandard
from alexandra.errors import StorageError
from alexandra.records import Document

_MARK = ".being-written."
DOCUMENTS = "documents.jsonl.zst"


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A folder to write into; it gets the name `final` when the block ends without an error."""
    part = final.parent / f"{_MARK}{final.name}.{os.getpid()}-{secrets.token_hex(4)}"
    part.mkdir(parents=True)
    try:
        yield part
        for path in part.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            else:
                storage.sync_folder(path)
        storage.sync_folder(part)
        os.rename(part, final)
        storage.sync_folder(final.parent)
    except OSError as error:
        if not final.is_dir():
            raise StorageError(f"cannot write {str(final)!r}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed runs left; only under the lock."""
    for path in [*folder.glob(f"**/{_MARK}*"), *folder.glob(f"**/.*{storage.PART_SUFFIX}")]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the work folder; StorageError when another run does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(
                f"another run is using {str(folder)!r}", hint="wait for it, or set another `work` folder"
            ) from error
        yield


class ArrayWriter:
    """Appends rows to a file of raw little-endian numbers, which `open_array` maps."""

    def __init__(self, path: Path, dtype: str, width: int = 0) -> None:
        self._file = path.open("wb")
        self.dtype, self.width = np.dtype(dtype), width

    def add(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())

    def close(self) -> None:
        self._file.close()


def open_array(path: Path, dtype: str, width: int = 0) -> np.ndarray:
    """The rows of a file of raw numbers, mapped; [n] or [n, width]."""
    if not path.stat().st_size:
        return np.empty((0, width) if width else 0, dtype=dtype)
    flat = np.memmap(path, dtype=dtype, mode="r")
    return flat.reshape(-1, width) if width else flat


class DocumentWriter:
    """Documents as JSON lines in one zstd frame."""

    def __init__(self, folder: Path) -> None:
        self._raw = (folder / DOCUMENTS).open("wb")
        self._file = zstandard().ZstdCompressor(level=3).stream_writer(self._raw, closefd=True)

    def add(self, document: Document) -> None:
        body = {name: getattr(document, name) for name in ("text", "id", "source", "kind")}
        line = json.dumps({**body, "metadata": dict(document.metadata)}, ensure_ascii=False, sort_keys=True)
        self._file.write(line.encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        self._file.close()


def read_documents(folder: Path) -> Iterator[Document]:
    """The documents of a folder, in order."""
    rest = b""
    for block in blocks(folder / DOCUMENTS):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            body: dict[str, Any] = json.loads(line)
            yield Document(**body)

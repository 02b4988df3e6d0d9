"""Files that are whole or absent: atomic publication, content hashes, safetensors, JSON lines.

`publish` writes a temporary file beside the target, fsyncs it, renames it over the target and fsyncs the
folder. Readers verify checksums before they hand anything out. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import StorageError


def content_hash(data: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()


def array_hash(array: np.ndarray) -> str:
    """SHA-256 over dtype, shape and C-order bytes, hex: the checksum that manifests keep per tensor."""
    head = f"{array.dtype.str}{list(array.shape)}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def publish(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically and durably; on any error the old content stays and no litter is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
        sync_folder(path.parent)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror}", hint=_WRITE_HINT) from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


_WRITE_HINT = "free some space or choose another folder; what was there before is unchanged"


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_json(path: Path, value: Any) -> None:
    """`publish` of canonical JSON (sorted keys, one trailing newline)."""
    publish(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no NaN, UTF-8, one trailing newline."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Parse a JSON file; StorageError names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StorageError(f"no file {str(path)!r}") from error
    except (ValueError, OSError) as error:
        raise StorageError(f"{str(path)!r} is not readable JSON: {error}") from error


def tensors_bytes(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """The safetensors encoding of named arrays, with a checksum per tensor in the metadata under `sha256`."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    sums = {name: array_hash(array) for name, array in arrays.items()}
    return save(arrays, {**(metadata or {}), "sha256": json.dumps(sums, sort_keys=True)})


def read_tensors(data: bytes, source: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Decode safetensors bytes and verify every tensor; returns arrays and metadata (without `sha256`).

    Raises StorageError that names `source`, and the tensor whose bytes do not match their checksum.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
        header_size = int.from_bytes(data[:8], "little")
        metadata = dict(json.loads(data[8 : 8 + header_size]).get("__metadata__", {}))
        sums = json.loads(metadata.pop("sha256"))
    except (SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise StorageError(f"{source!r} is not a safetensors file with checksums: {error}") from error
    if set(sums) != set(arrays):
        raise StorageError(f"{source!r}: tensors and checksums do not match: {sorted(set(sums) ^ set(arrays))}")
    for name, array in arrays.items():
        if array_hash(array) != sums[name]:
            raise StorageError(f"{source!r}: tensor {name!r} is damaged (its checksum does not match)")
    return arrays, metadata


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Publish JSON lines atomically."""
    publish(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yield each line's value; a bad line is a StorageError with file and line number."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise StorageError(f"{str(path)!r} line {number} is not JSON: {error}") from error

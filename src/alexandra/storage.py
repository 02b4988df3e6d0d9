"""Files that are whole or absent: atomic publication, content hashes, safetensors, JSON lines.

`publish` writes a temporary file beside the target, fsyncs it, renames it over the target and fsyncs the
folder, and every folder that it had to make. A crash leaves at most a hidden `.part` file, which `sweep` removes.
Readers of tensors verify every byte before they hand anything out; plain JSON and JSON lines carry no checksum of
their own (the registry hashes whole files). Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import StorageError

PART_SUFFIX = ".part"
_WRITER = re.compile(rf"\.(\d+)-[0-9a-f]{{8}}{re.escape(PART_SUFFIX)}\Z")
_SUMS, _METADATA = "sha256", "__metadata__"
_WRITE_HINT = "free some space or choose another folder; what was there before is unchanged"
_SYNC_HINT = "the new content is in place, but a power cut could still undo it; check the disk and write again"


def content_hash(data: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()


def array_hash(array: np.ndarray) -> str:
    """SHA-256 over dtype, shape and C-order little-endian bytes, hex: the checksum that manifests keep per tensor."""
    stored = np.asarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{stored.dtype.str}{list(stored.shape)}".encode())
    digest.update(np.ascontiguousarray(stored).data)  # no copy where it is contiguous: it may be a mapped file
    return digest.hexdigest()


def publish(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically and durably; on any error the old content stays and no litter is left."""
    part = path.parent / f".{path.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}{PART_SUFFIX}"
    try:
        _make_folder(path.parent)
        _write_durably(part, data)
        os.replace(part, path)
    except BaseException as error:
        _discard(part)
        if isinstance(error, OSError):
            raise StorageError(f"cannot write {str(path)!r}: {_reason(error)}", hint=_WRITE_HINT) from error
        raise
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot sync {str(path.parent)!r}: {_reason(error)}", hint=_SYNC_HINT) from error


def publish_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files: whole under its name, or not at all. `folder` must not exist, or be empty."""
    part = folder.parent / f".{folder.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}{PART_SUFFIX}"
    try:
        _make_folder(part)
        for name, data in files.items():
            _write_durably(part / name, data)
        sync_folder(part)
        os.rename(part, folder)
        sync_folder(folder.parent)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise StorageError(f"cannot write {str(folder)!r}: {_reason(error)}", hint=_WRITE_HINT) from error
        raise


def sweep(folder: Path) -> None:
    """Remove the hidden parts that killed processes left in `folder`; those of processes that live are theirs."""
    for part in folder.glob(f".*{PART_SUFFIX}"):
        writer = _WRITER.search(part.name)
        if writer is None or _is_alive(int(writer[1])):
            continue
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            _discard(part)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _discard(part: Path) -> None:
    try:
        part.unlink()
    except OSError:
        pass


def _write_durably(path: Path, data: bytes) -> None:
    """A new file with the permissions that the user's umask allows, on the disk when this returns."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """mkdir -p whose new entries survive a power cut."""
    missing = [folder] if not folder.is_dir() else []
    while missing and not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable, where the file system can sync a folder at all."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def publish_json(path: Path, value: Any) -> None:
    """`publish` of canonical JSON (sorted keys, one trailing newline)."""
    publish(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no NaN, UTF-8, one trailing newline."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_bytes(path: Path) -> bytes:
    """The whole file; StorageError names it when it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise StorageError(f"no file {str(path)!r}") from error
    except OSError as error:
        raise StorageError(f"cannot read {str(path)!r}: {_reason(error)}") from error


def read_json(path: Path) -> Any:
    """Parse a JSON file; StorageError names the file when it is missing or not JSON."""
    return parse_json(read_bytes(path), str(path))


def parse_json(data: bytes, source: str) -> Any:
    """Parse JSON bytes strictly: UTF-8, no NaN, no key twice in one object; StorageError names `source`."""
    try:
        return json.loads(data.decode(), parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{source!r} is not readable JSON: {error}") from error


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def tensors_bytes(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """The safetensors encoding of named arrays, with checksums in the metadata under `sha256`.

    There is one checksum per tensor (dtype, shape, bytes) and one over the other metadata, so that any changed
    byte is found by `read_tensors`. Arrays are stored little-endian.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    notes = dict(metadata or {})
    taken = {_SUMS, _METADATA} & (set(notes) | set(tensors))
    if taken:
        raise StorageError(f"{taken.pop()!r} is a reserved name; give the tensor or the metadata another one")
    arrays = {name: _storable(name, array) for name, array in tensors.items()}
    sums = {name: array_hash(array) for name, array in arrays.items()}
    sums[_METADATA] = _notes_hash(notes)
    try:
        return save(arrays, {**notes, _SUMS: json.dumps(sums, sort_keys=True)})
    except (SafetensorError, ValueError, TypeError) as error:
        raise StorageError(f"cannot encode {sorted(arrays)} as safetensors: {error}") from error


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    """C order, little-endian; refuses what safetensors has no type for (text, objects, dates)."""
    if array.dtype.kind not in "biufc":
        raise StorageError(f"tensor {name!r} has dtype {array.dtype}; allowed are numbers and booleans")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _notes_hash(notes: dict[str, str]) -> str:
    return content_hash(json.dumps(notes, sort_keys=True).encode())


def read_tensors(data: bytes, source: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Decode safetensors bytes and verify every tensor; returns arrays and metadata (without `sha256`).

    Raises StorageError that names `source`, and the tensor whose bytes do not match their checksum.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
        header_size = int.from_bytes(data[:8], "little")
        notes = dict(json.loads(data[8 : 8 + header_size]).get(_METADATA, {}))
        sums = dict(json.loads(notes.pop(_SUMS)))
    except (SafetensorError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise StorageError(f"{source!r} is not a whole safetensors file with checksums: {error}") from error
    noted = sums.pop(_METADATA, None)
    if set(sums) != set(arrays):
        raise StorageError(f"{source!r}: tensors and checksums do not match: {sorted(set(sums) ^ set(arrays))}")
    for name, array in arrays.items():
        if array_hash(array) != sums[name]:
            raise StorageError(f"{source!r}: tensor {name!r} is damaged (its checksum does not match)")
    if noted != _notes_hash(notes):
        raise StorageError(f"{source!r}: the metadata is damaged (its checksum does not match)")
    return arrays, notes


def map_tensors(path: Path, *, verify: bool = True) -> tuple[dict[str, np.ndarray], dict[str, str], np.ndarray]:
    """The tensors of a safetensors file as read-only views of it, their checksums, and its bytes: nothing is copied.

    With `verify` every tensor is compared with its checksum, which reads the whole file once. The file must not be
    cut short while it is mapped; replacing it (as `publish` does) is safe. StorageError names the file.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot map {str(path)!r}: {error}") from error
    try:
        views, sums = _mapped(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(f"{str(path)!r} is not a whole safetensors file with checksums: {error}") from error
    if set(sums) - {_METADATA} != set(views):
        raise StorageError(f"{str(path)!r}: tensors and checksums do not match")
    for name, view in views.items() if verify else ():
        if array_hash(view) != sums[name]:
            raise StorageError(f"{str(path)!r}: tensor {name!r} is damaged (its checksum does not match)")
    return views, sums, data


def _mapped(data: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    size = int.from_bytes(data[:8].tobytes(), "little")
    if size > len(data) - 8:
        raise ValueError(f"the header claims {size} bytes of {len(data) - 8}")
    header = json.loads(data[8 : 8 + size].tobytes(), parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    body, views, end = data[8 + size :], {}, 0
    notes = header.pop(_METADATA)
    for name, spec in sorted(header.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
        (begin, stop), shape = spec["data_offsets"], tuple(spec["shape"])
        if begin != end or not begin <= stop <= len(body):
            raise ValueError(f"tensor {name!r} lies at {begin} to {stop} of {len(body)}, not from {end}")
        if spec["dtype"] != "F32":
            raise ValueError(f"tensor {name!r} has type {spec['dtype']}; only F32 can be mapped")
        views[name], end = body[begin:stop].view(np.float32).reshape(shape), stop
    if end != len(body):
        raise ValueError(f"{len(body) - end} bytes after the last tensor belong to none")
    return views, dict(json.loads(notes[_SUMS]))


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Publish JSON lines atomically."""
    publish(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode())


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yield each line's value, reading as it goes; a bad line is a StorageError with file and line number."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _line(line, f"{str(path)!r} line {number}")
    except OSError as error:
        raise StorageError(f"cannot read {str(path)!r}: {_reason(error)}") from error


def _line(line: bytes, source: str) -> Any:
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{source} is not JSON: {error}") from error

"""Tensors of a Hugging Face folder: safetensors, whole or in shards, read without running or unpickling anything.

Headers are checked against the files' sizes before any value is read, so a folder that lies about its sizes costs no
memory. bfloat16 and float16 become float32 (exactly) and can be written back as what they were. Files written here
carry each tensor's SHA-256 in their metadata, and values that differ from it are refused; safetensors itself has none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import WeightsError, suggest
from alexandra.storage import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
MAX_HEADER, MAX_JSON, SHARD_BYTES = 100_000_000, 64_000_000, 5_000_000_000
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
HASHES = "alexandra.sha256"  # in a header's metadata: the hash of each tensor's bytes by name, as JSON
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies; `sha256` of its bytes where the file tells it."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    sha256: str = ""

    def bytes(self) -> bytes:
        """The stored bytes; WeightsError when they are not those that were written."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.stop - self.start)
        if self.sha256 and hashlib.sha256(data).hexdigest() != self.sha256:
            place = f"the {len(data):,} bytes from {self.start:,} on"
            message = f"{str(self.path)!r}: {place} are not those that were saved"
            raise WeightsError(message, hint="the file is damaged: copy or save it again")
        return data

    def array(self) -> np.ndarray:
        """The values as float32; WeightsError when they are no floating-point numbers."""
        if self.dtype not in FLOATS:
            raise WeightsError(
                f"{str(self.path)!r}: a parameter has dtype {self.dtype}, not one of {', '.join(FLOATS)}"
            )
        data = self.bytes()
        if self.dtype == "BF16":
            wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(self.shape)
        kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[self.dtype]
        return np.frombuffer(data, kind).reshape(self.shape).astype(np.float32)


def plain_file(folder: Path, name: str) -> Path:
    """`folder/name`, which must be a plain name and a regular file within the folder (or a hub cache's blob)."""
    if not name or Path(name).name != name or name in (".", ".."):
        raise WeightsError(f"{str(folder)!r} names the file {name!r}; only plain names within the folder are read")
    path = folder / name
    if path.is_symlink():
        home = folder.resolve()
        target = path.resolve()
        blobs = home.parent.parent / "blobs"
        if home not in target.parents and not (home.parent.name == "snapshots" and target.parent == blobs):
            raise WeightsError(f"{str(path)!r} is a link that leads out of the folder", hint="copy the file itself")
    if not path.is_file():
        raise WeightsError(f"{str(folder)!r} has no file {name!r}")
    return path


def small_json(folder: Path, name: str) -> Any:
    """A JSON document of bounded size."""
    path = plain_file(folder, name)
    if path.stat().st_size > MAX_JSON:
        raise WeightsError(f"{str(path)!r} has {path.stat().st_size:,} bytes; at most {MAX_JSON:,} are read")
    return read_json(path)


def tensors_of(folder: Path, weights: str = WEIGHTS) -> dict[str, Tensor]:
    """Every tensor of a folder's safetensors by name; WeightsError for what is missing, pickled, or does not fit."""
    if (folder / INDEX).exists():
        index = small_json(folder, INDEX)
        placed = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(placed, dict) or not all(isinstance(v, str) for v in placed.values()):
            raise WeightsError(f"{str(folder / INDEX)!r} has no 'weight_map' of names")
        found: dict[str, Tensor] = {}
        for name in sorted(set(placed.values())):
            found |= {
                key: tensor for key, tensor in _header(plain_file(folder, name)).items() if placed.get(key) == name
            }
        if missing := sorted(set(placed) - set(found)):
            raise WeightsError(f"{str(folder)!r}: no shard holds {missing[0]!r}, which the index promises")
        return found
    if not (folder / weights).exists():
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED) if folder.is_dir() else []
        if pickled:
            raise WeightsError(
                f"{str(folder)!r} holds its weights in {pickled[0]!r}, which is never read: it may run code",
                hint="convert it where you trust it: model.save_pretrained(folder, safe_serialization=True)",
            )
        raise WeightsError(f"{str(folder)!r} has neither {weights!r} nor {INDEX!r}")
    return _header(plain_file(folder, weights))


def _header(path: Path) -> dict[str, Tensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(MAX_HEADER, size - 8):
            raise WeightsError(f"{str(path)!r} is not a safetensors file: its header would have {length:,} bytes")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{str(path)!r}: the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{str(path)!r}: the header is not an object")
    hashes = _hashes(path, header.pop("__metadata__", None))
    found = {str(name): _entry(path, str(name), entry, 8 + length) for name, entry in header.items()}
    end = 8 + length
    for name, tensor in sorted(found.items(), key=lambda item: item[1].start):
        if tensor.start < end or tensor.stop > size:
            raise WeightsError(
                f"{str(path)!r}: tensor {name!r} overlaps another or lies beyond the file's {size:,} bytes"
            )
        if tensor.start > end:
            raise WeightsError(f"{str(path)!r}: {tensor.start - end:,} bytes before tensor {name!r} belong to none")
        end = tensor.stop
    if end < size:
        raise WeightsError(f"{str(path)!r}: the last {size - end:,} bytes belong to no tensor")
    if hashes is None:
        return found
    if (other := sorted(hashes.keys() ^ found.keys())):
        raise WeightsError(f"{str(path)!r} was saved with other tensors: {other[0]!r} is only in one of two lists")
    return {name: replace(tensor, sha256=hashes[name]) for name, tensor in found.items()}


def _hashes(path: Path, metadata: Any) -> dict[str, str] | None:
    """The hashes in a header's metadata, None where it has none; WeightsError when they cannot be read."""
    told = metadata.get(HASHES) if isinstance(metadata, dict) else None
    if told is None:
        return None
    try:
        hashes: Any = json.loads(told)
    except (TypeError, ValueError, RecursionError):
        hashes = ()
    if not isinstance(hashes, dict) or not all(isinstance(value, str) and value for value in hashes.values()):
        raise WeightsError(f"{str(path)!r}: the hashes in its header cannot be read", hint="the file is damaged")
    return hashes


def _entry(path: Path, name: str, entry: Any, base: int) -> Tensor:
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        fits = all(type(n) is int and n >= 0 for n in (*shape, start, stop))
        fits = fits and stop - start == SIZES[dtype] * prod(shape)
    except (TypeError, KeyError, ValueError):
        fits = False
    if not fits:
        raise WeightsError(f"{str(path)!r}: tensor {name!r} has an entry that does not fit: {str(entry)[:200]}")
    return Tensor(path, dtype, shape, base + start, base + stop)


def encoded(array: np.ndarray, dtype: str) -> bytes:
    """float32 values as `dtype`; what came from that dtype goes back exactly, the rest is rounded to nearest even."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        rounded = bits + 0x7FFF + ((bits >> 16) & 1)
        return ((np.where(np.isnan(array), bits | 0x400000, rounded)) >> 16).astype("<u2").tobytes()
    if dtype not in FLOATS:
        raise WeightsError(f"cannot write floating-point numbers as {dtype}", hint=suggest(dtype, FLOATS))
    return np.ascontiguousarray(array, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


Stored = tuple[str, tuple[int, ...], bytes]  # dtype, shape, values


def tensor_files(tensors: Mapping[str, Stored], shard_bytes: int = SHARD_BYTES) -> dict[str, bytes]:
    """The safetensors files of these tensors: one, or shards of at most `shard_bytes` with their index."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name in sorted(tensors):
        size = len(tensors[name][2])
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        return {WEIGHTS: _file(tensors, shards[0])}
    names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    index = {
        "metadata": {"total_size": sum(len(stored[2]) for stored in tensors.values())},
        "weight_map": {name: file for file, shard in zip(names, shards, strict=True) for name in shard},
    }
    files = {file: _file(tensors, shard) for file, shard in zip(names, shards, strict=True)}
    return {**files, INDEX: json.dumps(index, indent=2, sort_keys=True).encode()}


def _file(tensors: Mapping[str, Stored], names: Iterable[str]) -> bytes:
    ordered = sorted(names, key=lambda name: (-SIZES[tensors[name][0]], name))
    hashes = {name: hashlib.sha256(tensors[name][2]).hexdigest() for name in ordered}
    told = json.dumps(hashes, separators=(",", ":"))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", HASHES: told}}
    at, parts = 0, []
    for name in ordered:
        dtype, shape, data = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
        parts.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])

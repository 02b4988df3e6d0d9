"""Shards of packed rows on disk: memory-mapped arrays, Parquet (zstd) or HDF5, listed with their hashes in a manifest.

A shard holds tokens [rows, length] and segments [rows, length]: the number of the document within the row, from 1,
and 0
for padding. Shards carry their hash in their name and the manifest is published last, so a reader sees one whole
corpus or none. The three formats hold equal arrays.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexandra import storage
from alexandra.errors import DataError, StorageError, missing_extra, suggest

MANIFEST = "manifest.json"
SCHEMA = "shards-1"
FORMATS = {"mapped": ".npy", "parquet": ".parquet", "hdf5": ".h5"}


def shard_bytes(tokens: np.ndarray, segments: np.ndarray, kind: str) -> bytes:
    """One file: `mapped` is a .npy of shape [2, rows, length] (tokens, segments)."""
    if kind == "mapped":
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.stack([tokens, segments.astype(tokens.dtype)]), allow_pickle=False)
        return buffer.getvalue()
    if kind == "parquet":
        return _parquet(tokens, segments)
    if kind == "hdf5":
        return _hdf5(tokens, segments)
    raise DataError(f"unknown shard format {kind!r}", hint=suggest(kind, FORMATS))


def _parquet(tokens: np.ndarray, segments: np.ndarray) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("Parquet shards", "data") from error
    width = tokens.shape[1]
    columns = {
        name: pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), width)
        for name, values in (("tokens", tokens), ("segments", segments.astype(tokens.dtype)))
    }
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd", row_group_size=1024)
    return bytes(sink.getvalue())


def _hdf5(tokens: np.ndarray, segments: np.ndarray) -> bytes:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("HDF5 shards", "data") from error
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=False) as file:
        for name, values in (("tokens", tokens), ("segments", segments.astype(tokens.dtype))):
            file.create_dataset(name, data=values, chunks=(min(64, len(values)), values.shape[1]), track_times=False)
    return buffer.getvalue()


def publish_shard(folder: Path, number: int, tokens: np.ndarray, segments: np.ndarray, kind: str) -> dict[str, Any]:
    """Write a shard under a name with its hash; returns its row of the manifest."""
    data = shard_bytes(tokens, segments, kind)
    digest = hashlib.sha256(data).hexdigest()
    name = f"shard-{number:05d}-{digest[:12]}{FORMATS[kind]}"
    storage.publish(folder / name, data)
    return {
        "file": name,
        "sha256": digest,
        "bytes": len(data),
        "rows": len(tokens),
        "tokens": int((segments > 0).sum()),
    }


def publish_manifest(folder: Path, shards: list[dict[str, Any]], about: Mapping[str, Any]) -> None:
    """Name the shards; files of an earlier manifest that are no longer named go afterwards."""
    body = {"schema": SCHEMA, "shards": shards, **about}
    old = storage.read_json(folder / MANIFEST)["shards"] if (folder / MANIFEST).exists() else []
    storage.publish_json(folder / MANIFEST, body)
    named = {shard["file"] for shard in shards}
    for shard in old:
        if shard["file"] not in named:
            (folder / shard["file"]).unlink(missing_ok=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a corpus; StorageError when it is none."""
    body = storage.read_json(folder / MANIFEST)
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise StorageError(
            f"{str(folder / MANIFEST)!r} is not a manifest of shards", hint=f"this version reads {SCHEMA}"
        )
    return body


def check_shards(folder: Path) -> None:
    """StorageError for the first shard whose bytes are not what the manifest says."""
    for shard in read_manifest(folder)["shards"]:
        with storage_open(folder / shard["file"]) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != shard["sha256"]:
            raise StorageError(
                f"{shard['file']!r} is damaged: its hash is {digest[:12]}..., not {shard['sha256'][:12]}..."
            )


def storage_open(path: Path) -> Any:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise StorageError(f"no shard {str(path)!r}") from error


def read_shard(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, segments) [rows, length]; memory maps where the format allows."""
    if path.suffix == ".npy":
        both = np.load(path, mmap_mode="r", allow_pickle=False)
        return both[0], both[1]
    if path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        parts = [table[name].combine_chunks() for name in ("tokens", "segments")]
        width = parts[0].type.list_size
        tokens, segments = (part.flatten().to_numpy(zero_copy_only=True).reshape(-1, width) for part in parts)
        return tokens, segments
    if path.suffix == ".h5":
        import h5py

        with h5py.File(path, "r") as file:
            return file["tokens"][:], file["segments"][:]
    raise StorageError(f"{path.name!r} is no shard", hint="known endings: " + ", ".join(sorted(FORMATS.values())))

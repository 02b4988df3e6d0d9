"""Content hashes of rows: equal rows have equal keys, whatever file, frame or column order they came in.

A key is BLAKE2b-128 over the column names in sorted order and a 16-byte digest per cell: numbers by their float64
value (and texts that are a number's canonical text likewise), dates by their microsecond, other texts by their
bytes, zeros where missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from alexandra.tables.column import Column, number_text, parse_number

_WIDTH = 16


def keys_of(columns: Sequence[Column]) -> np.ndarray:
    """Unicode array [n] of 32 hex digits, one per row."""
    ordered = sorted(columns, key=lambda column: column.name)
    head = json.dumps([column.name for column in ordered], ensure_ascii=False).encode()
    seed = hashlib.blake2b(head, digest_size=_WIDTH)
    rows = np.concatenate([_digests(column) for column in ordered], axis=1)
    return np.array([_key(seed, row) for row in _row_bytes(rows)], dtype="<U32")


def _key(seed: hashlib.blake2b, row: bytes) -> str:
    state = seed.copy()
    state.update(row)
    return state.hexdigest()


def _row_bytes(rows: np.ndarray) -> list[bytes]:
    width = rows.shape[1]
    return [bytes(row) for row in np.ascontiguousarray(rows).view(f"V{width}").reshape(-1)]


def _digests(column: Column) -> np.ndarray:
    """uint8 [n, 16]."""
    out = np.zeros((len(column), _WIDTH), dtype=np.uint8)
    if column.kind == "number":
        values = np.where(column.missing, 0.0, column.values) + 0.0  # -0.0 + 0.0 is 0.0
        out[:, :8] = np.frombuffer(b"number\0\0", dtype=np.uint8)
        out[:, 8:] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
    elif column.kind == "date":
        out[:, :8] = np.frombuffer(b"date\0\0\0\0", dtype=np.uint8)
        out[:, 8:] = column.values.astype("<i8").view(np.uint8).reshape(-1, 8)
    else:
        names, codes = column.levels()
        table = np.frombuffer(b"".join([*map(_text_digest, names), bytes(_WIDTH)]), dtype=np.uint8)
        out = table.reshape(-1, _WIDTH)[codes]
    out[column.missing] = 0
    return out


def _text_digest(text: str) -> bytes:
    value = parse_number(text)
    if value is not None and number_text(value) == text:
        return b"number\0\0" + np.array(value, dtype="<f8").tobytes()
    return hashlib.blake2b(text.encode(), digest_size=_WIDTH).digest()

"""Shingles and MinHash signatures of many texts: the native kernel, or NumPy with the same bytes.

Words are runs of letters and digits, lower-case; scripts without blanks count each character as a word. A shingle is
`size` words (or characters) in a row, hashed to 32 bits. Permutation p of a shingle x is (a_p * x + b_p) >> 32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from alexandra.config import Config
from alexandra.rng import derive

UNITS = ("words", "characters")
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0010ffff"
_WORDS = re.compile(f"[A-Za-z0-9\u0080-\u0dff\u0f00-\u0fff\u10a0-\u177f\u1800-\u2e7f]+|[{_ALONE}]")
_BLANKS = re.compile("[ \t-\r]+")
_STEP, _MASK = 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF


class MinHash(Config):
    """128 permutations in 16 bands of 8 rows catch a pair of Jaccard 0.85 with probability 0.994, of 0.8 with 0.947."""

    bands: int = 16
    rows: int = 8
    threshold: float = 0.8
    unit: str = "words"
    size: int = 5
    seed: int = 0

    @property
    def permutations(self) -> int:
        return self.bands * self.rows


@dataclass(frozen=True)
class Signatures:
    """signatures uint32 [texts, permutations]; text i has the sorted shingles shingles[offsets[i]:offsets[i + 1]]."""

    signatures: np.ndarray
    offsets: np.ndarray
    shingles: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.offsets)


def permutations(settings: MinHash) -> tuple[np.ndarray, np.ndarray]:
    """The multipliers (odd) and offsets, uint64, from the seed alone."""
    words = derive(settings.seed, "minhash").words(4 * settings.permutations).astype(np.uint64).reshape(4, -1)
    return (words[0] << np.uint64(32)) | words[1] | np.uint64(1), (words[2] << np.uint64(32)) | words[3]


def sign(texts: Sequence[str], settings: MinHash, native: bool = True) -> Signatures:
    """Signatures and shingles of `texts`; both ways give equal bytes."""
    a, b = permutations(settings)
    unit = UNITS.index(settings.unit)
    data = [text.lower().encode("utf-8", "replace") for text in texts]
    engine = _native() if native else None
    if engine is not None:
        return Signatures(*engine.data.sign(data, unit, settings.size, a, b))
    rows = [_shingles(one, unit, settings.size) for one in data]
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    signatures = np.stack([_signature(row, a, b) for row in rows]) if rows else np.empty((0, len(a)), np.uint32)
    return Signatures(signatures, offsets, np.concatenate([np.empty(0, np.uint32), *rows]))


def similarities(signed: Signatures, left: np.ndarray, right: np.ndarray, native: bool = True) -> np.ndarray:
    """Exact Jaccard similarity of the shingles of rows left[i] and right[i]."""
    engine = _native() if native else None
    left, right = np.ascontiguousarray(left, np.int64), np.ascontiguousarray(right, np.int64)
    if engine is not None:
        return np.asarray(engine.data.similarities(signed.shingles, signed.offsets, left, right))
    out = np.zeros(len(left))
    for i, (x, y) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        first = signed.shingles[signed.offsets[x] : signed.offsets[x + 1]]
        second = signed.shingles[signed.offsets[y] : signed.offsets[y + 1]]
        common = len(np.intersect1d(first, second, assume_unique=True))
        out[i] = common / max(1, len(first) + len(second) - common)
    return out


def band_keys(signatures: np.ndarray, settings: MinHash, band: int) -> np.ndarray:
    """One 64-bit key for each row: two texts with equal keys are candidates."""
    part = signatures[:, band * settings.rows : (band + 1) * settings.rows].astype(np.uint64)
    keys = np.full(len(part), band + 1, dtype=np.uint64)
    for column in range(part.shape[1]):
        keys = (keys ^ part[:, column]) * np.uint64(_STEP)
        keys ^= keys >> np.uint64(31)
    return keys


def _native() -> ModuleType | Any | None:
    try:
        from alexandra import _native as engine
    except ImportError:
        return None
    return engine if hasattr(engine, "data") else None


def _fnv(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & _MASK
    return value


def _shingles(data: bytes, unit: int, size: int) -> np.ndarray:
    text = data.decode("utf-8")
    units = list(_BLANKS.sub(" ", text).strip(" ")) if unit else _WORDS.findall(text)
    known = {one: _fnv(one.encode()) for one in set(units)}
    hashes = np.array([known[one] for one in units], dtype=np.uint64)
    if not len(hashes):
        return np.empty(0, np.uint32)
    width = min(size, len(hashes))
    windows = np.lib.stride_tricks.sliding_window_view(hashes, width)
    mixed = np.zeros(len(windows), dtype=np.uint64)
    for column in range(width):
        mixed = (mixed ^ windows[:, column]) * np.uint64(_STEP)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


def _signature(shingles: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.full(len(a), 0xFFFFFFFF, dtype=np.uint32)
    for start in range(0, len(shingles), 1024):
        block = shingles[start : start + 1024, None].astype(np.uint64)
        out = np.minimum(out, ((block * a + b) >> np.uint64(32)).astype(np.uint32).min(axis=0))
    return out

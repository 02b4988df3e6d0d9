"""Exact duplicates by content hash: BLAKE2b, 128 bits, of the text as it is or with case and blanks made equal.

`digests` hashes; `repeats` finds, over any number of arrays of digests, every record whose digest occurred earlier,
one partition of the hash space at a time, so that memory stays within what is given whatever the size of the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

# What one record costs while its partition is sorted: digest, place, sort order, copies.
BYTES_PER_RECORD = 80
LEAST_MEMORY = 1 << 20


def digests(texts: Iterable[str], normalise: bool = False) -> np.ndarray:
    """uint64 [texts, 2]."""
    hashed = hashlib.blake2b
    if normalise:
        texts = (" ".join(text.lower().split()) for text in texts)
    joined = b"".join([hashed(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts])
    return np.frombuffer(joined, dtype="<u8").reshape(-1, 2)


def repeats(parts: Sequence[np.ndarray], memory_bytes: int = 1 << 30) -> list[np.ndarray]:
    """For each part a boolean array: True where an equal digest stands before, in its part or an earlier one."""
    total = sum(map(len, parts))
    partitions = max(1, -(-total * BYTES_PER_RECORD // max(LEAST_MEMORY, memory_bytes)))
    out = [np.zeros(len(part), dtype=bool) for part in parts]
    starts = np.cumsum([0, *map(len, parts)])
    for partition in range(partitions):
        rows, places = [], []
        for part, start in zip(parts, starts[:-1], strict=True):
            inside = slice(None) if partitions == 1 else np.flatnonzero(part[:, 0] % np.uint64(partitions) == partition)
            rows.append(np.asarray(part[inside]))
            places.append(np.arange(start, start + len(part))[inside])
        digest, place = np.concatenate(rows), np.concatenate(places)
        if not len(digest):
            continue
        order = _sorted(digest)
        first = np.ones(len(order), dtype=bool)
        first[1:] = (digest[order[1:]] != digest[order[:-1]]).any(axis=1)
        later = np.sort(place[order[~first]])
        cuts = np.searchsorted(later, starts)
        for number in range(len(parts)):
            out[number][later[cuts[number] : cuts[number + 1]] - starts[number]] = True
    return out


def _sorted(digest: np.ndarray) -> np.ndarray:
    """A stable order by digest; the second half only decides where the first is equal for two different texts."""
    order = np.argsort(digest[:, 0], kind="stable")
    one = digest[order, 0]
    if bool(((one[1:] == one[:-1]) & (digest[order[1:], 1] != digest[order[:-1], 1])).any()):
        order = np.lexsort((digest[:, 1], digest[:, 0]))
    return order

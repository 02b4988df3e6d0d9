"""Near duplicates: MinHash-LSH candidates, each verified on its shingles, joined into clusters by union-find.

Bands are sorted one at a time, in as many partitions as the memory asks for; the arrays may be memory maps.
The kept copy of a cluster is a rule: "first" in the order of the corpus, or "longest". Records of an earlier corpus
come first and are always kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alexandra.data.dedup.shingles import MinHash, Signatures, band_keys, similarities
from alexandra.errors import DataError, suggest

KEEP = ("first", "longest")
# Every pair is verified in a group of up to so many records with one band key; in a larger one, which identical
# boilerplate makes, each record with the first few and with its neighbours.
ALL_PAIRS = 64
ANCHORS, NEIGHBOURS = 4, 8
PAIRS_AT_ONCE = 1 << 18
BYTES_PER_KEY = 48


@dataclass(frozen=True)
class Clusters:
    """roots int64 [records]: the smallest record of the cluster; pairs: the verified ones, with similarities."""

    roots: np.ndarray
    pairs: np.ndarray
    similarities: np.ndarray
    candidates: int


class UnionFind:
    """Disjoint sets over 0 .. n-1 whose root is the smallest member."""

    def __init__(self, n: int) -> None:
        self.parent = np.arange(n, dtype=np.int64)

    def find(self, x: int) -> int:
        parent = self.parent
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = int(parent[x])
        return x

    def join(self, x: int, y: int) -> None:
        x, y = self.find(x), self.find(y)
        if x != y:
            self.parent[max(x, y)] = min(x, y)

    def roots(self) -> np.ndarray:
        """Parents point down, so one ascending pass resolves all."""
        parent = self.parent
        while True:
            above = parent[parent]
            if np.array_equal(above, parent):
                return parent
            parent = above


def clusters(
    signed: Signatures,
    settings: MinHash,
    memory_bytes: int = 1 << 30,
    known: int = 0,
    left_out: np.ndarray | None = None,
) -> Clusters:
    """Group near duplicates. The first `known` records are of an earlier corpus, not compared among themselves; those
    marked in `left_out` are compared with none."""
    n = len(signed.signatures)
    union = UnionFind(n)
    kept_pairs: list[np.ndarray] = []
    kept_values: list[np.ndarray] = []
    seen = 0
    sizes = signed.sizes
    usable = sizes > 0 if left_out is None else (sizes > 0) & ~left_out
    for pairs in _candidates(signed, settings, memory_bytes, usable):
        if known:
            pairs = pairs[pairs[:, 1] >= known]
        roots = union.roots()
        pairs = pairs[roots[pairs[:, 0]] != roots[pairs[:, 1]]]
        shorter = np.minimum(sizes[pairs[:, 0]], sizes[pairs[:, 1]])
        longer = np.maximum(sizes[pairs[:, 0]], sizes[pairs[:, 1]])
        pairs = pairs[shorter >= settings.threshold * longer]
        seen += len(pairs)
        values = similarities(signed, pairs[:, 0], pairs[:, 1])
        good = values >= settings.threshold
        for x, y in pairs[good].tolist():
            union.join(x, y)
        kept_pairs.append(pairs[good])
        kept_values.append(values[good])
    every = np.concatenate([np.empty((0, 2), np.int64), *kept_pairs])
    values = np.concatenate([np.empty(0), *kept_values])
    return Clusters(union.roots(), every, values, seen)


def duplicates(found: Clusters, sizes: np.ndarray, keep: str = "first", known: int = 0) -> np.ndarray:
    """Boolean [records]: True for those to drop. A cluster with a known record drops all new ones."""
    if keep not in KEEP:
        raise DataError(f"unknown rule {keep!r} for the copy to keep", hint=suggest(keep, KEEP))
    n = len(found.roots)
    if keep == "first":
        out = found.roots != np.arange(n)
    else:
        order = np.lexsort((np.arange(n), -sizes, found.roots))
        first = np.ones(n, dtype=bool)
        first[1:] = found.roots[order[1:]] != found.roots[order[:-1]]
        out = np.ones(n, dtype=bool)
        out[order[first]] = False
        if known:
            out |= found.roots < known
    out[:known] = False
    return np.asarray(out)


def _candidates(signed: Signatures, settings: MinHash, memory_bytes: int, usable: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs [k, 2], smaller record first, that share a band; records without shingles have no pairs."""
    n = len(signed.signatures)
    partitions = max(1, -(-n * BYTES_PER_KEY // max(1 << 20, memory_bytes)))
    for band in range(settings.bands):
        keys = np.concatenate(
            [np.empty(0, np.uint64)]
            + [
                band_keys(signed.signatures[start : start + (1 << 18)], settings, band)
                for start in range(0, n, 1 << 18)
            ]
        )
        for partition in range(partitions):
            inside = usable if partitions == 1 else usable & (keys % np.uint64(partitions) == partition)
            records = np.flatnonzero(inside)
            order = np.argsort(keys[records], kind="stable")
            records = records[order]
            sorted_keys = keys[records]
            edges = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1], True]) if len(records) else [0]
            yield from _pairs(records, np.asarray(edges))


def _pairs(records: np.ndarray, edges: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of the groups records[edges[i]:edges[i + 1]]."""
    lengths = np.diff(edges)
    twos = edges[:-1][lengths == 2]
    for start in range(0, len(twos), PAIRS_AT_ONCE):
        block = twos[start : start + PAIRS_AT_ONCE]
        yield np.stack([records[block], records[block + 1]], axis=1)
    out: list[np.ndarray] = []
    waiting = 0
    for group in np.flatnonzero(lengths > 2):
        members = records[edges[group] : edges[group + 1]]
        i, j = _within(len(members))
        out.append(np.stack([members[i], members[j]], axis=1))
        waiting += len(i)
        if waiting > PAIRS_AT_ONCE:
            yield np.concatenate(out)
            out, waiting = [], 0
    if out:
        yield np.concatenate(out)


def _within(n: int) -> tuple[np.ndarray, np.ndarray]:
    if n <= ALL_PAIRS:
        return np.triu_indices(n, 1)
    place = np.arange(n)
    pairs = [(np.full(n - a - 1, a), place[a + 1 :]) for a in range(ANCHORS)]
    pairs += [(place[:-step], place[step:]) for step in range(1, NEIGHBOURS + 1)]
    return np.concatenate([one for one, _ in pairs]), np.concatenate([two for _, two in pairs])

"""Disjoint parts and folds by content: equal rows stay together, groups stay together, time stays in order.

A row's part depends on the set of keys and the seed, never on the order of rows or on other random numbers.
Rows that share a key or a group form one unit; units are ordered by BLAKE2b of their smallest key under a key
derived from the seed, large and mixed ones are placed first where they are missed most, single rows then fill
each stratum's quota exactly (largest remainder), so parts are as balanced as the units allow.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alexandra.errors import DataError
from alexandra.rng import derive

PARTS = ("train", "validation", "test")


def folds(
    keys: np.ndarray, k: int, seed: int, groups: np.ndarray | None = None, strata: np.ndarray | None = None
) -> np.ndarray:
    """The fold 0 .. k-1 of each row, int64.

    keys    [n] content hashes; rows with one key share a fold
    groups  [n] or None; rows of one group share a fold
    strata  [n] or None; every fold gets each stratum's share, as far as units allow
    """
    if k < 2:
        raise DataError(f"{k} folds are too few", hint="use at least 2 folds")
    units = _units(keys, groups, strata)
    out = _assign(units, np.full(k, 1.0 / k), derive(seed, "folds").key)
    empty = np.flatnonzero(np.bincount(out, minlength=k) == 0)
    if len(empty):
        what = "groups" if groups is not None else "rows"
        raise DataError(
            f"{k} folds of {units.count} distinct {what} leave fold {int(empty[0])} empty",
            hint=f"use at most {max(2, units.count)} folds, or more data",
        )
    return out


def holdout(
    keys: np.ndarray,
    fractions: Sequence[float] | Mapping[str, float],
    seed: int,
    groups: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """The part of each row, unicode: shares of train, validation, test in that order, or a mapping name -> share."""
    names, shares = _shares(fractions)
    return np.asarray(np.array(names)[_assign(_units(keys, groups, strata), shares, derive(seed, "holdout").key)])


def by_time(values: np.ndarray, fractions: Sequence[float] | Mapping[str, float]) -> np.ndarray:
    """The part of each row by time: the earliest rows in the first part; rows of one moment are never separated.

    `values` are numbers or datetime64. A cut that falls inside a moment moves to its nearer end.
    """
    names, shares = _shares(fractions)
    values = np.asarray(values)
    if values.dtype.kind not in "iufM":
        raise DataError(
            "the time column holds neither numbers nor dates", hint="use a column such as 2024-05-31 or a number"
        )
    missing = int((np.isnat(values) if values.dtype.kind == "M" else np.isnan(values.astype(np.float64))).sum())
    if missing:
        raise DataError(f"{missing} rows have no time", hint="fill the time column or drop these rows")
    moments, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    edges = np.concatenate([[0], np.cumsum(counts)])
    cuts = np.rint(np.cumsum(shares)[:-1] * len(values))
    first = np.array([np.abs(edges - cut).argmin() for cut in cuts], dtype=np.int64)
    part_of_moment = np.searchsorted(np.maximum.accumulate(first), np.arange(len(moments)), side="right")
    return np.asarray(np.array(names)[part_of_moment[codes]])


def _shares(fractions: Sequence[float] | Mapping[str, float]) -> tuple[list[str], np.ndarray]:
    given = list(fractions.values() if isinstance(fractions, Mapping) else fractions)
    named = dict(fractions) if isinstance(fractions, Mapping) else dict(zip(PARTS, fractions, strict=False))
    shares = np.array(list(named.values()), dtype=np.float64)
    if len(named) != len(given) or not len(shares) or (shares < 0).any() or not np.isclose(shares.sum(), 1.0):
        raise DataError(
            f"shares {given} do not divide the rows",
            hint="give train, validation and test as shares from 0 up that sum to 1, for instance (0.7, 0.15, 0.15)",
        )
    return list(named), shares


@dataclass(frozen=True)
class _Units:
    """Rows that must stay together: `of_row` [n] unit index; `keys` the distinct keys and `of_key` their units."""

    of_row: np.ndarray
    keys: np.ndarray
    of_key: np.ndarray
    strata: np.ndarray
    count: int


def _units(keys: np.ndarray, groups: np.ndarray | None, strata: np.ndarray | None) -> _Units:
    keys = np.asarray(keys)
    for name, values in (("groups", groups), ("strata", strata)):
        if values is not None and len(values) != len(keys):
            raise DataError(f"{len(keys)} keys, but {len(values)} {name}", hint="give one value per row")
    if not len(keys):
        raise DataError("there are no rows to divide", hint="give at least one row")
    distinct, key_codes = np.unique(keys, return_inverse=True)
    codes = np.zeros(len(keys), dtype=np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    if groups is None:
        return _Units(key_codes, distinct, np.arange(len(distinct)), codes, len(distinct))
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group_names, group_codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    size = len(distinct) + len(group_names)
    links = coo_array((np.ones(len(keys)), (key_codes, len(distinct) + group_codes)), shape=(size, size))
    count, labels = connected_components(links, directed=False)
    return _Units(labels[key_codes], distinct, labels[: len(distinct)], codes, int(count))


def _ranks(units: _Units, secret: int) -> np.ndarray:
    """The position of each unit in hash order."""
    salt = struct.pack("<Q", secret)
    digests = [
        hashlib.blake2b(key.encode(), key=salt, digest_size=8).digest() for key in units.keys.astype(str).tolist()
    ]
    hashes = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
    order = np.lexsort((units.keys, hashes))
    ranks = np.full(units.count, len(order), dtype=np.int64)
    np.minimum.at(ranks, units.of_key[order], np.arange(len(order)))
    return ranks


def _assign(units: _Units, shares: np.ndarray, secret: int) -> np.ndarray:
    """The part of each row: large and mixed units first, then single rows by quota."""
    num_strata = int(units.strata.max()) + 1
    counts = np.bincount(units.of_row * num_strata + units.strata, minlength=units.count * num_strata)
    counts = counts.reshape(units.count, num_strata)
    sizes, ranks = counts.sum(axis=1), _ranks(units, secret)
    missed = shares[:, None] * counts.sum(axis=0)[None, :]  # [parts, strata]: what each part still lacks
    part = np.full(units.count, -1, dtype=np.int64)
    weight = 1.0 / np.maximum(counts.sum(axis=0), 1)
    large = np.flatnonzero(sizes > 1)
    usable = np.where(shares > 0, 0.0, -np.inf)
    for unit in large[np.lexsort((ranks[large], -sizes[large]))].tolist():
        gain = missed @ (counts[unit] * weight) + usable
        best = int(np.lexsort((-missed.sum(axis=1), -np.round(gain, 12)))[0])
        part[unit] = best
        missed[best] -= counts[unit]
    carry = np.zeros(len(shares))
    single = np.flatnonzero(sizes == 1)
    stratum_of = counts[single].argmax(axis=1)
    for stratum in range(num_strata):
        members = single[stratum_of == stratum]
        if len(members):
            quota = _quota(missed[:, stratum], shares, carry, len(members))
            part[members[np.argsort(ranks[members])]] = np.repeat(np.arange(len(shares)), quota)
    return np.asarray(part[units.of_row])


def _quota(missed: np.ndarray, shares: np.ndarray, carry: np.ndarray, total: int) -> np.ndarray:
    """How many of `total` rows each part gets, near what it misses; `carry` keeps sums over strata balanced."""
    wanted = np.where(shares > 0, np.maximum(missed, 0.0), 0.0)
    wanted = wanted * (total / wanted.sum()) if wanted.sum() > 0 else shares * total
    quota = np.floor(wanted + 1e-9)
    left = total - int(quota.sum())
    need = np.where(shares > 0, wanted - quota + carry, -np.inf)
    quota[np.argsort(-np.round(need, 9), kind="stable")[:left]] += 1
    carry += wanted - quota
    return quota.astype(np.int64)

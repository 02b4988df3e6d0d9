"""How one column becomes features: numbers (and the parts of a date), categories, running texts.

Each is a small frozen value that was fitted on training rows, converts to and from JSON, and treats every row by
itself. Numbers get a clipped standard score, an indicator of missing values, a piecewise-linear code between
quantiles (Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features", 2022, section 3.2), and a
one-hot code of frequent exact values where one value dominates (a gain of 0 for most people).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from alexandra.tables import Column

CLIP_SHARE = 0.005
MIN_ROWS_TO_CLIP = 200
DOMINANT_SHARE = 0.6
MAX_ATOMS, MIN_ATOM_ROWS, MAX_ATOM_DISTINCT = 64, 5, 256
MAX_COUNTED_LEVELS = 10_000
EXACT_DISTINCT, EXACT_BINS = 25, 8
MAX_CACHED_WORDS = 100_000
LARGEST = 1e100
DATE_PARTS = ("days", "month", "weekday", "hour")
_TOKEN = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Number:
    """score = (clip(x, low, high) - mean) / scale; `fill` stands for missing values.

    part     "value", or which part of a date: days, month, weekday, hour
    missing  whether training rows had gaps (then an indicator is a feature)
    knots    edges t0 < t1 ...: feature i is clip((x - t[i]) / (t[i+1] - t[i]), 0, 1)
    atoms    exact values with a one-hot feature each
    """

    name: str
    part: str
    fill: float
    low: float
    high: float
    mean: float
    scale: float
    missing: bool
    knots: tuple[float, ...] = ()
    atoms: tuple[float, ...] = ()

    def values(self, column: Column) -> np.ndarray:
        """float64, NaN where missing."""
        return part_values(column, self.part)


def part_values(column: Column, part: str) -> np.ndarray:
    """The numbers of a column, or of a part of its dates."""
    if part == "value":
        return column.cast("number").values
    dates = column.cast("date").values
    gone = np.isnat(dates)
    days = dates.astype("datetime64[D]")
    if part == "days":
        values = days.astype(np.int64)
    elif part == "month":
        values = dates.astype("datetime64[M]").astype(np.int64) % 12 + 1
    elif part == "weekday":
        values = (days.astype(np.int64) + 3) % 7
    else:
        assert part == "hour", part
        values = (dates - days) / np.timedelta64(1, "h")
    return np.asarray(np.where(gone, np.nan, values.astype(np.float64)))


def fit_number(name: str, part: str, values: np.ndarray) -> Number:
    """Score and indicator of training values; knots and atoms are added by `refined`."""
    gone = np.isnan(values)
    present = np.clip(values[~gone], -LARGEST, LARGEST)
    if not len(present):
        return Number(name, part, 0.0, 0.0, 0.0, 0.0, 1.0, False)
    low, high = float(present.min()), float(present.max())
    if len(present) >= MIN_ROWS_TO_CLIP:
        inner = np.quantile(present, [CLIP_SHARE, 1.0 - CLIP_SHARE])
        if inner[0] < inner[1]:
            low, high = float(inner[0]), float(inner[1])
    clipped = np.clip(present, low, high)
    scale = float(clipped.std())
    fill = float(np.median(present))
    return Number(name, part, fill, low, high, float(clipped.mean()), scale if scale > 0 else 1.0, bool(gone.any()))


def knots_of(values: np.ndarray, bins: int) -> tuple[float, ...]:
    """At most `bins` + 1 edges; none for fewer than three distinct values.

    All distinct values when there are few (25 or fewer than `bins`), else quantiles; room that repeated quantiles
    leave goes to quantiles of the values that repeat less often.
    """
    present = values[~np.isnan(values)]
    distinct, counts = np.unique(present, return_counts=True)
    if len(distinct) < 3 or bins < 2:
        return ()
    if len(distinct) <= max(bins + 1, EXACT_DISTINCT if bins >= EXACT_BINS else 0):
        return tuple(distinct.tolist())
    edges = np.unique(np.quantile(present, np.linspace(0.0, 1.0, bins + 1)))
    spare = bins + 1 - len(edges)
    if spare > 1:
        frequent = distinct[counts * bins > len(present)]
        rest = present[~np.isin(present, frequent)]
        if len(rest):
            edges = np.unique(np.concatenate([edges, np.quantile(rest, np.linspace(0.0, 1.0, spare))]))
    return tuple(edges.tolist())


def atoms_of(values: np.ndarray, room: int) -> tuple[float, ...]:
    """The most frequent exact values (at most `room`, 5 rows each) of a column that one value dominates."""
    present = values[~np.isnan(values)]
    distinct, counts = np.unique(present, return_counts=True)
    if not 3 <= len(distinct) <= MAX_ATOM_DISTINCT or counts.max() < DOMINANT_SHARE * len(present):
        return ()
    order = np.argsort(-counts, kind="stable")[: min(room, MAX_ATOMS)]
    return tuple(sorted(distinct[i] for i in order.tolist() if counts[i] >= MIN_ATOM_ROWS))


@dataclass(frozen=True)
class Category:
    """One-hot over `levels`, then (where training rows had them) "other" for rarer levels and "missing".

    shares  training frequency of each of these features: what an unseen value gets when there is no "other"
    counts  level -> log(1 + rows) / log(1 + most rows), one feature, where levels were cut; empty otherwise
    """

    name: str
    levels: tuple[str, ...]
    other: bool
    missing: bool
    shares: tuple[float, ...]
    counts: Mapping[str, float]

    @property
    def width(self) -> int:
        return len(self.shares) + bool(self.counts)

    @cached_property
    def _slots(self) -> dict[str, int]:
        slots = {level: i for i, level in enumerate(self.levels)}
        if self.missing:
            slots[""] = len(self.levels) + self.other
        return slots

    def write(self, column: Column, out: np.ndarray) -> None:
        """Fill float32 `out` [rows, width], zero on entry."""
        texts = column.texts().tolist()
        unseen = len(self.levels) if self.other else -1
        slot_of = dict.fromkeys(texts, unseen) | self._slots
        slots = np.fromiter(map(slot_of.__getitem__, texts), dtype=np.int64, count=len(texts))
        known = np.flatnonzero(slots >= 0)
        out[known, slots[known]] = 1.0
        if len(known) < len(texts):
            out[slots < 0, : len(self.shares)] = self.shares
        if self.counts:
            out[:, -1] = [self.counts.get(text, 0.0) for text in texts]


def fit_category(name: str, names: list[str], codes: np.ndarray, min_rows: int, room: int) -> Category:
    """The `room` most frequent levels with at least `min_rows` rows; the rest is "other". Takes `Column.levels()`."""
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    order = sorted(range(len(names)), key=lambda i: (-counts[i], names[i]))
    kept = [i for i in order if counts[i] >= min_rows][:room]
    rest = int(counts.sum() - counts[kept].sum())
    gone = int((codes < 0).sum())
    rows = [*counts[kept].tolist(), *([rest] if rest else []), *([gone] if gone else [])]
    table: dict[str, float] = {}
    if rest and len(names) > 2 * len(kept) and len(names) > 20:
        most = np.log1p(counts.max())
        table = {names[i]: float(np.log1p(counts[i]) / most) for i in order[:MAX_COUNTED_LEVELS]}
    levels = tuple(names[i] for i in kept)
    return Category(name, levels, rest > 0, gone > 0, tuple(n / len(codes) for n in rows), table)


@dataclass(frozen=True)
class Text:
    """A hashed bag of words: each distinct word adds +1 or -1 to one of `buckets`; the norm is sqrt(buckets) / 2."""

    name: str
    buckets: int
    salt: int

    @property
    def width(self) -> int:
        return self.buckets

    @cached_property
    def _places(self) -> dict[str, tuple[int, float]]:
        return {}

    def _place(self, word: str) -> tuple[int, float]:
        place = self._places.get(word)
        if place is None:
            key = self.salt.to_bytes(8, "little")
            number = int.from_bytes(hashlib.blake2b(word.encode(), key=key, digest_size=8).digest(), "little")
            place = (number >> 1) % self.buckets, 1.0 if number & 1 else -1.0
            if len(self._places) < MAX_CACHED_WORDS:
                self._places[word] = place
        return place

    def write(self, column: Column, out: np.ndarray) -> None:
        """Fill float32 `out` [rows, width], zero on entry."""
        for row, text in enumerate(column.texts().tolist()):
            for word in sorted(set(_TOKEN.findall(text.lower()))):
                bucket, sign = self._place(word)
                out[row, bucket] += sign
        norms = np.sqrt((out.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
        out *= (0.5 * self.buckets**0.5 / np.maximum(norms, 1e-9)).astype(np.float32)


def to_dict(encoding: Number | Category | Text) -> dict[str, Any]:
    """JSON-ready; `from_dict` is its inverse."""
    return {"type": type(encoding).__name__.lower(), **asdict(encoding)}


def from_dict(body: Mapping[str, Any]) -> Number | Category | Text:
    """Rebuild an encoding; KeyError or TypeError when `body` is not one."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in body.items() if key != "type"}
    return ENCODINGS[body["type"]](**fields)


ENCODINGS: dict[str, Callable[..., Number | Category | Text]] = {"number": Number, "category": Category, "text": Text}

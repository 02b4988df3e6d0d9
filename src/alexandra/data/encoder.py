"""Raw rows in, features out: the preprocessing of a table, fitted on training rows only and stored as JSON.

    encoder = Encoder.fit(table.take(train), features)
    x = encoder.transform(table)                # float32 [rows, encoder.width]

Deterministic, and every row is treated by itself: a row alone gives the same bytes as among others. The features
come in blocks: scores of numbers, indicators of missing numbers, piecewise-linear codes, exact values, then each
category and text. A width budget shares out the codes; every column keeps at least one feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from alexandra.data.encodings import (
    DATE_PARTS,
    LARGEST,
    Category,
    Number,
    Text,
    atoms_of,
    fit_category,
    fit_number,
    from_dict,
    knots_of,
    part_values,
    to_dict,
)
from alexandra.data.target_means import FittedEncoding, encode_target
from alexandra.errors import DataError, StorageError, suggest
from alexandra.lang.task_steps import TargetEncoding
from alexandra.rng import derive
from alexandra.tables import Table, missing_column

MODES = ("piecewise", "standard")
WIDTH = 512
MAX_BINS, MIN_BINS, ROWS_PER_BIN = 16, 4, 128
MIN_LEVEL_ROWS, ROWS_PER_LEVEL = 5, 4000
MIN_BUCKETS, MAX_BUCKETS = 64, 512
IMAGE_COLUMNS = 32
SCHEMA = 1
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Encoder:
    """Fitted encodings of the columns `features`; `kinds` are their kinds in the training table, `means` the target
    encoding that comes before all else.
    """

    features: tuple[str, ...]
    kinds: Mapping[str, str]
    numbers: tuple[Number, ...]
    others: tuple[Category | Text, ...]
    means: FittedEncoding | None = None

    @classmethod
    def fit_means(
        cls, table: Table, features: Sequence[str], target: np.ndarray, settings: TargetEncoding, seed: int
    ) -> Encoder:
        """`fit` after a target encoding; `target` [rows] or [rows, k] is that of the training rows."""
        table = table.select(features)
        encoded, means = encode_target(table, target, settings, seed)
        return replace(cls.fit(encoded, encoded.names), features=tuple(features), kinds=table.kinds, means=means)

    @classmethod
    def fit(
        cls, table: Table, features: Sequence[str], *, mode: str = "piecewise", width: int = WIDTH, seed: int = 0
    ) -> Encoder:
        """Learn the encoding of `features` from the rows of `table`, which must be training rows only.

        mode   "piecewise": scores, piecewise-linear codes and frequent exact values; "standard": scores only
        width  about how many features there may be: codes and rare levels give way first, columns never
        seed   decides which words of a text share a feature
        """
        if mode not in MODES:
            raise DataError(f"unknown encoder mode {mode!r}", hint=suggest(mode, MODES))
        if not features or not table.n_rows:
            raise DataError("an encoder needs at least one feature and one row", hint="name the feature columns")
        table = table.select(features)
        kinds = table.kinds
        values = _number_values(table)
        numbers = [fit_number(name, part, column) for (name, part), column in values.items()]
        others = _fit_others(table, width, len(numbers), seed)
        if _looks_like_image(list(values.values())):
            numbers = _shared_scale(numbers, list(values.values()))
        elif mode == "piecewise":
            spent = len(numbers) + sum(number.missing for number in numbers) + sum(other.width for other in others)
            numbers = _refined(numbers, list(values.values()), width - spent)
        return cls(tuple(features), kinds, tuple(numbers), tuple(others))

    @property
    def width(self) -> int:
        """The number of features."""
        return self._codes.width + sum(other.width for other in self.others)

    def transform(self, table: Table) -> np.ndarray:
        """float32 [rows, width]; extra columns are ignored. DataError names the columns that `table` lacks."""
        absent = [name for name in self.features if name not in table.columns]
        if absent:
            error = missing_column(absent[0], table.names, table.source)
            count = f" and {len(absent) - 1} more that the model was trained on" if len(absent) > 1 else ""
            raise DataError(f"{error.message}{count}", hint=error.hint)
        return self._write(self.means.transform(table.select(self.features)) if self.means else table)

    def transform_training(self, table: Table, target: np.ndarray) -> np.ndarray:
        """The same of the rows that `fit` or `fit_means` saw: target encodings are those of the other folds."""
        if self.means is None:
            return self.transform(table)
        return self._write(encode_target(table.select(self.features), target, self.means.settings, self.means.seed)[0])

    def _write(self, table: Table) -> np.ndarray:
        out = np.zeros((table.n_rows, self.width), dtype=np.float32)
        if self.numbers:
            columns = [number.values(table[number.name]) for number in self.numbers]
            for start in range(0, table.n_rows, _BLOCK_ROWS):
                block = slice(start, start + _BLOCK_ROWS)
                self._codes.write(np.stack([column[block] for column in columns], axis=1), out[block])
        place = self._codes.width
        for other in self.others:
            other.write(table[other.name], out[:, place : place + other.width])
            place += other.width
        return out

    def feature_names(self) -> list[str]:
        """One name per feature: `age`, `age missing`, `age > 37`, `gain = 0`, `sex = Male`, `note #12`."""
        return [*self._codes.names, *(name for other in self.others for name in _names(other))]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` is its inverse."""
        return {
            "schema": SCHEMA,
            "features": list(self.features),
            "kinds": dict(self.kinds),
            "numbers": [to_dict(number) for number in self.numbers],
            "others": [to_dict(other) for other in self.others],
            **({"means": self.means.to_dict()} if self.means else {}),
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Encoder:
        """StorageError when `body` is not an encoder's."""
        if body.get("schema") != SCHEMA:
            raise StorageError(f"unknown encoder schema {body.get('schema')!r}", hint=f"this version reads {SCHEMA}")
        try:
            numbers = tuple(from_dict(item) for item in body["numbers"])
            others = tuple(from_dict(item) for item in body["others"])
            means = FittedEncoding.from_dict(body["means"]) if "means" in body else None
            encoder = cls(tuple(body["features"]), dict(body["kinds"]), numbers, others, means)  # type: ignore[arg-type]
        except (KeyError, TypeError) as error:
            raise StorageError(f"damaged encoder: {error}") from error
        return encoder

    @cached_property
    def _codes(self) -> _Codes:
        return _Codes(self.numbers)


class _Codes:
    """The features of all number columns as flat arrays, so that a row costs a few vector operations."""

    def __init__(self, numbers: Sequence[Number]) -> None:
        self.low = np.array([number.low for number in numbers])
        self.high = np.array([number.high for number in numbers])
        self.mean = np.array([number.mean for number in numbers])
        self.scale = np.array([number.scale for number in numbers])
        self.fill = np.array([number.fill for number in numbers])
        self.gaps = np.array([i for i, number in enumerate(numbers) if number.missing], dtype=np.int64)
        ramps = [(i, a, b - a) for i, n in enumerate(numbers) for a, b in zip(n.knots[:-1], n.knots[1:], strict=True)]
        self.ramp_of = np.array([ramp[0] for ramp in ramps], dtype=np.int64)
        self.ramp_start = np.array([ramp[1] for ramp in ramps])
        self.ramp_slope = 1.0 / np.array([ramp[2] for ramp in ramps])
        atoms = [(i, atom) for i, number in enumerate(numbers) for atom in number.atoms]
        self.atom_of = np.array([atom[0] for atom in atoms], dtype=np.int64)
        self.atom = np.array([atom[1] for atom in atoms])
        self.width = len(numbers) + len(self.gaps) + len(ramps) + len(atoms)
        words = [number.name if number.part == "value" else f"{number.name} {number.part}" for number in numbers]
        self.names = [
            *words,
            *(f"{words[i]} missing" for i in self.gaps),
            *(f"{words[i]} > {start:g}" for i, start, _ in ramps),
            *(f"{words[i]} = {atom:g}" for i, atom in atoms),
        ]

    def write(self, x: np.ndarray, out: np.ndarray) -> None:
        """x float64 [rows, numbers], NaN where missing; fills the first `width` columns of out."""
        gone = np.isnan(x)
        x = np.clip(np.where(gone, self.fill, x), -LARGEST, LARGEST)
        edges = np.cumsum([0, x.shape[1], len(self.gaps), len(self.ramp_of), len(self.atom_of)])
        out[:, : edges[1]] = (np.clip(x, self.low, self.high) - self.mean) / self.scale
        out[:, edges[1] : edges[2]] = gone[:, self.gaps]
        ramps = np.take(x, self.ramp_of, axis=1)
        ramps -= self.ramp_start
        ramps *= self.ramp_slope
        out[:, edges[2] : edges[3]] = np.clip(ramps, 0.0, 1.0, out=ramps)
        out[:, edges[3] : edges[4]] = x[:, self.atom_of] == self.atom


def _number_values(table: Table) -> dict[tuple[str, str], np.ndarray]:
    """(column, part) -> training values: numbers as they are, dates in those parts that vary."""
    values: dict[tuple[str, str], np.ndarray] = {}
    for name, column in table.columns.items():
        if column.kind == "number":
            values[name, "value"] = part_values(column, "value")
        elif column.kind == "date":
            parts = {part: part_values(column, part) for part in DATE_PARTS}
            varied = {part: array for part, array in parts.items() if len(np.unique(array[~np.isnan(array)])) > 1}
            values.update({(name, part): array for part, array in (varied or {"days": parts["days"]}).items()})
    return values


def _fit_others(table: Table, width: int, num_numbers: int, seed: int) -> list[Category | Text]:
    """Categories and texts within what numbers leave, or half the width if that is more."""
    room = max(width - num_numbers * (1 + MIN_BINS), width // 2)
    min_rows = max(MIN_LEVEL_ROWS, table.n_rows // ROWS_PER_LEVEL)
    categories = [column for column in table.columns.values() if column.kind in ("category", "boolean")]
    texts = [column for column in table.columns.values() if column.kind == "text"]
    share = room // 2 if texts and categories else room
    levels = {column.name: column.levels() for column in categories}
    sizes = [int((np.bincount(codes[codes >= 0]) >= min_rows).sum()) for _, codes in levels.values()]
    cap = _largest_cap(sizes, share)
    fitted: dict[str, Category | Text] = {
        name: fit_category(name, names, codes, min_rows, cap) for name, (names, codes) in levels.items()
    }
    if texts:
        each = (room - sum(other.width for other in fitted.values())) // len(texts)
        buckets = 1 << min(MAX_BUCKETS, max(MIN_BUCKETS, each)).bit_length() - 1
        salt = derive(seed, "encoder", "words").key
        fitted.update({column.name: Text(column.name, buckets, salt) for column in texts})
    return [fitted[name] for name in table.names if name in fitted]


def _largest_cap(sizes: list[int], room: int) -> int:
    """The largest number of levels per column with which all columns together fit into `room` (at least 2)."""
    low, high = 2, max([2, *sizes])
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(size, middle) for size in sizes) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _refined(numbers: list[Number], values: list[np.ndarray], room: int) -> list[Number]:
    """Numbers with exact values and knots, as far as rows and room allow."""
    if not numbers:
        return numbers
    bins = min(MAX_BINS, len(values[0]) // ROWS_PER_BIN, room // len(numbers))
    if bins < MIN_BINS:
        return numbers
    knots = [knots_of(column, bins) for column in values]
    left = room - sum(max(0, len(edges) - 1) for edges in knots)
    out = []
    for number, column, edges in zip(numbers, values, knots, strict=True):
        atoms = atoms_of(column, left)
        left -= len(atoms)
        out.append(replace(number, knots=edges, atoms=atoms))
    return out


def _looks_like_image(values: list[np.ndarray]) -> bool:
    """Many columns on one scale from 0 up that most of them exhaust: pixels or counts, comparable as they are."""
    if len(values) < IMAGE_COLUMNS or any(np.isnan(column).any() or column.min() < 0 for column in values):
        return False
    highest = np.array([column.max() for column in values])
    return bool(highest.max() > 0 and (highest >= 0.9 * highest.max()).mean() >= 0.5)


def _shared_scale(numbers: list[Number], values: list[np.ndarray]) -> list[Number]:
    """One mean and one scale for all columns, so that pixels that hardly vary stay small."""
    every = np.concatenate(values)
    mean, scale, high = float(every.mean()), float(every.std()), float(every.max())
    return [replace(number, low=0.0, high=high, mean=mean, scale=scale) for number in numbers]


def _names(other: Category | Text) -> list[str]:
    if isinstance(other, Text):
        return [f"{other.name} #{i}" for i in range(other.buckets)]
    names = [f"{other.name} = {level}" for level in other.levels]
    names += [f"{other.name} other"] * other.other + [f"{other.name} missing"] * other.missing
    return names + [f"{other.name} frequency"] * bool(other.counts)

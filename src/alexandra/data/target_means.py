"""Target encoding without leakage: a category is replaced by the mean target of the rows that share it.

    table, fitted = encode_target(train, y, TargetEncoding(columns=("city",)), seed=0)
    new = fitted.transform(test)

A training row gets the mean over the other folds, so that it never sees its own target; rows with equal content share a
fold, so no copy of a row tells on it. Means are shrunk towards the overall mean by `prior` rows (Micci-Barreca, "A
preprocessing scheme for high-cardinality categorical attributes", 2001).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alexandra.errors import DataError
from alexandra.lang.task_steps import TargetEncoding
from alexandra.rng import derive
from alexandra.tables import Column, Table, row_keys


@dataclass(frozen=True)
class FittedEncoding:
    """means: column -> level -> one value a target; `overall` is for levels that training had not.

    With one target a column keeps its name; with several (the classes) it becomes `city 0`, `city 1`, ...
    """

    settings: TargetEncoding
    seed: int
    means: Mapping[str, Mapping[str, tuple[float, ...]]]
    overall: tuple[float, ...]

    def transform(self, table: Table) -> Table:
        """New rows: every column replaced by the means over all training rows."""
        values = {}
        for name in self.settings.columns:
            known = self.means[name]
            values[name] = np.array([known.get(str(level), self.overall) for level in table[name].texts()])
        return _replaced(table, {name: found.reshape(-1, len(self.overall)) for name, found in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` is its inverse."""
        return {
            "settings": asdict(self.settings) | {"columns": list(self.settings.columns)},
            "seed": self.seed,
            "means": {name: {key: list(row) for key, row in found.items()} for name, found in self.means.items()},
            "overall": list(self.overall),
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> FittedEncoding:
        settings = body["settings"]
        means = {name: {key: tuple(row) for key, row in found.items()} for name, found in body["means"].items()}
        encoding = TargetEncoding(tuple(settings["columns"]), settings["prior"], settings["folds"])
        return cls(encoding, body["seed"], means, tuple(body["overall"]))


def encode_target(
    table: Table, target: np.ndarray, settings: TargetEncoding, seed: int = 0
) -> tuple[Table, FittedEncoding]:
    """Training rows with out-of-fold encodings, and the encoding for new rows. target: float [rows] or [rows, k].

    Rows go to folds by their content over all columns of `table`.
    """
    if len(target) != table.n_rows:
        raise DataError(f"{len(target)} targets for {table.n_rows} rows")
    target = np.asarray(target, dtype=np.float64).reshape(table.n_rows, -1)
    salt = derive(seed, "target encoding").key
    fold = np.array([(int(key[:15], 16) ^ salt) % settings.folds for key in row_keys(table).tolist()])
    values: dict[str, np.ndarray] = {}
    means: dict[str, dict[str, tuple[float, ...]]] = {}
    for name in settings.columns:
        names, level = np.unique(table[name].texts().astype(str), return_inverse=True)
        every = _smoothed(level, target, len(names), settings.prior)
        means[name] = dict(zip(names.tolist(), map(tuple, every.tolist()), strict=True))
        values[name] = np.empty(target.shape)
        for number in range(settings.folds):
            out, rest = fold == number, fold != number
            if rest.any():
                values[name][out] = _smoothed(level[rest], target[rest], len(names), settings.prior)[level[out]]
            else:
                values[name][out] = target.mean(axis=0)
    overall = tuple(target.mean(axis=0).tolist())
    return _replaced(table, values), FittedEncoding(settings, seed, means, overall)


def _smoothed(level: np.ndarray, target: np.ndarray, n: int, prior: float) -> np.ndarray:
    """[levels, k] shrunk means; the overall mean where a level has no row."""
    overall = target.mean(axis=0)
    sums = np.stack([np.bincount(level, column, n) for column in target.T], axis=1)
    weight = np.bincount(level, minlength=n)[:, None] + prior
    return np.asarray(np.where(weight > 0, (sums + prior * overall) / np.where(weight > 0, weight, 1.0), overall))


def _new_names(name: str, encoded: tuple[str, ...], k: int) -> list[str]:
    return [f"{name} {number}" for number in range(k)] if k > 1 and name in encoded else [name]


def _replaced(table: Table, values: Mapping[str, np.ndarray]) -> Table:
    """The encoded columns in the place of the old ones; values: column -> [rows, k]."""
    columns = {}
    for name, column in table.columns.items():
        if name not in values:
            columns[name] = column
            continue
        names = _new_names(name, tuple(values), values[name].shape[1])
        for number, new in enumerate(names):
            column_values = np.ascontiguousarray(values[name][:, number])
            columns[new] = Column(new, "number", column_values, np.zeros(len(column_values), dtype=bool))
    return Table(columns, table.source, table.notes)

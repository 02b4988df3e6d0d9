"""The target of a table as numbers: class indices for classification, standardised values for regression.

Fitted on the target column alone; stored in the artifact as JSON, so that answers come back in the user's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexandra.errors import DataError, suggest
from alexandra.tables import Column
from alexandra.tables.column import parse_number

MAX_CLASSES = 1000
MAX_NUMBER_CLASSES = 20
ROWS_PER_NUMBER_CLASS = 4
YES = ("yes", "y", "true", "t", "1", "positive", "pos")


def is_classification(column: Column) -> bool:
    """Texts and booleans are classes; numbers are when there are two, or up to 20 whole ones with 4 rows each."""
    if column.kind != "number":
        return column.kind != "date"
    values = np.unique(column.values[~column.missing])
    whole = bool((values == np.floor(values)).all())
    few = len(values) <= MAX_NUMBER_CLASSES and ROWS_PER_NUMBER_CLASS * len(values) <= len(column)
    return len(values) <= 2 or (whole and few)


@dataclass(frozen=True)
class TargetEncoder:
    """classes: labels in the order of indices (numeric order for numbers), empty for regression.

    positive: index of the class that a binary task asks about, -1 otherwise. mean, std: of the training target of
    a regression.
    """

    name: str
    classes: tuple[str, ...] = ()
    positive: int = -1
    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def fit(cls, column: Column, positive: str | None = None, classification: bool | None = None) -> TargetEncoder:
        """Learn the coding; `positive` names a class, `classification` overrides the rule on numbers.

        Without `positive` it is the class that says yes (yes, true, 1 ...), else the rarer one.
        """
        present = column.take(~column.missing)
        if not len(present):
            raise DataError(f"target {column.name!r} is missing in every row", hint="choose another target column")
        if column.kind == "date":
            raise DataError(f"target {column.name!r} holds dates", hint="turn it into a number or a class first")
        if not (is_classification(column) if classification is None else classification):
            return cls._fit_values(present, positive)
        names, codes = present.levels()
        counts = np.bincount(codes)
        if len(names) > MAX_CLASSES or (len(names) > 20 and 2 * len(names) > len(present)):
            raise DataError(
                f"target {column.name!r} has {len(names):,} distinct values in {len(present):,} rows",
                hint="a target has a few classes or is a number; an identifier or running text cannot be predicted",
            )
        if len(names) == 1:
            raise DataError(
                f"target {column.name!r} has one class only: {names[0]!r} in all {len(present):,} rows",
                hint="give rows of at least two classes, or choose another target column",
            )
        numbers = [parse_number(name) for name in names]
        order = list(range(len(names)))
        if all(number is not None for number in numbers):
            order.sort(key=lambda i: numbers[i] or 0.0)
        classes = tuple(names[i] for i in order)
        return cls(column.name, classes, _positive(column.name, classes, counts[order], positive))

    @classmethod
    def _fit_values(cls, present: Column, positive: str | None) -> TargetEncoder:
        if positive:
            raise DataError(
                f"target {present.name!r} is a number, so it has no positive class {positive!r}", hint="drop POSITIVE"
            )
        values = present.numbers()
        if np.isnan(values).any():
            raise DataError(f"target {present.name!r} holds texts that are no numbers", hint="clean the column first")
        std = float(values.std())
        if std == 0.0:
            raise DataError(
                f"target {present.name!r} has one value only: {present.texts()[0]}", hint="choose another target column"
            )
        return cls(present.name, mean=float(values.mean()), std=std)

    @property
    def is_classification(self) -> bool:
        return bool(self.classes)

    def encode(self, column: Column) -> np.ndarray:
        """int64 class indices, or float64 (value - mean) / std; DataError for missing or unknown values."""
        if column.missing.any():
            row = int(np.flatnonzero(column.missing)[0])
            raise DataError(f"target {self.name!r} is missing in row {row + 1}", hint="drop the rows without a target")
        if not self.classes:
            return np.asarray((column.numbers() - self.mean) / self.std)
        names, codes = column.levels()
        index = {name: position for position, name in enumerate(self.classes)}
        unknown = [name for name in names if name not in index]
        if unknown:
            raise DataError(
                f"target {self.name!r} has an unknown class {unknown[0]!r}", hint=suggest(unknown[0], index)
            )
        table = np.array([index[name] for name in names], dtype=np.int64)
        return np.asarray(table[codes])

    def decode(self, y: np.ndarray) -> np.ndarray:
        """What a network answered, in the target's terms, float64.

        Classification: probabilities [rows, classes]; one sigmoid output [rows] or [rows, 1] becomes two columns.
        Regression: values [rows] from standardised ones.
        """
        y = np.asarray(y, dtype=np.float64)
        if not self.classes:
            return y.reshape(-1) * self.std + self.mean
        if y.ndim == 1 or y.shape[1] == 1:
            one = y.reshape(-1)
            return np.stack([1.0 - one, one], axis=1)
        return y

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "classes": list(self.classes),
            "positive": self.positive,
            "mean": self.mean,
            "std": self.std,
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> TargetEncoder:
        return cls(body["name"], tuple(body["classes"]), body["positive"], body["mean"], body["std"])


def _positive(name: str, classes: tuple[str, ...], counts: np.ndarray, wanted: str | None) -> int:
    if wanted:
        found = [i for i, label in enumerate(classes) if label == wanted]
        found = found or [i for i, label in enumerate(classes) if label.casefold() == wanted.casefold()]
        if len(found) != 1:
            raise DataError(f"target {name!r} has no class {wanted!r}", hint=suggest(wanted, classes))
        return found[0]
    if len(classes) != 2:
        return -1
    yes = [i for i, label in enumerate(classes) if label.casefold() in YES]
    if len(yes) == 1:
        return yes[0]
    return 0 if counts[0] < counts[1] else 1

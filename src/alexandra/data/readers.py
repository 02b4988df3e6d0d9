"""Where a task's rows come from: files, frames in memory, and five small sets that scikit-learn brings along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import DataError, suggest
from alexandra.lang.task_parts import DataSource
from alexandra.tables import Table

# name -> loader in sklearn.datasets
BUNDLED = {
    "breast_cancer": "load_breast_cancer",
    "diabetes": "load_diabetes",
    "digits": "load_digits",
    "iris": "load_iris",
    "wine": "load_wine",
}
TARGET = "target"


def bundled(name: str) -> Table:
    """A bundled set as a table, column `target` last; classes carry their names."""
    if name not in BUNDLED:
        raise DataError(f"no bundled data set {name!r}", hint=suggest(name, BUNDLED))
    from sklearn import datasets

    loader: Callable[..., Any] = getattr(datasets, BUNDLED[name])
    bunch = loader(scaled=False) if name == "diabetes" else loader()
    columns: dict[str, Any] = {str(feature): bunch.data[:, i] for i, feature in enumerate(bunch.feature_names)}
    labels = [str(label) for label in getattr(bunch, "target_names", [])]
    worded = bool(labels) and not labels[0].isdigit()
    columns[TARGET] = np.array(labels, dtype=object)[bunch.target] if worded else bunch.target.astype(np.float64)
    return Table(Table.from_any(columns).columns, name)


def read(source: DataSource, folder: Path) -> Table:
    """The rows of a task's data source; relative paths start at `folder`. DataError says what is wrong with a file."""
    if source.kind == "frame":
        return Table.from_any(source.value)
    if source.kind == "bundled":
        return bundled(source.location)
    if source.kind in ("csv", "parquet"):
        return Table.from_any(folder / Path(source.location).expanduser())
    raise DataError(f"a {source.kind} source has no table", hint="give csv, parquet, bundled or a frame")

"""A fitted scikit-learn estimator or pipeline (or what keeps its conventions) as the inside of a Foreign.

It answers rows: probabilities in the order of its `classes_`, or values. Files are skops', never pickle; types that
skops does not know to be safe need the reader's trust (trust.py).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from alexandra.backends.trust import require_trust
from alexandra.errors import BackendError, StorageError, missing_extra
from alexandra.tables.column import number_text

KIND = "scikit-learn"
FILE = "model.skops"
INPUT, OUTPUT = "x", "y"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every entry, so that equal models give equal files


class ForeignEstimator:
    """What a Foreign asks of an estimator. `features` are the column names that it was fitted on, if any."""

    kind = KIND
    num_parameters = 0

    def __init__(self, estimator: Any) -> None:
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        self.estimator = estimator
        self.words = f"the scikit-learn {type(estimator).__name__}"
        try:
            check_is_fitted(estimator)
        except NotFittedError:
            raise BackendError(f"{self.words} is not fitted", hint="call its fit(X, y) first") from None
        self.features = tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))
        self.width = int(getattr(estimator, "n_features_in_", 0)) or len(self.features)
        self._labels = np.asarray(getattr(estimator, "classes_", ()))
        self.classes = tuple(_text(label) for label in self._labels.tolist())

    @property
    def memory(self) -> dict[str, int]:
        return {"weights": 0, "arena": 0, "gradients": 0, "optimizer": 0}

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """{"x": [rows, features] or a data frame} -> {"y": probabilities [rows, classes] or values [rows, n]}."""
        if not isinstance(inputs, Mapping) or set(inputs) != {INPUT}:
            given = ", ".join(map(str, inputs)) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise BackendError(f"{self.words} needs the input {INPUT!r} alone, got {given or 'nothing'}")
        x = self._admitted(inputs[INPUT])
        if not len(x):
            return {OUTPUT: np.zeros((0, len(self.classes) or 1))}
        try:
            return {OUTPUT: self._answer(x)}
        except BackendError:
            raise
        except Exception as error:  # whatever a user's pipeline raises is an answer that was not given
            raise BackendError(f"{self.words} failed on these rows: {_first_line(error)}") from error

    def _admitted(self, x: Any) -> Any:
        if hasattr(x, "columns"):
            return x
        array = np.asarray(x)
        if array.ndim != 2 or (self.width and array.shape[1] != self.width):
            wanted = f"[rows, {self.width or 'features'}]"
            raise BackendError(f"input {INPUT!r} needs shape {wanted}, got {list(array.shape)}")
        return frame_of(self.features, list(array.T)) if self.features else array

    def _answer(self, x: Any) -> np.ndarray:
        if self.classes and hasattr(self.estimator, "predict_proba"):
            shares = np.asarray(self.estimator.predict_proba(x), dtype=np.float64)
            if shares.shape != (len(x), len(self.classes)):
                raise BackendError(f"{self.words} answers several targets at once; one is supported")
            return shares
        answers = np.asarray(self.estimator.predict(x))
        if self.classes:
            return np.asarray(answers.reshape(-1, 1) == self._labels[None, :], dtype=np.float64)
        return answers.astype(np.float64).reshape(len(x), -1)

    def files(self) -> dict[str, bytes]:
        """The estimator in skops' format, the same bytes for the same estimator."""
        io_of_skops = _skops("storing")
        try:
            return {FILE: _canonical(io_of_skops.dumps(self.estimator))}
        except (TypeError, AttributeError, ValueError) as error:
            raise BackendError(f"{self.words} cannot be stored by skops: {_first_line(error)}") from error

    def description(self) -> dict[str, Any]:
        from sklearn import __version__

        return {"kind": self.kind, "class": self.words, "scikit-learn": __version__}

    @classmethod
    def read(cls, files: Mapping[str, bytes], description: Mapping[str, Any]) -> ForeignEstimator:
        """The inverse of `files`. BackendError names types that are not trusted, StorageError damage."""
        io_of_skops, data = _skops("loading"), files[FILE]
        try:
            types = io_of_skops.get_untrusted_types(data=data)
            safe = _harmless(data)
        except Exception as error:  # of a damaged zip, JSON or array: there is no end of kinds
            raise StorageError(f"{FILE!r} is damaged: {_first_line(error)}") from error
        types = [name for name in types if name not in safe]
        require_trust(f"{FILE!r} holds types that can do harm when they are loaded", types)
        try:
            estimator = io_of_skops.loads(data, trusted=[*types, *safe])
        except Exception as error:
            raise StorageError(f"{FILE!r} cannot be read: {_first_line(error)}") from error
        if not all(hasattr(estimator, name) for name in ("predict", "get_params")):
            raise StorageError(f"{FILE!r} holds a {type(estimator).__name__}, not an estimator")
        return cls(estimator)


def frame_of(names: tuple[str, ...], columns: list[np.ndarray]) -> Any:
    """A data frame of these columns, pandas' where it is installed, else polars'."""
    if find_spec("pandas") is not None:
        import pandas as pd

        return pd.DataFrame(dict(zip(names, columns, strict=True))).infer_objects()
    import polars as pl

    cells = {
        name: [None if value != value else value for value in column.tolist()] if column.dtype == object else column
        for name, column in zip(names, columns, strict=True)
    }
    return pl.DataFrame(cells)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _text(label: Any) -> str:
    """A class label as a table's target spells it: true, 3 for 3.0, 0.5, spam."""
    if isinstance(label, bool):
        return str(label).lower()
    return number_text(float(label)) if isinstance(label, int | float) else str(label)


def _skops(doing: str) -> Any:
    try:
        from skops import io as found
    except ImportError:
        raise missing_extra(f"{doing} a scikit-learn model", "skops") from None
    return found


def _harmless(data: bytes) -> tuple[str, ...]:
    """numpy.dtype, which imputers and encoders keep, where the file has it made by skops' own loader of dtypes only."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        pending = [json.loads(file.read("schema.json"))]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            found = value.get("__module__"), value.get("__class__")
            if found == ("numpy", "dtype") and value.get("__loader__") != "DTypeNode":
                return ()
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return ("numpy.dtype",)


def _canonical(data: bytes) -> bytes:
    """A skops file whose objects are numbered by their place instead of their address in memory."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        files = {name: old.read(name) for name in old.namelist()}
    numbers: dict[int, int] = {}
    renamed: dict[str, str] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        out = {}
        for key, item in value.items():
            if key == "__id__" and isinstance(item, int):
                item = numbers.setdefault(item, len(numbers))
            elif key == "file" and isinstance(item, str) and item in files:
                item = renamed.setdefault(item, f"{len(renamed)}{item[item.rindex('.') :]}")
            else:
                item = walk(item)
            out[key] = item
        return out

    schema = walk(json.loads(files.pop("schema.json")))
    stored = {renamed.get(name, name): content for name, content in files.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        for name in sorted(stored):
            new.writestr(zipfile.ZipInfo(name, _EPOCH), stored[name])
        new.writestr(zipfile.ZipInfo("schema.json", _EPOCH), json.dumps(schema))
    return buffer.getvalue()

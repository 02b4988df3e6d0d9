"""The simple models that stand in every table: linear (logistic or ridge) and histogram gradient boosting.

They see the same training rows and folds as the networks. When one of them wins, the table says so. Both
are scikit-learn's with its defaults (more iterations for logistic regression, so that it converges).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from alexandra.data.encoder import Encoder
from alexandra.rng import derive
from alexandra.tables import Table

MAX_CODES = 255


class Fitted(Protocol):
    """A fitted baseline: raw rows in, probabilities [rows, classes] or values [rows] out."""

    @property
    def parameters(self) -> int: ...

    def predict_raw(self, table: Table) -> np.ndarray: ...


@dataclass(frozen=True)
class Baseline:
    """A name and how to fit it: fit(table, features, y, classes, seed) -> Fitted."""

    name: str
    fit: Callable[[Table, list[str], np.ndarray, int, int], Fitted]


@dataclass
class _Linear:
    encoder: Encoder
    model: Any
    classes: int

    @property
    def parameters(self) -> int:
        return int(self.model.coef_.size + np.size(self.model.intercept_))

    def predict_raw(self, table: Table) -> np.ndarray:
        x = self.encoder.transform(table)
        return _spread(self.model, x, self.classes) if self.classes else np.asarray(self.model.predict(x))


@dataclass
class _Boosted:
    coder: _Codes
    model: Any
    classes: int

    @property
    def parameters(self) -> int:
        """Nodes of all trees: each holds one split or one value."""
        return int(sum(len(tree.nodes) for trees in self.model._predictors for tree in trees))

    def predict_raw(self, table: Table) -> np.ndarray:
        x = self.coder.transform(table)
        return _spread(self.model, x, self.classes) if self.classes else np.asarray(self.model.predict(x))


def _spread(model: Any, x: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities with a column for every class, also for those that the training rows did not show."""
    out = np.zeros((len(x), classes))
    out[:, np.asarray(model.classes_, dtype=np.int64)] = model.predict_proba(x)
    return out


@dataclass
class _Codes:
    """Numbers as they are, categories as codes learnt from the training rows (unseen and missing: NaN)."""

    features: list[str]
    codes: dict[str, dict[str, int]]

    @classmethod
    def fit(cls, table: Table, features: list[str]) -> _Codes:
        codes = {}
        for name in features:
            column = table[name]
            if column.kind not in ("number", "date"):
                values, counts = np.unique(column.values.astype(str)[~column.missing], return_counts=True)
                order = np.argsort(-counts, kind="stable")[: MAX_CODES - 1]
                codes[name] = {str(values[i]): rank for rank, i in enumerate(order)}
        return cls(features, codes)

    @property
    def categorical(self) -> list[bool]:
        return [name in self.codes for name in self.features]

    def transform(self, table: Table) -> np.ndarray:
        columns = []
        for name in self.features:
            column = table[name]
            if name in self.codes:
                code = self.codes[name]
                values = [
                    np.nan if m else code.get(str(v), np.nan)
                    for v, m in zip(column.values, column.missing, strict=True)
                ]
                columns.append(np.array(values, dtype=np.float64))
            else:
                columns.append(column.numbers())
        return np.stack(columns, axis=1)


def _fit_linear(table: Table, features: list[str], y: np.ndarray, classes: int, seed: int) -> Fitted:
    from sklearn.linear_model import LogisticRegression, Ridge

    encoder = Encoder.fit(table, features, mode="standard")
    model = LogisticRegression(max_iter=2000) if classes else Ridge()
    return _Linear(encoder, model.fit(encoder.transform(table), y), classes)


def _fit_boosted(table: Table, features: list[str], y: np.ndarray, classes: int, seed: int) -> Fitted:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    coder = _Codes.fit(table, features)
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    model = kind(categorical_features=coder.categorical, random_state=derive(seed, "baseline").integer())
    return _Boosted(coder, model.fit(coder.transform(table), y), classes)


def baselines(classification: bool) -> list[Baseline]:
    """The two that are always trained beside."""
    return [Baseline("logistic" if classification else "ridge", _fit_linear), Baseline("boosting", _fit_boosted)]

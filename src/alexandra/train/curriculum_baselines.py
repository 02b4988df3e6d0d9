"""The simple models beside a curriculum's networks: the commonest answer, nearest neighbours, a decision tree.

They see the same training items through the same coding of questions and answers (a sign and digits). The last two are
scikit-learn's with its defaults, on all heads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexandra.rng import derive
from alexandra.tables import Table
from alexandra.train.baselines import Baseline, Fitted
from alexandra.train.curriculum_code import DigitCoder, inputs_of
from alexandra.train.prepare import Prepared


@dataclass
class _Constant:
    value: float
    parameters: int = 1

    def predict_raw(self, table: Table) -> np.ndarray:
        return np.full(table.n_rows, self.value)


@dataclass
class _Learnt:
    coder: DigitCoder
    model: Any
    parameters: int

    def predict_raw(self, table: Table) -> np.ndarray:
        heads = np.asarray(self.model.predict(self.coder.one_hot(inputs_of(table))))
        sizes = self.coder.heads
        shares = {name: np.eye(size)[heads[:, i]] for i, (name, size) in enumerate(sizes.items())}
        return self.coder.decode(shares)[0].astype(np.float64)


def _fit_majority(table: Table, features: list[str], y: np.ndarray, classes: int, seed: int) -> Fitted:
    values, counts = np.unique(y, return_counts=True)
    return _Constant(float(values[counts.argmax()]))


def _fit(make: Callable[[int], Any], size: Callable[[Any, np.ndarray], int]) -> Callable[..., Fitted]:
    def fit(table: Table, features: list[str], y: np.ndarray, classes: int, seed: int) -> Fitted:
        coder = DigitCoder.fit(inputs_of(table), y)
        x = coder.one_hot(inputs_of(table))
        targets = coder.targets(y)
        heads = np.stack([targets[name] for name in coder.heads], axis=1)
        model = make(derive(seed, "baseline").integer()).fit(x, heads)
        return _Learnt(coder, model, size(model, x))

    return fit


def _neighbours(seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier()


def _tree(seed: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=seed)


def baselines(data: Prepared) -> list[Baseline]:
    """The three that are always measured beside."""
    return [
        Baseline("majority", _fit_majority),
        Baseline("neighbours", _fit(_neighbours, lambda model, x: int(x.size))),
        Baseline("tree", _fit(_tree, lambda model, x: int(model.tree_.node_count))),
    ]

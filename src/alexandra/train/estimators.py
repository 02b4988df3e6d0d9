"""One network with scikit-learn's conventions: Classifier and Regressor for pipelines, searches and notebooks.

They train a single network with early stopping on rows held out by content hash; choosing among networks,
checking and registering is what `alexandra.solve` adds. X may be an array or a data frame with categories
and missing values; it is encoded as everywhere else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data

from alexandra.backends.bind import bind
from alexandra.data.encoder import Encoder
from alexandra.ir import build
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.lang.nureon import compile_network
from alexandra.splits import holdout
from alexandra.tables import Table, row_keys
from alexandra.train.candidates import LINEAR_LR, recipe_for
from alexandra.train.crossfit import fit_graph, program_for, shaped
from alexandra.train.loop import Batch, Plan, fit_loop

VALIDATION_SHARE = 0.12
MIN_ROWS_TO_VALIDATE = 200


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both share; the parameters are documented on the public classes."""

    def __init__(
        self,
        network: str | None = None,
        *,
        layers: int = 2,
        width: int = 64,
        dropout: float = 0.1,
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        backend: str = "auto",
        threads: int = 1,
    ) -> None:
        self.network = network
        self.layers = layers
        self.width = width
        self.dropout = dropout
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.seed = seed
        self.backend = backend
        self.threads = threads

    def _table(self, x: Any, *, reset: bool) -> Table:
        """X as a Table with columns x0, x1 ... or the data frame's own; checks as scikit-learn does."""
        if hasattr(x, "columns") and hasattr(x, "iloc"):
            validate_data(self, x, reset=reset, skip_check_array=True)
            if all(isinstance(name, str) for name in x.columns):
                return Table.from_any(x)
            return Table.from_any({f"x{i}": x.iloc[:, i] for i in range(x.shape[1])})
        array = check_array(x, dtype="numeric", ensure_all_finite="allow-nan", estimator=self, input_name="X")
        validate_data(self, array, reset=reset, skip_check_array=True)
        columns = {f"x{i}": array[:, i].astype(np.float64) for i in range(array.shape[1])}
        return Table.from_any(columns)

    def _graph(self, width: int, classes: int) -> Graph:
        if self.network is not None:
            return fit_graph(compile_network(self.network), width, classes)
        output = "softmax" if classes else "linear"
        if self.layers == 0:
            return fit_graph(build.linear(output=output), width, classes)
        return fit_graph(build.mlp(*[self.width] * self.layers, dropout=self.dropout, output=output), width, classes)

    def _train(self, table: Table, y: np.ndarray, classes: int) -> None:
        keys = row_keys(table, table.names)
        valid = np.zeros(0, dtype=np.int64)
        train = np.arange(table.n_rows)
        if table.n_rows >= MIN_ROWS_TO_VALIDATE:
            parts = holdout(keys, (1 - VALIDATION_SHARE, VALIDATION_SHARE, 0.0), self.seed)
            train, valid = np.flatnonzero(parts == "train"), np.flatnonzero(parts != "train")
        self._encoder = Encoder.fit(table.take(train), list(table.names))
        x = self._encoder.transform(table)
        graph = self._graph(x.shape[1], classes)
        linear = self.layers == 0 and self.network is None
        lr = LINEAR_LR if linear and self.lr is None else self.lr
        recipe = recipe_for(len(train), lr=lr, batch_size=self.batch_size, epochs=self.epochs)
        targets = shaped(graph, y)
        self._model = bind(graph, self.backend, seed=self.seed, threads=self.threads)
        name = graph.inputs[0].name
        plan = Plan(
            program_for(recipe, graph, len(train), self.seed, recipe.epochs),
            recipe.epochs,
            recipe.patience if len(valid) else 0,
        )
        validation = Batch({name: x[valid]}, targets[valid]) if len(valid) else None
        self.history_ = fit_loop(self._model, Batch({name: x[train]}, targets[train]), plan, validation)
        self.graph_ = graph
        self.n_iter_ = len(self.history_.epochs)

    def _forward(self, x: Any) -> np.ndarray:
        check_is_fitted(self, "graph_")
        encoded = self._encoder.transform(self._table(x, reset=False))
        return next(iter(self._model.forward({self.graph_.inputs[0].name: encoded}).values())).astype(np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """The engine's handle does not travel; graph and weights do."""
        state = dict(super().__getstate__())
        model = state.pop("_model", None)
        if model is not None:
            state["_weights"] = dict(model.weights)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        weights = state.pop("_weights", None)
        super().__setstate__(state)
        if weights is not None:
            self._model = bind(self.graph_, self.backend, weights=WeightSet(weights), threads=self.threads)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A network that answers class probabilities.

    network   NureonLang text with one INPUT and one OUTPUT (sizes AUTO); None builds `layers` x `width`
    layers, width, dropout    the shape otherwise; 0 layers is the linear model
    epochs, lr, batch_size    None chooses by the number of rows; with 200 rows or more it stops early
    seed      decides weights, shuffling and the held-out rows: the same seed gives the same bytes
    """

    def fit(self, X: Any, y: Any) -> Classifier:
        """Train on raw rows X and labels y."""
        table = self._table(X, reset=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        _same_length(table, y)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]!r}")
        self._train(table, codes.astype(np.int64), len(self.classes_))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """[rows, classes] in the order of `classes_`."""
        raw = self._forward(X)
        return np.concatenate([1 - raw, raw], axis=1) if raw.shape[1] == 1 else raw

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A network that answers numbers; parameters as in Classifier. The target is standardised inside."""

    def fit(self, X: Any, y: Any) -> Regressor:
        """Train on raw rows X and numbers y."""
        table = self._table(X, reset=True)
        y = check_array(column_or_1d(y, warn=True), ensure_2d=False, dtype=np.float64, input_name="y")
        _same_length(table, y)
        self._mean, self._scale = float(y.mean()), float(y.std()) or 1.0
        self._train(table, (y - self._mean) / self._scale, 0)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """A number for each row."""
        raw = self._forward(X)[:, 0]
        return np.asarray(raw * self._scale + self._mean)


def _same_length(table: Table, y: np.ndarray) -> None:
    if table.n_rows != len(y):
        raise ValueError(f"Found input variables with inconsistent numbers of samples: {[table.n_rows, len(y)]}")

"""Which networks of a `fit_many` share vectors, and what became of them: Fits to populations and back.

Networks are grouped by shape, objective and kind of program; each graph and array is checked once. How they are
trained is the engine's business (backends/population.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alexandra.backends.admit import check_program
from alexandra.backends.base import Arrays
from alexandra.backends.population import Outcome, Seat, Shape, kind_of, outcomes, runs_in_lanes, train
from alexandra.errors import BackendError
from alexandra.objectives.spec import Objective, Program
from alexandra.train.fits import FAILED, Fit, Fitted
from alexandra.train.loop import ALL_EPOCHS, TARGET_REACHED, out_of_patience
from alexandra.train.model import default_objective

HINT = "lower the learning rate, clip the gradient (clip_norm=1.0) or look for huge values"


@dataclass(frozen=True)
class Admitted:
    """A Fit that can share vectors: its number, shape and program, and its arrays as the engine reads them."""

    number: int
    fit: Fit
    shape: Shape
    program: Program
    inputs: list[np.ndarray]
    targets: list[np.ndarray]
    validation: list[np.ndarray]
    validation_targets: list[np.ndarray]

    @property
    def rows(self) -> int:
        return len(self.targets[0])

    def seat(self, weights: np.ndarray) -> Seat:
        arrays = (self.inputs, self.targets, self.validation, self.validation_targets, weights)
        return Seat(self.program, self.fit.epochs, self.fit.target_loss, *arrays)


class Group:
    """Networks that make one population."""

    def __init__(self, admitted: list[Admitted]) -> None:
        self._admitted = sorted(admitted, key=lambda one: (one.rows, -one.fit.epochs))
        self._shape, self._batch = admitted[0].shape, admitted[0].program.batch_size
        self._rows = self._shape.first_weights([one.fit.seed for one in self._admitted])
        for row, one in zip(self._rows, self._admitted, strict=True):
            if one.fit.weights is not None:
                row[:] = self._shape.row_of(one.fit.weights)
        seats = [one.seat(row) for one, row in zip(self._admitted, self._rows, strict=True)]
        self.population = self._shape.population(self._batch, seats)

    def results(self, began: float) -> Iterator[tuple[int, Fitted]]:
        """What became of each network, by its number; `seconds` is those of the whole population."""
        seconds = time.monotonic() - began
        found = outcomes(self.population, len(self._admitted))
        for one, row, outcome in zip(self._admitted, self._rows, found, strict=True):
            yield one.number, _fitted(one, self._shape, row, outcome, seconds)


def _fitted(one: Admitted, shape: Shape, row: np.ndarray, outcome: Outcome, seconds: float) -> Fitted:
    epochs, steps = len(outcome.means), -(-one.rows // one.program.batch_size)
    looks = outcome.looks if one.validation else np.full(epochs, math.nan)
    best = -(-outcome.best_step // steps) or epochs
    stopped = {"epochs": ALL_EPOCHS, "target": TARGET_REACHED, "failed": FAILED}.get(outcome.ending)
    if stopped is None:
        assert one.program.stop is not None
        stopped = out_of_patience(one.program.stop.patience)
    error = None
    if outcome.ending == "failed":
        kind = "NaN" if math.isnan(outcome.failed_with) else "infinite"
        error = BackendError(f"the loss is {kind} at step {outcome.steps}", hint=HINT)
    return Fitted(shape.weights_of(row), outcome.means, looks, best, outcome.steps, seconds, stopped, error)


def train_side_by_side(fits: Sequence[Fit], threads: int, progress: Callable[[int], None]) -> dict[int, Fitted]:
    """Train the networks that are faster side by side; what became of them, by number."""
    began = time.monotonic()
    groups = _groups(fits)
    if groups:
        train([group.population for group in groups], threads, progress)
    return {number: fitted for group in groups for number, fitted in group.results(began)}


def _groups(fits: Sequence[Fit]) -> list[Group]:
    admissions = _Admissions()
    groups: dict[tuple[Any, ...], list[Admitted]] = {}
    for number, fit in enumerate(fits):
        try:
            found = admissions.admit(number, fit)
        except BackendError as error:
            raise BackendError(f"network {number}: {error.message}", hint=error.hint) from error
        if found is not None:
            groups.setdefault((id(found.shape), kind_of(found.program), fit.validation is None), []).append(found)
    kept = [group for group in groups.values() if group[0].shape.pays(len(group), group[0].program.batch_size)]
    return [Group(group) for group in kept]


class _Admissions:
    """Checks Fits: each graph, each array and each pair of arrays once."""

    def __init__(self) -> None:
        self._graphs: dict[int, tuple[str, Objective]] = {}
        self._shapes: dict[tuple[str, Objective], Shape] = {}
        self._arrays: dict[tuple[Any, ...], tuple[dict[str, np.ndarray], int]] = {}
        self._targets: dict[tuple[Any, ...], list[np.ndarray]] = {}

    def admit(self, number: int, fit: Fit) -> Admitted | None:
        """The arrays of `fit`, or None when it has to train alone. BackendError when it cannot train."""
        shape = self._shape(fit)
        program = fit.program(shape.objective)
        check_program(program)
        if not shape.side_by_side or not runs_in_lanes(program) or fit.epochs < 1:
            return None
        if program.stop is not None and fit.validation is None:
            return None  # refused in the words of whoever trains it alone
        arrays, rows = self._inputs(shape, fit.inputs)
        if rows == 0:
            return None
        targets = self._wanted(shape, fit.targets, arrays, rows)
        validation: dict[str, np.ndarray] = {}
        validation_targets: list[np.ndarray] = []
        if fit.validation is not None:
            validation, looks = self._inputs(shape, fit.validation[0])
            validation_targets = self._wanted(shape, fit.validation[1], validation, looks)
        batch = fit.batch_size if rows > fit.batch_size else min(fit.batch_size, -(-rows // 16) * 16)
        given = (list(arrays.values()), targets, list(validation.values()), validation_targets)
        return Admitted(number, fit, shape, replace(program, batch_size=batch), *given)

    def _shape(self, fit: Fit) -> Shape:
        if id(fit.graph) not in self._graphs:
            self._graphs[id(fit.graph)] = fit.graph.spec_hash, default_objective(fit.graph)
        spec, default = self._graphs[id(fit.graph)]
        key = (spec, fit.objective or default)
        if key not in self._shapes:
            self._shapes[key] = Shape(fit.graph, key[1])
        return self._shapes[key]

    def _inputs(self, shape: Shape, inputs: Arrays) -> tuple[dict[str, np.ndarray], int]:
        key = (id(shape), _identity(inputs))
        if key not in self._arrays:
            self._arrays[key] = shape.inputs(inputs)
        return self._arrays[key]

    def _wanted(self, shape: Shape, targets: Any, arrays: dict[str, np.ndarray], rows: int) -> list[np.ndarray]:
        key = (id(shape), _identity(targets), rows)
        if key not in self._targets:
            self._targets[key] = shape.targets(targets, arrays, rows)
        return self._targets[key]


def _identity(value: Any) -> Any:
    """What tells arrays apart while they are held: networks often share theirs."""
    if isinstance(value, Mapping):
        return tuple((name, id(array)) for name, array in value.items())
    return id(value)

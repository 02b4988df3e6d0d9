"""The one training loop: ask the backend for an epoch of steps, look, decide, go on.

A backend's `run` does the steps without Python; everything that happens between epochs happens here:
validation, early stopping, keeping the best weights, the deadline, checkpoints, progress. `Model.fit`,
`solve` and the estimators all come through `fit_loop`; there is no other loop in the project.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alexandra.backends.base import Arrays, Model, TrainState
from alexandra.errors import BackendError
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import CrossEntropy, Objective, Program

EPSILON = 1e-12
OUT_OF_TIME = "time budget"


@dataclass(frozen=True)
class Plan:
    """How long to train: at most `epochs`, at least until `patience` epochs without a better validation loss.

    `patience` 0 trains all epochs. `deadline` is a time.monotonic() moment after which no epoch starts.
    """

    program: Program
    epochs: int = 10
    patience: int = 0
    deadline: float = math.inf


@dataclass(frozen=True)
class Epoch:
    """What one epoch showed; `valid_loss` is NaN without validation data."""

    number: int
    train_loss: float
    valid_loss: float


@dataclass(frozen=True)
class History:
    """What happened: an entry per epoch, the epoch whose weights were kept, and why training stopped."""

    epochs: tuple[Epoch, ...]
    best_epoch: int
    steps: int
    seconds: float
    stopped: str
    losses: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0))

    @property
    def final_loss(self) -> float:
        return self.epochs[-1].train_loss if self.epochs else math.nan


@dataclass(frozen=True)
class Batch:
    """Inputs and targets that belong together: row i of every array is one item."""

    inputs: Arrays
    targets: Any

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


def mean_loss(outputs: Mapping[str, np.ndarray], targets: Any, objective: Objective) -> float:
    """The objective of already computed outputs (probabilities for CrossEntropy), summed over outputs."""
    by_name = targets if isinstance(targets, Mapping) else {next(iter(outputs)): targets}
    total = 0.0
    for name, target in by_name.items():
        y = np.asarray(outputs[name], dtype=np.float64)
        if not isinstance(objective, CrossEntropy):
            total += float(np.mean((y - np.asarray(target, dtype=np.float64).reshape(y.shape)) ** 2))
        elif np.issubdtype(np.asarray(target).dtype, np.integer) and y.shape[-1] > 1:
            index = np.asarray(target).reshape(*y.shape[:-1], 1)
            picked = np.take_along_axis(y, index, axis=-1)
            total += float(-np.mean(np.log(np.maximum(picked, EPSILON))))
        else:
            t = np.asarray(target, dtype=np.float64).reshape(y.shape)
            p = np.clip(y, EPSILON, 1 - EPSILON)
            total += float(-np.mean(t * np.log(p) + (1 - t) * np.log(1 - p)))
    return total


def fit_loop(
    model: Model,
    train: Batch,
    plan: Plan,
    validation: Batch | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train `model` in place and leave the best weights in it (the last ones without validation).

    Raises BackendError when there is no row, or when the loss stops being finite (it names the epoch).
    """
    if train.rows == 0:
        raise BackendError("training needs at least one row, got 0")
    began = time.monotonic()
    state = model.start(plan.program, train.inputs, train.targets)
    steps_per_epoch = -(-train.rows // plan.program.batch_size)
    entries: list[Epoch] = []
    losses: list[np.ndarray] = []
    best = _Best()
    stopped = "all epochs done"
    for number in range(1, plan.epochs + 1):
        if time.monotonic() >= plan.deadline and entries:
            stopped = OUT_OF_TIME
            break
        entry = _one_epoch(model, state, number, steps_per_epoch, losses)
        if validation is not None:
            valid = mean_loss(model.forward(validation.inputs), validation.targets, plan.program.objective)
            entry = Epoch(number, entry.train_loss, valid)
            best.offer(entry, model)
        entries.append(entry)
        if on_epoch is not None:
            on_epoch(entry)
        if validation is not None and plan.patience and number - best.epoch >= plan.patience:
            stopped = f"no better validation loss for {plan.patience} epochs"
            break
    if best.weights is not None:
        model.load(best.weights)
    return History(
        tuple(entries),
        best.epoch or len(entries),
        state.step,
        time.monotonic() - began,
        stopped,
        np.concatenate(losses) if losses else np.zeros(0),
    )


def _one_epoch(model: Model, state: TrainState, number: int, steps: int, losses: list[np.ndarray]) -> Epoch:
    values = model.run(state, steps)
    losses.append(values)
    mean = float(np.mean(values))
    if not math.isfinite(mean):
        raise BackendError(
            f"the training loss is {mean} in epoch {number}",
            hint="lower the learning rate, clip the gradient (clip_norm=1.0) or check the inputs for huge values",
        )
    return Epoch(number, mean, math.nan)


class _Best:
    """The weights with the lowest validation loss so far."""

    def __init__(self) -> None:
        self.loss = math.inf
        self.epoch = 0
        self.weights: WeightSet | None = None

    def offer(self, entry: Epoch, model: Model) -> None:
        if entry.valid_loss < self.loss:
            self.loss, self.epoch = entry.valid_loss, entry.number
            self.weights = WeightSet({name: np.array(array) for name, array in model.weights.items()})

"""The one training loop: ask the backend for an epoch of steps, look, decide, go on.

A backend's `run` does the steps, looks at the validation rows and stops early without Python; what happens between
epochs happens here: the deadline, progress, giving back the best weights. `Model.fit`, `solve` and the estimators all
come through `fit_loop`, the stages of language models through `stages.py`; there is no other loop in the project.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from alexandra.backends.base import Arrays, Model, TrainState
from alexandra.errors import BackendError
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import EarlyStop, Program

OUT_OF_TIME = "time budget"
ALL_EPOCHS = "all epochs done"
TARGET_REACHED = "target loss reached"
CHUNK_SECONDS = 0.1  # short epochs go to the backend several at a time


@dataclass(frozen=True)
class Plan:
    """How long to train: at most `epochs`, at least until `patience` epochs without a better validation loss.

    `patience` 0 trains all epochs. `deadline` is a time.monotonic() moment after which no epoch starts. Training
    ends after an epoch whose loss (on validation rows where there are any) is at most `target_loss`.
    """

    program: Program
    epochs: int = 10
    patience: int = 0
    deadline: float = math.inf
    target_loss: float = -math.inf


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


def fit_loop(
    model: Model,
    train: Batch,
    plan: Plan,
    validation: Batch | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train `model` in place and leave the best weights in it (the last ones without validation).

    The backend looks at the validation rows itself, by `plan.program.stop` (after every epoch where it says nothing).
    Raises BackendError when there is no row, or when the loss stops being finite (it names the epoch or step).
    """
    if train.rows == 0:
        raise BackendError("training needs at least one row, got 0")
    began = time.monotonic()
    program = plan.program
    if validation is not None and program.stop is None:
        program = replace(program, stop=EarlyStop(0, plan.patience))
    held = None if validation is None else (validation.inputs, validation.targets)
    run = _Run(model, model.start(program, train.inputs, train.targets, held), -(-train.rows // program.update_rows))
    stopped, chunk = ALL_EPOCHS, 1
    while len(run.entries) < plan.epochs and not run.state.stopped:
        if time.monotonic() >= plan.deadline and run.entries:
            stopped = OUT_OF_TIME
            break
        asked = time.monotonic()
        for entry in run.epochs(min(chunk, plan.epochs - len(run.entries))):
            if on_epoch is not None:
                on_epoch(entry)
        entry = run.entries[-1]
        if (entry.train_loss if validation is None else entry.valid_loss) <= plan.target_loss:
            stopped = TARGET_REACHED
            break
        if on_epoch is None and plan.target_loss == -math.inf and time.monotonic() - asked < CHUNK_SECONDS:
            chunk *= 2
    if program.stop is not None:
        if run.state.stopped:
            stopped = out_of_patience(program.stop.patience, "looks" if program.stop.every else "epochs")
        if program.stop.restore_best and run.state.best_step:
            model.load(WeightSet(run.state.best))
    best = -(-run.state.best_step // run.steps)
    losses = np.concatenate(run.losses) if run.losses else np.zeros(0)
    seconds = time.monotonic() - began
    return History(tuple(run.entries), best or len(run.entries), run.state.step, seconds, stopped, losses)


def out_of_patience(patience: int, what: str = "epochs") -> str:
    """Why training stopped, in words."""
    return f"no better validation loss for {patience} {what}"


class _Run:
    """A run by epochs of `steps` steps: what each of them showed."""

    def __init__(self, model: Model, state: TrainState, steps: int) -> None:
        self.model, self.state, self.steps = model, state, steps
        self.entries: list[Epoch] = []
        self.losses: list[np.ndarray] = []

    def epochs(self, count: int) -> list[Epoch]:
        """The next `count` epochs in one call of the backend; fewer, and a part of one, when it stops early."""
        seen = len(self.state.looks)
        values = self.model.run(self.state, count * self.steps)
        self.losses.append(values)
        looks = {-(-step // self.steps): loss for step, loss in self.state.looks[seen:]}
        found = []
        for first in range(0, len(values), self.steps):
            number, mean = len(self.entries) + 1, float(np.mean(values[first : first + self.steps]))
            if not math.isfinite(mean):
                raise BackendError(
                    f"the training loss is {mean} in epoch {number}",
                    hint="lower the learning rate, clip the gradient (clip_norm=1.0) or look for huge inputs",
                )
            found.append(Epoch(number, mean, looks.get(number, math.nan)))
            self.entries.append(found[-1])
        return found

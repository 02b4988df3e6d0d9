"""What `fit_many` takes and gives: a Fit is one network to train, a Fitted what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from alexandra.backends.base import Arrays
from alexandra.errors import BackendError
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import AdamW, EarlyStop, Objective, Optimizer, Program, Schedule
from alexandra.train.loop import Epoch, History

FAILED = "the loss is not finite"


@dataclass(frozen=True, eq=False)
class Fit:
    """One network to train: the arguments of `bind` and `fit`. Without `weights` they are drawn from `seed`.

    It stops after `epochs`; after `patience` epochs without a better loss on `validation` (0: never), keeping the
    best epoch's weights (`stop` says that more precisely); or after an epoch whose loss, on `validation` if given,
    is at most `target_loss`.
    """

    graph: Graph
    inputs: Arrays
    targets: Any
    objective: Objective | None = None
    optimizer: Optimizer = AdamW()
    epochs: int = 10
    batch_size: int = 32
    seed: int = 0
    schedule: Schedule = Schedule()
    clip_norm: float = 0.0
    validation: tuple[Arrays, Any] | None = None
    patience: int = 0
    target_loss: float = -math.inf
    weights: WeightSet | None = None
    accumulate: int = 1
    frozen: tuple[str, ...] = ()
    stop: EarlyStop | None = None

    def program(self, objective: Objective) -> Program:
        """The program that `fit_loop` runs for it."""
        stop = self.stop
        if self.validation is not None and stop is None:
            stop = EarlyStop(0, self.patience)
        settings = (self.optimizer, self.schedule, self.batch_size, self.clip_norm, self.seed)
        return Program(objective, *settings, accumulate=self.accumulate, frozen=self.frozen, stop=stop)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What became of a Fit: weights, losses by epoch, the epoch whose weights were kept, and why it stopped.

    `error` says why a network failed (a loss that is not finite); its weights are then the best or the last ones.
    """

    weights: WeightSet
    train_losses: np.ndarray = field(repr=False)
    valid_losses: np.ndarray = field(repr=False)
    best_epoch: int
    steps: int
    seconds: float
    stopped: str
    error: BackendError | None = None

    @cached_property
    def history(self) -> History:
        """The same as `Model.fit` returns, without the loss of each step."""
        pairs = zip(self.train_losses, self.valid_losses, strict=True)
        epochs = tuple(Epoch(i + 1, float(train), float(valid)) for i, (train, valid) in enumerate(pairs))
        return History(epochs, self.best_epoch, self.steps, self.seconds, self.stopped)

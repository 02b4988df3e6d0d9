"""Early stopping of the backends whose steps are Python: what EarlyStop of objectives/spec.py means, once.

A Watch is asked after every step whether a look is due, is told the validation loss, and says when to end. It
keeps the best weights as they were at that look. The native engine does the same inside a run (csrc/trainer.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Protocol

import numpy as np

from alexandra.objectives.spec import EarlyStop

Tensors = dict[str, np.ndarray]
BEST, STATE = "best/", "stop/state"


class Watch:
    """The looks of one run. `looks` are (step, validation loss) since the run was made or restored."""

    def __init__(self, stop: EarlyStop, steps_per_epoch: int) -> None:
        self.stop, self.every = stop, stop.every or steps_per_epoch
        self.best_loss, self.best_step, self.waited, self.stopped = inf, 0, 0, False
        self.looks: list[tuple[int, float]] = []
        self.best: Tensors = {}

    def due(self, step: int) -> bool:
        """Whether a look follows after `step` steps."""
        return step % self.every == 0

    def look(self, step: int, loss: float, weights: Callable[[], Tensors]) -> None:
        """Take the validation loss after `step` steps; `weights` copies those of now, if they are the best."""
        self.looks.append((step, loss))
        if loss < self.best_loss - self.stop.min_delta:
            self.best_loss, self.best_step, self.waited, self.best = loss, step, 0, weights()
            return
        self.waited += 1
        self.stopped = 0 < self.stop.patience <= self.waited

    def arrays(self, weights: Mapping[str, np.ndarray]) -> Tensors:
        """What decides the future: four numbers, and the best weights (those of now, where none are yet)."""
        state = np.array([self.best_loss, self.best_step, self.waited, self.stopped], np.float64)
        best = self.best or weights
        return {STATE: state, **{f"{BEST}{name}": np.array(best[name]) for name in weights}}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of `arrays`."""
        loss, step, waited, stopped = (float(value) for value in arrays[STATE])
        self.best_loss, self.best_step, self.waited, self.stopped = loss, int(step), int(waited), bool(stopped)
        self.looks = []
        self.best = {k.removeprefix(BEST): np.array(v) for k, v in arrays.items() if k.startswith(BEST)}
        if not self.best_step:
            self.best = {}


class Watched(Protocol):
    """What a TrainState says of early stopping: for runs that keep a `watch` and know their weights."""

    watch: Watch | None

    def now(self) -> Mapping[str, np.ndarray]:
        """What training changes, as it is now."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether the program's early stop has ended the run."""
        return self.watch is not None and self.watch.stopped

    @property
    def looks(self) -> list[tuple[int, float]]:
        """(step, validation loss) of early stopping since the run was made or restored."""
        return self.watch.looks if self.watch else []

    @property
    def best_step(self) -> int:
        """After how many steps the best look was, 0 before one."""
        return self.watch.best_step if self.watch else 0

    @property
    def best(self) -> Mapping[str, np.ndarray]:
        """The weights of early stopping's best look; those of now before the first one."""
        return self.watch.best if self.watch and self.watch.best_step else self.now()

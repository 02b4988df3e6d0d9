"""A run of training whose every step reads another batch: what a policy and a score model keep between updates.

A batch of the shape that came before is fed to the run that goes on; another shape begins a run with its moments. The
arrays are everything that decides the future: weights, moments and the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexandra.backends.base import Arrays, Model, TrainState
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import AdamW, Objective, Optimizer, Program, Schedule


@dataclass(frozen=True)
class Optimization:
    """How weights are updated: `micro_rows` go through the network at once (0: the whole batch), same result.

    `fixed_order` makes that the same to the bit: documents go through one at a time, in an order of their own.
    """

    optimizer: Optimizer = AdamW(lr=1e-3, beta2=0.95, weight_decay=0.1)
    schedule: Schedule = Schedule()
    clip_norm: float = 1.0
    micro_rows: int = 0
    seed: int = 0
    frozen: tuple[str, ...] = ()
    fixed_order: bool = False


class FedRun:
    """The updates of one model under one objective."""

    def __init__(self, model: Model, objective: Objective, optimization: Optimization) -> None:
        self.model, self.objective, self.optimization = model, objective, optimization
        self._run: TrainState | None = None
        self._rows: tuple[int, ...] = ()
        self._restored: Mapping[str, np.ndarray] = {}

    def update(self, inputs: Arrays, targets: Any) -> float:
        """One optimiser step on these rows; the loss before it."""
        run = self._fed(inputs, targets)
        return float(self.model.run(run, 1)[0])

    @property
    def step(self) -> int:
        """How many updates there were."""
        if self._run is not None:
            return self._run.step
        return int(self._restored["step"]) if self._restored else 0

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights, moments and step, as "weights/<parameter>" and "run/<name>"."""
        weights = {f"weights/{name}": np.array(array) for name, array in self.model.weights.items()}
        return weights | {f"run/{name}": array for name, array in self._moments().items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken."""
        parts: dict[str, dict[str, np.ndarray]] = {"weights": {}, "run": {}}
        for name, array in arrays.items():
            kind, _, own = name.partition("/")
            parts[kind][own] = array
        self.model.load(WeightSet(parts["weights"]))
        self._restored, self._run = parts["run"], None

    def _moments(self) -> Mapping[str, np.ndarray]:
        return self._run.arrays() if self._run is not None else self._restored

    def _fed(self, inputs: Arrays, targets: Any) -> TrainState:
        shape = next(iter(inputs.values())).shape
        if self._run is not None and self._rows == shape:
            self.model.feed(self._run, inputs, targets)
            return self._run
        moments, run = self._moments(), self.model.start(self._program(shape[0]), inputs, targets)
        if moments:
            run.restore(moments)
        self._run, self._rows, self._restored = run, shape, {}
        return run

    def _program(self, rows: int) -> Program:
        options = self.optimization
        micro = 1 if options.fixed_order else min(options.micro_rows or rows, rows)
        return Program(
            self.objective,
            options.optimizer,
            options.schedule,
            batch_size=micro,
            accumulate=-(-rows // micro),
            clip_norm=options.clip_norm,
            seed=options.seed,
            shuffle=False,
            frozen=options.frozen,
        )

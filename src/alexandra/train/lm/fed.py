"""A run of training whose every step reads another batch: what a policy and a score model keep between updates.

A batch of the shape that came before is fed to the run that goes on; another shape goes to a run of its own, which is
handed the moments. The arrays are everything that decides the future: trained weights, moments and the step. Frozen
weights are in no checkpoint: they are those that the model started with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from alexandra.backends.admit import trained_names
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
    """The updates of one model under one objective; the runs of the `keep` shapes that came last are kept."""

    def __init__(self, model: Model, objective: Objective, optimization: Optimization, keep: int = 1) -> None:
        self.model, self.objective, self.optimization, self.keep = model, objective, optimization, keep
        self._runs: dict[tuple[int, ...], TrainState] = {}  # by shape of the rows, the one that goes on at the end
        self._restored: Mapping[str, np.ndarray] = {}
        self._norms, self._told = 0.0, 0  # their sum, and of how many updates

    def update(self, inputs: Arrays, targets: Any) -> float:
        """One optimiser step on these rows; the loss before it."""
        run = self._fed(inputs, targets)
        loss = float(self.model.run(run, 1)[0])
        self._tell(run)
        return loss

    def _tell(self, run: Any) -> None:
        """Keep the norm of the update that `run` just took for `take_norm`."""
        self._norms, self._told = self._norms + float(getattr(run, "grad_norm", nan)), self._told + 1

    def take_norm(self) -> float:
        """The mean norm of the updates' gradients before clipping since this was last asked.

        NaN without an update, and on the native engine without clipping, where it is not known.
        """
        mean = self._norms / self._told if self._told else nan
        self._norms, self._told = 0.0, 0
        return mean

    @property
    def step(self) -> int:
        """How many updates there were."""
        if self._runs:
            return self._run.step
        return int(self._restored["step"]) if self._restored else 0

    def arrays(self) -> dict[str, np.ndarray]:
        """Trained weights, moments and step, as "weights/<parameter>" and "run/<name>"."""
        weights = self.model.weights
        trained = {name: weights[name] for name in trained_names(self.optimization.frozen, weights)}
        return run_arrays(trained, self._moments())

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken; frozen weights stay what they are."""
        weights, self._restored = run_parts(arrays)
        if self.optimization.frozen:
            now = self.model.weights
            trained = trained_names(self.optimization.frozen, now)
            weights = WeightSet({name: array for name, array in now.items() if name not in trained} | dict(weights))
        self.model.load(weights)
        self._runs = {}

    @property
    def _run(self) -> TrainState:
        """The one that goes on."""
        return next(reversed(self._runs.values()))

    def _moments(self) -> Mapping[str, np.ndarray]:
        return self._run.arrays() if self._runs else self._restored

    def _fed(self, inputs: Arrays, targets: Any) -> TrainState:
        shape = next(iter(inputs.values())).shape
        run = self._runs.get(shape)
        if run is not None and run is self._run:
            self.model.feed(run, inputs, targets)
            return run
        moments = self._moments()  # copies of them all: only where another run takes over
        if run is None:
            run = self.model.start(self.program(shape[0]), inputs, targets)
        else:
            self.model.feed(run, inputs, targets)
        if moments:
            run.restore(moments)
        self._runs.pop(shape, None)
        self._runs[shape], self._restored = run, {}
        if len(self._runs) > self.keep:
            del self._runs[next(iter(self._runs))]
        return run

    def program(self, rows: int) -> Program:
        """What the backend is asked for on a batch of `rows`."""
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


def run_arrays(weights: Mapping[str, np.ndarray], moments: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies of the weights, and the moments, under the names of a checkpoint: "weights/<parameter>", "run/<name>"."""
    named = {f"weights/{name}": np.array(array) for name, array in weights.items()}
    return named | {f"run/{name}": array for name, array in moments.items()}


def run_parts(arrays: Mapping[str, np.ndarray]) -> tuple[WeightSet, dict[str, np.ndarray]]:
    """Weights and moments out of `run_arrays`; a name without "/" is its owner's."""
    parts: dict[str, dict[str, np.ndarray]] = {"weights": {}, "run": {}}
    for name, array in arrays.items():
        kind, _, own = name.partition("/")
        if own:
            parts[kind][own] = array
    return WeightSet(parts["weights"]), parts["run"]

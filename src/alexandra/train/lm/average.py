"""An exponential moving average of the weights, measured and saved in place of the weights that are trained.

Polyak and Juditsky 1992, with the geometric weights that are usual now: after each step
average = decay * average + (1 - decay) * weights, in float64, from the weights before the first step on. Training
itself does not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from alexandra.backends.admit import trained_names
from alexandra.backends.base import Model
from alexandra.ir.weights import WeightSet
from alexandra.train.stages import Metrics, Recording, Records, Stage

AVERAGE = "average/"


class Averaged:
    """A stage, the model that it trains, and the average of its weights but for `frozen`; part of the checkpoint."""

    def __init__(self, stage: Stage, model: Model, decay: float, frozen: Sequence[str] = ()) -> None:
        self.stage, self.model, self.decay, self.name = stage, model, decay, stage.name
        weights = model.weights
        self._average = {name: np.array(weights[name], np.float64) for name in trained_names(frozen, weights)}

    @property
    def weights(self) -> WeightSet:
        """The average, float32; frozen weights as they are."""
        return self.model.weights.merge({name: array.astype(np.float32) for name, array in self._average.items()})

    def step(self, number: int) -> Metrics:
        metrics = self.stage.step(number)
        weights = self.model.weights
        for name, average in self._average.items():
            average += (1.0 - self.decay) * (weights[name] - average)
        return metrics

    def evaluate(self) -> Metrics:
        """What the stage measures with the averaged weights; training goes on from its own."""
        own = self.stage.arrays()
        self.model.load(self.weights)
        try:
            return self.stage.evaluate()
        finally:
            self.stage.restore(own)

    def records(self) -> Records:
        return self.stage.records() if isinstance(self.stage, Recording) else {}

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        return self.stage.inputs(number)

    def arrays(self) -> dict[str, np.ndarray]:
        return self.stage.arrays() | {AVERAGE + name: array for name, array in self._average.items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._average = {n.removeprefix(AVERAGE): np.array(a) for n, a in arrays.items() if n.startswith(AVERAGE)}
        self.stage.restore({n: a for n, a in arrays.items() if not n.startswith(AVERAGE)})

"""What `alexandra.bind` returns: a runnable network with `fit`, on any backend.

BoundModel adds the one training loop to a backend's Model and fills in defaults that follow from the
graph (the objective from the output's activation). It keeps no state of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.base import Arrays, Model, TrainState
from alexandra.backends.bind import bind as bind_backend
from alexandra.ir.check import final_activation
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import MSE, AdamW, CrossEntropy, EarlyStop, Objective, Optimizer, Program, Schedule
from alexandra.train.loop import Batch, Epoch, History, Plan, fit_loop


class BoundModel:
    """A network, its weights and a backend; satisfies `alexandra.backends.base.Model`."""

    def __init__(self, inner: Model) -> None:
        self.inner = inner

    @property
    def graph(self) -> Graph:
        return self.inner.graph

    @property
    def backend(self) -> str:
        return self.inner.backend

    @property
    def weights(self) -> WeightSet:
        return self.inner.weights

    @property
    def memory(self) -> dict[str, int]:
        return self.inner.memory

    def load(self, weights: WeightSet) -> None:
        """Replace the weights; WeightsError names what is missing, unexpected or of the wrong shape."""
        self.inner.load(weights)

    def forward(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """{"x": [rows, ...]} -> {"y": [rows, ...]}, probabilities where the output is softmax or sigmoid."""
        return self.inner.forward(inputs)

    def loss(self, inputs: Arrays, targets: Any, objective: Objective) -> float:
        """Mean loss over the rows, as `forward` sees them."""
        return self.inner.loss(inputs, targets, objective)

    def loss_and_grads(
        self, inputs: Arrays, targets: Any, objective: Objective, frozen: Sequence[str] = ()
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Mean loss over the rows and its gradient for every parameter that is not frozen; dropout is off."""
        return self.inner.loss_and_grads(inputs, targets, objective, frozen)

    def backward(
        self, inputs: Arrays, gradients: Arrays, frozen: Sequence[str] = ()
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(gradients of the float inputs, of the parameters), given the `gradients` of outputs or of any layers.

        backward({"x": x}, {"y": dy}) starts at the output; {"h3": dh} starts at layer h3, and what lies above it
        costs nothing. Frozen parameters ("h0.weight", or all below "h0.") have none and cost none.
        """
        return self.inner.backward(inputs, gradients, frozen)

    def start(self, program: Program, inputs: Arrays, targets: Any, validation: Any = None) -> TrainState:
        return self.inner.start(program, inputs, targets, validation)

    def feed(self, state: TrainState, inputs: Arrays, targets: Any) -> None:
        """Other rows for a run, as many and of the same shapes; moments and step go on."""
        self.inner.feed(state, inputs, targets)

    def run(self, state: TrainState, steps: int, progress: Callable[[int, float], object] | None = None) -> np.ndarray:
        return self.inner.run(state, steps, progress)

    def fit(
        self,
        inputs: Arrays,
        targets: Any,
        *,
        objective: Objective | None = None,
        optimizer: Optimizer | None = None,
        epochs: int = 10,
        batch_size: int = 32,
        seed: int = 0,
        schedule: Schedule | None = None,
        clip_norm: float = 0.0,
        accumulate: int = 1,
        frozen: Sequence[str] = (),
        validation: tuple[Arrays, Any] | None = None,
        patience: int = 0,
        stop: EarlyStop | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> History:
        """Train in place; with `validation` the best epoch's weights are kept, with `patience` it stops early.

        `stop` says more precisely than `patience` when to look and when to end. An update takes `accumulate` batches
        of `batch_size`; `frozen` parameters keep their values.
        """
        program = Program(
            objective or default_objective(self.graph),
            optimizer or AdamW(),
            schedule or Schedule(),
            batch_size,
            clip_norm,
            seed,
            accumulate=accumulate,
            frozen=tuple(frozen),
            stop=stop,
        )
        valid = Batch(*validation) if validation is not None else None
        return fit_loop(self.inner, Batch(inputs, targets), Plan(program, epochs, patience), valid, on_epoch)


def default_objective(graph: Graph) -> Objective:
    """CrossEntropy when every output ends in softmax or sigmoid, else MSE."""
    expanded = primitives(graph)
    kinds = [final_activation(expanded, node.name)[0] for node in expanded.outputs]
    return CrossEntropy() if all(kinds) else MSE()


def bind(
    graph: Graph,
    backend: str = "auto",
    weights: WeightSet | str | Path | None = None,
    seed: int = 0,
    threads: int = 1,
) -> BoundModel:
    """Make `graph` runnable; without `weights` they are initialised from `seed`, parameter by parameter."""
    return BoundModel(bind_backend(graph, backend, weights=weights, seed=seed, threads=threads))

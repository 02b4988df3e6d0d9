"""What `alexandra.bind` returns: a runnable network with `fit`, on any backend.

BoundModel adds the one training loop to a backend's Model and fills in defaults that follow from the
graph (the objective from the output's activation). It keeps no state of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from alexandra.backends.base import Arrays, Model, TrainState
from alexandra.backends.bind import bind as bind_backend
from alexandra.ir.check import final_activation
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import MSE, AdamW, CrossEntropy, Objective, Optimizer, Program, Schedule
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

    def loss_and_grads(self, inputs: Arrays, targets: Any, objective: Objective) -> tuple[float, dict[str, np.ndarray]]:
        """Mean loss over the rows and its gradient for every parameter; dropout is off."""
        return self.inner.loss_and_grads(inputs, targets, objective)

    def start(self, program: Program, inputs: Arrays, targets: Any) -> TrainState:
        return self.inner.start(program, inputs, targets)

    def run(self, state: TrainState, steps: int) -> np.ndarray:
        return self.inner.run(state, steps)

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
        validation: tuple[Arrays, Any] | None = None,
        patience: int = 0,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> History:
        """Train in place; with `validation` the best epoch's weights are kept, with `patience` it stops early."""
        program = Program(
            objective or default_objective(self.graph),
            optimizer or AdamW(),
            schedule or Schedule(),
            batch_size,
            clip_norm,
            seed,
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
    weights: WeightSet | None = None,
    seed: int = 0,
    threads: int = 1,
) -> BoundModel:
    """Make `graph` runnable; without `weights` they are initialised from `seed`, parameter by parameter."""
    return BoundModel(bind_backend(graph, backend, weights=weights, seed=seed, threads=threads))

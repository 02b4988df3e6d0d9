"""What every backend offers: a Graph and weights made runnable behind one Model protocol.

Shapes: inputs are [rows, *node.shape], float32 or int32; outputs float32 [rows, *shape]. A TrainState is
opaque to the loop but for `step` and its arrays, which make resume exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import Objective, Program

Arrays = Mapping[str, np.ndarray]
PRECISIONS = ("float32", "bf16", "fp16", "fp8")
Progress = Callable[[int, float], object]  # of the steps done and the last loss, now and then during a run


@dataclass(frozen=True)
class Execution:
    """How a network is run where memory or time matters more than either.

    `checkpoint`: training forgets values inside segments of the network and computes them again, to the same numbers.
    `precision`, one of PRECISIONS: what products are computed in; weights, gradients and moments stay float32.
    """

    checkpoint: bool = False
    precision: str = "float32"


@runtime_checkable
class TrainState(Protocol):
    """A run in progress: data, optimiser moments and the step counter."""

    @property
    def step(self) -> int: ...

    @property
    def stopped(self) -> bool:
        """Whether the program's early stop has ended the run."""
        ...

    @property
    def looks(self) -> list[tuple[int, float]]:
        """(step, validation loss) of early stopping since the run was made or restored."""
        ...

    @property
    def best_step(self) -> int:
        """After how many steps the best look was, 0 before one."""
        ...

    @property
    def best(self) -> Arrays:
        """The weights of the best look; those of now before the first one."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but data and weights that decides the future (moments, step)."""
        ...

    def restore(self, arrays: Arrays) -> None: ...


@runtime_checkable
class Model(Protocol):
    """A runnable network. `weights` always shows the current values."""

    graph: Graph
    backend: str

    @property
    def weights(self) -> WeightSet: ...

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by tier: weights, arena (for `max_rows` rows), gradients and optimiser state once training."""
        ...

    def load(self, weights: WeightSet) -> None: ...

    def forward(self, inputs: Arrays) -> dict[str, np.ndarray]: ...

    def loss(self, inputs: Arrays, targets: Any, objective: Objective) -> float: ...

    def loss_and_grads(
        self, inputs: Arrays, targets: Any, objective: Objective, frozen: Sequence[str] = ()
    ) -> tuple[float, dict[str, np.ndarray]]: ...

    def start(self, program: Program, inputs: Arrays, targets: Any, validation: Any = None) -> TrainState: ...

    def backward(
        self, inputs: Arrays, gradients: Arrays, frozen: Sequence[str] = ()
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]: ...

    def feed(self, state: TrainState, inputs: Arrays, targets: Any) -> None:
        """Other rows for a run, as many and of the same shapes: its moments and its step go on."""
        ...

    def run(self, state: TrainState, steps: int, progress: Progress | None = None) -> np.ndarray:
        """Do at most `steps` steps without Python (fewer when it stops early); the float64 loss of each."""
        ...

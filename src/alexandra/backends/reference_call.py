"""What a kernel of the reference backend is given and gives back: Call, Grads and the two kinds of kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from alexandra.ir.graph import Attr

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Call:
    """One primitive about to run: attributes, inputs, parameters by suffix, and in training the noise of the step.

    `mask` holds a dropout's 0 or 1 / (1 - rate) per value, or a gate's jitter; None leaves it out. `training` is set
    where a loss is computed: batchnorm uses its batch there, a gate's capacity holds.
    """

    attrs: Mapping[str, Attr]
    inputs: tuple[F64, ...]
    params: Mapping[str, F64] = field(default_factory=dict)
    mask: F64 | None = None
    training: bool = False

    @property
    def x(self) -> F64:
        return self.inputs[0]

    def number(self, name: str) -> float:
        value = self.attrs[name]
        assert isinstance(value, int | float)
        return float(value)

    def count(self, name: str) -> int:
        value = self.attrs[name]
        assert isinstance(value, int)
        return value


Grads = tuple[tuple[F64, ...], dict[str, F64]]  # of the inputs, of the parameters
Forward = Callable[[Call], F64]
Backward = Callable[[Call, F64, F64], Grads]  # (call, output, gradient of the output)

"""The primitives of the IR that are plain functions of torch tensors: attributes and inputs, no parameters.

Gradients are torch's. Suffixes: B rows and any further leading axes, L last axis.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alexandra.ir.graph import Attr

Attrs = Mapping[str, Attr]
Call = Callable[[Attrs, tuple[Tensor, ...]], Tensor]

COMPARE: dict[str, Callable[[Tensor, float], Tensor]] = {
    "==": torch.eq,
    "!=": torch.ne,
    "<": torch.lt,
    "<=": torch.le,
    ">": torch.gt,
    ">=": torch.ge,
}


def number(attrs: Attrs, name: str) -> float:
    value = attrs[name]
    assert isinstance(value, int | float)
    return float(value)


def multiply(attrs: Attrs, inputs: tuple[Tensor, ...]) -> Tensor:
    result = inputs[0]
    for other in inputs[1:]:
        result = result * other
    return result


def add(attrs: Attrs, inputs: tuple[Tensor, ...]) -> Tensor:
    result = inputs[0]
    for other in inputs[1:]:
        result = result + other
    return result


def cut(attrs: Attrs, inputs: tuple[Tensor, ...]) -> Tensor:
    return inputs[0][..., operator.index(attrs["start"]) : operator.index(attrs["stop"])]  # type: ignore[arg-type]


def select(attrs: Attrs, inputs: tuple[Tensor, ...]) -> Tensor:
    """No gradient reaches the condition. The value is compared in float32, as the op table says."""
    condition_B1, then_BL, else_BL = inputs
    holds_B1 = COMPARE[str(attrs["cmp"])](condition_B1, float(np.float32(number(attrs, "value"))))
    return torch.where(holds_B1, then_BL, else_BL)


def reduce(attrs: Attrs, inputs: tuple[Tensor, ...]) -> Tensor:
    kind, x = attrs["kind"], inputs[0]
    if kind in ("first", "last"):
        return x[:, 0 if kind == "first" else -1]
    if kind == "max":
        return torch.max(x, dim=1).values
    return x.mean(1) if kind == "mean" else x.sum(1)


def matmul(attrs: Attrs, inputs: tuple[Tensor, ...]) -> Tensor:
    a, b = inputs
    return number(attrs, "scale") * (a @ (b.transpose(-1, -2) if attrs["transpose"] else b))


CALLS: dict[str, Call] = {
    "output": lambda attrs, x: x[0],
    "relu": lambda attrs, x: F.relu(x[0]),
    "leaky_relu": lambda attrs, x: F.leaky_relu(x[0], number(attrs, "slope")),
    "elu": lambda attrs, x: F.elu(x[0], number(attrs, "alpha")),
    "gelu": lambda attrs, x: F.gelu(x[0]),
    "gelu_tanh": lambda attrs, x: F.gelu(x[0], approximate="tanh"),
    "silu": lambda attrs, x: F.silu(x[0]),
    "sigmoid": lambda attrs, x: torch.sigmoid(x[0]),
    "tanh": lambda attrs, x: torch.tanh(x[0]),
    "softplus": lambda attrs, x: F.softplus(x[0]),
    "softmax": lambda attrs, x: torch.softmax(x[0], dim=-1),
    "add": add,
    "mul": multiply,
    "concat": lambda attrs, x: torch.cat(x, dim=-1),
    "scale": lambda attrs, x: x[0] * number(attrs, "factor"),
    "slice": cut,
    "transpose": lambda attrs, x: x[0].transpose(-1, -2),
    "reduce": reduce,
    "matmul": matmul,
    "select": select,
}

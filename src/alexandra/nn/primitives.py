"""The primitives of the IR as functions on torch tensors, one row per op: what `GraphModule` runs.

CALLS holds the ops without parameters, LAYERS the torch module of each op that has some, and TIED what such an
op does with parameters that another kind of op owns. Gradients are torch's. Suffixes: B rows and any further
leading axes, I inputs and O outputs of a dense, V vocabulary, L last axis.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from alexandra.ir.graph import Attr, Node

Attrs = Mapping[str, Attr]
Call = Callable[[Attrs, tuple[Tensor, ...]], Tensor]
Shapes = Mapping[str, tuple[int, ...]]  # of an owner's parameters, by suffix

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


CALLS: dict[str, Call] = {
    "output": lambda attrs, x: x[0],
    "relu": lambda attrs, x: F.relu(x[0]),
    "leaky_relu": lambda attrs, x: F.leaky_relu(x[0], number(attrs, "slope")),
    "elu": lambda attrs, x: F.elu(x[0], number(attrs, "alpha")),
    "gelu": lambda attrs, x: F.gelu(x[0]),
    "silu": lambda attrs, x: F.silu(x[0]),
    "sigmoid": lambda attrs, x: torch.sigmoid(x[0]),
    "tanh": lambda attrs, x: torch.tanh(x[0]),
    "softplus": lambda attrs, x: F.softplus(x[0]),
    "softmax": lambda attrs, x: torch.softmax(x[0], dim=-1),
    "add": add,
    "mul": multiply,
    "concat": lambda attrs, x: torch.cat(x, dim=-1),
    "slice": cut,
    "select": select,
}


def bare(kind: type[nn.Module], *sizes: object, device: torch.device, **settings: object) -> nn.Module:
    """A module whose memory is left as it is: weights are copied in later, and torch's generator is not touched."""
    found = skip_init(kind, *sizes, device=device, **settings)  # type: ignore[no-untyped-call]
    assert isinstance(found, nn.Module)
    return found


def dense(attrs: Attrs, shapes: Shapes, device: torch.device) -> nn.Module:
    fan_out, fan_in = shapes["weight"]
    return bare(nn.Linear, fan_in, fan_out, bias=attrs["bias"], device=device)


def embedding(attrs: Attrs, shapes: Shapes, device: torch.device) -> nn.Module:
    return bare(nn.Embedding, *shapes["weight"], device=device)


def layernorm(attrs: Attrs, shapes: Shapes, device: torch.device) -> nn.Module:
    return bare(nn.LayerNorm, shapes["weight"], eps=number(attrs, "eps"), device=device)


def rmsnorm(attrs: Attrs, shapes: Shapes, device: torch.device) -> nn.Module:
    return bare(nn.RMSNorm, shapes["weight"], eps=number(attrs, "eps"), device=device)


LAYERS: dict[str, Callable[[Attrs, Shapes, torch.device], nn.Module]] = {
    "dense": dense,
    "embedding": embedding,
    "layernorm": layernorm,
    "rmsnorm": rmsnorm,
}


class Parameters(nn.Module):
    """The parameters of an owner whose users differ (a dense on an embedding's table); it computes nothing."""

    def __init__(self, shapes: Shapes, device: torch.device) -> None:
        super().__init__()
        for suffix, shape in shapes.items():
            self.register_parameter(suffix, nn.Parameter(torch.empty(shape, device=device)))


def tied_dense(attrs: Attrs, owner: nn.Module, x_BI: Tensor) -> Tensor:
    return F.linear(x_BI, owner.get_parameter("weight"), owner.get_parameter("bias") if attrs["bias"] else None)


def tied_embedding(attrs: Attrs, owner: nn.Module, index_B: Tensor) -> Tensor:
    return F.embedding(index_B, owner.get_parameter("weight"))


def tied_layernorm(attrs: Attrs, owner: nn.Module, x_BL: Tensor) -> Tensor:
    weight_L, bias_L = owner.get_parameter("weight"), owner.get_parameter("bias")
    return F.layer_norm(x_BL, weight_L.shape, weight_L, bias_L, number(attrs, "eps"))


def tied_rmsnorm(attrs: Attrs, owner: nn.Module, x_BL: Tensor) -> Tensor:
    weight_L = owner.get_parameter("weight")
    return F.rms_norm(x_BL, weight_L.shape, weight_L, number(attrs, "eps"))


TIED: dict[str, Callable[[Attrs, nn.Module, Tensor], Tensor]] = {
    "dense": tied_dense,
    "embedding": tied_embedding,
    "layernorm": tied_layernorm,
    "rmsnorm": tied_rmsnorm,
}


def kind_of(node: Node) -> tuple[str, Attr]:
    """What must agree between nodes that share one torch module: the op, and the attribute that module keeps."""
    return node.op, node.attrs.get("bias", node.attrs.get("eps"))

"""The primitives of the IR on torch, one row per op: what `GraphModule` runs.

CALLS (pointwise.py) holds the plain functions, LAYERS the torch module of the ops that are one, and TIED what such an
op does with parameters that another kind of op owns; STEPS are the ops that need more: their own parameters, or the
pass. Gradients are torch's. Suffixes: B rows and any further leading axes, I inputs and O outputs of a dense, V
vocabulary, L last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from alexandra.ir.graph import Attr, Node
from alexandra.nn import attention, experts, layers
from alexandra.nn.passing import Pass
from alexandra.nn.pointwise import CALLS, Attrs, number

__all__ = ["CALLS", "LAYERS", "STEPS", "TIED", "Parameters", "kind_of", "number"]

Shapes = Mapping[str, tuple[int, ...]]  # of an owner's parameters, by suffix


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
    """The parameters of an owner that is no module of torch's own, or whose users differ; it computes nothing.

    What training moves without a gradient (`untrained`, by suffix) requires none.
    """

    def __init__(self, shapes: Shapes, device: torch.device, untrained: Collection[str] = ()) -> None:
        super().__init__()
        for suffix, shape in shapes.items():
            values = torch.empty(shape, device=device)
            self.register_parameter(suffix, nn.Parameter(values, requires_grad=suffix not in untrained))


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


def dropout(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    if now.masks is not None:
        return inputs[0] * now.masks[node.name]
    return F.dropout(inputs[0], number(node.attrs, "rate"), now.noisy)


STEPS: dict[str, Callable[[Node, nn.Module | None, tuple[Tensor, ...], Pass], Tensor]] = {
    "dropout": dropout,
    "batchnorm": layers.batchnorm,
    "position": attention.position,
    "rope": attention.rope,
    "sdpa": attention.sdpa,
    "top_k_gate": experts.top_k_gate,
    "experts": experts.experts,
    "conv2d": layers.conv2d,
    "pool2d": layers.pool2d,
    "rnn": layers.recurrent,
    "lstm": layers.recurrent,
    "gru": layers.recurrent,
}


def kind_of(node: Node) -> tuple[str, Attr]:
    """What must agree between nodes that share one torch module: the op, and the attribute that module keeps."""
    return node.op, node.attrs.get("bias", node.attrs.get("eps"))

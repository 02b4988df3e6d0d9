"""What a network costs before it runs: parameters, FLOPs and memory, from the graph alone.

FLOPs count multiplications and additions of matrix products (2 m n k) and nothing else, as torch's
FlopCounterMode does. Memory is an upper bound: every value of every primitive lives at once. What a step of training
takes at its worst moment is backends.native_memory's and backends.pytorch_memory's to say.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod

from alexandra.errors import GraphError, suggest
from alexandra.ir.check import infer, input_types, param_specs
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph, TensorType
from alexandra.ir.ops import OPS, bound_dim
from alexandra.ir.ops.rules import whole

BYTES_PER_VALUE = {"reference": 8, "native": 4, "torch": 4, "keras": 4}


@dataclass(frozen=True)
class LayerCost:
    """One layer's share; parameters that several layers share count at the first."""

    name: str
    op: str
    type: TensorType
    parameters: int
    flops: int


def layers(graph: Graph) -> tuple[LayerCost, ...]:
    """The cost of each layer for one row, in order. GraphError names the size that is still open."""
    types, counted = infer(graph), set[str]()
    rows = []
    for node in graph.nodes:
        given, out = input_types(node, types), types[node.name]
        try:
            own = {f"{node.owner}.{suffix}": spec for suffix, spec in OPS[node.op].params(node.attrs, given).items()}
            flops = OPS[node.op].flops(node.attrs, given, out)
        except GraphError as error:
            raise GraphError(f"layer {node.name!r} ({node.op}): {error.message}", hint=error.hint) from None
        rows.append(
            LayerCost(
                node.name, node.op, out, sum(own[n].size for n in own if n not in counted and own[n].trained), flops
            )
        )
        counted |= set(own)
    return tuple(rows)


def parameters(graph: Graph) -> int:
    """The number of trainable values."""
    return sum(spec.size for spec in param_specs(graph).values() if spec.trained)


def active_parameters(graph: Graph) -> int:
    """The trainable values that one position uses: of experts, those that its gate chooses."""
    primitive = primitives(graph)
    types, total = infer(primitive), parameters(graph)
    for node in primitive.nodes:
        if node.op == "experts" and node.attrs["used"] is not None and not node.param:
            number = bound_dim(types[node.inputs[1]].shape[-1], "the number of experts")
            size = sum(spec.size for spec in OPS["experts"].params(node.attrs, input_types(node, types)).values())
            total -= size // number * (number - min(number, whole(node.attrs["used"])))
    return total


def flops(graph: Graph, rows: int = 1) -> int:
    """Floating-point operations of one forward pass over `rows` rows."""
    return rows * sum(layer.flops for layer in layers(graph))


def memory(
    graph: Graph,
    backend: str = "native",
    rows: int = 1,
    training: bool = False,
    moments: int = 2,
    trained: Collection[str] | None = None,
) -> dict[str, int]:
    """Bytes by tier: weights, activations, gradients, optimizer, and their total.

    `training` adds a gradient for every value and every weight that is `trained` (None: all), and `moments` arrays of
    these weights' size (1 for SGD, 2 for Adam and AdamW).
    """
    if backend not in BYTES_PER_VALUE:
        raise GraphError(f"no memory model for backend {backend!r}", hint=suggest(backend, BYTES_PER_VALUE))
    unit = BYTES_PER_VALUE[backend]
    values = sum(prod(bound_dim(dim, "an axis") for dim in t.shape) for t in infer(primitives(graph)).values())
    sizes = {name: unit * spec.size for name, spec in param_specs(graph).items()}
    weights, activations = sum(sizes.values()), unit * rows * values
    learnt = weights if trained is None else sum(sizes[name] for name in trained)
    tiers = {
        "weights": weights,
        "activations": activations,
        "gradients": learnt + activations if training else 0,
        "optimizer": learnt * moments if training else 0,
    }
    return {**tiers, "total": sum(tiers.values())}

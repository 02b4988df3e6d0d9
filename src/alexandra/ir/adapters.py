"""LoRA: low-rank adapters beside the dense layers of a network, and the way back to the plain network.

    made = adapted(graph, rank=16, alpha=32.0)
    model = bind(made.graph, "native", made.start(weights, seed=0))    # the function of `graph` and `weights`
    ...                                                                # training with frozen=made.frozen
    made.merged(model.weights)                                         # weights of `graph` again

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021: y = W x + b becomes
W x + b + (alpha / rank) B (A x), of which A and B alone are trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np

from alexandra.errors import GraphError
from alexandra.ir.check import infer, input_types, make_graph, param_specs
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph, Node
from alexandra.ir.ops import OPS
from alexandra.ir.weights import WeightSet
from alexandra.rng import derive


@dataclass(frozen=True)
class Adapted:
    """`graph` is `base` in primitives, with adapters; `pairs` names A and B of each weight of `base` that has them.

    `frozen` are the parameters of `base` that training leaves alone.
    """

    base: Graph
    graph: Graph
    pairs: Mapping[str, tuple[str, str]]
    rank: int
    factor: float
    frozen: tuple[str, ...]

    def start(self, weights: Mapping[str, np.ndarray], seed: int = 0) -> WeightSet:
        """`weights` of `base` with A uniform within +-1 / sqrt(inputs) (Kaiming, as PEFT draws it) and B zero."""
        drawn, zero = ({pair[side] for pair in self.pairs.values()} for side in (0, 1))
        found: dict[str, np.ndarray] = {}
        for name, spec in param_specs(self.graph).items():
            if name in drawn:
                words = derive(seed, "lora", name).uniform(spec.size)
                found[name] = ((2.0 * words - 1.0) / sqrt(spec.fan_in)).reshape(spec.shape)
            else:
                found[name] = np.zeros(spec.shape) if name in zero else weights[name]
        return WeightSet(found)

    def merged(self, weights: Mapping[str, np.ndarray]) -> WeightSet:
        """The weights of `base` that do what `weights` of `graph` do: W + factor * B A, summed in float64."""
        found = {name: weights[name] for name in param_specs(self.base)}
        for name, (down, up) in self.pairs.items():
            a, b = (weights[one].astype(np.float64) for one in (down, up))
            found[name] = weights[name] + self.factor * (b @ a)
        return WeightSet(found)


def adapted(graph: Graph, rank: int, alpha: float, whole: Collection[str] = ()) -> Adapted:
    """`graph` with an adapter of `rank` beside every dense layer, also those inside composites and outputs.

    What is no dense layer is left as it is: embeddings and a head that is tied to one, convolutions, recurrences, the
    experts of a mixture; so is the router of a mixture, whose choice would change under the experts. Layers that share
    weights share the adapter. The layers named in `whole` have none and are trained themselves.
    Sizes must be bound. GraphError where there is no such layer, or one is narrower than `rank`.
    """
    plain = primitives(graph)
    specs, owners = param_specs(plain), _dense_owners(plain) - set(whole)
    if not owners:
        raise GraphError(
            f"network {graph.name!r} has no dense layer that adapters could stand beside",
            hint="train its own weights: leave lora away",
        )
    fits, narrow = min((min(specs[f"{owner}.weight"].shape), owner) for owner in owners)
    if rank > fits:
        out, wide = specs[f"{narrow}.weight"].shape
        raise GraphError(
            f"layer {narrow!r} has {wide} inputs and {out} outputs, too few for an adapter of rank {rank}",
            hint=f"a rank of at most {fits} fits every layer",
        )
    writer = _Writer(plain, rank, alpha / rank)
    nodes = [made for node in plain.nodes for made in writer.written(node, node.op == "dense" and node.owner in owners)]
    frozen = tuple(name for name in specs if name.rpartition(".")[0] not in whole)
    pairs = {f"{owner}.weight": (f"{a}.weight", f"{b}.weight") for owner, (a, b) in writer.pairs.items()}
    return Adapted(graph, make_graph(graph.name, nodes), pairs, rank, alpha / rank, frozen)


def _dense_owners(plain: Graph) -> set[str]:
    """Who owns weights that dense layers alone use, none of them a router."""
    types = infer(plain)
    users: dict[str, set[str]] = {}
    routers = {node.inputs[0] for node in plain.nodes if node.op == "top_k_gate"}
    for node in plain.nodes:
        if OPS[node.op].params(node.attrs, input_types(node, types)):
            users.setdefault(node.owner, set()).add("router" if node.name in routers else node.op)
    return {owner for owner, ops in users.items() if ops == {"dense"}}


class _Writer:
    """The nodes of adapted layers; `pairs`: the owners of A and B by that of the weight."""

    def __init__(self, plain: Graph, rank: int, factor: float) -> None:
        self.rank, self.factor = rank, factor
        self.pairs: dict[str, tuple[str, str]] = {}
        self._taken = {name for node in plain.nodes for name in (node.name, node.owner)}

    def written(self, node: Node, has_adapter: bool) -> list[Node]:
        """The layer; with an adapter a sum that has its name, so that its readers read that."""
        if not has_adapter:
            return [node]
        base, down, scaled, up = self._names(node)
        shared = self.pairs.setdefault(node.owner, (down, up))
        a, b = ("" if own == name else own for own, name in zip(shared, (down, up), strict=True))
        return [
            Node(base, "dense", node.inputs, node.attrs, node.owner),
            Node(down, "dense", node.inputs, {"size": self.rank, "bias": False}, a),
            Node(scaled, "scale", (down,), {"factor": self.factor}),
            Node(up, "dense", (scaled,), {"size": node.attrs["size"], "bias": False}, b),
            Node(node.name, "add", (base, up)),
        ]

    def _names(self, node: Node) -> list[str]:
        stem, end = node.name if node.owner in self.pairs else node.owner, ""
        while self._taken & (names := {f"{stem}.{part}{end}" for part in _PARTS}):
            end += "_"
        self._taken |= names
        return [f"{stem}.{part}{end}" for part in _PARTS]


_PARTS = ("base", "lora_A", "lora_scale", "lora_B")

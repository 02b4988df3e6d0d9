"""A graph of primitives as one nn.Module whose parameters have the names of the graph's WeightSet.

    module = GraphModule(primitives(graph), device)
    module({"x": tensor})                      # {"y": tensor}

Each owner of parameters is a module of torch's own (Linear, Embedding, LayerNorm, RMSNorm) at the owner's dotted
name, so hooks, adapters and quantisers find what they look for. Nothing is initialised here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexandra.ir.check import param_specs
from alexandra.ir.graph import Graph, Node
from alexandra.nn.primitives import CALLS, LAYERS, TIED, Parameters, kind_of, number

Masks = Mapping[str, Tensor]  # dropout node -> 0 or 1 / (1 - rate) per value


class GraphModule(nn.Module):
    """Runs `primitive` (the result of `ir.expand.primitives`, sizes bound; symbolic axes are read off the inputs).

    Dropout: by `masks` where they are given; without them torch's own in training mode, none in evaluation mode.
    """

    def __init__(self, primitive: Graph, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.primitive = primitive
        for owner, module in _owners(primitive, torch.device(device)).items():
            _place(self, owner.split("."), module)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name, [rows, *shape]."""
        values = self.values(inputs)
        return {node.name: values[node.name] for node in self.primitive.outputs}

    def values(self, inputs: Mapping[str, Tensor], masks: Masks | None = None) -> dict[str, Tensor]:
        """The value of every node by name: losses read logits that `forward` hides behind a softmax."""
        values: dict[str, Tensor] = {}
        for node in self.primitive.nodes:
            if node.op == "input":
                values[node.name] = inputs[node.name]
            else:
                values[node.name] = self._value(node, tuple(values[name] for name in node.inputs), inputs, masks)
        return values

    def _value(
        self, node: Node, given: tuple[Tensor, ...], inputs: Mapping[str, Tensor], masks: Masks | None
    ) -> Tensor:
        if node.op in LAYERS:
            owner = self.owner(node.owner)
            if isinstance(owner, Parameters):
                return TIED[node.op](node.attrs, owner, given[0])
            result: Tensor = owner(given[0])
            return result
        if node.op == "dropout":
            if masks is not None:
                return given[0] * masks[node.name]
            return F.dropout(given[0], number(node.attrs, "rate"), self.training)
        if node.op == "reshape":
            return given[0].reshape(len(given[0]), *self._shape(node, inputs))
        return CALLS[node.op](node.attrs, given)

    def owner(self, name: str) -> nn.Module:
        """The module that holds the parameters of layer `name`."""
        module: nn.Module = self
        for part in name.split("."):
            child = module._modules[part]
            assert child is not None
            module = child
        return module

    def _shape(self, node: Node, inputs: Mapping[str, Tensor]) -> list[int]:
        """The sizes of a reshape; a symbol is the size of the input axis of that name."""
        shape = node.attrs["shape"]
        assert isinstance(shape, tuple)
        symbols: dict[str, int] = {}
        if not all(isinstance(dim, int) for dim in shape):
            for source in self.primitive.inputs:
                declared = source.attrs["shape"]
                assert isinstance(declared, tuple)
                actual = inputs[source.name].shape[1:]
                symbols |= {dim: size for dim, size in zip(declared, actual, strict=True) if isinstance(dim, str)}
        return [dim if isinstance(dim, int) else symbols[dim] for dim in shape]

    def extra_repr(self) -> str:
        return f"network {self.primitive.name!r}, {len(self.primitive.nodes)} primitives"


def _owners(primitive: Graph, device: torch.device) -> dict[str, nn.Module]:
    """A module for each owner, outer names first: `encoder` before `encoder.e1`."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, spec in param_specs(primitive).items():
        owner, _, suffix = name.rpartition(".")
        shapes.setdefault(owner, {})[suffix] = spec.shape
    modules: dict[str, nn.Module] = {}
    for owner in sorted(shapes, key=lambda name: name.count(".")):
        users = [node for node in primitive.nodes if node.op in LAYERS and node.owner == owner]
        if len({kind_of(node) for node in users}) == 1:
            modules[owner] = LAYERS[users[0].op](users[0].attrs, shapes[owner], device)
        else:
            modules[owner] = Parameters(shapes[owner], device)
    return modules


def _place(root: nn.Module, path: list[str], module: nn.Module) -> None:
    """Put `module` at `path` below `root`.

    `_modules` is written directly: layer names are the user's, and `add_module` refuses those that are attributes
    of every module (a layer called `type` or `half`).
    """
    for part in path[:-1]:
        child = root._modules.get(part)
        if child is None:
            child = root._modules[part] = nn.Module()
        root = child
    root._modules[path[-1]] = module

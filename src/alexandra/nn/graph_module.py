"""A graph of primitives as one nn.Module whose parameters have the names of the graph's WeightSet.

    module = GraphModule(primitives(graph), device)
    module({"x": tensor})                      # {"y": tensor}

Each owner of parameters is a module of torch's own (Linear, Embedding, LayerNorm, RMSNorm) where there is one, at the
owner's dotted name, so hooks, adapters and quantisers find what they look for. Nothing is initialised here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from alexandra.ir.check import param_specs
from alexandra.ir.graph import Graph, Node
from alexandra.nn.passing import Pass
from alexandra.nn.primitives import CALLS, LAYERS, STEPS, TIED, Parameters, kind_of

SEGMENT = 12  # primitives that a checkpointed segment has at least


class GraphModule(nn.Module):
    """Runs `primitive` (the result of `ir.expand.primitives`, sizes bound; symbolic axes are read off the inputs).

    In training mode `forward` draws noise from torch's generator, moves running statistics in place and leaves what
    gates add to the loss in `auxiliary_loss`. With `checkpointed`, a pass with gradients keeps the values between
    segments of the network only and computes the others again on the way back.
    """

    def __init__(self, primitive: Graph, device: torch.device | str = "cpu", checkpointed: bool = False) -> None:
        super().__init__()
        self.primitive, self.checkpointed = primitive, checkpointed
        self.auxiliary_loss: Tensor | float = 0.0
        self._last = {name: at for at, node in enumerate(primitive.nodes) for name in node.inputs}
        self._index = {node.name: at for at, node in enumerate(primitive.nodes)}
        self._outputs = frozenset(node.name for node in primitive.outputs)
        for owner, module in _owners(primitive, torch.device(device)).items():
            _place(self, owner.split("."), module)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name, [rows, *shape]."""
        now = Pass(training=self.training, noisy=self.training)
        values = self.values(inputs, now, self._outputs)
        if self.training:
            self.auxiliary_loss = torch.stack(now.losses).sum() if now.losses else 0.0
            self.move(now)
        return {node.name: values[node.name] for node in self.primitive.outputs}

    def values(
        self, inputs: Mapping[str, Tensor], now: Pass | None = None, keep: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """The value of every node by name, or of those in `keep`: losses read logits that softmax hides."""
        now = now or Pass()
        if self.checkpointed and torch.is_grad_enabled() and now.cache is None:
            return self._values_again(inputs, now, self._outputs if keep is None else keep)
        values: dict[str, Tensor] = dict(now.cache.fixed) if now.cache else {}
        skipped = now.cache.skipped if now.cache else frozenset()
        for at, node in enumerate(self.primitive.nodes):
            if node.name not in values and node.name not in skipped:
                values[node.name] = self.value(node, values, inputs, now)
            if keep is not None:
                for name in {*node.inputs, node.name}:
                    if self._last.get(name, -1) <= at and name not in keep:
                        values.pop(name, None)
        return values

    def move(self, now: Pass) -> None:
        """Take over what a pass left for parameters that are not trained."""
        with torch.no_grad():
            for name, value in now.moved.items():
                self.get_parameter_by_name(name).copy_(value)

    def get_parameter_by_name(self, name: str) -> Tensor:
        owner, _, suffix = name.rpartition(".")
        return self.owner(owner).get_parameter(suffix)

    def value(self, node: Node, values: Mapping[str, Tensor], inputs: Mapping[str, Tensor], now: Pass) -> Tensor:
        """The value of one node, given those that it reads."""
        if node.op == "input":
            return inputs[node.name]
        given = tuple(values[name] for name in node.inputs)
        if node.op in LAYERS:
            owner = self.owner(node.owner)
            if isinstance(owner, Parameters):
                return TIED[node.op](node.attrs, owner, given[0])
            result: Tensor = owner(given[0])
            return result
        if node.op in STEPS:
            return STEPS[node.op](node, self._holder(node.owner), given, now)
        if node.op == "reshape":
            return given[0].reshape(len(given[0]), *self._shape(node, inputs))
        return CALLS[node.op](node.attrs, given)

    def _values_again(self, inputs: Mapping[str, Tensor], now: Pass, keep: Collection[str]) -> dict[str, Tensor]:
        """`values` of `keep`, by segments that forget what is inside them."""
        values: dict[str, Tensor] = {}
        for segment in _segments(self.primitive):
            made = {node.name for node in segment}
            wanted = [n for n in made if n in keep or self._last.get(n, -1) >= self._end(segment)]
            read = list(dict.fromkeys(n for node in segment for n in node.inputs if n not in made))

            def run(
                *tensors: Tensor,
                segment: Sequence[Node] = segment,
                names: Sequence[str] = (*read,),
                wanted: Sequence[str] = (*wanted,),
            ) -> tuple[dict[str, Tensor], list[Tensor], dict[str, Tensor]]:
                local = dict(zip(names, tensors, strict=True))
                inner = Pass(now.training, now.noisy, now.masks, moved=dict(now.moved))
                for node in segment:
                    local[node.name] = self.value(node, local, inputs, inner)
                return {name: local[name] for name in wanted}, inner.losses, inner.moved

            outs, losses, moved = checkpoint(run, *(values[name] for name in read), use_reentrant=False)
            values |= outs
            now.losses += losses
            now.moved |= moved
        return {name: values[name] for name in keep}

    def _end(self, segment: Sequence[Node]) -> int:
        return self._index[segment[-1].name] + 1

    def _holder(self, name: str) -> nn.Module | None:
        """The module of `name`'s parameters, None where it has none."""
        module: nn.Module | None = self
        for part in name.split("."):
            module = module._modules.get(part) if module is not None else None
        return module

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
    untrained: dict[str, set[str]] = {}
    for name, spec in param_specs(primitive).items():
        owner, _, suffix = name.rpartition(".")
        shapes.setdefault(owner, {})[suffix] = spec.shape
        if not spec.trained:
            untrained.setdefault(owner, set()).add(suffix)
    modules: dict[str, nn.Module] = {}
    using: dict[str, list[Node]] = {}
    for node in primitive.nodes:
        if node.op in LAYERS or node.op in STEPS:
            using.setdefault(node.owner, []).append(node)
    for owner in sorted(shapes, key=lambda name: name.count(".")):
        users = using[owner]
        if len({kind_of(node) for node in users}) == 1 and users[0].op in LAYERS:
            modules[owner] = LAYERS[users[0].op](users[0].attrs, shapes[owner], device)
        else:
            modules[owner] = Parameters(shapes[owner], device, untrained.get(owner, ()))
    return modules


def _segments(primitive: Graph) -> list[list[Node]]:
    """The nodes cut where few values cross: behind the narrowest place once a segment is long enough."""
    last = {name: at for at, node in enumerate(primitive.nodes) for name in node.inputs}
    segments: list[list[Node]] = [[]]
    live: set[str] = set()
    for at, node in enumerate(primitive.nodes):
        segments[-1].append(node)
        live = {name for name in live if last[name] > at}
        if node.op != "input" and last.get(node.name, -1) > at:
            live.add(node.name)
        if len(live) <= 1 and len(segments[-1]) >= SEGMENT:
            segments.append([])
    return [segment for segment in segments if segment]


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

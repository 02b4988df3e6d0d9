"""Layers to primitives: the graph that every backend runs, with the parameter names of the graph that was written.

A dense or an output with an activation, and several inputs into a one-input op, become chains of primitives.
The last of a chain keeps the layer's name, so that consumers, dropout streams and results keep theirs; what is
put before it is `<layer>.concat`, `<layer>.dense` and, in an output, `<layer>.act`. Identities vanish. A composite
becomes the parts that its row in the op table states, `<layer>.<part>`; the last of them stands for the layer.
"""

from __future__ import annotations

from collections.abc import Iterable

from alexandra.errors import GraphError
from alexandra.ir.check import infer, input_types
from alexandra.ir.graph import Attr, Graph, Node, TensorType
from alexandra.ir.ops import OPS, Required
from alexandra.ir.ops.spec import Parts, walk


def primitives(graph: Graph) -> Graph:
    """An equivalent graph of primitive ops only; applying it twice changes nothing.

    Every `dense` has activation "linear"; every `output` has one input and no size, so it only names a result.
    """
    return _Expansion(graph).run()


class _Expansion:
    """The nodes written so far, and which primitive now carries each layer's value."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.taken = set(graph.by_name)
        self.nodes: list[Node] = []
        self.value_of: dict[str, str] = {}

        self.types: dict[str, TensorType] = {}
        if any(OPS[node.op].parts for node in graph.nodes):
            self.types = infer(graph)

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self._expand(node)
        return Graph(self.graph.name, tuple(self.nodes))

    def _expand(self, node: Node) -> None:
        if (parts := OPS[node.op].parts) is not None:
            self._parts(node, parts)
            return
        inputs = tuple(self.value_of[name] for name in node.inputs)
        if OPS[node.op].joins and len(inputs) > 1:
            inputs = (self._put(node, "concat", "concat", inputs),)
        if node.op == "linear":
            self.value_of[node.name] = inputs[0]
            return
        if node.op == "output":
            self._output(node, inputs[0])
        elif node.op == "dense" and node.attrs["activation"] != "linear":
            activation = str(node.attrs["activation"])
            dense = self._put(node, "dense", "dense", inputs, _dense_attrs(node), owner=node.owner)
            self.nodes.append(Node(node.name, activation, (dense,), default_attrs(activation)))
        else:
            self.nodes.append(Node(node.name, node.op, inputs, node.attrs, node.param))
        self.value_of[node.name] = node.name

    def _parts(self, node: Node, parts: Parts) -> None:
        """The layers of a composite, each expanded in its turn; the last one's value is the composite's."""
        given, last = input_types(node, self.types), ""
        sources: dict[int | str, str] = dict(enumerate(self._joined(node)))
        for part, _, made in walk(parts(node.attrs, given), given):
            last = f"{node.name}.{part.name}" if part.name else node.name
            if part.name and last in self.graph.by_name:
                what = f"layer {last!r} has the name of a part of {node.name!r} ({node.op})"
                raise GraphError(what, hint="rename one of the two")
            owner = node.owner if part.own else f"{node.owner}.{part.name}" if node.param and part.name else ""
            inputs = tuple(sources[name] for name in part.inputs)
            sources[part.name], self.types[last] = last, made
            self._expand(Node(last, part.spec.name, inputs, part.spec.complete(part.attrs), owner))
        self.value_of[node.name] = self.value_of[last]

    def _joined(self, node: Node) -> tuple[str, ...]:
        """The names of what a composite reads, one for several that it joins."""
        if not OPS[node.op].joins or len(node.inputs) == 1:
            return node.inputs
        name = self._put(node, "concat", "concat", tuple(self.value_of[source] for source in node.inputs))
        self.value_of[name] = name
        self.types[name] = input_types(node, self.types)[0]
        return (name,)

    def _output(self, node: Node, source: str) -> None:
        activation = str(node.attrs["activation"])
        if node.attrs["size"] is not None:
            source = self._put(node, "dense", "dense", (source,), _dense_attrs(node), owner=node.owner)
        if activation != "linear":
            source = self._put(node, "act", activation, (source,), default_attrs(activation))
        self.nodes.append(Node(node.name, "output", (source,), default_attrs("output")))

    def _put(
        self,
        node: Node,
        suffix: str,
        op: str,
        inputs: Iterable[str],
        attrs: dict[str, Attr] | None = None,
        owner: str = "",
    ) -> str:
        name = f"{node.name}.{suffix}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        self.nodes.append(Node(name, op, tuple(inputs), attrs or {}, owner if owner != name else ""))
        return name


def default_attrs(op: str) -> dict[str, Attr]:
    """Every attribute of `op` that has a default, with it."""
    return {name: spec.default for name, spec in OPS[op].attrs.items() if not isinstance(spec.default, Required)}


def _dense_attrs(node: Node) -> dict[str, Attr]:
    return {"size": node.attrs["size"], "activation": "linear", "bias": node.attrs["bias"]}

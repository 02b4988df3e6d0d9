"""Graphs are well-formed or they do not exist: building, shape and dtype inference, verification, binding of sizes.

`make_graph` is how every producer (languages, `ax.net`, JSON, evolution) ends; what it returns has passed
`verify`. An AUTO size counts as one axis of unknown length until `bind_sizes`; what it leaves open is checked
then. Errors are GraphErrors that name the layer, quote what was given and say what is allowed.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from alexandra.errors import GraphError, suggest
from alexandra.ir.graph import AUTO, Attr, Graph, Node, TensorType
from alexandra.ir.ops import OPS, AttrSpec, OpSpec, ParamSpec, Required, join_types

SCHEMA = 1
NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*\Z")

# The attribute in which each op may leave its size to the data.
AUTO_ATTR = {"input": "shape", "output": "size", "embedding": "vocab"}


def make_graph(name: str, nodes: Iterable[Node]) -> Graph:
    """A verified Graph: defaults filled in, attributes canonical, nodes sorted topologically.

    The sort is stable: a layer moves only behind the inputs that it was written before.
    """
    listed = [_complete(node) for node in nodes]
    _no_duplicates(listed)
    graph = Graph(name, tuple(_sorted(listed)))
    verify(graph)
    return graph


def graph_from_dict(value: Any) -> Graph:
    """The inverse of `Graph.to_dict`; GraphError when the document is not one."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        given = value.get("schema") if isinstance(value, dict) else value
        raise GraphError(f"graph schema {given!r} is not known; this version reads {SCHEMA}")
    nodes = value.get("nodes")
    if not isinstance(nodes, list) or not isinstance(value.get("name"), str):
        raise GraphError("a graph document needs a text 'name' and a list 'nodes'")
    return make_graph(value["name"], [_node_from_dict(item, number) for number, item in enumerate(nodes)])


def _node_from_dict(item: Any, number: int) -> Node:
    if not isinstance(item, dict):
        raise GraphError(f"node {number} of the graph document is not an object: {item!r}")
    unknown = set(item) - {"name", "op", "inputs", "attrs", "param"}
    inputs, attrs = item.get("inputs", []), item.get("attrs", {})
    texts = [item.get("name"), item.get("op"), item.get("param", ""), *(inputs if isinstance(inputs, list) else [None])]
    if unknown or not all(isinstance(text, str) for text in texts) or not isinstance(attrs, dict):
        raise GraphError(
            f"node {number} of the graph document needs name, op, inputs, attrs and may have param: {item!r}"
        )
    fixed = {key: tuple(content) if isinstance(content, list) else content for key, content in attrs.items()}
    return Node(item["name"], item["op"], tuple(inputs), fixed, item.get("param", ""))


def op_of(node: Node) -> OpSpec:
    """The row of the op table; GraphError for an unknown op."""
    if node.op not in OPS:
        raise GraphError(f"layer {node.name!r} has unknown type {node.op!r}", hint=suggest(node.op, OPS))
    return OPS[node.op]


def _complete(node: Node) -> Node:
    """`node` with canonical attributes and every default filled in."""
    spec = op_of(node)
    attrs: dict[str, Attr] = {}
    for given, value in node.attrs.items():
        name = spec.attr_name(given)
        if name is None:
            known = suggest(given, spec.attrs) if spec.attrs else f"{node.op} has no attributes."
            raise GraphError(f"{_label(node)} has no attribute {given!r}", hint=known)
        if name in attrs:
            raise GraphError(f"{_label(node)}: {name} is given twice")
        attrs[name] = _canonical(node, name, spec.attrs[name], value)
    for name, attr in spec.attrs.items():
        if name in attrs:
            continue
        if isinstance(attr.default, Required):
            raise GraphError(f"{_label(node)} needs {name}= ({attr.doc})")
        attrs[name] = attr.default
    return replace(node, inputs=tuple(node.inputs), attrs={name: attrs[name] for name in spec.attrs})


def _canonical(node: Node, name: str, spec: AttrSpec, value: Attr) -> Attr:
    try:
        return spec.canonical(value)
    except GraphError as error:
        if name == "activation" and isinstance(value, str):
            raise GraphError(f"{_label(node)}: unknown activation {value!r}", hint=error.hint) from None
        raise GraphError(f"{_label(node)}: {name} {error.message}", hint=error.hint) from None


def _label(node: Node) -> str:
    return f"layer {node.name!r} ({node.op})"


def _no_duplicates(nodes: Sequence[Node]) -> None:
    seen: set[str] = set()
    for node in nodes:
        if node.name in seen:
            raise GraphError(f"two layers are named {node.name!r}", hint="rename one of them")
        seen.add(node.name)


def _sorted(nodes: list[Node]) -> list[Node]:
    """Kahn's algorithm, always taking the earliest written layer that is ready."""
    index = {node.name: i for i, node in enumerate(nodes)}
    readers: list[list[int]] = [[] for _ in nodes]
    missing = []
    for i, node in enumerate(nodes):
        for name in node.inputs:
            if name not in index:
                raise GraphError(f"{_label(node)} reads {name!r}, which does not exist", hint=suggest(name, index))
            readers[index[name]].append(i)
        missing.append(len(node.inputs))
    ready = [i for i, count in enumerate(missing) if count == 0]
    order: list[Node] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(nodes[i])
        for reader in readers[i]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise GraphError(f"the network has a cycle: {_cycle(nodes, {node.name for node in order})}")
    return order


def _cycle(nodes: list[Node], done: set[str]) -> str:
    """One cycle among the layers that are not `done`, written in the direction of the data."""
    left = {node.name: node for node in nodes if node.name not in done}
    path = [next(iter(left))]
    while True:
        before = next(name for name in left[path[-1]].inputs if name in left)
        if before in path:
            return " -> ".join(reversed([*path[path.index(before) :], before]))
        path.append(before)


def verify(graph: Graph) -> None:
    """GraphError unless `graph` is well-formed: names, order, arity, attributes, shapes, sharing, reachability."""
    if not graph.inputs:
        raise GraphError(f"network {graph.name!r} has no INPUT layer")
    if not graph.outputs:
        raise GraphError(f"network {graph.name!r} has no OUTPUT layer")
    _no_duplicates(graph.nodes)
    earlier: dict[str, Node] = {}
    for node in graph.nodes:
        _verify_node(graph, node, earlier)
        earlier[node.name] = node
    _verify_reachable(graph)
    types = infer(graph)
    if not any(AUTO in t.shape for t in types.values()) and is_bound(graph):
        _param_specs(graph, types)


def _verify_node(graph: Graph, node: Node, earlier: Mapping[str, Node]) -> None:
    spec = op_of(node)
    if not NAME.match(node.name):
        raise GraphError(f"{node.name!r} is not a layer name", hint="use letters, digits and _ (dots between modules)")
    if _complete(node).attrs != node.attrs:
        raise GraphError(f"{_label(node)} has incomplete attributes", hint="build graphs with make_graph")
    for name in node.inputs:
        if name not in graph.by_name:
            raise GraphError(f"{_label(node)} reads {name!r}, which does not exist", hint=suggest(name, graph.by_name))
        if name not in earlier:
            raise GraphError(
                f"{_label(node)} reads {name!r}, which comes after it", hint="build graphs with make_graph"
            )
        if earlier[name].op == "output":
            raise GraphError(f"{_label(node)} reads the output {name!r}", hint="connect what the output reads instead")
    if len(node.inputs) < spec.min_inputs or (spec.max_inputs is not None and len(node.inputs) > spec.max_inputs):
        raise GraphError(f"{_label(node)} needs {_arity(spec)}, got {len(node.inputs)}")
    if not node.param:
        return
    if node.param not in graph.by_name:
        raise GraphError(
            f"{_label(node)} shares with {node.param!r}, which does not exist", hint=suggest(node.param, graph.by_name)
        )
    if graph.by_name[node.param].owner != node.param:
        owner = graph.by_name[node.param].owner
        raise GraphError(
            f"{_label(node)} shares with {node.param!r}, which itself shares with {owner!r}; name {owner!r}"
        )


def _arity(spec: OpSpec) -> str:
    if spec.max_inputs is None:
        return f"at least {spec.min_inputs} input{'s' * (spec.min_inputs != 1)}"
    words = "no inputs" if spec.max_inputs == 0 else f"{spec.max_inputs} input{'s' * (spec.max_inputs != 1)}"
    return words if spec.max_inputs == spec.min_inputs else f"{spec.min_inputs} to {words}"


def _verify_reachable(graph: Graph) -> None:
    needed = {node.name for node in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    for node in graph.nodes:
        if node.name not in needed:
            raise GraphError(f"{_label(node)} leads to no output", hint=f"CONNECT {node.name} -> ... or remove it")


def infer(graph: Graph) -> dict[str, TensorType]:
    """The type of every node's value, by node name; an axis that the data decides shows as "AUTO"."""
    types: dict[str, TensorType] = {}
    for node in graph.nodes:
        try:
            given = input_types(node, types)
            types[node.name] = OPS[node.op].infer(node.attrs, given)
        except GraphError as error:
            raise GraphError(f"{_label(node)} {error.message}", hint=error.hint) from None
    return types


def input_types(node: Node, types: Mapping[str, TensorType]) -> list[TensorType]:
    """The types that the rules of `node`'s op see: its inputs', joined into one where the op joins."""
    given = [types[name] for name in node.inputs]
    return [join_types(given)] if OPS[node.op].joins and len(given) > 1 else given


def hidden_matrices(graph: Graph) -> frozenset[str]:
    """The two-dimensional parameters of layers that are neither an embedding nor an output, nor shared with one."""
    apart = {node.owner for node in graph.nodes if node.op in ("embedding", "position", "output")}
    return frozenset(
        name
        for name, spec in param_specs(graph).items()
        if len(spec.shape) == 2 and spec.trained and name.rpartition(".")[0] not in apart
    )


def param_specs(graph: Graph) -> dict[str, ParamSpec]:
    """Every parameter by full name, in node order; a shared one is described by the first node that uses it."""
    return _param_specs(graph, infer(graph))


def _param_specs(graph: Graph, types: Mapping[str, TensorType]) -> dict[str, ParamSpec]:
    specs: dict[str, ParamSpec] = {}
    first: dict[str, Node] = {}
    for node in graph.nodes:
        try:
            own = OPS[node.op].params(node.attrs, input_types(node, types))
        except GraphError as error:
            raise GraphError(f"{_label(node)}: {error.message}", hint=error.hint) from None
        for suffix, spec in own.items():
            name = f"{node.owner}.{suffix}"
            if name in specs and first[name].owner != node.owner:
                raise GraphError(
                    f"layers {first[name].name!r} ({first[name].op}) and {node.name!r} ({node.op}) both own {name}",
                    hint="rename one of the two",
                )
            if name in specs and specs[name].shape != spec.shape:
                raise GraphError(
                    f"layers {first[name].name!r} and {node.name!r} share {name}, "
                    f"but need shapes {specs[name].shape} and {spec.shape}"
                )
            specs.setdefault(name, spec)
            first.setdefault(name, node)
    return specs


def auto_nodes(graph: Graph) -> tuple[Node, ...]:
    """The nodes whose size is left to the data."""
    return tuple(node for node in graph.nodes if node.op in AUTO_ATTR and node.attrs[AUTO_ATTR[node.op]] == AUTO)


def is_bound(graph: Graph) -> bool:
    """Whether no size is AUTO any more. Symbolic axes (SEQ) are bound: each call decides them."""
    return not auto_nodes(graph)


def open_axes(graph: Graph) -> frozenset[str]:
    """The symbolic axes of the inputs (SEQ), whose length each call decides."""
    types = infer(graph)
    shapes = [types[node.name].shape for node in graph.inputs]
    return frozenset(dim for shape in shapes for dim in shape if isinstance(dim, str)) - {AUTO}


def with_length(graph: Graph, length: int) -> Graph:
    """`graph` with every open axis of that length; the graph itself where none is open."""
    axes = open_axes(graph)
    return bind_sizes(graph, dict.fromkeys(axes, length)) if axes else graph


Size = int | str | tuple[int | str, ...]


def bind_sizes(graph: Graph, sizes: Mapping[str, Size]) -> Graph:
    """`graph` with every AUTO replaced by `sizes[node name]`: an input's shape (30 means (30,)), an output's
    width, an embedding's vocabulary; a name that is a symbolic axis (SEQ) replaces that axis everywhere.

    Of layers that share a matrix one is enough. A size for a layer that has one must agree with it. Raises
    GraphError naming the layer that is left open, the name that is nothing here, or the two sizes that differ.
    """
    symbols = {
        dim for node in graph.nodes for value in node.attrs.values() if isinstance(value, tuple) for dim in value
    }
    for name in sizes:
        if name not in symbols and (name not in graph.by_name or graph.by_name[name].op not in AUTO_ATTR):
            known = [node.name for node in graph.nodes if node.op in AUTO_ATTR]
            raise GraphError(f"no layer {name!r} takes a size from the data", hint=suggest(name, known))
    sizes = {**_tied_sizes(graph, sizes), **sizes}
    bound = make_graph(graph.name, [_bind_node(node, sizes) for node in graph.nodes])
    for name, size in sizes.items():
        if name in bound.by_name and bound.by_name[name].op == "output" and bound.by_name[name].attrs["size"] is None:
            width = infer(bound)[name].shape[-1]
            if width not in (size, (size,)) and (width,) != size:
                raise GraphError(f"layer {name!r} (output) has width {width}, but the data needs {size!r}")
    return bound


def _tied_sizes(graph: Graph, sizes: Mapping[str, Size]) -> dict[str, Size]:
    """Sizes for layers left open whose matrix is that of a layer which is given one."""
    given = {node.owner: sizes[node.name] for node in auto_nodes(graph) if node.name in sizes}
    return {node.name: given[node.owner] for node in auto_nodes(graph) if node.owner in given}


def _bind_node(node: Node, sizes: Mapping[str, Size]) -> Node:
    attrs = dict(node.attrs)
    for key, value in attrs.items():
        if isinstance(value, tuple):
            attrs[key] = tuple(_symbol(dim, sizes) for dim in value)
    if node.op not in AUTO_ATTR:
        return replace(node, attrs=attrs)
    key = AUTO_ATTR[node.op]
    if node.name not in sizes:
        if attrs[key] == AUTO:
            raise GraphError(
                f"{_label(node)} has {key}=AUTO and no size was given", hint=f"pass sizes={{{node.name!r}: ...}}"
            )
        return replace(node, attrs=attrs)
    given = _canonical(node, key, OPS[node.op].attrs[key], sizes[node.name])
    if attrs[key] not in (AUTO, None, given):
        raise GraphError(f"{_label(node)} has {key}={attrs[key]}, but the data needs {given}")
    if attrs[key] is not None:
        attrs[key] = given
    return replace(node, attrs=attrs)


def _symbol(dim: int | str, sizes: Mapping[str, Size]) -> int | str:
    size = sizes.get(dim, dim) if isinstance(dim, str) else dim
    if isinstance(size, tuple):
        raise GraphError(f"axis {dim} needs one number, got {size!r}")
    return size


def final_activation(primitive: Graph, output: str) -> tuple[str | None, str]:
    """("softmax" | "sigmoid" | None, name of the node whose value are the logits) of an output of `primitives(g)`.

    With None the output's own input are the logits and cross-entropy treats them as a softmax's.
    """
    source = primitive.by_name[primitive.by_name[output].inputs[0]]
    if source.op in ("softmax", "sigmoid"):
        return source.op, source.inputs[0]
    return None, source.name

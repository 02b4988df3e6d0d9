"""Properties over random networks of every op: they verify, survive JSON and text, and keep their parameters."""

import json
from math import prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alexandra.backends.bind import bind
from alexandra.ir.check import bind_sizes, graph_from_dict, infer, make_graph, param_specs, verify
from alexandra.ir.cost import flops
from alexandra.ir.expand import primitives
from alexandra.ir.graph import AUTO, Attr, Graph, Node
from alexandra.ir.ops import ACTIVATIONS, OPS, PRIMITIVES
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network

UNARY = tuple(op for op in OPS if op in ACTIVATIONS) + ("layernorm", "rmsnorm", "dropout")


@st.composite
def graphs(draw: st.DrawFn, open_sizes: bool = False) -> Graph:
    """A random DAG whose layers read any earlier values that fit; all loose ends meet in the output.

    With `open_sizes` the input x is AUTO (so everything has one axis) and the output may be.
    """
    rows = () if open_sizes else draw(st.sampled_from([(), (2,)]))
    width = draw(st.integers(1, 5))
    nodes = [Node("x", "input", (), {"shape": AUTO if open_sizes else (*rows, width)})]
    nodes.append(Node("t", "input", (), {"shape": (*rows, 1), "dtype": "int32"}))
    nodes.append(Node("e", "embedding", ("t",), {"vocab": 4, "size": width}))
    nodes.append(Node("e1", "reshape", ("e",), {"shape": (*rows, width)}))
    attrs = {"size": draw(st.integers(1, 4)), "activation": draw(st.sampled_from(ACTIVATIONS))}
    nodes.append(Node("own", "dense", ("e1",), attrs))
    nodes.append(Node("shared", "dense", ("e1",), {**attrs, "activation": draw(st.sampled_from(ACTIVATIONS))}, "own"))
    widths = {"e1": width} if open_sizes else {"x": width, "e1": width}
    for number in range(draw(st.integers(0, 8))):
        node, size = draw(layer(f"n{number}", widths))
        nodes.append(node)
        widths[node.name] = size
    read = {name for node in nodes for name in node.inputs}
    loose = tuple(node.name for node in nodes if node.name not in read)
    size = draw(st.sampled_from([None, AUTO] if open_sizes else [None, 3]))
    activation = draw(st.sampled_from(ACTIVATIONS))
    if open_sizes:
        nodes.append(Node("first", "dense", ("x",), {"size": 3}))
        loose = tuple("first" if name == "x" else name for name in loose)
    nodes.append(Node("y", "output", loose, {"size": size, "activation": activation}))
    return make_graph(draw(st.sampled_from(["net", "a-b", "x1.y", "end", 'say "x"'])), nodes)


@st.composite
def layer(draw: st.DrawFn, name: str, widths: dict[str, int]) -> tuple[Node, int]:
    source = draw(st.sampled_from(sorted(widths)))
    width = widths[source]
    equal = st.sampled_from(sorted(n for n in widths if widths[n] == width))
    attrs: dict[str, Attr] = {}
    op = draw(st.sampled_from([*UNARY, "dense", "add", "mul", "concat", "slice", "select"]))
    inputs: tuple[str, ...] = (source,)
    if op == "dense":
        inputs = tuple(draw(st.lists(st.sampled_from(sorted(widths)), min_size=1, max_size=3)))
        width = draw(st.integers(1, 6))
        attrs = {"size": width, "activation": draw(st.sampled_from(ACTIVATIONS)), "bias": draw(st.booleans())}
    elif op == "dropout":
        attrs = {"rate": draw(st.floats(0, 0.99))}
    elif op in ("leaky_relu", "elu"):
        attrs = {next(iter(OPS[op].attrs)): draw(st.floats(-10, 10))}
    elif op in ("add", "mul"):
        inputs = (source, *draw(st.lists(equal, min_size=1, max_size=2)))
    elif op == "concat":
        inputs = (source, draw(st.sampled_from(sorted(widths))))
        width = sum(widths[n] for n in inputs)
    elif op == "slice":
        start = draw(st.integers(0, width - 1))
        stop = draw(st.integers(start + 1, width))
        attrs, width = {"start": start, "stop": stop}, stop - start
    elif op == "select":
        ones = sorted(n for n in widths if widths[n] == 1)
        if not ones:
            return Node(name, "slice", inputs, {"start": 0, "stop": 1}), 1
        inputs = (draw(st.sampled_from(ones)), source, draw(equal))
        attrs = {"cmp": draw(st.sampled_from(OPS["select"].attrs["cmp"].allowed)), "value": draw(st.floats(-1, 1))}
    return Node(name, op, inputs, attrs), width


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_random_networks_keep_their_meaning_through_json_and_primitives(graph: Graph) -> None:
    assert graph_from_dict(json.loads(json.dumps(graph.to_dict()))) == graph
    assert make_graph(graph.name, reversed(graph.nodes)).by_name == graph.by_name
    flat = primitives(graph)
    verify(flat)
    assert primitives(flat) == flat
    assert {node.op for node in flat.nodes} <= set(PRIMITIVES)
    assert all(node.attrs.get("activation", "linear") == "linear" for node in flat.nodes)
    assert all(len(node.inputs) == 1 and node.attrs["size"] is None for node in flat.outputs)
    assert param_specs(flat) == param_specs(graph) and list(param_specs(flat)) == list(param_specs(graph))
    assert flops(flat) == flops(graph)
    assert {name: given for name, given in infer(flat).items() if name in graph.by_name}.items() <= infer(graph).items()


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_the_reference_computes_the_inferred_shapes_and_primitives_the_same_values(graph: Graph) -> None:
    rows = 3
    inputs = {node.name: np.ones((rows, *node.attrs["shape"]), node.attrs["dtype"]) for node in graph.inputs}
    weights = initialise(graph, 1)
    y = bind(graph, "reference", weights).forward(inputs)["y"]
    assert y.shape == (rows, *infer(graph)["y"].shape) and prod(y.shape) > 0
    np.testing.assert_array_equal(bind(primitives(graph), "reference", weights).forward(inputs)["y"], y)


@settings(max_examples=40, deadline=None)
@given(graphs(), graphs(open_sizes=True))
def test_text_compiles_back_to_the_graph(bound: Graph, unbound: Graph) -> None:
    for graph in (bound, unbound):
        assert compile_network(graph.text()) == graph


@settings(max_examples=40, deadline=None)
@given(graphs(open_sizes=True))
def test_open_networks_survive_json_and_bind_to_what_was_meant(graph: Graph) -> None:
    again = graph_from_dict(graph.to_dict())
    assert again == graph and again.spec_hash == graph.spec_hash
    size = 7 if graph.outputs[0].attrs["size"] == AUTO else None
    bound = bind_sizes(again, {"x": 30, **({"y": size} if size else {})})
    assert param_specs(bound)["first.weight"].shape == (3, 30)
    if size:
        assert infer(bound)["y"].shape == (7,)

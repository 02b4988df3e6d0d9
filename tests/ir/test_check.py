"""Building, verifying and binding graphs: what is accepted, and the words of every refusal."""

import json

import pytest

from alexandra.errors import GraphError
from alexandra.ir.check import (
    bind_sizes,
    final_activation,
    graph_from_dict,
    infer,
    is_bound,
    make_graph,
    param_specs,
    verify,
)
from alexandra.ir.expand import primitives
from alexandra.ir.graph import AUTO, Graph, Node, TensorType
from alexandra.ir.ops import ACTIVATIONS, OPS

X = Node("x", "input", (), {"shape": 4})
TOKENS = Node("t", "input", (), {"shape": (3,), "dtype": "int32"})


def out(*inputs: str, **attrs: object) -> Node:
    return Node("y", "output", inputs, attrs)


def refusal(*nodes: Node) -> str:
    with pytest.raises(GraphError) as caught:
        make_graph("net", nodes)
    return str(caught.value)


SELECT = {"cmp": "<", "value": 0}


def dense(name: str, *inputs: str, size: object = 5, **attrs: object) -> Node:
    return Node(name, "dense", inputs, {"size": size, **attrs})


def test_defaults_are_filled_in_and_attributes_are_canonical() -> None:
    graph = make_graph("net", [X, Node("h", "leaky_relu", ("x",), {"slope": 1}), dense("d", "h"), out("d")])
    assert graph.by_name["x"].attrs == {"shape": (4,), "dtype": "float32"}
    assert graph.by_name["d"].attrs == {"size": 5, "activation": "linear", "bias": True}
    slope = graph.by_name["h"].attrs["slope"]
    assert slope == 1.0 and isinstance(slope, float)
    assert graph.by_name["y"].attrs == {"size": None, "activation": "linear", "bias": True}


def test_aliases_are_rewritten() -> None:
    graph = make_graph("net", [Node("x", "input", (), {"SIZE": 4}), Node("d", "dense", ("x",), {"n": 2}), out("d")])
    assert graph.by_name["x"].attrs["shape"] == (4,) and graph.by_name["d"].attrs["size"] == 2


def test_equal_settings_written_differently_have_one_hash() -> None:
    a = make_graph("a", [X, Node("h", "elu", ("x",), {"alpha": 1}), out("h")])
    b = make_graph("b", [X, Node("h", "elu", ("x",)), out("h")])
    assert a.spec_hash == b.spec_hash
    assert a.spec_hash != make_graph("a", [X, Node("h", "elu", ("x",), {"alpha": 2}), out("h")]).spec_hash


def test_sorting_moves_a_layer_only_behind_its_inputs() -> None:
    graph = make_graph("net", [out("b"), dense("b", "a"), X, dense("a", "x")])
    assert [node.name for node in graph.nodes] == ["x", "a", "b", "y"]
    written = [X, dense("b", "x"), dense("a", "x"), out("a", "b")]
    assert [node.name for node in make_graph("net", written).nodes] == ["x", "b", "a", "y"]


REFUSALS = {
    "two layers are named 'h'": [X, dense("h", "x"), dense("h", "x"), out("h")],
    "layer 'y' (output) reads 'g', which does not exist": [X, dense("h", "x"), out("g")],
    "layer 'h' has unknown type 'dens'\n": [X, Node("h", "dens", ("x",)), out("h")],
    "Did you mean 'dense'?": [X, Node("h", "dens", ("x",)), out("h")],
    "the network has a cycle: a -> b -> a": [X, dense("a", "b", "x"), dense("b", "a"), out("b")],
    "network 'net' has no INPUT layer": [],
    "network 'net' has no OUTPUT layer": [X],
    "layer 'h' (dense) leads to no output\nCONNECT h -> ... or remove it": [X, dense("h", "x"), out("x")],
    "layer 'h' (dense) needs at least 1 input, got 0": [X, dense("h"), out("x", "h")],
    "layer 'h' (add) needs at least 2 inputs, got 1": [X, Node("h", "add", ("x",)), out("h")],
    "layer 'z' (input) needs no inputs, got 1": [X, Node("z", "input", ("x",), {"shape": 1}), out("z")],
    "layer 's' (select) needs 3 inputs, got 2": [
        X,
        Node("s", "select", ("x", "x"), SELECT),
        out("s"),
    ],
    "layer 'h' (dense) needs size= (width of": [X, Node("h", "dense", ("x",)), out("h")],
    "layer 'h' (dense) has no attribute 'sise'\nknown: activation, bias, size. Did you mean 'size'?": [
        X,
        Node("h", "dense", ("x",), {"sise": 3}),
        out("h"),
    ],
    "layer 'h' (dense): size is given twice": [X, Node("h", "dense", ("x",), {"size": 3, "n": 3}), out("h")],
    "layer 'h' (relu) has no attribute 'size'\nrelu has no attributes.": [
        X,
        Node("h", "relu", ("x",), {"size": 3}),
        out("h"),
    ],
    "layer 'h' (dense): size must be at least 1, got 0": [X, dense("h", "x", size=0), out("h")],
    "layer 'h' (dense): size must be a whole number, got 2.5": [X, dense("h", "x", size=2.5), out("h")],
    "layer 'h' (dense): size must be a whole number, got True": [X, dense("h", "x", size=True), out("h")],
    "layer 'h' (dense): size must be a whole number, got 'AUTO'": [X, dense("h", "x", size=AUTO), out("h")],
    "layer 'h' (dense): unknown activation 'gelo'\nknown: elu, gelu,": [
        X,
        dense("h", "x", activation="gelo"),
        out("h"),
    ],
    "Did you mean 'gelu'?": [X, dense("h", "x", activation="gelo"), out("h")],
    "layer 'd' (dropout): rate must be below 1, got 1.0": [X, Node("d", "dropout", ("x",), {"rate": 1}), out("d")],
    "layer 'd' (dropout): rate must be at least 0, got -0.1": [
        X,
        Node("d", "dropout", ("x",), {"rate": -0.1}),
        out("d"),
    ],
    "layer 'x' (input): shape must be a shape of positive sizes such as (3, 4) or AUTO, got (3, 0)": [
        Node("x", "input", (), {"shape": (3, 0)}),
        out("x"),
    ],
    "layer 'h' (add) needs equal shapes, got float32[4] and float32[5]": [
        X,
        dense("d", "x"),
        Node("h", "add", ("x", "d")),
        out("h"),
    ],
    "layer 'r' (reshape) cannot turn float32[4] (4 values) into shape (3, 2) (6 values)": [
        X,
        Node("r", "reshape", ("x",), {"shape": (3, 2)}),
        out("r"),
    ],
    "layer 's' (slice) stop=5 is beyond the last axis of float32[4], which has 4 elements": [
        X,
        Node("s", "slice", ("x",), {"stop": 5}),
        out("s"),
    ],
    "layer 's' (slice) start=2 must be below stop=2": [
        X,
        Node("s", "slice", ("x",), {"start": 2, "stop": 2}),
        out("s"),
    ],
    "layer 's' (select) needs a condition of type float32[1] for branches of type float32[4], got float32[4]": [
        X,
        Node("s", "select", ("x", "x", "x"), SELECT),
        out("s"),
    ],
    "layer 's' (select): cmp has no value '='\nknown: !=, <, <=, ==, >, >=.": [
        X,
        Node("s", "select", ("x", "x", "x"), {"cmp": "=", "value": 0}),
        out("s"),
    ],
    "layer 'h' (dense) needs a float32 input, got int32[3]\nfeed whole numbers through an embedding": [
        TOKENS,
        dense("h", "t"),
        out("h"),
    ],
    "layer 'e' (embedding) needs an int32 input, got float32[4]\n": [
        X,
        Node("e", "embedding", ("x",), {"vocab": 3, "size": 2}),
        out("e"),
    ],
    "layer 'h' (dense) cannot join float32[4] and float32[2, 2]: all axes but the last must be equal": [
        X,
        Node("z", "input", (), {"shape": (2, 2)}),
        dense("h", "x", "z"),
        out("h"),
    ],
    "layer 'z' (relu) reads the output 'y'\nconnect what the output reads instead": [
        X,
        out("x"),
        Node("z", "relu", ("y",)),
        Node("q", "output", ("z",)),
    ],
    "'1h' is not a layer name\n": [X, dense("1h", "x"), out("1h")],
    "layer 'b' (dense) shares with 'c', which does not exist": [
        X,
        Node("b", "dense", ("x",), {"size": 4}, "c"),
        out("b"),
    ],
    "layers 'a' and 'b' share a.weight, but need shapes (4, 4) and (5, 4)": [
        X,
        dense("a", "x", size=4),
        Node("b", "dense", ("a",), {"size": 5}, "a"),
        out("b"),
    ],
    "layer 'c' (dense) shares with 'b', which itself shares with 'a'; name 'a'": [
        X,
        dense("a", "x", size=4),
        Node("b", "dense", ("a",), {"size": 4}, "a"),
        Node("c", "dense", ("b",), {"size": 4}, "b"),
        out("c"),
    ],
}


@pytest.mark.parametrize("message", REFUSALS)
def test_ill_formed_networks_are_refused(message: str) -> None:
    assert message in refusal(*REFUSALS[message])


def test_verify_refuses_what_did_not_come_from_make_graph() -> None:
    good = make_graph("net", [X, dense("h", "x"), out("h")])
    x, h, y = good.nodes
    for nodes, message in (
        ((h, x, y), "layer 'h' (dense) reads 'x', which comes after it"),
        ((x, dense("h", "x"), y), "layer 'h' (dense) has incomplete attributes"),
        ((x, h, h, y), "two layers are named 'h'"),
    ):
        with pytest.raises(GraphError) as caught:
            verify(Graph("net", nodes))
        assert message in str(caught.value)


def test_types_follow_from_the_inputs() -> None:
    nodes = [
        Node("t", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
        Node("e", "embedding", ("t",), {"vocab": 10, "size": 8}),
        Node("n", "rmsnorm", ("e",)),
        dense("d", "n", "e", size=3),
        Node("s", "slice", ("d",), {"start": 1, "stop": 2}),
        Node("c", "concat", ("s", "d", "d")),
        out("c"),
    ]
    types = infer(make_graph("net", nodes))
    assert {name: str(given) for name, given in types.items()} == {
        "t": "int32[SEQ]",
        "e": "float32[SEQ, 8]",
        "n": "float32[SEQ, 8]",
        "d": "float32[SEQ, 3]",
        "s": "float32[SEQ, 1]",
        "c": "float32[SEQ, 7]",
        "y": "float32[SEQ, 7]",
    }


def test_binding_gives_every_open_size_its_value() -> None:
    nodes = [
        Node("x", "input", (), {"shape": AUTO}),
        Node("t", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
        Node("e", "embedding", ("t",), {"vocab": AUTO, "size": 2}),
        dense("h", "x"),
        out("h", size=AUTO),
        Node("z", "output", ("e",)),
    ]
    graph = make_graph("net", nodes)
    assert not is_bound(graph)
    bound = bind_sizes(graph, {"x": 30, "y": 3, "e": 7, "SEQ": 16})
    assert is_bound(bound)
    assert infer(bound)["x"] == TensorType((30,)) and infer(bound)["z"] == TensorType((16, 2))
    assert param_specs(bound)["e.weight"].shape == (7, 2) and param_specs(bound)["y.weight"].shape == (3, 5)
    image = bind_sizes(graph, {"x": (28, 28), "y": 3, "e": 7})
    assert infer(image)["y"] == TensorType((28, 3)) and infer(image)["z"] == TensorType(("SEQ", 2))


def test_binding_names_the_layer_that_is_open_unknown_or_contradicted() -> None:
    graph = make_graph("net", [Node("x", "input", (), {"shape": AUTO}), dense("h", "x"), out("h", size=3)])
    for sizes, message in (
        ({}, "layer 'x' (input) has shape=AUTO and no size was given\npass sizes={'x': ...}"),
        ({"x": 4, "q": 1}, "no layer 'q' takes a size from the data\nknown: x, y."),
        ({"x": 4, "h": 1}, "no layer 'h' takes a size from the data"),
        ({"x": 4, "y": 2}, "layer 'y' (output) has size=3, but the data needs 2"),
        ({"x": 0}, "layer 'x' (input): shape must be a shape of positive sizes"),
    ):
        with pytest.raises(GraphError) as caught:
            bind_sizes(graph, sizes)
        assert message in str(caught.value)
    passing = make_graph("net", [X, out("x")])
    assert bind_sizes(passing, {"x": 4, "y": 4}) == passing
    with pytest.raises(GraphError, match="layer 'y' .* has width 4, but the data needs 2"):
        bind_sizes(passing, {"y": 2})


def test_parameters_of_an_open_network_are_refused_by_name() -> None:
    graph = make_graph("net", [Node("x", "input", (), {"shape": AUTO}), dense("h", "x"), out("h")])
    with pytest.raises(GraphError, match=r"layer 'h' \(dense\): the input's size is AUTO.*\n.*bind_sizes"):
        param_specs(graph)


def test_json_round_trips_with_open_sizes_and_refuses_other_documents() -> None:
    nodes = [
        Node("x", "input", (), {"shape": AUTO}),
        dense("a", "x", size=4, bias=False),
        Node("b", "dense", ("a",), {"size": 4, "bias": False}, "a"),
        Node("r", "reshape", ("b",), {"shape": (2, 2)}),
        out("r", size=AUTO, activation="sigmoid"),
    ]
    graph = make_graph("net", nodes)
    assert graph_from_dict(json.loads(json.dumps(graph.to_dict()))) == graph
    for document, message in (
        ({**graph.to_dict(), "schema": 2}, "graph schema 2 is not known; this version reads 1"),
        ([], "graph schema [] is not known"),
        ({"schema": 1, "name": "n"}, "needs a text 'name' and a list 'nodes'"),
        ({"schema": 1, "name": "n", "nodes": [3]}, "node 0 of the graph document is not an object: 3"),
        ({"schema": 1, "name": "n", "nodes": [{"name": "x"}]}, "node 0 of the graph document needs name, op"),
    ):
        with pytest.raises(GraphError) as caught:
            graph_from_dict(document)
        assert message in str(caught.value)


def test_primitives_are_chains_whose_last_keeps_the_name() -> None:
    nodes = [
        X,
        dense("h", "x", activation="gelu"),
        Node("i", "linear", ("h",)),
        out("i", "x", size=3, activation="softmax"),
    ]
    flat = primitives(make_graph("net", nodes))
    assert [(node.name, node.op, node.inputs, node.param) for node in flat.nodes] == [
        ("x", "input", (), ""),
        ("h.dense", "dense", ("x",), "h"),
        ("h", "gelu", ("h.dense",), ""),
        ("y.concat", "concat", ("h", "x"), ""),
        ("y.dense", "dense", ("y.concat",), "y"),
        ("y.act", "softmax", ("y.dense",), ""),
        ("y", "output", ("y.act",), ""),
    ]
    verify(flat)


def test_generated_names_give_way_to_written_ones() -> None:
    nodes = [X, dense("h.dense", "x"), dense("h", "h.dense", activation="relu"), out("h")]
    flat = primitives(make_graph("net", nodes))
    assert [node.name for node in flat.nodes] == ["x", "h.dense", "h.dense_", "h", "y"]
    assert set(param_specs(flat)) == {"h.dense.weight", "h.dense.bias", "h.weight", "h.bias"}


def test_the_final_activation_and_its_logits_are_found() -> None:
    def found(*nodes: Node) -> tuple[str | None, str]:
        return final_activation(primitives(make_graph("net", nodes)), "y")

    assert found(X, out("x", size=3, activation="softmax")) == ("softmax", "y.dense")
    assert found(X, out("x", activation="sigmoid")) == ("sigmoid", "x")
    assert found(X, Node("s", "softmax", ("x",)), Node("i", "linear", ("s",)), out("i")) == ("softmax", "x")
    assert found(X, out("x", size=3)) == (None, "y.dense")
    assert found(X, out("x", size=3, activation="tanh")) == (None, "y.act")


def test_activations_are_ops() -> None:
    assert set(ACTIVATIONS) <= set(OPS)
    assert tuple(sorted(ACTIVATIONS)) == ACTIVATIONS
    for name, row in OPS.items():
        assert row.name == name and row.doc.endswith(".") and all(spec.doc for spec in row.attrs.values())
        assert not row.joins or row.max_inputs is None

"""The text and DOT of a graph, and the Python constructors that make graphs."""

import pytest

from alexandra.errors import GraphError
from alexandra.ir.build import Builder, Layer, linear, mlp, sequential
from alexandra.ir.graph import AUTO


def branching() -> Builder:
    build = Builder("a-b")
    x = build.input("x", (2, 3))
    h = build.layer(Layer("dense", size=3, activation="relu", bias=False), x, name="enc.h")
    g = build.layer(Layer("dense", size=3, bias=False), h, shared="enc.h")
    c = build.layer(Layer("slice", stop=1), x, name="c")
    s = build.layer(Layer("select", cmp="<=", value=-0.5), c, g, h, name="s")
    r = build.layer(Layer("reshape", shape=(6,)), s, name="r")
    build.output("y", r, r, size=AUTO, activation="softmax")
    return build


def test_a_graph_is_written_flat_with_its_non_default_attributes() -> None:
    assert branching().graph().text() == (
        'NETWORK "a-b"\n'
        "BEGIN\n"
        "  LAYER INPUT name=x shape=(2, 3)\n"
        "  LAYER DENSE name=enc.h size=3 activation=relu bias=FALSE\n"
        "  CONNECT x -> enc.h\n"
        "  LAYER DENSE name=dense_1 size=3 bias=FALSE shared=enc.h\n"
        "  CONNECT enc.h -> dense_1\n"
        "  LAYER SLICE name=c stop=1\n"
        "  CONNECT x -> c\n"
        '  LAYER SELECT name=s cmp="<=" value=-0.5\n'
        "  CONNECT c -> s\n"
        "  CONNECT dense_1 -> s\n"
        "  CONNECT enc.h -> s\n"
        "  LAYER RESHAPE name=r shape=(6)\n"
        "  CONNECT s -> r\n"
        "  LAYER OUTPUT name=y size=AUTO activation=softmax\n"
        "  CONNECT r -> y\n"
        "  CONNECT r -> y\n"
        "END\n"
    )


def test_sizes_of_inputs_are_written_short_when_they_can_be() -> None:
    assert "LAYER INPUT name=x size=30\n" in linear(inputs=30).text()
    assert "LAYER INPUT name=x shape=AUTO\n" in linear().text()
    assert "LAYER INPUT name=x shape=(SEQ)\n" in linear(inputs=("SEQ",)).text()


def test_dot_has_a_box_per_layer_and_an_arrow_per_input() -> None:
    graph = mlp(8, inputs=4, outputs=3)
    dot = graph.dot()
    assert dot.startswith('digraph "mlp_8" {') and dot.endswith("}\n")
    assert '"h1" [label="h1: dense\\nsize=8 activation=gelu\\nfloat32[8]"];' in dot
    assert '  "x" -> "h1";' in dot and '  "h1" -> "y";' in dot
    assert dot.count(" -> ") == 2


def test_mlp_puts_norm_before_activation_and_dropout_last() -> None:
    graph = mlp(8, 4, activation="silu", dropout=0.1, norm="rmsnorm", inputs=5, outputs=2, output="sigmoid")
    chain = [(node.name, node.op) for node in graph.nodes]
    assert chain[1:5] == [("l1", "dense"), ("n1", "rmsnorm"), ("h1", "silu"), ("d1", "dropout")]
    assert [name for name, _ in chain[5:]] == ["l2", "n2", "h2", "d2", "y"]
    assert graph.outputs[0].attrs == {"size": 2, "activation": "sigmoid", "bias": True}


def test_mlp_without_widths_is_the_linear_model() -> None:
    assert mlp(inputs=5, outputs=2).nodes == linear(inputs=5, outputs=2).nodes


def test_constructors_refuse_what_no_network_can_be() -> None:
    with pytest.raises(GraphError, match="layer 'h1' .*size must be at least 1, got 0"):
        mlp(0)
    with pytest.raises(GraphError, match="unknown activation 'gelo'"):
        mlp(8, activation="gelo")
    with pytest.raises(GraphError, match="norm must be None, 'layernorm' or 'rmsnorm', got 'batch'"):
        mlp(8, norm="batch")
    with pytest.raises(GraphError, match=r"sequential network cannot hold Layer\('add'\)\nuse a Builder"):
        sequential([Layer("add")])
    with pytest.raises(GraphError, match="has no attribute 'rat'\nknown: rate. Did you mean 'rate'"):
        sequential([Layer("dropout", rat=0.1)])


def test_sequential_chains_between_x_and_y() -> None:
    graph = sequential(
        [Layer("dense", size=8), Layer("relu"), Layer("dense", size=4)], inputs=3, outputs=None, output="tanh"
    )
    assert [(node.name, node.inputs) for node in graph.nodes[1:]] == [
        ("dense_1", ("x",)),
        ("relu_1", ("dense_1",)),
        ("dense_2", ("relu_1",)),
        ("y", ("dense_2",)),
    ]

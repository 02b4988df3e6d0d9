"""Attention, experts, convolutions and recurrent layers in the engine, at sizes that cross its tiles and blocks.

Fast kernels equal the naive ones (isa "naive": scalar loops, float64 inside), the float64 reference, and themselves:
on any number of threads, for a row alone, with checkpoints.
"""

import numpy as np
import pytest

from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import initialise
from alexandra.objectives.spec import MSE, AdamW, Program
from alexandra.rng import derive

_native = pytest.importorskip("alexandra._native", reason="the native engine is not built")
from alexandra.backends.native import NativeModel  # noqa: E402  (needs the module above)
from alexandra.backends.reference import ReferenceModel  # noqa: E402

ISAS = _native.available_isas()
LENGTH, WIDTH = 41, 24
SCORES = {"heads": 6, "kv_heads": 2}
EXPERTS = {"experts": 5, "hidden": 9, "balance": 0.1, "z_loss": 0.1}


def sequence(*layers: Node, length: int = LENGTH) -> Graph:
    front = [Node("x", "input", (), {"shape": (length, WIDTH)}), Node("d", "dense", ("x",), {"size": WIDTH})]
    return make_graph("sequence", [*front, *layers, Node("y", "output", (layers[-1].name,))])


def attending(**attrs: object) -> Graph:
    parts = [Node(n, "dense", ("d",), {"size": size}) for n, size in (("q", 24), ("k", 8), ("v", 10))]
    return sequence(*parts, Node("s", "sdpa", ("q", "k", "v"), SCORES | attrs))  # type: ignore[arg-type]


def in_segments() -> Graph:
    graph = attending(causal=False)
    given = Node("segments", "input", (), {"shape": (LENGTH,), "dtype": "int32"})
    seen = Node("s", "sdpa", ("q", "k", "v", "segments"), graph.by_name["s"].attrs)
    return make_graph("segments", [given, *(seen if node.op == "sdpa" else node for node in graph.nodes)])


def image(*layers: Node) -> Graph:
    front = [Node("x", "input", (), {"shape": (9, 10, 6)}), Node("d", "dense", ("x",), {"size": 18})]
    return make_graph("image", [*front, *layers, Node("y", "output", (layers[-1].name,))])


def transformer(layers: int = 2) -> Graph:
    nodes, last = [], "d"
    for i in range(layers):
        attention = {"heads": 4, "kv_heads": 2, "rope": True}
        nodes += [
            Node(f"n{i}", "rmsnorm", (last,)),
            Node(f"a{i}", "attention", (f"n{i}",), attention),
            Node(f"r{i}", "add", (last, f"a{i}")),
            Node(f"m{i}", "rmsnorm", (f"r{i}",)),
            Node(f"f{i}", "ffn", (f"m{i}",), {"hidden": 40}),
            Node(f"s{i}", "add", (f"r{i}", f"f{i}")),
        ]
        last = f"s{i}"
    return sequence(*nodes)


def gates() -> Graph:
    """Every activation as the gate of a product; of x too, whose gradient then has two sources; one read twice."""
    names = ("relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "softplus", "tanh", "gelu_tanh")
    nodes = [Node("u", "dense", ("x",), {"size": WIDTH})]
    for name in names:
        nodes += [Node(f"{name}_a", name, ("d",)), Node(f"{name}_m", "mul", ("u", f"{name}_a"))]
    own = [Node("z", "sigmoid", ("u",)), Node("w", "mul", ("z", "u"))]
    own += [Node("t", "tanh", ("u",)), Node("v", "mul", ("t", "t"))]
    total = Node("sum", "add", (*(f"{name}_m" for name in names), "w", "v"))
    return sequence(*nodes, *own, total)


GRAPHS = {
    "gates": gates(),
    "wide": sequence(  # large enough for matrix tiles
        Node("a", "dense", ("d",), {"size": 700}),
        Node("r", "relu", ("a",)),
        Node("b", "dense", ("r",), {"size": 130, "bias": False}),
        Node("c", "dense", ("b",), {"size": 140}),
        Node("t", "relu", ("c",)),
        Node("s", "dense", ("t",), {"size": 135}),
        length=5,
    ),
    "causal": attending(),
    "open": attending(causal=False, scale=0.4),
    "window": attending(window=9, globals=2),
    "strided": attending(window=4, stride=7),
    "both sides": attending(causal=False, window=5, globals=1),
    "capped": attending(softcap=1.5),
    "relative": attending(causal=False, relative_buckets=8, relative_distance=20, relative_bidirectional=True),
    "segments": in_segments(),
    "transformer": transformer(),
    "experts": sequence(Node("s", "moe", ("d",), EXPERTS | {"top_k": 2, "hidden": 20})),
    "sparse": sequence(
        Node("s", "moe", ("d",), EXPERTS | {"top_k": 1, "gated": False, "score": "sigmoid", "capacity": 1.0})
    ),
    "conv": image(Node("s", "conv2d", ("d",), {"size": 35, "kernel": 3})),
    "conv in groups": image(Node("s", "conv2d", ("d",), {"size": 12, "kernel": (3, 2), "groups": 3, "dilation": 2})),
    "conv in steps": image(Node("s", "conv2d", ("d",), {"size": 17, "kernel": 4, "stride": (2, 3), "padding": 1})),
    "pools": image(
        Node("m", "pool2d", ("d",), {"kernel": 3, "stride": 2, "padding": 1}),
        Node("s", "pool2d", ("m",), {"kind": "mean", "kernel": 2, "stride": 1}),
    ),
    "batchnorm": image(Node("s", "batchnorm", ("d",))),
    "lstm": sequence(Node("s", "lstm", ("d",), {"size": 21})),
    "gru": sequence(Node("s", "gru", ("d",), {"size": 21, "reverse": True})),
    "rnn": sequence(Node("s", "rnn", ("d",), {"size": 21, "last": True})),
    "reduce": sequence(Node("m", "transpose", ("d",)), Node("s", "reduce", ("m",), {"kind": "max"})),
    "matmul": sequence(
        Node("m", "matmul", ("d", "d"), {"transpose": True}), Node("s", "matmul", ("m", "d"), {"scale": 0.1})
    ),
}  # fmt: skip


def data(graph: Graph, rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    inputs = {}
    for node in graph.inputs:
        shape = (rows, *(int(axis) for axis in node.attrs["shape"]))  # type: ignore[union-attr]
        stream, size = derive(8, node.name), int(np.prod(shape))
        whole = node.attrs["dtype"] == "int32"
        inputs[node.name] = (stream.below(3, size) if whole else stream.normal(size).astype(np.float32)).reshape(shape)
        inputs[node.name] = inputs[node.name].astype(str(node.attrs["dtype"]))
    shape = NativeModel(graph, initialise(graph, 4)).forward({n: a[:1] for n, a in inputs.items()})["y"].shape[1:]
    values = derive(8, "targets").normal(rows * int(np.prod(shape)))
    return inputs, {"y": values.reshape(rows, *shape).astype(np.float32)}


def results(graph: Graph, rows: int, **settings: object) -> tuple[np.ndarray, float, dict[str, np.ndarray]]:
    inputs, targets = data(graph, rows)
    one = NativeModel(graph, initialise(graph, 4), **settings)  # type: ignore[arg-type]
    return one.forward(inputs)["y"], *one.loss_and_grads(inputs, targets, MSE())


def assert_near(actual: tuple, wanted: tuple, scale: float = 1e-5) -> None:
    np.testing.assert_allclose(actual[0], wanted[0], rtol=scale, atol=scale)
    assert actual[1] == pytest.approx(wanted[1], rel=scale)
    for name, array in wanted[2].items():
        np.testing.assert_allclose(actual[2][name], array, rtol=scale, atol=scale, err_msg=name)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("isa", [*ISAS, "naive"])
def test_every_instruction_set_and_the_naive_kernels_equal_the_reference(isa: str, name: str) -> None:
    graph, rows = GRAPHS[name], 19
    inputs, targets = data(graph, rows)
    reference = ReferenceModel(graph, initialise(graph, 4))
    wanted = reference.forward(inputs)["y"], *reference.loss_and_grads(inputs, targets, MSE())
    assert_near(results(graph, rows, isa=isa), wanted)


@pytest.mark.parametrize("rows", [13, 53])  # of the first every block is shared by groups and heads
@pytest.mark.parametrize("name", GRAPHS)
def test_threads_checkpoints_and_neighbours_change_no_byte(name: str, rows: int) -> None:
    graph = GRAPHS[name]
    whole = results(graph, rows)
    checkpoints = ({"checkpoint": True}, {"threads": 2, "checkpoint": True}, {"threads": 3, "checkpoint": True})
    for settings in ({"threads": 3}, *checkpoints):
        other = results(graph, rows, **settings)
        np.testing.assert_array_equal(other[0], whole[0])
        assert other[1] == whole[1]
        for parameter, array in whole[2].items():
            np.testing.assert_array_equal(other[2][parameter], array, err_msg=f"{settings} {parameter}")
    inputs, _ = data(graph, rows)
    alone = NativeModel(graph, initialise(graph, 4)).forward({n: a[11:12] for n, a in inputs.items()})["y"]
    np.testing.assert_array_equal(alone, whole[0][11:12])


def test_a_checkpointed_transformer_has_the_same_losses_in_less_memory() -> None:
    graph = transformer(8)
    inputs, targets = data(graph, 40)
    ends = []
    for checkpoint in (False, True):
        one = NativeModel(graph, initialise(graph, 0), checkpoint=checkpoint)
        state = one.start(Program(MSE(), AdamW(1e-3), batch_size=32, clip_norm=1.0), inputs, targets)
        inference = NativeModel(graph, initialise(graph, 0)).memory["arena"]
        ends.append((one.run(state, 4), one.weights, one.memory["arena"] - inference))
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]
    assert ends[1][2] < 0.5 * ends[0][2]


def test_attention_over_a_long_sequence_takes_no_square_of_its_length() -> None:
    sizes = []
    for length in (256, 1024):
        graph = sequence(Node("s", "attention", ("d",), {"heads": 6, "kv_heads": 2}), length=length)
        one = NativeModel(graph, initialise(graph, 0), max_rows=16)
        sizes.append(one.memory["arena"])
    assert sizes[1] < 4.5 * sizes[0]

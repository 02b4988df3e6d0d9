"""Ten pinned losses of five kinds of networks on every backend: MLP, CNN, LSTM, transformer, mixture of experts.

The values are the reference's, in float64. A change of meaning that all backends share (an angle, a mask, a gate's
loss, a running statistic) shows here; a change of one backend shows against them.
"""

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives.spec import AdamW, CrossEntropy, Program, Schedule
from alexandra.rng import derive

ROWS, STEPS, VOCAB, LENGTH = 20, 10, 11, 9


def tokens(*layers: Node) -> Graph:
    """Whole numbers, an embedding `e`, layers, and an output of the last one."""
    front = [
        Node("x", "input", (), {"shape": (LENGTH,), "dtype": "int32"}),
        Node("e", "embedding", ("x",), {"vocab": VOCAB, "size": 16}),
    ]
    last = Node("y", "output", (layers[-1].name,), {"size": VOCAB, "activation": "softmax"})
    return make_graph("sequence", [*front, *layers, last])


def mlp() -> Graph:
    nodes = [
        Node("x", "input", (), {"shape": 7}),
        Node("h", "dense", ("x",), {"size": 33, "activation": "relu"}),
        Node("n", "batchnorm", ("h",)),
        Node("g", "dense", ("n",), {"size": 18, "activation": "gelu"}),
        Node("d", "dropout", ("g",), {"rate": 0.2}),
        Node("y", "output", ("d",), {"size": VOCAB, "activation": "softmax"}),
    ]
    return make_graph("mlp", nodes)


def cnn() -> Graph:
    nodes = [
        Node("x", "input", (), {"shape": (8, 7, 3)}),
        Node("c1", "conv2d", ("x",), {"size": 10, "kernel": 3, "bias": False}),
        Node("b1", "batchnorm", ("c1",)),
        Node("r1", "relu", ("b1",)),
        Node("p1", "pool2d", ("r1",)),
        Node("c2", "conv2d", ("p1",), {"size": 20, "kernel": (3, 2), "stride": 2, "padding": 1, "groups": 2}),
        Node("r2", "silu", ("c2",)),
        Node("p2", "pool2d", ("r2",), {"kind": "mean", "kernel": (2, 1)}),
        Node("f", "reshape", ("p2",), {"shape": (40,)}),
        Node("y", "output", ("f",), {"size": VOCAB, "activation": "softmax"}),
    ]
    return make_graph("cnn", nodes)


def lstm() -> Graph:
    return tokens(Node("h", "lstm", ("e",), {"size": 20}), Node("b", "gru", ("h",), {"size": 12, "reverse": True}))


def block(name: str, source: str, mixer: Node) -> list[Node]:
    attention = {"heads": 4, "kv_heads": 2, "rope": True}
    return [
        Node(f"{name}n", "rmsnorm", (source,)),
        Node(f"{name}a", "attention", (f"{name}n",), attention),
        Node(f"{name}r", "add", (source, f"{name}a")),
        Node(f"{name}m", "rmsnorm", (f"{name}r",)),
        mixer,
        Node(f"{name}s", "add", (f"{name}r", mixer.name)),
    ]


def transformer() -> Graph:
    first = block("1", "e", Node("1f", "ffn", ("1m",), {"hidden": 40}))
    second = block("2", "1s", Node("2f", "ffn", ("2m",), {"hidden": 40}))
    return tokens(*(_named(node) for node in (*first, *second)))


def _named(node: Node) -> Node:
    """Names begin with a letter."""
    rename = lambda name: f"b{name}" if name[0].isdigit() else name  # noqa: E731
    return Node(rename(node.name), node.op, tuple(map(rename, node.inputs)), node.attrs)


def moe() -> Graph:
    gate = {"experts": 4, "top_k": 2, "hidden": 24, "balance": 0.05, "z_loss": 0.01, "selection_bias": True}
    layers = block("1", "e", Node("1f", "moe", ("1m",), gate | {"jitter": 0.1}))
    return tokens(*(_named(node) for node in layers))


def data(graph: Graph) -> tuple[dict[str, np.ndarray], np.ndarray]:
    given, answer = graph.inputs[0], (ROWS, LENGTH) if graph.name == "sequence" else (ROWS,)
    size = (ROWS, *(int(axis) for axis in given.attrs["shape"]))
    stream = derive(3, "x")
    whole = given.attrs["dtype"] == "int32"
    values = stream.below(VOCAB, int(np.prod(size))) if whole else stream.normal(int(np.prod(size)))
    targets = derive(3, "y").below(VOCAB, int(np.prod(answer))).reshape(answer)
    return {"x": values.reshape(size).astype(np.int32 if whole else np.float32)}, targets


PROGRAM = Program(
    CrossEntropy(),
    AdamW(lr=0.01, weight_decay=0.1),
    batch_size=8,
    clip_norm=1.0,
    schedule=Schedule("cosine", warmup_steps=3, total_steps=10, final=0.1),
    seed=5,
)
PINNED = {
    "mlp": [2.709563, 2.67903, 1.992692, 2.319947, 2.579985, 1.885138, 2.082446, 1.888068, 2.4564, 1.522412],
    "cnn": [2.46356, 2.433163, 2.425514, 2.388861, 2.145317, 1.959226, 1.975335, 2.05701, 1.938092, 1.849381],
    "lstm": [2.398055, 2.39659, 2.396925, 2.391029, 2.373323, 2.394704, 2.378388, 2.37002, 2.367427, 2.382122],
    "transformer": [3.065217, 3.336616, 3.053934, 2.608954, 2.585337, 2.638938, 2.271276, 2.15517, 2.270222, 2.005288],
    "moe": [2.982156, 2.799854, 2.652603, 2.586845, 2.334322, 2.572588, 2.459183, 2.280563, 2.147078, 2.256335],
}
NETWORKS = {"mlp": mlp, "cnn": cnn, "lstm": lstm, "transformer": transformer, "moe": moe}


@pytest.mark.parametrize("name", NETWORKS)
def test_ten_losses_are_the_pinned_ones(backend: str, name: str) -> None:
    graph = NETWORKS[name]()
    model = bind(graph, backend, seed=3)
    losses = model.run(model.start(PROGRAM, *data(graph)), STEPS)
    np.testing.assert_allclose(losses, PINNED[name], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_after_ten_steps_all_weights_are_the_references(other: str, name: str) -> None:
    """Running statistics and selection biases too, which follow the batches without a gradient."""
    graph = NETWORKS[name]()
    ends = []
    for backend in ("reference", other):
        model = bind(graph, backend, seed=3)
        model.run(model.start(PROGRAM, *data(graph)), STEPS)
        ends.append(model.weights)
    for parameter, wanted in ends[0].items():
        np.testing.assert_allclose(ends[1][parameter], wanted, rtol=1e-3, atol=2e-4, err_msg=parameter)

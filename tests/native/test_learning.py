"""The engine learns real tasks: handwritten digits with an MLP and a CNN, tiny Shakespeare's characters with an LSTM, a
transformer and a mixture of experts. Each is judged on data that it never saw, against a baseline of the same data."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import initialise
from alexandra.objectives.spec import AdamW, CrossEntropy, Program, Schedule
from alexandra.rng import derive

pytest.importorskip("alexandra._native", reason="the native engine is not built")
from alexandra.backends.native import NativeModel

pytestmark = pytest.mark.slow
CONTEXT, WIDTH = 64, 96


def digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(folder / "digits" / "digits.csv.gz", "rt") as file:
        table = np.array([line.split(",") for line in file], np.float64)
    return (table[:, :-1] / 16.0).astype(np.float32), table[:, -1].astype(np.int64)


def mlp() -> Graph:
    nodes = [
        Node("x", "input", (), {"shape": (8, 8, 1)}),
        Node("f", "reshape", ("x",), {"shape": (64,)}),
        Node("h", "dense", ("f",), {"size": 64, "activation": "relu"}),
        Node("y", "output", ("h",), {"size": 10, "activation": "softmax"}),
    ]
    return make_graph("mlp", nodes)


def cnn() -> Graph:
    nodes = [
        Node("x", "input", (), {"shape": (8, 8, 1)}),
        Node("c1", "conv2d", ("x",), {"size": 16, "bias": False}),
        Node("b1", "batchnorm", ("c1",)),
        Node("r1", "relu", ("b1",)),
        Node("p1", "pool2d", ("r1",)),
        Node("c2", "conv2d", ("p1",), {"size": 32}),
        Node("r2", "relu", ("c2",)),
        Node("p2", "pool2d", ("r2",)),
        Node("f", "reshape", ("p2",), {"shape": (128,)}),
        Node("y", "output", ("f",), {"size": 10, "activation": "softmax"}),
    ]
    return make_graph("cnn", nodes)


@pytest.mark.parametrize(("network", "wanted"), [(mlp, 0.88), (cnn, 0.95)])
def test_digits_are_read(real_data: Path, network, wanted: float) -> None:
    """The last 397 digits, of other writers than the first 1400."""
    x, y = digits(real_data)
    x = x.reshape(-1, 8, 8, 1)
    model = NativeModel(network(), initialise(network(), 0))
    steps = 660
    rule = Schedule("cosine", warmup_steps=20, total_steps=steps)
    program = Program(CrossEntropy(), AdamW(lr=3e-3), batch_size=64, schedule=rule)
    losses = model.run(model.start(program, {"x": x[:1400]}, y[:1400]), steps)
    assert losses[-20:].mean() < 0.1 * losses[:5].mean()
    right = model.forward({"x": x[1400:]})["y"].argmax(-1) == y[1400:]
    assert right.mean() > wanted


def language_model(*layers: Node, vocab: int) -> Graph:
    front = [
        Node("x", "input", (), {"shape": (CONTEXT,), "dtype": "int32"}),
        Node("e", "embedding", ("x",), {"vocab": vocab, "size": WIDTH}),
    ]
    last = Node("y", "output", (layers[-1].name,), {"size": vocab, "activation": "softmax"})
    return make_graph("language", [*front, *layers, last])


def blocks(mixer: dict[str, object]) -> list[Node]:
    nodes, last = [], "e"
    for i in range(2):
        nodes += [
            Node(f"n{i}", "rmsnorm", (last,)),
            Node(f"a{i}", "attention", (f"n{i}",), {"heads": 4, "kv_heads": 2, "rope": True}),
            Node(f"r{i}", "add", (last, f"a{i}")),
            Node(f"m{i}", "rmsnorm", (f"r{i}",)),
            Node(f"f{i}", str(mixer["op"]), (f"m{i}",), {k: v for k, v in mixer.items() if k != "op"}),  # type: ignore[misc]
            Node(f"s{i}", "add", (f"r{i}", f"f{i}")),
        ]
        last = f"s{i}"
    return [*nodes, Node("last", "rmsnorm", (last,))]


LANGUAGE = {
    "lstm": ([Node("h", "lstm", ("e",), {"size": 160})], 450),
    "transformer": (blocks({"op": "ffn", "hidden": 256}), 400),
    "moe": (blocks({"op": "moe", "experts": 4, "top_k": 2, "hidden": 128, "balance": 0.01}), 400),
}


@pytest.mark.parametrize("kind", LANGUAGE)
def test_characters_of_shakespeare_are_foretold_better_than_by_pairs(real_data: Path, kind: str) -> None:
    """On the last twentieth of the text; the baseline counts which character follows which."""
    with gzip.open(real_data / "lm_text" / "tinyshakespeare_train.txt.gz") as file:
        text = np.frombuffer(file.read(), np.uint8)
    letters, codes = np.unique(text, return_inverse=True)
    cut = len(codes) * 19 // 20
    pairs = np.full((len(letters), len(letters)), 0.1)
    np.add.at(pairs, (codes[: cut - 1], codes[1:cut]), 1.0)
    held = codes[cut : cut + (len(codes) - cut - 1) // CONTEXT * CONTEXT + 1]
    baseline = -np.log(pairs / pairs.sum(1, keepdims=True))[held[:-1], held[1:]].mean()
    layers, steps = LANGUAGE[kind]
    graph = language_model(*layers, vocab=len(letters))
    starts = derive(0, "starts").below(cut - CONTEXT - 1, 32 * steps)
    windows = codes[starts[:, None] + np.arange(CONTEXT + 1)]
    model = NativeModel(graph, initialise(graph, 0))
    rule = Schedule("cosine", warmup_steps=20, total_steps=steps)
    program = Program(CrossEntropy(), AdamW(lr=4e-3, weight_decay=0.01), batch_size=32, clip_norm=1.0, schedule=rule)
    x, y = windows[:, :-1].astype(np.int32), windows[:, 1:].astype(np.int32)
    losses = model.run(model.start(program, {"x": x}, y), steps)
    assert losses[-20:].mean() < 0.6 * losses[0]
    unseen = model.loss(
        {"x": held[:-1].reshape(-1, CONTEXT).astype(np.int32)}, held[1:].reshape(-1, CONTEXT), CrossEntropy()
    )
    print(f"{kind}: {unseen:.3f} nats a character after {steps} steps; pairs {baseline:.3f}")
    assert unseen < baseline - 0.2

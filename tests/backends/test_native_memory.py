"""The memory of a run of the engine, predicted to the byte before anything is allocated."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("alexandra._native")

from alexandra.backends.native import NativeModel
from alexandra.backends.native_memory import planned_memory
from alexandra.errors import BackendError
from alexandra.ir.build import Builder, Layer, mlp
from alexandra.ir.graph import Attr, Graph
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network
from alexandra.objectives.spec import MSE, SGD, AdamW, CrossEntropy, Muon, Program

LENGTH, WIDTH = 12, 8
LAYERS: dict[str, dict[str, Attr]] = {
    "attention": {"heads": 4, "kv_heads": 2, "causal": True, "rope": True},
    "ffn": {"hidden": 20},
    "moe": {"experts": 5, "top_k": 2, "hidden": 9},
    "dense": {"size": WIDTH, "activation": "gelu"},
    "conv1d": {"size": WIDTH, "kernel": 3},
    "lstm": {"size": WIDTH},
    "gru": {"size": WIDTH},
    "batchnorm": {},
    "rmsnorm": {},
    "dropout": {"rate": 0.1},
    "softmax": {},
}


def drawn(draw: random.Random) -> Graph:
    build = Builder("random")
    h = build.layer(Layer("embedding", vocab=17, size=WIDTH), build.input("t", (LENGTH,), "int32"))
    for op in draw.choices(list(LAYERS), k=draw.randint(1, 6)):
        made = build.layer(Layer(op, **LAYERS[op]), h)
        h = build.layer(Layer("add"), h, made) if draw.random() < 0.7 else made
    if draw.random() < 0.5:
        h = build.layer(Layer("reduce", kind="mean"), h)
    build.output("y", h, size=draw.randint(2, 9), activation=draw.choice(["softmax", "sigmoid"]))
    return build.graph()


@pytest.mark.parametrize("seed", range(30))
def test_the_prediction_is_what_the_model_reports_byte_for_byte(seed: int) -> None:
    draw = random.Random(seed)
    graph, rows, threads, checkpoint = drawn(draw), draw.randint(1, 90), draw.choice([1, 2, 3]), draw.random() < 0.3
    rule = draw.choice([AdamW(), SGD(lr=1e-3, momentum=0.9), SGD(lr=1e-3), Muon()])
    objective = draw.choice([MSE(), CrossEntropy()])
    frozen = draw.choice([(), ("embedding_1.",)])
    program = Program(objective, rule, batch_size=draw.randint(1, 64), clip_norm=draw.choice([0.0, 1.0]), frozen=frozen)
    predicted = planned_memory(graph, program, rows, threads=threads, checkpoint=checkpoint)

    model = NativeModel(graph, initialise(graph, 0), threads=threads, checkpoint=checkpoint)
    assert model.memory["arena"] == predicted.pop("inference")
    inputs = {"t": np.zeros((rows, LENGTH), np.int32)}
    targets = model.forward(inputs)["y"]
    if isinstance(objective, CrossEntropy) and graph.nodes[-1].attrs["activation"] == "softmax":
        targets = targets.argmax(-1)
    elif isinstance(objective, CrossEntropy):
        targets = np.round(targets)
    model.start(program, inputs, targets)
    assert model.memory == predicted


HEAD = """
import resource
import numpy as np
from alexandra.backends.native import NativeModel
from alexandra.backends.native_memory import planned_memory
from alexandra.ir.build import mlp
from alexandra.ir.weights import initialise
from alexandra.objectives.spec import AdamW, CrossEntropy, Program
"""
LARGE = """
found = planned_memory(mlp(20_000, 20_000, inputs=20_000, outputs=9), Program(CrossEntropy(), AdamW(), batch_size=64))
with open("/proc/self/status") as file:  # getrusage's peak is also the parent's, which forked this process
    peak = next(line for line in file if line.startswith("VmHWM"))
print(sum(found.values()) - found["inference"], int(peak.split()[1]))
"""
GROWN = """
def resident():
    with open("/proc/self/statm") as file:
        return resource.getpagesize() * int(file.read().split()[1])

graph, program = mlp(2048, 2048, inputs=64, outputs=9), Program(CrossEntropy(), AdamW(), batch_size=256)
inputs, targets, weights = {"x": np.zeros((256, 64), np.float32)}, np.zeros(256, np.int64), initialise(graph, 0)
predicted = planned_memory(graph, program)
before = resident()
model = NativeModel(graph, weights)
state = model.start(program, inputs, targets)
model.run(state, 1)
print(sum(predicted.values()) - predicted["inference"], resident() - before)
"""


def printed(code: str) -> tuple[int, int]:
    """The two numbers that a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, check=True, timeout=120)
    first, second = map(int, done.stdout.split())
    return first, second


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_nothing_is_allocated_for_a_prediction() -> None:
    total, peak_kib = printed(LARGE)
    assert total > 4 * 4 * 2 * 20_000**2  # 12.8 GB
    assert peak_kib < 400_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_grows_by_what_was_predicted() -> None:
    predicted, grown = printed(GROWN)
    assert grown == pytest.approx(predicted, rel=0.1)


def test_an_open_axis_is_named() -> None:
    text = "LAYER INPUT name=t shape=(SEQ) dtype=int32 LAYER EMBEDDING name=e vocab=9 size=4 LAYER OUTPUT name=y size=2"
    graph = compile_network(text + " CONNECT t -> e -> y")
    with pytest.raises(BackendError, match="depends on the length of 't'\nbind its axes first"):
        planned_memory(graph, Program(CrossEntropy(), AdamW()))


def test_what_would_be_large_to_plan_is_refused_before() -> None:
    program = Program(CrossEntropy(), AdamW(), batch_size=1)
    with pytest.raises(BackendError, match=r"parameter 'h1.weight' has 1,600,000,000 values"):
        planned_memory(mlp(40_000, inputs=40_000, outputs=2), program)
    build = Builder("long")
    h = build.layer(Layer("embedding", vocab=9, size=64), build.input("t", (131_072,), "int32"))
    build.output("y", build.layer(Layer("attention", heads=1, rope=True, window=64), h), size=9)
    with pytest.raises(BackendError, match="a plan would hold 16,777,216 angles of positions"):
        planned_memory(build.graph(), program)

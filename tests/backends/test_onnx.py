"""ONNX files: what they carry, that they are deterministic, and what they refuse. Answers are compared in parity/."""

import subprocess
import sys

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.backends.onnx import RULES, export
from alexandra.errors import BackendError, WeightsError
from alexandra.ir.build import Builder, Layer, mlp
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.ops import PRIMITIVES
from alexandra.ir.weights import initialise
from alexandra.rng import derive


def test_every_primitive_has_a_rule() -> None:
    assert set(RULES) == set(PRIMITIVES) - {"input"}


def network() -> Graph:
    return mlp(8, 8, inputs=4, outputs=3, norm="rmsnorm", dropout=0.1)


def answers(data: bytes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_a_file_is_deterministic_and_says_which_network_and_weights_it_holds() -> None:
    onnx = pytest.importorskip("onnx")
    weights = initialise(network(), 4)
    data = export(network(), weights)
    assert data == export(network(), weights) != export(network(), initialise(network(), 5))
    model = onnx.load_from_string(data)
    assert {fact.key: fact.value for fact in model.metadata_props} == {
        "spec_hash": network().spec_hash,
        "weights": weights.content_hash,
    }
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, array in weights.items():
        np.testing.assert_array_equal(stored[name], array)
    assert [source.name for source in model.graph.input] == ["x"]


def test_any_number_of_rows_gives_the_answers_of_the_native_engine() -> None:
    weights = initialise(network(), 4)
    data, model = export(network(), weights), bind(network(), weights=weights)
    for rows in (1, 7, 300):
        x = derive(0, "x").normal(4 * rows).reshape(rows, 4).astype(np.float32)
        np.testing.assert_allclose(answers(data, {"x": x})["y"], model.forward({"x": x})["y"], rtol=1e-5, atol=1e-5)


def test_symbolic_axes_stay_open_whatever_they_are_called() -> None:
    build = Builder("tokens")
    tokens = build.input("tokens", ("rows",), "int32")
    e = build.layer(Layer("embedding", vocab=7, size=6), tokens)
    pairs = build.layer(Layer("reshape", shape=("rows", 2, 3)), e)
    build.output("y", pairs, size=5)
    graph = build.graph()
    weights = initialise(graph)
    data, model = export(graph, weights), bind(graph, "reference", weights)
    for rows, length in ((1, 1), (3, 8)):
        given = derive(0, "t").below(7, rows * length).reshape(rows, length).astype(np.int32)
        actual = answers(data, {"tokens": given})["y"]
        np.testing.assert_allclose(actual, model.forward({"tokens": given})["y"], atol=1e-6)


ATTENTIONS = [
    {"rope": True, "qk_norm": True, "window": 3, "globals": 1, "stride": 4},
    {"rope": True, "scaling": "yarn", "factor": 4.0, "original": 8, "layout": "interleaved", "dims": 2},
    {"causal": False, "window": 3},
    {"relative_buckets": 8, "relative_distance": 6, "scale": 1.0},
    {"relative_buckets": 8, "relative_distance": 6, "relative_bidirectional": True, "causal": False, "softcap": 5.0},
]


@pytest.mark.parametrize("attrs", ATTENTIONS, ids=str)
def test_sequences_of_any_length_give_the_references_answers(attrs: dict[str, object]) -> None:
    pytest.importorskip("onnx")
    build = Builder("sequence")
    tokens, segments = build.input("tokens", ("S",), "int32"), build.input("segments", ("S",), "int32")
    e = build.layer(Layer("embedding", vocab=7, size=8), tokens)
    for kind in ({"kind": "learned", "length": 20, "offset": 1}, {"kind": "sinusoidal", "offset": 1}):
        e = build.layer(Layer("position", **kind), e)
    a = build.layer(Layer("attention", heads=2, **attrs), e, segments)
    m = build.layer(Layer("moe", experts=4, top_k=2, hidden=3), a)
    for layer in (Layer("conv1d", size=8), Layer("gru", size=6), Layer("lstm", size=5, reverse=True)):
        m = build.layer(layer, m)
    build.output("y", build.layer(Layer("reduce", kind="max"), m), size=2)
    build.output("z", m)
    graph = build.graph()
    weights = initialise(graph, 2)
    data, model = export(graph, weights), bind(graph, "reference", weights)
    for length in (1, 5, 17):
        given = {
            "tokens": derive(0, "t").below(7, 2 * length).reshape(2, length).astype(np.int32),
            "segments": np.sort(derive(0, "s").below(3, 2 * length).reshape(2, length)).astype(np.int32),
        }
        actual, wanted = answers(data, given), model.forward(given)
        for name in "yz":
            np.testing.assert_allclose(actual[name], wanted[name], atol=1e-5)


def test_layers_may_be_called_like_parameters_and_steps() -> None:
    nodes = [
        Node("x", "input", (), {"shape": 4}),
        Node("h", "dense", ("x",), {"size": 4, "activation": "gelu"}),
        Node("h.weight", "silu", ("h",)),
        Node("h.erf", "add", ("h", "h.weight", "x")),
        Node("y", "output", ("h.erf",), {"size": 2}),
    ]
    graph = make_graph("names", nodes)
    weights = initialise(graph)
    x = derive(0, "x").normal(20).reshape(5, 4).astype(np.float32)
    wanted = bind(graph, "reference", weights).forward({"x": x})["y"]
    np.testing.assert_allclose(answers(export(graph, weights), {"x": x})["y"], wanted, atol=1e-6)


def test_what_onnx_cannot_hold_is_refused_by_name() -> None:
    pytest.importorskip("onnx")
    build = Builder()
    x = build.input("x", ("A", "B"))
    build.output("y", build.layer(Layer("reshape", shape=("B", "A")), x, name="turn"))
    graph = build.graph()
    with pytest.raises(BackendError, match=r"layer 'turn' \(reshape\) has the open axes B, A; ONNX can leave one open"):
        export(graph, initialise(graph))
    with pytest.raises(WeightsError, match="missing h1.weight"):
        export(mlp(4, inputs=2, outputs=2), initialise(mlp(inputs=2, outputs=2)))


WITHOUT_ONNX = """
import sys
sys.modules["onnx"] = None
from alexandra.backends.onnx import export
from alexandra.errors import MissingExtraError
from alexandra.ir.build import linear
from alexandra.ir.weights import initialise
graph = linear(inputs=2, outputs=2)
try:
    export(graph, initialise(graph))
except MissingExtraError as error:
    print(error)
assert "torch" not in sys.modules
"""


def test_without_onnx_it_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_ONNX], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "writing ONNX needs the extra 'onnx', which is not installed",
        "install it with: pip install 'alexandra-foundry[onnx]'",
    ]

"""Parity: op table x backends, forward and backward, against the reference; the reference against differences.

To add an op, add its row to ROWS: a function from a shape to small graphs around that op. A dense layer stands
before the op, so that the gradients of its weights test the gradient of the op's input.
"""

from collections.abc import Callable, Mapping
from itertools import product
from math import prod

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.backends.onnx import export
from alexandra.backends.reference import ReferenceModel
from alexandra.ir.check import make_graph
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Attr, Graph, Node
from alexandra.ir.ops import COMPARISONS, OPS
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import KL, MSE, CrossEntropy, Objective, WeightedCrossEntropy
from alexandra.rng import derive

Shape = tuple[int, ...]
SHAPES: tuple[Shape, ...] = ((1,), (7,), (33,), (3, 4))
ROW_COUNTS = {(1,): 1, (7,): 5, (33,): 17, (3, 4): 6}
VOCAB = 11


def graph_of(shape: Shape, *nodes: Node) -> Graph:
    """x -> dense `a`, dense `b` of x's own width -> `nodes`; the last one is the output y's input."""
    front = [Node("x", "input", (), {"shape": shape})]
    used = {name for node in nodes for name in node.inputs}
    front += [Node(name, "dense", ("x",), {"size": shape[-1]}) for name in ("a", "b") if name in used]
    return make_graph("tiny", [*front, *nodes, Node("y", "output", (nodes[-1].name,))])


def through(op: str, *variants: Mapping[str, Attr]) -> Callable[[Shape], list[Graph]]:
    return lambda shape: [graph_of(shape, Node("op", op, ("a",), attrs)) for attrs in variants or ({},)]


def joining(op: str) -> Callable[[Shape], list[Graph]]:
    return lambda shape: [
        graph_of(shape, Node("op", op, names)) for names in (("a", "b"), ("a", "x", "b"), ("a", "a"), ("a", "b", "a"))
    ]


def inputs_row(shape: Shape) -> list[Graph]:
    """Two inputs of different widths, one of them read twice."""
    nodes = [Node("z", "input", (), {"shape": (*shape[:-1], 2)}), Node("op", "dense", ("a", "z", "x"), {"size": 3})]
    return [graph_of(shape, *nodes)]


def output_row(shape: Shape) -> list[Graph]:
    """Projection, activation and implicit concat inside the output itself."""
    x = Node("x", "input", (), {"shape": shape})
    a, b = (Node(name, "dense", ("x",), {"size": shape[-1], "activation": "tanh"}) for name in "ab")
    return [
        make_graph("tiny", [x, a, Node("y", "output", ("a",), {"size": 3, "activation": "softmax"})]),
        make_graph("tiny", [x, a, b, Node("y", "output", ("a", "b"), {"size": 2, "bias": False})]),
        make_graph("tiny", [x, a, b, Node("y", "output", ("a", "b"), {"activation": "sigmoid"})]),
        make_graph("tiny", [x, a, b, Node("y", "output", ("a",)), Node("z", "output", ("b",), {"size": 2})]),
    ]


def dense_row(shape: Shape) -> list[Graph]:
    variants = {"size": 6}, {"size": 35, "bias": False}, {"size": 4, "activation": "gelu"}
    shared = [
        Node(name, "dense", ("a",), {"size": shape[-1], "activation": activation}, param="a")
        for name, activation in (("c", "linear"), ("d", "tanh"))
    ]
    return [*through("dense", *variants)(shape), graph_of(shape, *shared, Node("op", "add", ("a", "c", "d")))]


def embedding_row(shape: Shape) -> list[Graph]:
    x = Node("x", "input", (), {"shape": shape, "dtype": "int32"})
    e = Node("e", "embedding", ("x",), {"vocab": VOCAB, "size": 5})
    tied = Node("op", "dense", ("e",), {"size": VOCAB, "bias": False}, param="e")
    return [
        make_graph("tiny", [x, e, Node("y", "output", ("e",), {"size": 3})]),
        make_graph("tiny", [x, e, tied, Node("y", "output", ("op",))]),
        make_graph("tiny", [x, e, Node("y", "output", ("e",), {"size": VOCAB, "activation": "sigmoid"}, param="e")]),
    ]


def rmsnorm_row(shape: Shape) -> list[Graph]:
    """Of one element the norm is its sign: without a large eps the gradient is the rounding error of 1 - 1."""
    return through("rmsnorm", {"eps": 0.1}, *[{}] * (shape[-1] > 1))(shape)


def reshape_row(shape: Shape) -> list[Graph]:
    return through("reshape", {"shape": (prod(shape),)}, {"shape": shape[::-1]}, {"shape": (*shape, 1)})(shape)


def slice_row(shape: Shape) -> list[Graph]:
    width = shape[-1]
    return through("slice", {"start": 0, "stop": width}, {"start": width // 2, "stop": width // 2 + 1})(shape)


def select_row(shape: Shape) -> list[Graph]:
    condition = Node("c", "slice", ("x",), {"start": 0, "stop": 1})
    return [
        graph_of(shape, condition, Node("op", "select", ("c", "a", "b"), {"cmp": cmp, "value": value}))
        for cmp, value in product(COMPARISONS, (0.0, 0.1))
    ]


def matmul_row(shape: Shape) -> list[Graph]:
    """a' b: [C, S] by [S, C]; and a b' with both as they are."""
    turned = Node("t", "transpose", ("a",))
    return [
        graph_of(shape, turned, Node("op", "matmul", ("t", "b"), {"scale": 0.3})),
        graph_of(shape, Node("op", "matmul", ("a", "b"), {"transpose": True})),
    ]


def rope_row(shape: Shape) -> list[Graph]:
    head = {"head_dim": shape[-1] // 2}
    stretched = [{"scaling": kind, "factor": 4.0, "original": 16} for kind in ("linear", "ntk", "yarn", "llama3")]
    turned = [{}, {"dims": 2, "layout": "interleaved", "base": 50.0}, *stretched, {"layout": "interleaved"}]
    return through("rope", *[{**head, **attrs} for attrs in turned])(shape)


T5 = {"relative_buckets": 8, "relative_distance": 6, "scale": 1.0}
PATTERNS: tuple[Mapping[str, Attr], ...] = (
    {},
    {"causal": False},
    {"window": 2},
    {"causal": False, "window": 2, "globals": 1},
    {"window": 2, "stride": 3, "globals": 1},
    {"softcap": 2.0, "scale": 0.7},
    T5,
    {**T5, "causal": False, "relative_bidirectional": True},
)


def sdpa_row(shape: Shape) -> list[Graph]:
    """Every pattern, grouped and not, to itself, to a longer memory, with segments and without."""
    length, width = shape
    x, m = Node("x", "input", (), {"shape": shape}), Node("m", "input", (), {"shape": (length + 2, width)})
    segments = Node("segments", "input", (), {"shape": (length,), "dtype": "int32"})
    packed = Node("segments", "input", (), {"shape": (length + 2,), "dtype": "int32"})
    graphs = []
    for number, pattern in enumerate(PATTERNS):
        heads, groups = (4, 2) if number % 2 else (2, None)
        q = Node("q", "dense", ("x",), {"size": width})
        source = m if number in (1, 7) else x
        k, v = (Node(n, "dense", (source.name,), {"size": width if groups is None else width // 2}) for n in "kv")
        attrs = {"heads": heads, "kv_heads": groups, **pattern}
        front = [x, *([m] if source is m else []), q, k, v]
        end = [Node("y", "output", ("op",), {"size": 3})]
        graphs.append(make_graph("tiny", [*front, Node("op", "sdpa", ("q", "k", "v"), attrs), *end]))
        parts = packed if source is m else segments
        graphs.append(make_graph("tiny", [*front, parts, Node("op", "sdpa", ("q", "k", "v", "segments"), attrs), *end]))
    return graphs


GATES: tuple[Mapping[str, Attr], ...] = (
    {"top_k": 1, "normalise": False, "balance": 0.3, "z_loss": 0.2},
    {"top_k": 2, "balance": 0.1},
    {"top_k": 3, "score": "sigmoid", "selection_bias": True, "scale": 2.5, "balance": 0.2},
    {"top_k": 2, "score": "sigmoid", "normalise": False, "z_loss": 0.1},
    {"top_k": 2, "capacity": 0.6},
)


def experts_row(shape: Shape) -> list[Graph]:
    named = [{"activation": activation} for activation in ("silu", "linear", "gelu_tanh")]
    kinds: list[dict[str, Attr]] = [*named, {"gated": False, "activation": "gelu"}]
    gates = Node("r", "dense", ("x",), {"size": 5}), Node("g", "top_k_gate", ("r",), {"top_k": 2})
    return [graph_of(shape, *gates, Node("op", "experts", ("a", "g"), {"hidden": 3, **kind})) for kind in kinds]


CONVOLUTIONS: tuple[Mapping[str, Attr], ...] = (
    {"size": 3},
    {"size": 4, "kernel": (2, 3), "padding": "valid", "bias": False},
    {"size": 4, "kernel": 3, "stride": 2, "groups": 2},
    {"size": 2, "kernel": (1, 3), "padding": 1, "stride": (2, 1), "dilation": 2},
    {"size": 5, "kernel": 4},
)
LINES = (
    {"size": 3},
    {"size": 4, "kernel": 2, "stride": 2, "groups": 2, "bias": False},
    {"size": 2, "padding": "valid"},
)
STATES = (
    {"size": 3},
    {"size": 2, "reverse": True},
    {"size": 4, "last": True},
    {"size": 1, "last": True, "reverse": True},
)


def attention_row(shape: Shape) -> list[Graph]:
    m = Node("m", "input", (), {"shape": (shape[0] + 1, 3)})
    whole = {"heads": 2, "kv_heads": 1, "head_dim": 4, "size": 6, "bias": True, "out_bias": False}
    mine = {"heads": 2, "rope": True, "qk_norm": True, "norm_eps": 0.1, "window": 2}
    own = graph_of(shape, Node("s", "attention", ("a",), mine), Node("op", "attention", ("s",), mine, "s"))
    return [*through("attention", whole)(shape), own, graph_of(shape, m, Node("op", "attention", ("a", "m"), CROSS))]


CROSS = {"heads": 2, "causal": False}

ROWS: dict[str, Callable[[Shape], list[Graph]]] = {
    "input": inputs_row,
    "output": output_row,
    "dense": dense_row,
    "embedding": embedding_row,
    "linear": through("linear"),
    "relu": through("relu"),
    "leaky_relu": through("leaky_relu", {}, {"slope": 0.3}),
    "elu": through("elu", {}, {"alpha": 0.5}),
    "gelu": through("gelu"),
    "silu": through("silu"),
    "sigmoid": through("sigmoid"),
    "tanh": through("tanh"),
    "softplus": through("softplus"),
    "softmax": through("softmax"),
    "layernorm": through("layernorm", {}, {"eps": 0.1}),
    "rmsnorm": rmsnorm_row,
    "dropout": through("dropout", {"rate": 0.4}),
    "add": joining("add"),
    "mul": joining("mul"),
    "concat": joining("concat"),
    "reshape": reshape_row,
    "slice": slice_row,
    "select": select_row,
    "gelu_tanh": through("gelu_tanh"),
    "scale": through("scale", {"factor": 0.7}),
    "batchnorm": through("batchnorm", {"eps": 0.1}, {"eps": 0.2, "momentum": 0.3}),
    "transpose": through("transpose"),
    "reduce": through("reduce", *({"kind": kind} for kind in ("mean", "max", "sum", "first", "last"))),
    "matmul": matmul_row,
    "position": through("position", {"length": 9}, {"length": 9, "offset": 2}, {"kind": "sinusoidal", "offset": 3}),
    "rope": rope_row,
    "sdpa": sdpa_row,
    "top_k_gate": through("top_k_gate", *GATES),
    "experts": experts_row,
    "conv2d": through("conv2d", *CONVOLUTIONS),
    "pool2d": through("pool2d", {}, {"kind": "mean", "kernel": 3, "stride": (1, 2), "padding": 1}, {"kernel": (1, 3)}),
    "rnn": through("rnn", *STATES, {"size": 3, "activation": "relu"}),
    "lstm": through("lstm", *STATES),
    "gru": through("gru", *STATES),
    "attention": attention_row,
    "ffn": through("ffn", {"hidden": 5}, {"hidden": 3, "gated": False, "activation": "relu", "bias": True, "size": 2}),
    "moe": through(
        "moe",
        {"experts": 4, "top_k": 2, "hidden": 3, "balance": 0.1},
        {"experts": 3, "top_k": 1, "hidden": 2, "shared_experts": 2, "gated": False},
    ),
    "conv1d": through("conv1d", *LINES),
    "pool1d": through("pool1d", {}, {"kind": "mean", "kernel": 3, "stride": 1, "padding": 1}),
}
SEQUENCES, IMAGES = ((1, 4), (6, 8)), ((4, 5, 4),)
SHAPES_OF: dict[str, tuple[Shape, ...]] = {
    **dict.fromkeys(("transpose", "reduce", "matmul", "position", "rnn", "lstm", "gru", "attention"), SEQUENCES),
    **dict.fromkeys(("rope", "sdpa"), ((1, 8), (7, 8))),
    **dict.fromkeys(("conv2d", "pool2d"), IMAGES),
    **dict.fromkeys(("conv1d", "pool1d"), ((4, 4), (7, 2))),
    **dict.fromkeys(("top_k_gate", "experts", "moe"), ((4,), (3, 5))),
}

GRID = [
    pytest.param(op, shape, id=f"{op}-{'x'.join(map(str, shape))}")
    for op in ROWS
    for shape in SHAPES_OF.get(op, SHAPES)
]


def test_every_op_has_a_row() -> None:
    assert set(ROWS) == set(OPS)


def data_for(graph: Graph, rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], WeightSet]:
    """Normal inputs and targets, and normal weights (no zeros or ones, so that every term shows).

    A matrix is scaled by 1 / sqrt(fan in): values stay near 1, where 1e-5 is a fair question to ask of float32.
    """
    inputs = {}
    for node in graph.inputs:
        stream, shape = derive(1, "input", node.name), (rows, *map(int, node.attrs["shape"]))
        kinds = 3 if node.name == "segments" else VOCAB
        values = stream.below(kinds, prod(shape)) if node.attrs["dtype"] == "int32" else stream.normal(prod(shape))
        inputs[node.name] = values.reshape(shape).astype(node.attrs["dtype"])
    # Conditions of `select` must also meet their value exactly, in float32.
    if "x" in inputs and inputs["x"].dtype == np.float32 and rows > 2:
        inputs["x"][0, ..., 0], inputs["x"][1, ..., 0] = 0.0, 0.1
    shapes = {name: array.shape for name, array in bind(graph, "reference").weights.items()}
    weights = {n: derive(2, n).normal(prod(s)).reshape(s) / s[-1] ** (0.5 * (len(s) > 1)) for n, s in shapes.items()}
    weights |= {n: np.abs(array) + 0.5 for n, array in weights.items() if n.endswith(".variance")}
    outputs = bind(graph, "reference", WeightSet(weights)).forward(inputs)
    targets = {n: derive(3, n).normal(a.size).reshape(a.shape).astype(np.float32) for n, a in outputs.items()}
    return inputs, targets, WeightSet(weights)


def assert_near(actual: np.ndarray, wanted: np.ndarray, tolerance: float, what: str) -> None:
    assert actual.shape == wanted.shape, what
    excess = np.abs(actual - wanted) - tolerance * np.maximum(1.0, np.abs(wanted))
    assert excess.size == 0 or excess.max() <= 0, f"{what}: off by {np.abs(actual - wanted).max():.2e}"


def assert_gradients_are_differences(model: ReferenceModel, inputs, targets, objective: Objective) -> None:
    """Up to eight entries of each parameter, central differences with step 1e-6."""
    arrays, rows = model.admission.inputs(inputs)
    wanted = model.admission.targets(targets, objective, arrays, rows)
    _, grads = model.loss_and_grads(inputs, targets, objective)
    assert set(grads) == set(model.weights)
    for name, gradient in grads.items():
        for k in np.unique(derive(4, name).below(gradient.size, 8)):
            losses = []
            for step in (1e-6, -1e-6):
                moved = {key: array.copy() for key, array in model.master.items()}
                moved[name].flat[k] += step
                losses.append(model.loss_and_grads_of(moved, arrays, wanted, objective, {})[0])
            difference = (losses[0] - losses[1]) / 2e-6
            assert_near(np.array(gradient.flat[k]), np.array(difference), 1e-6, f"d {name}[{k}]")


@pytest.mark.parametrize(("op", "shape"), GRID)
def test_reference_gradients_equal_finite_differences(op: str, shape: Shape) -> None:
    for graph in ROWS[op](shape):
        inputs, targets, weights = data_for(graph, min(ROW_COUNTS.get(shape, 3), 4))
        assert_gradients_are_differences(ReferenceModel(graph, weights), inputs, targets, MSE())


@pytest.mark.parametrize(("op", "shape"), GRID)
def test_forward_and_backward_equal_the_reference(other: str, op: str, shape: Shape) -> None:
    for graph in ROWS[op](shape):
        inputs, targets, weights = data_for(graph, ROW_COUNTS.get(shape, 3))
        assert_parity(other, graph, weights, inputs, targets, MSE())


def skip_unsupported(graph: Graph, unsupported: tuple[str, ...], backend: str) -> None:
    lacking = sorted({node.op for node in primitives(graph).nodes} & set(unsupported))
    if lacking:
        pytest.skip(f"{backend} has no {', '.join(lacking)} yet")


def assert_parity(other: str, graph: Graph, weights: WeightSet, inputs, targets, objective: Objective) -> None:
    ours, theirs = bind(graph, "reference", weights), bind(graph, other, weights)
    wanted, actual = ours.forward(inputs), theirs.forward(inputs)
    assert set(actual) == set(wanted)
    for name in wanted:
        assert actual[name].dtype == np.float32
        assert_near(actual[name], wanted[name], 1e-5, f"{graph.text()}\noutput {name}")
    loss, grads = ours.loss_and_grads(inputs, targets, objective)
    their_loss, their_grads = theirs.loss_and_grads(inputs, targets, objective)
    assert_near(np.array(their_loss), np.array(loss), 1e-5, f"{graph.text()}\nloss")
    assert set(their_grads) == set(grads)
    for name in grads:
        assert_near(their_grads[name], grads[name], 1e-5, f"{graph.text()}\nd {name}")


@pytest.mark.parametrize(("op", "shape"), GRID)
def test_the_onnx_model_answers_as_the_reference(op: str, shape: Shape) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for graph in ROWS[op](shape):
        inputs, _, weights = data_for(graph, ROW_COUNTS.get(shape, 3))
        session = runtime.InferenceSession(export(graph, weights), options, providers=["CPUExecutionProvider"])
        names = [node.name for node in graph.outputs]
        wanted = bind(graph, "reference", weights).forward(inputs)
        for name, actual in zip(names, session.run(names, inputs), strict=True):
            assert_near(actual, wanted[name], 1e-5, f"{graph.text()}\noutput {name}")


# --- losses: one row per way that an output can meet its target ---------------------------------------------


def head(activation: str, size: int, shape: Shape = (5,)) -> list[Node]:
    x, h = Node("x", "input", (), {"shape": shape}), Node("h", "dense", ("x",), {"size": 6, "activation": "tanh"})
    return [x, h, Node("y", "output", ("h",), {"size": size, "activation": activation})]


def classes(*shape: int) -> np.ndarray:
    return derive(5, "classes").below(3, prod(shape)).reshape(shape)


def bits(*shape: int) -> np.ndarray:
    return derive(5, "bits").below(2, prod(shape)).reshape(shape).astype(np.float32)


def numbers(*shape: int) -> np.ndarray:
    return derive(5, "numbers").normal(prod(shape)).reshape(shape).astype(np.float32)


def weighted(target: np.ndarray, *, zero: int = 2) -> dict[str, np.ndarray]:
    """`target` with weights around 1, some of them negative and one row without."""
    weights = 1.0 + numbers(*target.shape)
    weights[zero] = 0.0
    return {"classes": target, "weights": weights}


def teacher(*shape: int) -> np.ndarray:
    e = np.exp(numbers(*shape))
    p = (e / e.sum(-1, keepdims=True)).astype(np.float32)
    p[0] = np.eye(shape[-1], dtype=np.float32)[0]
    return p


SOFTMAX_LAYER = [*head("linear", 3)[:2], Node("d", "dense", ("h",), {"size": 3}), Node("s", "softmax", ("d",))]
TWO_HEADS = [*head("softmax", 3), Node("z", "output", ("h", "x"), {"size": 2, "activation": "softmax"})]
LOSSES: dict[str, tuple[list[Node], object, Objective]] = {
    "softmax": (head("softmax", 3), classes(9), CrossEntropy()),
    "softmax, smoothed": (head("softmax", 3), classes(9), CrossEntropy(label_smoothing=0.2)),
    "logits without softmax": (head("linear", 3), classes(9), CrossEntropy()),
    "softmax as a layer": ([*SOFTMAX_LAYER, Node("y", "output", ("s",))], classes(9), CrossEntropy()),
    "softmax per position": (head("softmax", 3, (4, 5)), classes(9, 4), CrossEntropy()),
    "sigmoid, flat target": (head("sigmoid", 1), bits(9), CrossEntropy()),
    "sigmoid, column target": (head("sigmoid", 1), bits(9, 1), CrossEntropy()),
    "sigmoids": (head("sigmoid", 4), bits(9, 4), CrossEntropy()),
    "sigmoids, smoothed": (head("sigmoid", 4), bits(9, 4), CrossEntropy(label_smoothing=0.1)),
    "two outputs": (TWO_HEADS, {"y": classes(9), "z": classes(9) % 2}, CrossEntropy()),
    "weighted": (head("softmax", 3), weighted(classes(9)), WeightedCrossEntropy()),
    "weighted per position": (head("softmax", 3, (4, 5)), weighted(classes(9, 4)), WeightedCrossEntropy("count")),
    "weighted by a constant": (head("linear", 3), weighted(classes(9)), WeightedCrossEntropy(2.5, 0.1)),
    "weighted sigmoids": (head("sigmoid", 4), weighted(bits(9, 4)), WeightedCrossEntropy()),
    "weighted, two outputs": (
        TWO_HEADS, {"y": weighted(classes(9)), "z": weighted(classes(9) % 2, zero=4)}, WeightedCrossEntropy("count")
    ),
    "weights all zero": (head("softmax", 3), {"classes": classes(9), "weights": np.zeros(9)}, WeightedCrossEntropy()),
    "teacher": (head("softmax", 3), teacher(9, 3), KL()),
    "teacher, warm": (head("linear", 3), teacher(9, 3), KL(4.0)),
    "teacher per position": (head("softmax", 3, (4, 5)), teacher(9, 4, 3), KL(0.5)),
    "teacher of sigmoids": (head("sigmoid", 4), bits(9, 4) * 0.9 + 0.1 * (numbers(9, 4) > 0), KL(2.0)),
    "mse": (head("linear", 4), numbers(9, 4), MSE()),
    "mse, flat target": (head("linear", 1), numbers(9), MSE()),
    "mse after softmax": (head("softmax", 3), numbers(9, 3), MSE()),
    "mse, two outputs": (TWO_HEADS, {"y": numbers(9, 3), "z": numbers(9, 2)}, MSE()),
}


def loss_case(name: str) -> tuple[Graph, WeightSet, dict[str, np.ndarray], object, Objective]:
    nodes, targets, objective = LOSSES[name]
    graph = make_graph("tiny", nodes)
    inputs, _, weights = data_for(graph, 9)
    return graph, weights, inputs, targets, objective


@pytest.mark.parametrize("name", LOSSES)
def test_reference_loss_gradients_equal_finite_differences(name: str) -> None:
    graph, weights, inputs, targets, objective = loss_case(name)
    assert_gradients_are_differences(ReferenceModel(graph, weights), inputs, targets, objective)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_alone_is_that_of_its_gradients(backend: str, name: str) -> None:
    graph, weights, inputs, targets, objective = loss_case(name)
    model = bind(graph, backend, weights)
    loss, _ = model.loss_and_grads(inputs, targets, objective)
    assert model.loss(inputs, targets, objective) == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_the_reference(other: str, name: str) -> None:
    graph, weights, inputs, targets, objective = loss_case(name)
    assert_parity(other, graph, weights, inputs, targets, objective)

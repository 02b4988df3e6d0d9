"""The reference model as a whole: forward, dropout, batches, state, memory, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from alexandra.backends import bind as bind_module
from alexandra.backends.base import Model, TrainState
from alexandra.backends.bind import BACKENDS, Choice, bind, choose
from alexandra.backends.reference import ReferenceModel
from alexandra.errors import BackendError, WeightsError
from alexandra.ir.build import Builder, Layer, linear, mlp, sequential
from alexandra.ir.check import bind_sizes, make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import WeightSet, initialise
from alexandra.objectives.spec import MSE, SGD, AdamW, CrossEntropy, Program, Schedule
from alexandra.rng import derive

X = derive(0, "x").normal(40).reshape(10, 4).astype(np.float32)
Y = derive(0, "y").below(3, 10)


def classifier(**settings: object) -> Graph:
    return mlp(8, inputs=4, outputs=3, **settings)


def test_it_is_a_model_and_its_state_a_train_state() -> None:
    model = bind(classifier(), "reference")
    assert isinstance(model, Model)
    assert isinstance(model.start(Program(CrossEntropy()), {"x": X}, Y), TrainState)


def test_forward_is_the_formula() -> None:
    model = bind(classifier(activation="tanh"), "reference")
    w = {name: array.astype(np.float64) for name, array in model.weights.items()}
    logits = np.tanh(X @ w["h1.weight"].T + w["h1.bias"]) @ w["y.weight"].T + w["y.bias"]
    exp = np.exp(logits)
    np.testing.assert_allclose(model.forward({"x": X})["y"], exp / exp.sum(1, keepdims=True), rtol=1e-12)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model = bind(classifier(norm="layernorm"), "reference")
    whole = model.forward({"x": X})["y"]
    np.testing.assert_allclose(
        np.concatenate([model.forward({"x": X[i : i + 1]})["y"] for i in range(10)]), whole, rtol=1e-13
    )
    assert model.forward({"x": X[:0]})["y"].shape == (0, 3)


def test_a_symbolic_axis_takes_any_length() -> None:
    build = Builder("tokens")
    tokens = build.input("tokens", ("SEQ",), "int32")
    e = build.layer(Layer("embedding", vocab=7, size=5), tokens)
    build.output("y", e, size=7)
    model = bind(build.graph(), "reference")
    for length in (1, 6):
        given = derive(0, "t").below(7, 2 * length).reshape(2, length)
        assert model.forward({"tokens": given})["y"].shape == (2, length, 7)
        loss, _ = model.loss_and_grads({"tokens": given}, given, CrossEntropy())
        assert 1.5 < loss < 2.5  # near log(7)


def test_dropout_is_active_in_runs_only_with_the_masks_of_its_stream() -> None:
    graph = make_graph(
        "d",
        [
            Node("x", "input", (), {"shape": 4}),
            Node("drop", "dropout", ("x",), {"rate": 0.5}),
            Node("y", "output", ("drop",), {"size": 1, "bias": False}),
        ],
    )
    model = bind(graph, "reference", weights=WeightSet({"y.weight": np.ones((1, 4))}))
    np.testing.assert_allclose(model.forward({"x": X})["y"][:, 0], X.astype(np.float64).sum(1), rtol=1e-12)
    state = model.start(Program(MSE(), SGD(lr=0.0), batch_size=4, seed=9, shuffle=False), {"x": X}, np.zeros(10))
    losses = model.run(state, 3)
    for step, rows in enumerate((X[:4], X[4:8], X[8:])):
        kept = derive(9, "dropout", "drop").at(step).uniform(rows.size).reshape(rows.shape) >= 0.5
        wanted = ((2.0 * kept * rows.astype(np.float64)).sum(1) ** 2).mean()
        assert losses[step] == pytest.approx(wanted, rel=1e-12)


def test_epochs_are_reshuffled_by_their_stream_and_the_last_batch_may_be_short() -> None:
    graph = linear(inputs=4, outputs=1, output="linear")
    model = bind(graph, "reference", weights=WeightSet({"y.weight": np.zeros((1, 4)), "y.bias": np.zeros(1)}))
    targets = np.arange(10.0)
    losses = model.run(model.start(Program(MSE(), SGD(lr=0.0), batch_size=4, seed=5), {"x": X}, targets), 6)
    orders = [derive(5, "shuffle").at(epoch).permutation(10) for epoch in (0, 1)]
    wanted = [(targets[order[i : i + 4]] ** 2).mean() for order in orders for i in (0, 4, 8)]
    np.testing.assert_allclose(losses, wanted, rtol=1e-12)


def test_shared_weights_add_their_gradients() -> None:
    nodes = [
        Node("x", "input", (), {"shape": 4}),
        Node("a", "dense", ("x",), {"size": 4}),
        Node("b", "dense", ("a",), {"size": 4}, param="a"),
        Node("y", "output", ("b",)),
    ]
    model = bind(make_graph("shared", nodes), "reference", seed=1)
    assert list(model.weights) == ["a.weight", "a.bias"]
    w, b = (model.weights[name].astype(np.float64) for name in model.weights)
    x = X.astype(np.float64)
    hidden = x @ w.T + b
    dy = 2.0 * (hidden @ w.T + b) / hidden.size
    _, grads = model.loss_and_grads({"x": X}, np.zeros((10, 4)), MSE())
    np.testing.assert_allclose(grads["a.weight"], dy.T @ hidden + (dy @ w).T @ x, rtol=1e-11)


def test_several_outputs_add_their_losses() -> None:
    build = Builder()
    x = build.input("x", 4)
    build.output("p", x, size=3, activation="softmax")
    build.output("q", x, size=2, activation="sigmoid")
    model = bind(build.graph(), "reference")
    q = np.stack([Y == 0, Y == 1], axis=1)
    loss, _ = model.loss_and_grads({"x": X}, {"p": Y, "q": q}, CrossEntropy())
    probabilities = model.forward({"x": X})
    wanted = -np.log(probabilities["p"][np.arange(10), Y]).mean()
    wanted -= np.log(np.where(q, probabilities["q"], 1 - probabilities["q"])).mean()
    assert loss == pytest.approx(wanted, rel=1e-12)


def test_weights_show_training_and_load_takes_them_over() -> None:
    model, other = (bind(classifier(), "reference", seed=s) for s in (0, 1))
    before = model.weights
    model.run(model.start(Program(CrossEntropy(), AdamW(0.1)), {"x": X}, Y), 2)
    assert model.weights != before == initialise(model.graph, 0)
    other.load(model.weights)
    assert other.weights == model.weights
    with pytest.raises(WeightsError, match="missing h1.bias"):
        other.load(WeightSet({name: a for name, a in model.weights.items() if name != "h1.bias"}))


def test_memory_counts_bytes_by_tier() -> None:
    model = bind(classifier(), "reference")
    values = 8 * (4 * 8 + 8 + 8 * 3 + 3)
    assert model.memory == {"weights": values, "arena": 0, "gradients": 0, "optimizer": 0}
    model.forward({"x": X})
    assert model.memory["arena"] == 8 * 10 * (4 + 8 + 8 + 3 + 3 + 3)
    model.start(Program(CrossEntropy(), AdamW()), {"x": X}, Y)
    assert (model.memory["gradients"], model.memory["optimizer"]) == (values, 2 * values)


def test_a_diverging_run_ends_in_a_loss_that_is_not_finite_and_says_nothing() -> None:
    graph = sequential([Layer("dense", size=8)], inputs=4, outputs=1, output="linear")
    model = bind(graph, "reference")
    losses = model.run(model.start(Program(MSE(), SGD(lr=1e9)), {"x": X}, np.arange(10.0)), 60)
    assert not np.isfinite(losses[-1])
    assert not all(np.isfinite(array).all() for array in model.weights.values())


TOKENS = bind_sizes(
    make_graph(
        "t",
        [
            Node("t", "input", (), {"shape": 2, "dtype": "int32"}),
            Node("e", "embedding", ("t",), {"vocab": "AUTO", "size": 3}),
            Node("y", "output", ("e",), {"size": 2, "activation": "sigmoid"}),
        ],
    ),
    {"e": 5},
)

REFUSED_INPUTS = {
    "input 'x' is missing; the network needs x": {},
    "the network has no input 'X'\nknown: x. Did you mean 'x'?": {"X": X},
    "input 'x' needs shape [rows, 4], got [10, 3]": {"x": X[:, :3]},
    "input 'x' needs shape [rows, 4], got [4]": {"x": X[0]},
    "input 'x' needs numbers (float32), got dtype <U1": {"x": np.array([["a"] * 4])},
    "inputs must be a dict of arrays by name (x), got ndarray": X,
}


@pytest.mark.parametrize("message", REFUSED_INPUTS)
def test_inputs_that_do_not_fit_are_refused(message: str) -> None:
    with pytest.raises(BackendError) as caught:
        bind(classifier(), "reference").forward(REFUSED_INPUTS[message])
    assert str(caught.value) == message


def test_inputs_must_agree_in_rows_and_indices_must_exist() -> None:
    build = Builder()
    build.output("y", build.input("a", 2), build.input("b", 3), size=1)
    with pytest.raises(BackendError, match=r"different numbers of rows: \{'a': 2, 'b': 1\}"):
        bind(build.graph(), "reference").forward({"a": np.zeros((2, 2)), "b": np.zeros((1, 3))})
    model = bind(TOKENS, "reference")
    with pytest.raises(BackendError, match="input 't' holds 5, but embedding 'e' knows 0 .. 4"):
        model.forward({"t": np.array([[0, 5]])})
    with pytest.raises(BackendError, match=r"whole numbers \(int32\), got dtype float64"):
        model.forward({"t": np.zeros((1, 2))})


REFUSED_TARGETS = {
    "target 'y' holds class 3, but the output has classes 0 .. 2": (Y + 1, CrossEntropy()),
    "target 'y' must hold class indices (whole numbers), got dtype float64": (Y.astype(float), CrossEntropy()),
    "target 'y' needs shape [10] (class indices), got [9]": (Y[:9], CrossEntropy()),
    "target 'y' has shape [10], the output [10, 3]": (Y, MSE()),
    "the network has no target 'z'\nknown: y.": ({"z": Y}, MSE()),
    "label_smoothing must be in [0, 1), got 1.5": (Y, CrossEntropy(1.5)),
    "objective 'mse' is not supported; known: CrossEntropy, MSE, WeightedCrossEntropy, KL": (Y, "mse"),
}


@pytest.mark.parametrize("message", REFUSED_TARGETS)
def test_targets_that_do_not_fit_are_refused(message: str) -> None:
    targets, objective = REFUSED_TARGETS[message]
    with pytest.raises(BackendError) as caught:
        bind(classifier(), "reference").loss_and_grads({"x": X}, targets, objective)
    assert str(caught.value) == message


def test_losses_that_cannot_be_are_refused() -> None:
    one = bind(linear(inputs=4, outputs=1), "reference")
    with pytest.raises(BackendError, match="its softmax is always 1.*\n.*activation=sigmoid"):
        one.loss_and_grads({"x": X}, np.zeros(10, int), CrossEntropy())
    with pytest.raises(BackendError, match="at least one row, got 0"):
        one.loss_and_grads({"x": X[:0]}, np.zeros(0), MSE())
    bits = bind(linear(inputs=4, outputs=1, output="sigmoid"), "reference")
    with pytest.raises(BackendError, match="0 and 1 only, because the output ends in a sigmoid"):
        bits.loss_and_grads({"x": X}, np.full(10, 0.5), CrossEntropy())
    two = Builder()
    x = two.input("x", 4)
    two.output("p", x)
    two.output("q", x)
    with pytest.raises(BackendError, match="outputs p, q: give targets as a dict by output"):
        bind(two.graph(), "reference").loss_and_grads({"x": X}, X, MSE())


REFUSED_PROGRAMS = {
    "batch_size must be at least 1, got 0": Program(CrossEntropy(), batch_size=0),
    "lr must be a number >= 0, got -1": Program(CrossEntropy(), SGD(lr=-1)),
    "lr must be a number >= 0, got nan": Program(CrossEntropy(), SGD(lr=float("nan"))),
    "momentum must be in [0, 1), got 1.0": Program(CrossEntropy(), SGD(momentum=1.0)),
    "beta2 must be in [0, 1), got 1.0": Program(CrossEntropy(), AdamW(beta2=1.0)),
    "unknown schedule 'cosin'\nknown: constant, cosine, linear, step, wsd. Did you mean 'cosine'?": Program(
        CrossEntropy(), schedule=Schedule("cosin")
    ),
    "schedule 'step' needs every >= 1, got 0": Program(CrossEntropy(), schedule=Schedule("step")),
}


@pytest.mark.parametrize("message", REFUSED_PROGRAMS)
def test_programs_out_of_range_are_refused(message: str) -> None:
    with pytest.raises(BackendError) as caught:
        bind(classifier(), "reference").start(REFUSED_PROGRAMS[message], {"x": X}, Y)
    assert str(caught.value) == message


def test_a_state_belongs_to_its_model_and_its_kind_of_run() -> None:
    model, other = bind(classifier(), "reference"), bind(classifier(), "reference")
    program = Program(CrossEntropy(), SGD())
    state = model.start(program, {"x": X}, Y)
    with pytest.raises(BackendError, match="started by another model"):
        other.run(state, 1)
    adam = model.start(replace(program, optimizer=AdamW()), {"x": X}, Y)
    with pytest.raises(BackendError, match="not the state of such a run; it differs in .*v/h1.bias"):
        adam.restore(state.arrays())


def test_bind_refuses_unknown_backends_open_sizes_and_foreign_weights() -> None:
    known = "unknown backend 'nativ'\nknown: auto, keras, native, reference, torch. Did you mean 'native'"
    with pytest.raises(BackendError, match=known):
        bind(classifier(), "nativ")
    with pytest.raises(BackendError, match=r"leaves sizes open \(AUTO\) in: x, y\n.*sizes="):
        bind(mlp(4), "reference")
    with pytest.raises(BackendError, match="threads must be at least 1, got 0"):
        bind(classifier(), "reference", threads=0)
    with pytest.raises(WeightsError, match="h1.weight has shape"):
        bind(classifier(), "reference", initialise(mlp(8, inputs=5, outputs=3)))
    assert isinstance(bind(classifier(), "reference"), ReferenceModel)
    assert all(":" in place for place in BACKENDS.values())


def test_auto_chooses_by_size_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: set[str] = set()
    monkeypatch.setattr(bind_module, "available", lambda name: f"no {name}" if name in missing else "")
    large = mlp(9000, 9000, inputs=4, outputs=3)
    assert choose(classifier()).backend == "native" and choose(classifier()).reason.endswith("FLOPs a row: small")
    assert choose(large) == Choice("torch", "81,081,003 parameters, 162,126,000 FLOPs a row: large")
    assert choose(mlp(4)) == Choice("native", "its sizes are still open")
    missing.add("torch")
    assert choose(large) == Choice("native", "no torch")
    missing.add("native")
    with pytest.warns(UserWarning, match="using the NumPy backend, which is slow: no native"):
        assert choose(large) == Choice("reference", "no native")
    missing.remove("torch")
    assert choose(classifier()) == Choice("torch", "no native")

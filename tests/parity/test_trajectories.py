"""Training parity: ten steps of each optimiser, with clipping, schedules, dropout and shuffling, give the losses and
weights of the reference; and on every backend a run that is cut in two is the same run, byte for byte."""

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives.spec import MSE, SGD, Adam, AdamW, CrossEntropy, Program, Schedule
from alexandra.rng import derive

ROWS, FEATURES, CLASSES = 23, 6, 3
STEPS = 10  # at batch_size 5 an epoch is 5 steps, the last of 3 rows: ten steps reshuffle once

OPTIMIZERS = {
    "sgd": SGD(lr=0.05),
    "sgd-momentum": SGD(lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": Adam(lr=0.01, weight_decay=0.02),
    "adamw": AdamW(lr=0.01, weight_decay=0.1, beta1=0.8, beta2=0.9),
}
SETTINGS = {
    "plain": {},
    "clipped": {"clip_norm": 0.3},
    "cosine": {"schedule": Schedule("cosine", warmup_steps=3, total_steps=8, final=0.1)},
    "steps": {"schedule": Schedule("step", warmup_steps=2, every=3, decay=0.5)},
    "in order": {"shuffle": False, "batch_size": 7},
    "one batch": {"batch_size": 100},
}


def network(dropout: float = 0.0) -> Graph:
    """Dense, norm, activation, a residual, and dropout twice when asked for."""
    nodes = [
        Node("x", "input", (), {"shape": FEATURES}),
        Node("h", "dense", ("x",), {"size": 19, "activation": "gelu"}),
        Node("n", "layernorm", ("h",)),
        Node("g", "dense", ("n",), {"size": 19, "activation": "silu"}),
        Node("r", "add", ("h", "g")),
        Node("y", "output", ("r",), {"size": CLASSES, "activation": "softmax"}),
    ]
    if dropout:
        nodes[1:2] = [Node("dx", "dropout", ("x",), {"rate": dropout}), Node("h", "dense", ("dx",), nodes[1].attrs)]
        nodes[-1:] = [Node("dr", "dropout", ("r",), {"rate": 0.5}), Node("y", "output", ("dr",), nodes[-1].attrs)]
    return make_graph("trained", nodes)


def data() -> tuple[dict[str, np.ndarray], np.ndarray]:
    x = derive(7, "x").normal(ROWS * FEATURES).reshape(ROWS, FEATURES).astype(np.float32)
    return {"x": x}, derive(7, "y").below(CLASSES, ROWS)


def program(optimizer: str, setting: str) -> Program:
    return Program(CrossEntropy(), OPTIMIZERS[optimizer], **{"batch_size": 5, "seed": 11, **SETTINGS[setting]})


def assert_same_run(other: str, graph: Graph, run: Program, targets: np.ndarray) -> None:
    models = [bind(graph, name, seed=3) for name in ("reference", other)]
    losses = [model.run(model.start(run, data()[0], targets), STEPS) for model in models]
    assert losses[1].shape == (STEPS,)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, atol=1e-4)
    wanted, actual = models[0].weights, models[1].weights
    assert list(actual) == list(wanted)
    for name in wanted:
        np.testing.assert_allclose(actual[name], wanted[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ten_steps_equal_the_reference(other: str, optimizer: str, setting: str) -> None:
    assert_same_run(other, network(), program(optimizer, setting), data()[1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ten_steps_with_dropout_equal_the_reference(other: str, optimizer: str) -> None:
    assert_same_run(other, network(dropout=0.25), program(optimizer, "clipped"), data()[1])


# AdamW, warm-up and cosine, dropout, shuffling across an epoch's end: float64 values of the reference, rounded
PINNED = [1.255301, 1.856701, 1.249897, 1.536366, 1.502471, 0.843696, 1.668645, 1.537637, 1.709426, 0.653182]


def test_ten_pinned_losses(backend: str) -> None:
    """A change of meaning that all backends share (a mask, an order, a schedule) shows here."""
    model = bind(network(dropout=0.25), backend, seed=3)
    losses = model.run(model.start(program("adamw", "cosine"), *data()), STEPS)
    np.testing.assert_allclose(losses, PINNED, atol=1e-4)


def test_ten_steps_of_regression_equal_the_reference(other: str) -> None:
    nodes = [*network().nodes[:-1], Node("y", "output", ("r",), {"size": 1})]
    targets = derive(7, "t").normal(ROWS).astype(np.float32)
    assert_same_run(other, make_graph("regression", nodes), Program(MSE(), Adam(lr=0.01), batch_size=4), targets)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_is_the_same_run(backend: str, optimizer: str) -> None:
    graph, run, (inputs, targets) = network(dropout=0.25), program(optimizer, "cosine"), data()
    whole = bind(graph, backend, seed=3)
    losses = whole.run(whole.start(run, inputs, targets), STEPS)
    first = bind(graph, backend, seed=3)
    state = first.start(run, inputs, targets)
    before = first.run(state, 4)
    second = bind(graph, backend, weights=first.weights)
    resumed = second.start(run, inputs, targets)
    resumed.restore(state.arrays())
    assert resumed.step == 4
    np.testing.assert_array_equal(np.concatenate([before, second.run(resumed, STEPS - 4)]), losses)
    assert second.weights == whole.weights


def test_a_run_does_not_depend_on_how_its_steps_are_grouped(backend: str) -> None:
    graph, run, (inputs, targets) = network(dropout=0.25), program("adamw", "plain"), data()
    models = [bind(graph, backend, seed=3) for _ in range(2)]
    whole = models[0].run(models[0].start(run, inputs, targets), STEPS)
    state = models[1].start(run, inputs, targets)
    parts = np.concatenate([models[1].run(state, n) for n in (1, 2, 7)])
    np.testing.assert_array_equal(parts, whole)
    assert models[0].weights == models[1].weights


def test_training_lowers_the_loss_and_another_seed_gives_another_run(backend: str) -> None:
    graph, (inputs, targets) = network(), data()
    ends = []
    for seed in (0, 1):
        model = bind(graph, backend, seed=3)
        losses = model.run(
            model.start(Program(CrossEntropy(), AdamW(0.01), seed=seed, batch_size=8), inputs, targets), 60
        )
        assert losses[-5:].mean() < 0.5 * losses[:5].mean()
        ends.append(model.weights)
    assert ends[0] != ends[1]

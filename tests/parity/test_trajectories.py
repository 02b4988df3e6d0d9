"""Training parity: ten steps of each optimiser, with clipping, schedules, dropout and shuffling, give the losses and
weights of the reference; and on every backend a run that is cut in two is the same run, byte for byte."""

from dataclasses import replace

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.errors import BackendError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives.spec import (
    KL,
    MSE,
    SGD,
    Adam,
    AdamW,
    CrossEntropy,
    EarlyStop,
    Program,
    Schedule,
    WeightedCrossEntropy,
)
from alexandra.rng import derive

ROWS, FEATURES, CLASSES = 23, 6, 3
STEPS = 10  # at batch_size 5 an epoch is 5 steps, the last of 3 rows: ten steps reshuffle once

OPTIMIZERS = {
    "sgd": SGD(lr=0.05),
    "sgd-momentum": SGD(lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": Adam(lr=0.01, weight_decay=0.02),
    "adamw": AdamW(lr=0.01, weight_decay=0.1, beta1=0.8, beta2=0.9),
    "adamw-l1": AdamW(lr=0.01, weight_decay=0.01, l1=0.05),
}
SETTINGS = {
    "plain": {},
    "clipped": {"clip_norm": 0.3},
    "cosine": {"schedule": Schedule("cosine", warmup_steps=3, total_steps=8, final=0.1)},
    "steps": {"schedule": Schedule("step", warmup_steps=2, every=3, decay=0.5)},
    "in order": {"shuffle": False, "batch_size": 7},
    "one batch": {"batch_size": 100},
    "accumulated": {"batch_size": 2, "accumulate": 3, "clip_norm": 0.3},
    "frozen": {"frozen": ("h.", "n.bias")},
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


@pytest.mark.parametrize("objective", ["plain", "weighted", "counted"])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_accumulation_is_the_one_big_batch(backend: str, objective: str, dropout: float) -> None:
    """12 rows an update, the last update of an epoch shorter; weights make "mean of means" wrong."""
    graph, (inputs, targets) = network(dropout), data()
    given: object = {"classes": targets, "weights": np.linspace(0.0, 3.0, ROWS)} if objective != "plain" else targets
    loss = {"plain": CrossEntropy(), "weighted": WeightedCrossEntropy(), "counted": WeightedCrossEntropy("count")}
    results = []
    for batch, accumulate in ((12, 1), (4, 3), (5, 2), (1, 12)):
        rows = 12 if batch != 5 else 10
        model = bind(graph, backend, seed=3)
        run = Program(loss[objective], SGD(lr=0.1), batch_size=batch, accumulate=accumulate, seed=2)
        results.append((rows, model.run(model.start(run, inputs, given), 5), model.weights))
    same = [result for result in results if result[0] == 12]
    for _, losses, weights in same[1:]:
        np.testing.assert_allclose(losses, same[0][1], rtol=1e-5)
        for name, array in weights.items():
            np.testing.assert_allclose(array, same[0][2][name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert not np.allclose(results[2][1], same[0][1], rtol=1e-3)  # another number of rows is another run


def test_frozen_parameters_keep_every_byte_and_the_others_train(backend: str) -> None:
    graph, (inputs, targets) = network(), data()
    model = bind(graph, backend, seed=3)
    before = model.weights
    state = model.start(Program(CrossEntropy(), AdamW(lr=0.01), frozen=("h.", "g.weight")), inputs, targets)
    model.run(state, 5)
    frozen = {"h.weight", "h.bias", "g.weight"}
    for name, array in model.weights.items():
        assert (array == before[name]).all() == (name in frozen), name
    assert not any(key.partition("/")[2] in frozen for key in state.arrays() if key[0] in "mv")
    _, grads = model.loss_and_grads(inputs, targets, CrossEntropy(), frozen=("h.",))
    assert set(grads) == set(before) - {"h.weight", "h.bias"}
    whole = model.loss_and_grads(inputs, targets, CrossEntropy())[1]
    for name, array in grads.items():
        np.testing.assert_array_equal(array, whole[name], err_msg=name)


@pytest.mark.parametrize("layers", [("y",), ("h",), ("y", "r", "n"), ("h.dense",)], ids="+".join)
def test_backward_from_any_layer_equals_the_reference(other: str, layers: tuple[str, ...]) -> None:
    graph, inputs = relu_network(), data()[0]
    shapes = {"y": CLASSES}
    seeds = {n: derive(1, n).normal(ROWS * shapes.get(n, 19)).reshape(ROWS, -1).astype(np.float32) for n in layers}
    wanted, actual = (bind(graph, name, seed=3).backward(inputs, seeds) for name in ("reference", other))
    for ours, theirs in zip(actual, wanted, strict=True):
        assert set(ours) == set(theirs)
        for name, array in theirs.items():
            np.testing.assert_allclose(ours[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    if layers == ("h",):  # nothing beyond the layer has a gradient
        assert not any(array.any() for name, array in actual[1].items() if not name.startswith("h."))


def relu_network() -> Graph:
    nodes = list(network().nodes)
    nodes[1] = Node("h", "dense", ("x",), {"size": 19, "activation": "relu"})
    return make_graph("rectified", nodes)


def stopping(every: int = 3, patience: int = 3, **more: object) -> Program:
    return Program(CrossEntropy(), AdamW(lr=0.2), batch_size=5, seed=1, stop=EarlyStop(every, patience, **more))


def test_early_stopping_ends_at_the_same_step_on_every_backend_and_restores_the_best(backend: str) -> None:
    graph, (inputs, targets) = network(), data()
    valid = {"x": inputs["x"][:7] + 0.5}, (targets[:7] + 1) % CLASSES
    model = bind(graph, backend, seed=3)
    state = model.start(stopping(), inputs, targets, valid)
    losses = model.run(state, 300)
    assert state.stopped and state.step == len(losses) < 300
    steps, seen = zip(*state.looks, strict=True)
    assert list(steps) == list(range(3, state.step + 1, 3))
    best = int(np.argmin(seen))
    assert len(seen) == best + 1 + 3 and state.best_step == steps[best]
    assert model.loss(*valid, CrossEntropy()) == pytest.approx(seen[best], rel=1e-6)
    assert len(model.run(state, 5)) == 0  # it has ended
    again = bind(graph, backend, seed=3)
    unwatched = replace(stopping(), stop=None)
    whole = again.run(again.start(unwatched, inputs, targets), len(losses))
    np.testing.assert_array_equal(whole, losses)  # looking changes nothing
    kept = bind(graph, backend, seed=3)
    kept_state = kept.start(stopping(restore_best=False), inputs, targets, valid)
    kept.run(kept_state, 300)
    assert kept.weights == again.weights
    reference = bind(graph, "reference", seed=3)
    other_state = reference.start(stopping(), inputs, targets, valid)
    reference.run(other_state, 300)
    assert other_state.step == state.step


def test_a_stopping_run_resumes_to_the_same_end(backend: str) -> None:
    graph, (inputs, targets) = network(0.25), data()
    valid = {"x": inputs["x"][:7] + 0.5}, (targets[:7] + 1) % CLASSES
    run = replace(stopping(), accumulate=2, frozen=("n.",))
    whole = bind(graph, backend, seed=3)
    state = whole.start(run, inputs, targets, valid)
    losses = whole.run(state, 100)
    for cut in (0, 4, len(losses) - 1, len(losses)):
        first = bind(graph, backend, seed=3)
        begun = first.start(run, inputs, targets, valid)
        before = first.run(begun, cut)
        second = bind(graph, backend, weights=first.weights)
        resumed = second.start(run, inputs, targets, valid)
        resumed.restore(begun.arrays())
        np.testing.assert_array_equal(np.concatenate([before, second.run(resumed, 100)]), losses)
        assert second.weights == whole.weights and (resumed.stopped, resumed.best_step) == (True, state.best_step)


def test_what_a_program_cannot_mean_is_refused(backend: str) -> None:
    graph, (inputs, targets) = network(), data()
    model = bind(graph, backend, seed=3)
    for program, message in (
        (Program(CrossEntropy(), frozen=("hh.",)), "frozen 'hh.' fits no parameter"),
        (Program(CrossEntropy(), frozen=("h.", "n.", "g.", "y.")), "leaves no parameter to train"),
        (Program(CrossEntropy(), accumulate=0), "accumulate must be at least 1, got 0"),
        (Program(CrossEntropy(), stop=EarlyStop()), "program.stop was given without validation"),
        (Program(CrossEntropy(), AdamW(l1=-1.0)), "l1 must be a number >= 0, got -1.0"),
        (Program(WeightedCrossEntropy("sum")), "unknown normalizer 'sum'"),
        (Program(KL(0.0)), "temperature must be a number above 0, got 0.0"),
    ):
        with pytest.raises(BackendError) as caught:
            model.start(program, inputs, targets)
        assert message in str(caught.value)
    with pytest.raises(BackendError, match="validation was given without program.stop"):
        model.start(Program(CrossEntropy()), inputs, targets, (inputs, targets))


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

"""Every network of a population ends with the bytes that it reaches alone, whatever trains beside it."""

import math
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import alexandra.train.population as population
from alexandra.errors import BackendError
from alexandra.ir import build as net
from alexandra.ir.check import bind_sizes, make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import initialise
from alexandra.objectives.spec import MSE, SGD, Adam, AdamW, CrossEntropy, EarlyStop, Schedule
from alexandra.rng import derive
from alexandra.train.fits import Fit, Fitted
from alexandra.train.model import bind
from alexandra.train.population import fit_many

pytest.importorskip("alexandra._native", reason="the native engine is not built")

OPTIMIZERS = (
    SGD(0.05),
    SGD(0.05, momentum=0.9, weight_decay=0.01),
    Adam(0.01, weight_decay=0.1),
    AdamW(0.01, beta1=0.8, beta2=0.9),
    AdamW(0.01, l1=0.05),
)
SCHEDULES = (
    Schedule(),
    Schedule("cosine", warmup_steps=3, total_steps=30, final=0.1),
    Schedule("step", every=7, decay=0.5),
)


def mlp(*widths: int, activation: str = "relu", output: str = "softmax") -> Graph:
    graph = net.mlp(*widths[1:-1], activation=activation, output=output)
    return bind_sizes(graph, {graph.inputs[0].name: widths[0], graph.outputs[0].name: widths[-1]})


def everything() -> Graph:
    """Each op that runs side by side: norms, dropout, a residual, a gate, groups of features, two outputs."""
    nodes = [
        Node("x", "input", (), {"shape": (6,)}),
        Node("c", "input", (), {"shape": (3,), "dtype": "int32"}),
        Node("e", "embedding", ("c",), {"vocab": 9, "size": 7}),
        Node("k", "dense", ("e",), {"size": 5, "activation": "leaky_relu"}),
        Node("flat", "reshape", ("k",), {"shape": (15,)}),
        Node("h", "dense", ("x", "flat"), {"size": 10, "activation": "gelu"}),
        Node("n", "layernorm", ("h",)),
        Node("d", "dropout", ("n",), {"rate": 0.3}),
        Node("g", "dense", ("d",), {"size": 10, "activation": "silu"}),
        Node("r", "add", ("g", "h")),
        Node("m", "rmsnorm", ("r",)),
        Node("p", "dense", ("m",), {"size": 10, "activation": "softplus"}),
        Node("q", "mul", ("p", "r", "m")),
        Node("s", "slice", ("q",), {"start": 1, "stop": 2}),
        Node("w", "select", ("s", "q", "r"), {"cmp": ">", "value": 0.0}),
        Node("u", "dense", ("w",), {"size": 17, "activation": "elu"}),
        Node("v", "dense", ("u",), {"size": 4, "activation": "tanh"}),
        Node("y", "output", ("v",), {"size": 5, "activation": "softmax"}),
        Node("z", "output", ("q",), {"size": 2, "activation": "sigmoid"}),
    ]
    return make_graph("all", nodes)


def numbers(name: str, *shape: int) -> np.ndarray:
    return derive(7, name).normal(math.prod(shape)).reshape(shape).astype(np.float32)


def a_fit(graph: Graph, number: int, rows: int, **settings: object) -> Fit:
    width, size = graph.inputs[0].attrs["shape"][0], graph.outputs[0].attrs["size"]  # type: ignore[index]
    x = numbers(f"x{number}", rows, width)
    if graph.outputs[0].attrs["activation"] == "softmax":
        y = derive(7, f"y{number}").below(size, rows)
    elif graph.outputs[0].attrs["activation"] == "sigmoid":
        y = derive(7, f"y{number}").below(2, rows).astype(np.float32)
    else:
        y = numbers(f"y{number}", rows, size)
    return Fit(graph, {"x": x}, y, seed=number, **settings)  # type: ignore[arg-type]


def alone(fit: Fit) -> tuple[object, object]:
    """Weights and history of the network trained by `bind` and `fit`."""
    model = bind(fit.graph, "native", fit.weights, seed=fit.seed)
    history = model.fit(
        fit.inputs,
        fit.targets,
        objective=fit.objective,
        optimizer=fit.optimizer,
        epochs=fit.epochs,
        batch_size=fit.batch_size,
        seed=fit.seed,
        schedule=fit.schedule,
        clip_norm=fit.clip_norm,
        validation=fit.validation,
        patience=fit.patience,
        stop=fit.stop,
        accumulate=fit.accumulate,
        frozen=fit.frozen,
    )
    return model.weights, history


def assert_as_alone(fits: list[Fit], fitted: list[Fitted]) -> None:
    assert len(fits) == len(fitted)
    for number, (fit, ours) in enumerate(zip(fits, fitted, strict=True)):
        weights, history = alone(fit)
        assert ours.weights == weights, f"network {number}"
        assert ours.stopped == history.stopped and ours.steps == history.steps  # type: ignore[attr-defined]
        assert ours.best_epoch == history.best_epoch  # type: ignore[attr-defined]
        ours_losses = [(epoch.train_loss, epoch.valid_loss) for epoch in ours.history.epochs]
        losses = [(epoch.train_loss, epoch.valid_loss) for epoch in history.epochs]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(ours_losses, losses, err_msg=f"network {number}")


@pytest.fixture
def all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing trains alone, however few the networks of a shape."""
    monkeypatch.setattr("alexandra.backends.population.Shape.pays", lambda *_: True)

    def refuse(*_: object) -> None:
        raise AssertionError("a network trained alone")

    monkeypatch.setattr(population, "_fit_alone", refuse)


@pytest.mark.usefixtures("all_together")
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "momentum", "adam", "adamw", "l1"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.05])
def test_optimizers_schedules_and_clipping(optimizer: object, clip_norm: float) -> None:
    graph = mlp(5, 19, 3, activation="tanh")
    fits = [
        a_fit(graph, i, 37, optimizer=optimizer, clip_norm=clip_norm, schedule=SCHEDULES[i % 3], batch_size=8, epochs=4)
        for i in range(19)
    ]
    assert_as_alone(fits, fit_many(fits))


@pytest.mark.usefixtures("all_together")
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "softplus", "tanh"])
def test_activations(activation: str) -> None:
    fits = [a_fit(mlp(3, 7, 5, 2, activation=activation), i, 21, batch_size=10, epochs=2) for i in range(3)]
    assert_as_alone(fits, fit_many(fits))


@pytest.mark.usefixtures("all_together")
def test_shapes() -> None:
    shapes = [(2, 8, 1), (1, 1), (4, 16, 3), (16, 64, 64, 3), (33, 17, 10), (64, 32, 10), (9, 3, 2, 3, 2)]
    outputs = ("softmax", "sigmoid", "linear")
    fits = [
        a_fit(mlp(*widths, output=output if widths[-1] == 1 or output != "sigmoid" else "linear"), 10 * i + j, 50,
              batch_size=4 + 9 * j, epochs=2)
        for i, widths in enumerate(shapes) for j, output in enumerate(outputs)
        if widths[-1] > 1 or output != "softmax"
    ]  # fmt: skip
    assert_as_alone(fits, fit_many(fits))


@pytest.mark.usefixtures("all_together")
def test_every_network_its_own_rows_epochs_and_settings() -> None:
    graph = mlp(4, 9, 3)
    fits = [
        a_fit(graph, i, 5 + 3 * i, optimizer=AdamW(0.001 * (i + 1), beta1=0.5 + 0.02 * i), epochs=1 + i % 5,
              batch_size=16, clip_norm=0.1 + i)
        for i in range(23)
    ]  # fmt: skip
    assert_as_alone(fits, fit_many(fits, threads=2))


@pytest.mark.usefixtures("all_together")
def test_early_stopping_on_each_networks_own_data() -> None:
    graph = mlp(4, 12, 3)
    fits = []
    for i in range(40):
        other = a_fit(graph, 1000 + i, 11 + i % 3)
        valid = (other.inputs, other.targets)
        fits.append(a_fit(graph, i, 30, optimizer=AdamW(0.05), epochs=40, validation=valid, patience=1 + i % 6))
    fitted = fit_many(fits)
    assert_as_alone(fits, fitted)
    lengths = [len(one.train_losses) for one in fitted]
    assert min(lengths) < max(lengths)  # they did stop at different times


@pytest.mark.usefixtures("all_together")
@pytest.mark.parametrize(
    "stop", [EarlyStop(0, 2, min_delta=0.02), EarlyStop(0, 3, restore_best=False), EarlyStop(0, 0)]
)
def test_early_stopping_said_precisely(stop: EarlyStop) -> None:
    fits = []
    for i in range(20):
        other = a_fit(mlp(4, 12, 3), 1000 + i, 20)
        valid = (other.inputs, other.targets)
        fits.append(a_fit(mlp(4, 12, 3), i, 30, optimizer=AdamW(0.05), epochs=12, validation=valid, stop=stop))
    assert_as_alone(fits, fit_many(fits))


def test_what_lanes_do_not_know_trains_alone() -> None:
    graph, other = mlp(4, 12, 3), a_fit(mlp(4, 12, 3), 99, 20)
    valid = (other.inputs, other.targets)
    fits = [
        a_fit(graph, 0, 30, epochs=3, accumulate=2, batch_size=7),
        a_fit(graph, 1, 30, epochs=3, frozen=("h1.",)),
        a_fit(graph, 2, 30, epochs=3, validation=valid, stop=EarlyStop(2, 1), batch_size=7),
        a_fit(graph, 3, 30, epochs=3),
    ]
    assert_as_alone(fits, fit_many(fits))


@pytest.mark.usefixtures("all_together")
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_validation_of_other_heads(output: str, size: int) -> None:
    graph = mlp(4, 6, size, output=output)
    fits = []
    for i in range(5):
        x, t = numbers(f"x{i}", 30, 4), derive(3, f"t{i}").below(2, 30 * size).reshape(30, size).astype(np.float32)
        valid = ({"x": x[20:]}, t[20:])
        fits.append(Fit(graph, {"x": x[:20]}, t[:20], epochs=5, seed=i, validation=valid, optimizer=AdamW(0.02)))
    assert_as_alone(fits, fit_many(fits))


@pytest.mark.usefixtures("all_together")
def test_every_op_with_dropout_and_two_outputs() -> None:
    graph, fits = everything(), []
    for i in range(4):
        rows = 25 + i
        inputs = {"x": numbers(f"x{i}", rows, 6), "c": derive(1, f"c{i}").below(9, rows * 3).reshape(rows, 3)}
        targets = {
            "y": derive(1, f"y{i}").below(5, rows),
            "z": derive(1, f"z{i}").below(2, rows * 2).reshape(rows, 2).astype(np.float32),
        }
        valid = ({name: array[:9] for name, array in inputs.items()}, {n: array[:9] for n, array in targets.items()})
        objective = CrossEntropy(label_smoothing=0.1)
        fits.append(Fit(graph, inputs, targets, objective, AdamW(0.01), 3, 8, seed=i, clip_norm=0.5, validation=valid))
    assert_as_alone(fits, fit_many(fits))


@pytest.mark.parametrize("together", [True, False])
def test_target_loss_ends_training_after_the_epoch_that_reaches_it(together: bool) -> None:
    graph = mlp(4, 12, 3)
    full = fit_many([a_fit(graph, i, 30, epochs=30, optimizer=AdamW(0.02)) for i in range(3)], together=together)
    target = float(full[0].train_losses[10])
    fits = [a_fit(graph, i, 30, epochs=30, optimizer=AdamW(0.02), target_loss=target) for i in range(3)]
    fitted = fit_many(fits, together=together)
    for one, whole in zip(fitted, full, strict=True):
        below = np.flatnonzero(whole.train_losses <= target)
        assert one.stopped == ("target loss reached" if len(below) else "all epochs done")
        np.testing.assert_array_equal(one.train_losses, whole.train_losses[: below[0] + 1 if len(below) else None])
    shorter = a_fit(graph, 0, 30, epochs=len(fitted[0].train_losses), optimizer=AdamW(0.02))
    assert fitted[0].weights == alone(shorter)[0]


@pytest.mark.usefixtures("all_together")
@pytest.mark.parametrize("seconds", [0.0, 1e-4])
def test_coming_back_in_between_changes_nothing(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("alexandra.backends.population.SLICE_SECONDS", seconds)
    seen: list[int] = []
    fits = [a_fit(mlp(4, 12, 3), i, 30, epochs=9 + 10 * (i % 4)) for i in range(40)]
    assert_as_alone(fits, fit_many(fits, progress=lambda done, total: seen.append(done)))
    assert len(set(seen)) > 1


@pytest.mark.parametrize("isa", ["amx", "avx512", "avx2", "portable"])
def test_instruction_sets(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    from alexandra import _native

    if isa not in _native.available_isas():
        pytest.skip(f"this processor has no {isa}")
    monkeypatch.setenv("ALEXANDRA_ISA", isa)
    monkeypatch.setattr("alexandra.backends.population.Shape.pays", lambda *_: True)
    fits = [a_fit(mlp(5, 9, 3), i, 40 + i % 2, epochs=3, optimizer=OPTIMIZERS[2 + i % 2]) for i in range(18)]
    fits += [a_fit(mlp(20, 9, 2, activation="gelu"), i, 40, epochs=2, clip_norm=0.1) for i in range(5)]
    assert_as_alone(fits, fit_many(fits))


@pytest.mark.parametrize("together", [True, False])
def test_a_network_that_diverges_says_so_and_disturbs_no_other(together: bool) -> None:
    graph = mlp(4, 12, 3, output="linear")
    fits = [a_fit(graph, i, 30, epochs=30, optimizer=SGD(1e9 if i == 2 else 0.01)) for i in range(6)]
    fitted = fit_many(fits, together=together)
    assert fitted[2].error is not None and "at step" in str(fitted[2].error)
    assert fitted[2].stopped == "the loss is not finite"
    with pytest.raises(BackendError, match="at step") as failure:
        alone(fits[2])
    assert fitted[2].error.message == failure.value.message
    others = [i for i in range(6) if i != 2]
    assert_as_alone([fits[i] for i in others], [fitted[i] for i in others])


def test_given_weights_are_the_first() -> None:
    graph = mlp(4, 12, 3)
    fits = [a_fit(graph, i, 30, epochs=2, weights=initialise(graph, 100 + i)) for i in range(17)]
    assert_as_alone(fits, fit_many(fits))


def test_first_weights_of_many_seeds_are_those_of_each() -> None:
    from alexandra.backends.population import Shape

    shape = Shape(everything(), CrossEntropy())
    rows = shape.first_weights([3, 2**40, -1])
    for row, seed in zip(rows, [3, 2**40, -1], strict=True):
        assert shape.weights_of(row) == initialise(shape.graph, seed)


def test_large_networks_train_alone_to_the_same_bytes() -> None:
    fits = [a_fit(mlp(40, 300, 300, 3), i, 64, epochs=2) for i in range(2)] + [a_fit(mlp(2, 3, 2), 5, 20)]
    assert_as_alone(fits, fit_many(fits, threads=2))


def test_networks_that_share_vectors_are_smaller_than_any_product_on_matrix_tiles() -> None:
    """Tiles add in an order of their own from 16,384 weights on (csrc/ops_dense.cpp)."""
    from alexandra.backends.population import Shape

    assert not Shape(mlp(128, 128, output="linear"), MSE()).pays(64, 8)
    assert Shape(mlp(127, 126, output="linear"), MSE()).pays(64, 8)
    fits = [a_fit(mlp(127, 126, output="linear"), i, 8, epochs=2) for i in range(32)]
    assert_as_alone(fits, fit_many(fits))


def test_progress_ends_with_all() -> None:
    seen: list[tuple[int, int]] = []
    fits = [a_fit(mlp(2, 3, 2), i, 20) for i in range(5)] + [a_fit(mlp(40, 300, 300, 3), 9, 20, epochs=1)]
    fit_many(fits, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6) and [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_wrong_requests_name_the_network() -> None:
    graph = mlp(2, 3, 2)
    good, bad = a_fit(graph, 0, 20), a_fit(graph, 1, 20, optimizer=AdamW(-1.0))
    with pytest.raises(BackendError, match="network 1: lr"):
        fit_many([good, bad])
    wide = Fit(graph, {"x": np.zeros((4, 3), np.float32)}, np.zeros(4, np.int64))
    with pytest.raises(BackendError, match=r"network 1: input 'x' needs shape \[rows, 2\]"):
        fit_many([good, wide])
    with pytest.raises(BackendError, match="network 1: input 'x'"):
        fit_many([good, wide], together=False)
    with pytest.raises(BackendError, match="network 1: .*validation"):
        fit_many([good, a_fit(graph, 1, 20, stop=EarlyStop())])
    with pytest.raises(BackendError, match="threads"):
        fit_many([good], threads=0)
    assert fit_many([]) == []


def test_python_runs_while_networks_train() -> None:
    ticks, stop = [0], threading.Event()

    def count() -> None:
        while not stop.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    epochs, heard = 37, 0
    while heard <= 3 and epochs < 10_000:  # one that holds the interpreter gives it away for no number of epochs
        epochs *= 4
        fits = [a_fit(mlp(8, 30, 3), i, 400, epochs=epochs) for i in range(16)]
        before = ticks[0]
        fit_many(fits)
        heard = ticks[0] - before
    stop.set()
    thread.join()
    assert heard > 3


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where a shell in the background started this process with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_is_heard_while_networks_train() -> None:
    fits = [a_fit(mlp(8, 30, 3), i, 400, epochs=10**7) for i in range(16)]
    timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fit_many(fits)
    timer.join()
    assert time.monotonic() - began < 120.0


def test_objectives_of_one_graph_do_not_mix() -> None:
    graph = mlp(3, 5, 2, output="linear")
    target = numbers("t", 20, 2)
    fits = [Fit(graph, {"x": numbers("x", 20, 3)}, target, MSE(), seed=i) for i in range(3)]
    fits += [
        Fit(graph, {"x": numbers("x", 20, 3)}, derive(0, "c").below(2, 20), CrossEntropy(smoothing), seed=9)
        for smoothing in (0.0, 0.2)
    ]
    assert_as_alone(fits, fit_many(fits))

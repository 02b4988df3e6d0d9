"""The engine's promises: the same bytes for any number of threads, for a row alone, for any chunking and resume;
instruction sets agree; errors say what is wrong; training runs with the GIL released."""

import os
import threading
import time

import numpy as np
import pytest

from alexandra.errors import BackendError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import initialise
from alexandra.objectives.spec import MSE, SGD, Adam, AdamW, CrossEntropy, Program
from alexandra.rng import derive

_native = pytest.importorskip("alexandra._native", reason="the native engine is not built")
from alexandra.backends.native import NativeModel  # noqa: E402  (needs the module above)
from alexandra.backends.reference import ReferenceModel  # noqa: E402

ISAS = _native.available_isas()
FEATURES, CLASSES = 21, 5


def network() -> Graph:
    """Every kind of kernel: norms, activations, dropout, a residual, a gate, groups of features, two outputs."""
    nodes = [
        Node("x", "input", (), {"shape": (FEATURES,)}),
        Node("c", "input", (), {"shape": (3,), "dtype": "int32"}),
        Node("e", "embedding", ("c",), {"vocab": 9, "size": 7}),
        Node("flat", "reshape", ("e",), {"shape": (21,)}),
        Node("h", "dense", ("x", "flat"), {"size": 50, "activation": "gelu"}),
        Node("n", "layernorm", ("h",)),
        Node("d", "dropout", ("n",), {"rate": 0.3}),
        Node("g", "dense", ("d",), {"size": 50, "activation": "silu"}),
        Node("r", "add", ("g", "h")),
        Node("m", "rmsnorm", ("r",)),
        Node("p", "dense", ("m",), {"size": 50, "activation": "softplus"}),
        Node("q", "mul", ("p", "r", "m")),
        Node("s", "slice", ("q",), {"start": 1, "stop": 2}),
        Node("w", "select", ("s", "q", "r"), {"cmp": ">", "value": 0.0}),
        Node("y", "output", ("w",), {"size": CLASSES, "activation": "softmax"}),
        Node("z", "output", ("q",), {"size": 2, "activation": "sigmoid"}),
    ]
    return make_graph("all", nodes)


def data(rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    inputs = {
        "x": derive(1, "x").normal(rows * FEATURES).reshape(rows, FEATURES).astype(np.float32),
        "c": derive(1, "c").below(9, rows * 3).reshape(rows, 3).astype(np.int32),
    }
    return inputs, {"y": derive(1, "y").below(CLASSES, rows), "z": derive(1, "z").below(2, rows * 2).reshape(rows, 2)}


def model(**settings: object) -> NativeModel:
    return NativeModel(network(), initialise(network(), 4), **settings)  # type: ignore[arg-type]


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert set(left) == set(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize("isa", ISAS)
def test_a_row_alone_is_the_row_in_a_batch(isa: str) -> None:
    inputs, _ = data(300)
    whole = model(isa=isa).forward(inputs)
    for rows in (slice(0, 1), slice(7, 8), slice(100, 117), slice(250, 300)):
        part = model(isa=isa).forward({name: array[rows] for name, array in inputs.items()})
        assert_same(part, {name: array[rows] for name, array in whole.items()})


@pytest.mark.parametrize("max_rows", [1, 16, 33, 1000])
def test_forward_does_not_depend_on_the_planned_rows(max_rows: int) -> None:
    inputs, _ = data(300)
    assert_same(model(max_rows=max_rows).forward(inputs), model().forward(inputs))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_byte(isa: str, threads: int) -> None:
    inputs, targets = data(203)
    program = Program(CrossEntropy(label_smoothing=0.1), AdamW(0.01), batch_size=80, clip_norm=0.5, seed=3)
    results = []
    for count in (1, threads):
        one = model(isa=isa, threads=count)
        grads = one.loss_and_grads(inputs, targets, CrossEntropy())
        losses = one.run(one.start(program, inputs, targets), 20)
        results.append((one.forward(inputs), grads, losses, one.weights))
    (outputs, grads, losses, weights), (outputs_n, grads_n, losses_n, weights_n) = results
    assert_same(outputs, outputs_n)
    assert_same(grads[1], grads_n[1])
    assert grads[0] == grads_n[0]
    np.testing.assert_array_equal(losses, losses_n)
    assert weights == weights_n


@pytest.mark.parametrize("isa", ISAS[1:])
def test_instruction_sets_agree(isa: str) -> None:
    inputs, targets = data(100)
    best, other = model(), model(isa=isa)
    for name, wanted in best.forward(inputs).items():
        np.testing.assert_allclose(other.forward(inputs)[name], wanted, rtol=1e-5, atol=1e-5)
    loss, grads = best.loss_and_grads(inputs, targets, CrossEntropy())
    other_loss, other_grads = other.loss_and_grads(inputs, targets, CrossEntropy())
    assert other_loss == pytest.approx(loss, rel=1e-5)
    for name, wanted in grads.items():
        np.testing.assert_allclose(other_grads[name], wanted, rtol=1e-5, atol=1e-5, err_msg=name)


def relu_network(kind: str) -> Graph:
    """A relu whose dense, reader or both may be joined with it: a chain, two readers, an output that shows it."""
    middle = {"chain": ("r",), "two readers": ("r", "r2"), "shown": ("r",), "both paths": ("r", "h")}[kind]
    nodes = [
        Node("x", "input", (), {"shape": FEATURES}),
        Node("h", "dense", ("x",), {"size": 40}),
        Node("r", "relu", ("h",)),
        Node("r2", "dense", ("r",), {"size": 7, "activation": "relu"}),
        Node("m", "dense", middle, {"size": 33, "activation": "relu"}),
        Node("y", "output", ("m",) if kind == "two readers" else ("m", "r2"), {"size": CLASSES}),
        Node("z", "output", ("r",) if kind == "shown" else ("m",)),
    ]
    return make_graph(kind, nodes)


@pytest.mark.parametrize("kind", ["chain", "two readers", "shown", "both paths"])
def test_a_relu_joined_with_its_dense_is_the_same_relu(kind: str) -> None:
    graph, x = relu_network(kind), {"x": data(45)[0]["x"]}
    weights = initialise(graph, 2)
    ours, reference = NativeModel(graph, weights), ReferenceModel(graph, weights)
    wanted = reference.forward(x)
    targets = {name: array + derive(1, name).normal(array.size).reshape(array.shape) for name, array in wanted.items()}
    for name, array in ours.forward(x).items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-5, atol=1e-5)
    loss, grads = ours.loss_and_grads(x, targets, MSE())
    exact_loss, exact = reference.loss_and_grads(x, targets, MSE())
    assert loss == pytest.approx(exact_loss, rel=1e-5)
    for name, array in grads.items():
        np.testing.assert_allclose(array, exact[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_loss_and_grads_is_the_first_step_of_a_run_in_order() -> None:
    graph = make_graph("m", [n for n in network().nodes if n.op == "input" and n.name == "x"] + [
        Node("h", "dense", ("x",), {"size": 8, "activation": "tanh"}), Node("y", "output", ("h",), {"size": 1}),
    ])  # fmt: skip
    inputs, targets = {"x": data(64)[0]["x"]}, derive(1, "t").normal(64).astype(np.float32)
    one = NativeModel(graph, initialise(graph, 0))
    before = one.weights
    loss, grads = one.loss_and_grads(inputs, targets, MSE())
    losses = one.run(one.start(Program(MSE(), SGD(lr=0.5), batch_size=64, shuffle=False), inputs, targets), 1)
    assert losses[0] == loss
    for name, array in one.weights.items():
        np.testing.assert_allclose(array, before[name] - 0.5 * grads[name], rtol=1e-6, atol=1e-7)


def test_a_fading_momentum_becomes_zero_and_the_callers_arithmetic_stays() -> None:
    graph = make_graph("m", [Node("x", "input", (), {"shape": 3}), Node("y", "output", ("x",), {"size": 1})])
    x = np.ones((8, 3), np.float32)
    x[4:, 1] = 0  # the second feature is seen in the first step only
    one = NativeModel(graph, initialise(graph, 0))
    run = Program(MSE(), Adam(lr=1e-3, beta1=0.5, beta2=0.6), batch_size=4, shuffle=False)
    state = one.start(run, {"x": x}, np.zeros(8, np.float32))
    one.run(state, 1)
    first = state.arrays()
    assert first["m/y.weight"][0, 1] != 0
    rest = one.start(run, {"x": x[4:]}, np.zeros(4, np.float32))
    rest.restore(first)
    one.run(rest, 200)
    faded = rest.arrays()
    assert faded["m/y.weight"][0, 1] == 0 and faded["v/y.weight"][0, 1] == 0 and faded["m/y.weight"][0, 0] != 0
    assert np.float32(1e-40) * np.float32(0.5) > 0


def test_many_forwards_after_training_use_the_new_weights() -> None:
    inputs, targets = data(50)
    one = model()
    before = one.forward(inputs)
    one.run(one.start(Program(CrossEntropy(), AdamW(0.01)), inputs, targets), 3)
    after = one.forward(inputs)
    assert any((before[name] != after[name]).any() for name in before)
    assert_same(NativeModel(network(), one.weights).forward(inputs), after)


def test_a_loss_that_is_not_finite_names_its_step_and_changes_nothing() -> None:
    inputs, targets = data(40)
    inputs["x"][17, 3] = np.nan
    one = model()
    state = one.start(Program(CrossEntropy(), AdamW(0.01), batch_size=10, shuffle=False), inputs, targets)
    with pytest.raises(BackendError, match="the loss is NaN at step 1"):
        one.run(state, 4)
    assert state.step == 1
    after_one = model()
    after_one.run(after_one.start(Program(CrossEntropy(), AdamW(0.01), batch_size=10, shuffle=False), *data(40)), 1)
    assert one.weights == after_one.weights


def test_memory_is_known_before_the_first_step() -> None:
    inputs, targets = data(40)
    one = model()
    assert one.memory["weights"] >= 4 * one.weights.num_values
    assert one.memory["arena"] > 0 and one.memory["gradients"] == one.memory["optimizer"] == 0
    inference = one.memory
    one.forward(inputs)
    assert one.memory == inference
    state = one.start(Program(CrossEntropy(), AdamW(0.01)), inputs, targets)
    planned = one.memory
    assert planned["gradients"] == planned["weights"] and planned["optimizer"] == 2 * planned["weights"]
    one.run(state, 3)
    assert one.memory == planned


def test_inference_reuses_memory_that_training_must_keep() -> None:
    layers = [Node("h0", "dense", ("x",), {"size": 64, "activation": "relu"})]
    layers += [Node(f"h{i}", "dense", (f"h{i - 1}",), {"size": 64, "activation": "relu"}) for i in range(1, 10)]
    graph = make_graph("deep", [Node("x", "input", (), {"shape": 64}), *layers, Node("y", "output", ("h9",))])
    one = NativeModel(graph, initialise(graph, 0), max_rows=32)
    assert one.memory["arena"] == 2 * 32 * 64 * 4


@pytest.mark.parametrize("threads", [1, 2])
def test_checkpointed_training_is_the_same_in_less_memory(threads: int) -> None:
    layers = [Node("h0", "dense", ("x",), {"size": 64})]
    for i in range(1, 13):
        layers += [
            Node(f"a{i}", "dense", (f"h{i - 1}",), {"size": 96, "activation": "silu"}),
            Node(f"d{i}", "dropout", (f"a{i}",), {"rate": 0.1}),
            Node(f"b{i}", "dense", (f"d{i}",), {"size": 64}),
            Node(f"h{i}", "add", (f"h{i - 1}", f"b{i}")),
        ]
    graph = make_graph("deep", [Node("x", "input", (), {"shape": 64}), *layers, Node("y", "output", ("h12",))])
    x = {"x": derive(3, "x").normal(60 * 64).reshape(60, 64).astype(np.float32)}
    targets = derive(3, "t").normal(60 * 64).reshape(60, 64).astype(np.float32)
    ends = []
    for checkpoint in (False, True):
        one = NativeModel(graph, initialise(graph, 0), threads=threads, checkpoint=checkpoint)
        state = one.start(Program(MSE(), Adam(lr=1e-3), batch_size=50, clip_norm=1.0), x, targets)
        ends.append((one.run(state, 4), one.weights, one.memory["arena"]))
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]
    assert ends[1][2] < 0.6 * ends[0][2]


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_an_unknown_instruction_set_is_refused_by_name(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "environment":
        monkeypatch.setenv("ALEXANDRA_ISA", "mmx")
    with pytest.raises(BackendError, match="instruction set 'mmx' is not available here; known: .*portable"):
        model(isa="mmx" if way == "argument" else "")


def test_the_environment_chooses_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXANDRA_ISA", "portable")
    assert model().isa == "portable"
    assert model(isa=ISAS[0]).isa == ISAS[0]


def test_a_state_of_another_run_is_refused() -> None:
    inputs, targets = data(20)
    one = model()
    adam = one.start(Program(CrossEntropy(), AdamW(0.01)), inputs, targets)
    sgd = one.start(Program(CrossEntropy(), SGD(0.01)), inputs, targets)
    with pytest.raises(BackendError, match="not the state of such a run; it differs in m/"):
        sgd.restore(adam.arrays())
    bad = adam.arrays() | {"m/n.weight": np.zeros(3, np.float32)}
    with pytest.raises(BackendError, match=r"state 'm/n.weight' has shape \(3,\), needs \(50,\)"):
        adam.restore(bad)
    with pytest.raises(BackendError, match="started by another model"):
        model().run(adam, 1)


def test_python_goes_on_while_the_engine_trains() -> None:
    inputs, targets = data(2000)
    one = model()
    state = one.start(Program(CrossEntropy(), AdamW(0.001)), inputs, targets)
    one.run(state, 1)
    steps, ticks = 20, 0
    while ticks <= 20 and steps < 1_000_000:  # one that holds the interpreter gives it away for no number of steps
        worker = threading.Thread(target=one.run, args=(state, steps := 4 * steps))
        worker.start()
        ticks = 0
        while worker.is_alive():
            ticks += 1
            time.sleep(0.001)
        worker.join()
    assert ticks > 20


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_from_several_python_threads_do_not_meet(threads: int) -> None:
    inputs, _ = data(64)
    one = model(threads=threads)
    wanted = one.forward(inputs)
    different: list[str] = []

    def ask(first: int) -> None:
        for start in range(first, 60, 4):
            rows = slice(start, start + 4)
            part = one.forward({name: array[rows] for name, array in inputs.items()})
            different.extend(name for name, array in part.items() if (array != wanted[name][rows]).any())

    workers = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert different == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_runs_with_threads_of_its_own() -> None:
    inputs, _ = data(200)
    one = model(threads=2)
    wanted = one.forward(inputs)
    child = os.fork()
    if child == 0:
        same = all((one.forward(inputs)[name] == array).all() for name, array in wanted.items())
        os._exit(0 if same else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert_same(one.forward(inputs), wanted)


def test_symbolic_axes_are_planned_for_each_length() -> None:
    nodes = [
        Node("x", "input", (), {"shape": ("SEQ", 6)}),
        Node("h", "dense", ("x",), {"size": 9, "activation": "relu"}),
        Node("n", "layernorm", ("h",)),
        Node("y", "output", ("n",), {"size": 4, "activation": "softmax"}),
    ]
    graph = make_graph("sequence", nodes)
    weights = initialise(graph, 1)
    ours, reference = NativeModel(graph, weights), ReferenceModel(graph, weights)
    for length in (1, 5, 3, 5):
        x = {"x": derive(2, "x", length).normal(7 * length * 6).reshape(7, length, 6).astype(np.float32)}
        np.testing.assert_allclose(ours.forward(x)["y"], reference.forward(x)["y"], rtol=1e-5, atol=1e-5)
        targets = derive(2, "y", length).below(4, 7 * length).reshape(7, length)
        loss, grads = ours.loss_and_grads(x, targets, CrossEntropy())
        exact_loss, exact = reference.loss_and_grads(x, targets, CrossEntropy())
        assert loss == pytest.approx(exact_loss, rel=1e-5)
        for name, array in grads.items():
            np.testing.assert_allclose(array, exact[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_no_rows_give_no_rows() -> None:
    outputs = model().forward({name: array[:0] for name, array in data(1)[0].items()})
    assert {name: array.shape for name, array in outputs.items()} == {"y": (0, CLASSES), "z": (0, 2)}

"""What a long run inside the engine promises: it can be watched and interrupted, it looks at validation rows without
Python, frozen parameters cost nothing, and no objective's bytes depend on threads."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

_native = pytest.importorskip("alexandra._native", reason="the native engine is not built")
from alexandra.backends.native import NativeModel  # noqa: E402
from alexandra.errors import BackendError  # noqa: E402
from alexandra.ir.check import make_graph  # noqa: E402
from alexandra.ir.graph import Graph, Node  # noqa: E402
from alexandra.ir.weights import WeightSet, initialise  # noqa: E402
from alexandra.objectives.spec import (  # noqa: E402
    KL,
    MSE,
    SGD,
    AdamW,
    CrossEntropy,
    EarlyStop,
    Objective,
    Program,
    WeightedCrossEntropy,
)
from alexandra.rng import derive  # noqa: E402

ISAS = _native.available_isas()


def normal(*shape: int) -> np.ndarray:
    return derive(1, "values").normal(int(np.prod(shape))).reshape(shape).astype(np.float32)


def mlp(width: int = 64, depth: int = 3) -> Graph:
    nodes = [Node("x", "input", (), {"shape": (20,)})]
    for i in range(depth):
        nodes.append(Node(f"h{i}", "dense", (f"h{i - 1}" if i else "x",), {"size": width, "activation": "tanh"}))
    return make_graph("mlp", [*nodes, Node("y", "output", (f"h{depth - 1}",), {"size": 4, "activation": "softmax"})])


def two_heads() -> Graph:
    """A sequence with a softmax at every position, and a sigmoid of the whole."""
    nodes = [
        Node("x", "input", (), {"shape": (5, 12)}),
        Node("a", "attention", ("x",), {"heads": 2}),
        Node("r", "add", ("x", "a")),
        Node("m", "rmsnorm", ("r",)),
        Node("f", "reduce", ("m",), {"kind": "mean"}),
        Node("d", "dropout", ("f",), {"rate": 0.2}),
        Node("y", "output", ("m",), {"size": 4, "activation": "softmax"}),
        Node("z", "output", ("d",), {"size": 3, "activation": "sigmoid"}),
    ]
    return make_graph("heads", nodes)


def targets_for(objective: Objective, rows: int) -> dict[str, object]:
    classes = derive(1, "y").below(4, rows * 5).reshape(rows, 5)
    bits = derive(1, "z").below(2, rows * 3).reshape(rows, 3)
    if isinstance(objective, WeightedCrossEntropy):
        return {
            "y": {"classes": classes, "weights": normal(rows, 5) + 1.0},
            "z": {"classes": bits, "weights": np.abs(normal(rows, 3))},
        }
    if isinstance(objective, KL):
        teacher = np.exp(normal(rows, 5, 4))
        return {"y": teacher / teacher.sum(-1, keepdims=True), "z": np.clip(np.abs(normal(rows, 3)), 0, 1)}
    if isinstance(objective, MSE):
        return {"y": normal(rows, 5, 4), "z": normal(rows, 3)}
    return {"y": classes, "z": bits}


OBJECTIVES = [CrossEntropy(0.1), MSE(), WeightedCrossEntropy("count"), WeightedCrossEntropy(3.0), KL(2.0)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_no_objective_depends_on_threads(isa: str, objective: Objective) -> None:
    graph, rows = two_heads(), 70
    x, targets = {"x": normal(rows, 5, 12)}, targets_for(objective, rows)
    held = {"x": x["x"][:31]}, targets_for(objective, 31)
    more = {"accumulate": 2, "clip_norm": 0.5, "frozen": ("a.k.",), "stop": EarlyStop(2, 3)}
    program = Program(objective, AdamW(0.01, l1=0.001), batch_size=20, **more)
    results = []
    for threads in (1, 2, 3):
        one = NativeModel(graph, initialise(graph, 2), threads=threads, isa=isa)
        state = one.start(program, x, targets, held)
        losses = one.run(state, 12)
        seeds = {"y": normal(rows, 5, 4), "f": normal(rows, 12)}
        d_inputs, grads = one.backward(x, seeds, frozen=("a.q.",))
        results.append((losses, one.weights, state.looks, one.loss(x, targets, objective), d_inputs["x"], grads))
    for result in results[1:]:
        np.testing.assert_array_equal(result[0], results[0][0])
        assert result[1:4] == results[0][1:4]
        np.testing.assert_array_equal(result[4], results[0][4])
        assert all((result[5][name] == array).all() for name, array in results[0][5].items())


def running(rows: int = 4000) -> tuple[NativeModel, object, dict[str, np.ndarray], np.ndarray]:
    graph = mlp(192)
    model = NativeModel(graph, initialise(graph, 1))
    x, y = {"x": normal(rows, 20)}, derive(1, "y").below(4, rows)
    return model, model.start(Program(CrossEntropy(), AdamW(1e-3), batch_size=64), x, y), x, y


def test_progress_is_told_now_and_then_and_an_exception_in_it_ends_the_run_after_a_whole_step() -> None:
    model, state, x, y = running()
    told: list[tuple[int, float]] = []

    def progress(step: int, loss: float) -> None:
        told.append((step, loss))
        if len(told) == 3:
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        model.run(state, 10**6, progress)
    assert [step for step, _ in told] == sorted({step for step, _ in told}) and told[-1][0] == state.step
    assert all(np.isfinite(loss) for _, loss in told)
    other, again, _, _ = running()
    other.run(again, state.step)
    assert other.weights == model.weights  # nothing of a step is lost or half done
    np.testing.assert_array_equal(model.run(state, 2), other.run(again, 2))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where a shell in the background started this process with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_control_c_is_heard_inside_a_long_run() -> None:
    model, state, _, _ = running()
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        model.run(state, 10**7)
    assert time.monotonic() - began < 120
    assert 0 < state.step < 10**7
    assert len(model.run(state, 1)) == 1


def test_other_threads_of_python_run_meanwhile() -> None:
    model, state, _, _ = running()
    counted, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    steps, ticks = 15, 0
    while ticks <= 3 and steps < 100_000:  # one that holds the interpreter gives it away for no number of steps
        before = counted[0]
        model.run(state, steps := 4 * steps)
        ticks = counted[0] - before
    stop.set()
    thread.join()
    assert ticks > 3


def test_frozen_layers_take_no_gradient_memory_no_moments_and_no_backward() -> None:
    """Frozen below: the run keeps no gradient of values either, and the update touches only what learns."""
    graph = mlp(256, depth=4)
    rows = 256
    x, y = {"x": normal(rows, 20)}, derive(1, "y").below(4, rows)
    model = NativeModel(graph, initialise(graph, 1))
    sizes, times = {}, dict.fromkeys(("none", "below", "all but y"), np.inf)
    layers = ("h0.", "h1.", "h2.", "h3.")
    for _ in range(5):  # in turns, and by processor time: what else the machine does weighs on all alike
        for name, frozen in (("none", ()), ("below", layers[:3]), ("all but y", layers)):
            state = model.start(Program(CrossEntropy(), AdamW(1e-4), batch_size=64, frozen=frozen), x, y)
            sizes[name] = model.memory
            for _ in range(6):
                began = time.process_time()
                model.run(state, 4)
                times[name] = min(times[name], time.process_time() - began)
    weights = sum(array.size for name, array in model.weights.items() if name.startswith("y."))
    assert sizes["all but y"]["gradients"] < 1.2 * 4 * weights and sizes["none"]["gradients"] > 4 * 190_000
    for name in sizes:
        assert sizes[name]["optimizer"] == 2 * sizes[name]["gradients"]
    assert sizes["all but y"]["arena"] < 0.75 * sizes["none"]["arena"]
    print({name: f"{1e6 * t / 4:.0f} us" for name, t in times.items()}, sizes)
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        return  # sanitized code has other costs
    # A step's products are one forward, two backward: without the latter a third is left, and the update falls away.
    assert times["all but y"] < 0.6 * times["none"], times
    assert times["below"] < 0.85 * times["none"], times


def test_a_validation_looked_at_often_changes_no_byte_and_is_the_loss_of_the_weights() -> None:
    graph = mlp()
    x, y = {"x": normal(300, 20)}, derive(1, "y").below(4, 300)
    held = {"x": normal(333, 20)[33:] * 0.9}, derive(2, "y").below(4, 300)
    plain, watched = NativeModel(graph, initialise(graph, 1)), NativeModel(graph, initialise(graph, 1))
    program = Program(CrossEntropy(), SGD(0.1, 0.9), batch_size=32, seed=4)
    losses = plain.run(plain.start(program, x, y), 25)
    watching = Program(CrossEntropy(), SGD(0.1, 0.9), batch_size=32, seed=4, stop=EarlyStop(1, 0))
    state = watched.start(watching, x, y, held)
    np.testing.assert_array_equal(watched.run(state, 25), losses)
    assert plain.weights == watched.weights and not state.stopped
    assert [step for step, _ in state.looks] == list(range(1, 26))
    assert watched.loss(*held, CrossEntropy()) == state.looks[-1][1]
    best = NativeModel(graph, WeightSet(state.best))
    assert best.loss(*held, CrossEntropy()) == min(loss for _, loss in state.looks)


def test_weights_that_cancel_out_are_named() -> None:
    graph = mlp()
    x, y = {"x": normal(8, 20)}, derive(1, "y").below(4, 8)
    model = NativeModel(graph, initialise(graph, 1))
    weights = np.array([1.0, -1.0] * 4)
    state = model.start(Program(WeightedCrossEntropy()), x, {"classes": y, "weights": weights})
    with pytest.raises(BackendError, match="at step 0: the weights of its targets sum to 0 or less"):
        model.run(state, 1)

"""Muon and the schedules against what their authors wrote, typed once more, and against torch's own Muon."""

import importlib
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.backends.reference_optim import orthogonalised, schedule_factor
from alexandra.errors import BackendError
from alexandra.ir.check import hidden_matrices, make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import initialise
from alexandra.objectives.spec import SGD, AdamW, CrossEntropy, Muon, Program, Schedule
from alexandra.rng import derive

needs_engine = pytest.mark.skipif(bool(available("native")), reason="the native engine is not built")
needs_torch = pytest.mark.skipif(bool(available("torch")), reason="PyTorch is not installed")
ISAS = [""] if available("native") else importlib.import_module("alexandra._native").available_isas()
RULE = Muon(lr=0.05, weight_decay=0.1, rest=AdamW(lr=0.01, weight_decay=0.0))


def network() -> Graph:
    return make_graph(
        "net",
        [
            Node("x", "input", (), {"shape": (3,), "dtype": "int32"}),
            Node("e", "embedding", ("x",), {"vocab": 7, "size": 4}),
            Node("f", "reshape", ("e",), {"shape": (12,)}),
            Node("up", "dense", ("f",), {"size": 9, "activation": "tanh"}),
            Node("down", "dense", ("up",), {"size": 5, "activation": "tanh"}),
            Node("y", "output", ("down",), {"size": 3}),
        ],
    )


def rows() -> tuple[dict[str, np.ndarray], np.ndarray]:
    inputs = derive(0, "x").below(7, 24).reshape(8, 3).astype(np.int32)
    return {"x": inputs}, derive(0, "y").below(3, 8).astype(np.int64)


def program(optimizer: object = RULE, schedule: Schedule | None = None) -> Program:
    return Program(CrossEntropy(), optimizer, schedule or Schedule(), batch_size=8, shuffle=False)  # type: ignore[arg-type]


def test_hidden_matrices_are_neither_embeddings_nor_outputs_nor_vectors() -> None:
    assert hidden_matrices(network()) == {"up.weight", "down.weight"}


def test_muon_is_jordans_equations() -> None:
    """Three steps of the reference backend against the post's update, written with its own loop in float64."""
    inputs, targets = rows()
    model = bind(network(), "reference", seed=1)
    run = model.start(program(), inputs, targets)
    master = {name: np.array(array, np.float64) for name, array in model.weights.items()}
    buffers = {name: np.zeros_like(master[name]) for name in ("up.weight", "down.weight")}
    for _ in range(3):
        probe = bind(network(), "reference", seed=1)
        probe.load(type(probe.weights)({n: a.astype(np.float32) for n, a in master.items()}))
        _, grads = probe.loss_and_grads(inputs, targets, CrossEntropy())
        for name, buffer in buffers.items():
            g = np.array(grads[name], np.float64)
            buffer *= 0.95
            buffer += 0.05 * g
            x = 0.05 * g + 0.95 * buffer
            x = x / np.sqrt((x**2).sum())
            tall = x.shape[0] > x.shape[1]
            x = x.T if tall else x
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
            x = x.T if tall else x
            master[name] = master[name] * (1 - 0.05 * 0.1) - 0.05 * sqrt(max(1, x.shape[0] / x.shape[1])) * x
        model.run(run, 1)
        arrays = run.arrays()
        for name in master:
            if name in buffers:  # gradients come through float32 here
                np.testing.assert_allclose(arrays[f"weights/{name}"], master[name], atol=2e-6)
            master[name] = np.array(arrays[f"weights/{name}"])
    assert "v/up.weight" not in run.arrays() and "v/e.weight" in run.arrays()


def test_newton_schulz_brings_all_singular_values_near_one() -> None:
    for shape in ((6, 10), (10, 6), (8, 8)):
        matrix = derive(2, "matrix").normal(shape[0] * shape[1]).reshape(shape)
        values = np.linalg.svd(orthogonalised(matrix, 5), compute_uv=False)
        assert 0.3 < values.min() <= values.max() < 1.3
    assert not orthogonalised(np.zeros((3, 4)), 5).any()


@needs_torch
def test_torch_and_reference_take_the_same_steps_with_muon_and_resume_exactly() -> None:
    inputs, targets = rows()
    models = [bind(network(), name, seed=1) for name in ("reference", "torch")]
    runs = [model.start(program(RULE, Schedule("wsd", 2, 12, 0.1, 4)), inputs, targets) for model in models]
    losses = [model.run(run, 12) for model, run in zip(models, runs, strict=True)]
    np.testing.assert_allclose(losses[0], losses[1], atol=2e-5)
    assert losses[0][-1] < losses[0][0] * 0.8
    assert runs[0].grad_norm == pytest.approx(runs[1].grad_norm, rel=1e-3)  # type: ignore[attr-defined]
    again = bind(network(), "torch", seed=1)
    half = again.start(program(RULE, Schedule("wsd", 2, 12, 0.1, 4)), inputs, targets)
    first = again.run(half, 5)
    other = bind(network(), "torch", weights=again.weights)
    rest = other.start(program(RULE, Schedule("wsd", 2, 12, 0.1, 4)), inputs, targets)
    rest.restore(half.arrays())
    np.testing.assert_array_equal(np.concatenate([first, other.run(rest, 7)]), losses[1])


@needs_torch
def test_one_step_is_torchs_own_muon() -> None:
    """torch's iteration runs in bfloat16, so directions agree to its precision."""
    import torch

    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    from alexandra.backends.pytorch_run import update

    start = torch.tensor(derive(3, "w").normal(48).reshape(6, 8), dtype=torch.float32)
    grads = [torch.tensor(derive(3, "g", i).normal(48).reshape(6, 8), dtype=torch.float32) for i in range(3)]
    theirs = torch.nn.Parameter(start.clone())
    peer = torch.optim.Muon([theirs], lr=0.05, weight_decay=0.1, momentum=0.95)
    ours, moment = start.clone(), torch.zeros(6, 8)
    for t, g in enumerate(grads):
        theirs.grad = g.clone()
        peer.step()
        update(Muon(lr=0.05, weight_decay=0.1), 0.05, t, ours, g.clone(), [moment])
    assert float((ours - theirs.detach()).abs().max()) < 0.05 * 3 * 0.02
    assert float((ours - start).abs().max()) > 0.02


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Schedule("linear", 2, 10, 0.2), [0.5, 1.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.2]),
        (Schedule("wsd", 2, 10, 0.0, 4), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
    ],
    ids=["linear", "wsd"],
)
def test_schedules_have_the_shape_that_they_say(schedule: Schedule, wanted: list[float]) -> None:
    np.testing.assert_allclose([schedule_factor(schedule, t) for t in range(12)], wanted, atol=1e-12)


@needs_engine
@pytest.mark.parametrize("schedule", [Schedule("linear", 2, 10, 0.2), Schedule("wsd", 2, 10, 0.1, 4)])
def test_the_engine_takes_the_steps_of_the_reference_under_a_falling_schedule(schedule: Schedule) -> None:
    inputs, targets = rows()
    models = [bind(network(), name, seed=1) for name in ("reference", "native")]
    runs = [model.start(program(AdamW(lr=0.03), schedule), inputs, targets) for model in models]
    losses = [model.run(run, 12) for model, run in zip(models, runs, strict=True)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4, atol=1e-6)
    for name, array in models[0].weights.items():
        np.testing.assert_allclose(models[1].weights[name], array, rtol=1e-3, atol=1e-5, err_msg=name)


def wide() -> Graph:
    """Hidden matrices of several sizes, tall, broad and square, and vectors."""
    layers = [("a", 40, "x"), ("b", 17, "a"), ("c", 33, "b"), ("d", 33, "c"), ("e", 1, "d"), ("f", 70, "e")]
    dense = [Node(name, "dense", (before,), {"size": size, "activation": "tanh"}) for name, size, before in layers]
    inputs = Node("x", "input", (), {"shape": (23,)})
    return make_graph("wide", [inputs, *dense, Node("y", "output", ("f",), {"size": 3})])


@needs_engine
@pytest.mark.parametrize("clip", [0.0, 0.02])
@pytest.mark.parametrize("frozen", [(), ("c.", "y.")])
def test_the_engine_takes_the_steps_of_the_reference_with_muon(clip: float, frozen: tuple[str, ...]) -> None:
    """A dozen steps: weights, moments, norms; the same bits with two threads."""
    x, y = derive(0, "x").normal(8 * 23).reshape(8, 23).astype(np.float32), derive(0, "y").below(3, 8)
    given = replace(program(RULE, Schedule("wsd", 2, 12, 0.1, 4)), clip_norm=clip, frozen=frozen)
    models = [bind(wide(), name, seed=1) for name in ("reference", "native")]
    models.append(bind(wide(), "native", seed=1, threads=2))
    runs = [model.start(given, {"x": x}, y) for model in models]
    first = models[0].weights
    losses = [model.run(run, 12) for model, run in zip(models, runs, strict=True)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, atol=1e-6)
    reference, *engine = [run.arrays() for run in runs]
    names = {name for name in engine[0] if not name.startswith("weights/")}
    assert names == {name for name in reference if not name.startswith("weights/")} and "v/a.weight" not in names
    for name, array in models[0].weights.items():
        np.testing.assert_allclose(models[1].weights[name], array, rtol=1e-3, atol=2e-5, err_msg=name)
        np.testing.assert_array_equal(models[2].weights[name], models[1].weights[name], err_msg=name)
        assert (array == first[name]).all() == (f"{name.partition('.')[0]}." in frozen)
    for name in names:
        np.testing.assert_array_equal(engine[1][name], engine[0][name], err_msg=name)
        np.testing.assert_allclose(engine[0][name], reference[name], rtol=1e-3, atol=2e-5, err_msg=name)


@needs_engine
def test_a_population_leaves_muon_to_networks_that_train_alone() -> None:
    from alexandra.backends.population import runs_in_lanes

    assert runs_in_lanes(program(RULE.rest)) and not runs_in_lanes(program())


@needs_engine
@pytest.mark.parametrize("isa", ISAS)
def test_the_engine_resumes_muon_bit_by_bit_on_every_instruction_set(isa: str) -> None:
    x, y = derive(0, "x").normal(8 * 23).reshape(8, 23).astype(np.float32), derive(0, "y").below(3, 8)
    from alexandra.backends.native import NativeModel

    models = [NativeModel(wide(), initialise(wide(), 1), isa=isa) for _ in range(2)]
    whole, half = (model.start(program(), {"x": x}, y) for model in models)
    losses = models[0].run(whole, 9)
    first = models[1].run(half, 4)
    other = NativeModel(wide(), models[1].weights, isa=isa)
    rest = other.start(program(), {"x": x}, y)
    rest.restore(half.arrays())
    np.testing.assert_array_equal(np.concatenate([first, other.run(rest, 5)]), losses)
    for name, array in models[0].weights.items():
        np.testing.assert_array_equal(other.weights[name], array, err_msg=name)


def test_settings_out_of_range_are_refused() -> None:
    inputs, targets = rows()
    model = bind(network(), "reference")
    for rule, message in [
        (Muon(momentum=1.0), "momentum must be in"),
        (Muon(iterations=0), "iterations must be a number >= 1"),
        (Muon(rest=AdamW(lr=-1.0)), "lr must be a number >= 0"),
    ]:
        with pytest.raises(BackendError, match=message):
            model.start(program(rule), inputs, targets)
    with pytest.raises(BackendError, match="schedule 'wsd' needs every >= 1"):
        model.start(program(SGD(), Schedule("wsd")), inputs, targets)

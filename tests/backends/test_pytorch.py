"""The torch model as a whole: the module it gives out, threads, devices, updates against torch.optim, state."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alexandra.backends.base import Model, TrainState  # noqa: E402
from alexandra.backends.bind import bind  # noqa: E402
from alexandra.backends.pytorch import TorchModel, module, weights_of  # noqa: E402
from alexandra.backends.pytorch_run import clipped, update  # noqa: E402
from alexandra.errors import BackendError, WeightsError  # noqa: E402
from alexandra.ir.build import Builder, Layer, linear, mlp  # noqa: E402
from alexandra.ir.graph import Graph  # noqa: E402
from alexandra.ir.weights import WeightSet, initialise  # noqa: E402
from alexandra.objectives.spec import MSE, SGD, Adam, AdamW, CrossEntropy, Program  # noqa: E402
from alexandra.rng import derive  # noqa: E402

X = derive(0, "x").normal(40).reshape(10, 4).astype(np.float32)
Y = derive(0, "y").below(3, 10)


def classifier(**settings: object) -> Graph:
    return mlp(8, inputs=4, outputs=3, **settings)


def test_it_is_a_model_and_its_run_a_train_state() -> None:
    model = bind(classifier(), "torch")
    assert isinstance(model, Model) and isinstance(model, TorchModel)
    assert isinstance(model.start(Program(CrossEntropy()), {"x": X}, Y), TrainState)


def test_the_module_answers_as_the_model_and_carries_the_names_of_the_weights() -> None:
    graph = classifier(norm="layernorm", dropout=0.5)
    weights = initialise(graph, 3)
    found = module(graph, weights).eval()
    assert list(found.state_dict()) == list(weights) == [name for name, _ in found.named_parameters()]
    with torch.no_grad():
        answers = found({"x": torch.tensor(X)})["y"].numpy()
    np.testing.assert_array_equal(answers, bind(graph, "torch", weights).forward({"x": X})["y"])
    assert weights_of(found, graph) == weights


def test_what_a_user_trains_in_the_module_comes_back_as_a_weight_set() -> None:
    graph = linear(inputs=4, outputs=1, output="linear")
    found, wanted = module(graph), X @ np.array([[1.0], [2.0], [-1.0], [0.5]], np.float32)
    optimizer = torch.optim.LBFGS(found.parameters(), max_iter=50)

    def closure() -> "torch.Tensor":
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(found({"x": torch.tensor(X)})["y"], torch.tensor(wanted))
        loss.backward()
        return loss

    optimizer.step(closure)
    trained = bind(graph, "reference", weights_of(found, graph))
    np.testing.assert_allclose(trained.forward({"x": X})["y"], wanted, atol=1e-3)
    with pytest.raises(WeightsError, match="no parameter 'h1.weight' of network 'mlp_8'"):
        weights_of(found, classifier())


def test_the_module_needs_bound_sizes_and_its_own_weights() -> None:
    with pytest.raises(BackendError, match=r"leaves sizes open \(AUTO\) in: x"):
        module(mlp(4))
    with pytest.raises(WeightsError, match="h1.weight has shape"):
        module(classifier(), initialise(mlp(8, inputs=5, outputs=3)))


def test_threads_hold_inside_a_call_and_torchs_generator_and_threads_stay_as_they_were() -> None:
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    graph, seen = classifier(dropout=0.5), []
    model = TorchModel(graph, initialise(graph), threads=before + 2)
    model.module.h1.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    model.forward({"x": X})
    model.run(model.start(Program(CrossEntropy()), {"x": X}, Y), 3)
    model.loss_and_grads({"x": X}, Y, CrossEntropy())
    with pytest.raises(BackendError, match="started by another model"):
        bind(graph, "torch").run(model.start(Program(CrossEntropy()), {"x": X}, Y), 1)
    assert seen == [before + 2] * 5
    assert torch.get_num_threads() == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_callers_arrays_are_neither_kept_nor_changed() -> None:
    graph = linear(inputs=4, outputs=4, output="linear")
    model = bind(graph, "torch")
    x = X.copy()
    x.setflags(write=False)
    run = model.start(Program(MSE(), SGD(0.01), shuffle=False), {"x": x}, x)
    answers = model.forward({"x": x})["y"]
    kept = answers.copy()
    losses = model.run(run, 3)
    np.testing.assert_array_equal(answers, kept)
    again = bind(graph, "torch")
    y = X.copy()
    run = again.start(Program(MSE(), SGD(0.01), shuffle=False), {"x": y}, y)
    y[:] = 100.0
    np.testing.assert_array_equal(again.run(run, 3), losses)


OPTIMIZERS = {
    "sgd": (SGD(0.1, 0.0, 0.02), lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.02)),
    "momentum": (SGD(0.1, 0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "adam": (Adam(0.1, 0.8, 0.95, 1e-6, 0.02), lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.95), 1e-6, 0.02)),
    "adamw": (AdamW(0.1, weight_decay=0.2), lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.2)),
    "adamw, a bias": (AdamW(0.1, weight_decay=0.2), lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.0)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_those_of_torchs_own_optimisers(name: str) -> None:
    rule, build = OPTIMIZERS[name]
    shape = (6,) if name.endswith("bias") else (2, 3)
    start = torch.tensor(derive(1, "w").normal(6)).reshape(shape)
    ours, theirs = start.clone(), start.clone().requires_grad_()
    optimizer = build([theirs])
    moments = [torch.zeros(shape, dtype=torch.float64) for _ in range(1 if isinstance(rule, SGD) else 2)]
    for t in range(20):
        g = torch.tensor(derive(1, "g").at(t).normal(6)).reshape(shape)
        theirs.grad = g.clone()
        optimizer.step()
        update(rule, rule.lr, t, ours, g, moments)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", [0.5, 100.0])
def test_clipping_is_torchs(norm: float) -> None:
    grads = [torch.tensor(derive(2, name).normal(5)) for name in "ab"]
    leaves = [torch.zeros(5, dtype=torch.float64, requires_grad=True) for _ in grads]
    for leaf, g in zip(leaves, grads, strict=True):
        leaf.grad = g.clone()
    whole = torch.nn.utils.clip_grad_norm_(leaves, norm)
    torch.testing.assert_close(clipped(grads, norm, whole), [leaf.grad for leaf in leaves], rtol=1e-12, atol=0)
    assert clipped(grads, 0.0, whole) is grads


def test_a_state_fits_its_kind_of_run_only() -> None:
    model = bind(classifier(), "torch")
    program = Program(CrossEntropy(), SGD())
    state = model.start(program, {"x": X}, Y)
    adam = model.start(replace(program, optimizer=AdamW()), {"x": X}, Y)
    with pytest.raises(BackendError, match="not the state of such a run; it differs in .*v/h1.bias"):
        adam.restore(state.arrays())
    with pytest.raises(BackendError, match=r"state 'm/h1.bias' has shape \(9,\), needs \(8,\)"):
        state.restore({**state.arrays(), "m/h1.bias": np.zeros(9)})
    assert state.step == 0


def test_a_diverging_run_ends_in_a_loss_that_is_not_finite() -> None:
    model = bind(linear(inputs=4, outputs=1, output="linear"), "torch")
    losses = model.run(model.start(Program(MSE(), SGD(lr=1e9)), {"x": X}, np.arange(10.0)), 60)
    assert not np.isfinite(losses[-1]) and losses.dtype == np.float64


def test_rows_may_be_none_and_a_symbolic_axis_takes_any_length() -> None:
    build = Builder("tokens")
    tokens = build.input("tokens", ("SEQ",), "int32")
    e = build.layer(Layer("embedding", vocab=7, size=6), tokens)
    pairs = build.layer(Layer("reshape", shape=("SEQ", 2, 3)), e)
    build.output("y", pairs, size=7)
    reference, model = (bind(build.graph(), name) for name in ("reference", "torch"))
    for rows, length in ((2, 1), (3, 6), (0, 4)):
        given = derive(0, "t").below(7, rows * length).reshape(rows, length)
        actual = model.forward({"tokens": given})["y"]
        assert actual.shape == (rows, length, 2, 7)
        np.testing.assert_allclose(actual, reference.forward({"tokens": given})["y"], rtol=1e-5, atol=1e-6)


def test_memory_counts_bytes_by_tier() -> None:
    model = bind(classifier(), "torch")
    weights = 4 * (4 * 8 + 8 + 8 * 3 + 3)
    assert model.memory == {"weights": weights, "arena": 0, "gradients": 0, "optimizer": 0}
    model.forward({"x": X})
    assert model.memory["arena"] == 4 * 10 * (4 + 8 + 8 + 3 + 3 + 3)
    model.start(Program(CrossEntropy(), AdamW()), {"x": X}, Y)
    assert (model.memory["gradients"], model.memory["optimizer"]) == (weights, 2 * weights)


@pytest.mark.parametrize("device", ["cuda:99", "toaster", "meta7"])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(BackendError, match=f"torch cannot use device '{device}'.*\n.*device='cpu' always works"):
        TorchModel(classifier(), initialise(classifier()), device=device)


def test_a_gpu_gives_the_same_answers_and_losses() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    graph = classifier(norm="layernorm", dropout=0.2)
    weights, program = initialise(graph, 5), Program(CrossEntropy(), AdamW(0.01), batch_size=4, clip_norm=1.0)
    reference = bind(graph, "reference", weights)
    model = TorchModel(graph, weights, device="cuda")
    assert next(model.module.parameters()).is_cuda
    np.testing.assert_allclose(model.forward({"x": X})["y"], reference.forward({"x": X})["y"], rtol=1e-5, atol=1e-5)
    losses = [m.run(m.start(program, {"x": X}, Y), 10) for m in (reference, model)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, atol=1e-4)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from alexandra.backends.bind import available, bind
from alexandra.errors import MissingExtraError
from alexandra.ir.build import linear
print(available("torch"))
try:
    bind(linear(inputs=2, outputs=2), "torch")
except MissingExtraError as error:
    print(error)
"""


def test_without_torch_the_backend_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "PyTorch is not installed",
        "backend 'torch' needs the extra 'torch', which is not installed",
        "install it with: pip install 'alexandra-foundry[torch]'",
    ]


def test_weights_are_shown_and_loaded() -> None:
    model, other = (bind(classifier(), "torch", seed=s) for s in (0, 1))
    before = model.weights
    model.run(model.start(Program(CrossEntropy(), AdamW(0.1)), {"x": X}, Y), 2)
    assert model.weights != before == initialise(model.graph, 0)
    other.load(model.weights)
    assert other.weights == model.weights
    with pytest.raises(WeightsError, match="missing h1.bias"):
        other.load(WeightSet({name: a for name, a in model.weights.items() if name != "h1.bias"}))

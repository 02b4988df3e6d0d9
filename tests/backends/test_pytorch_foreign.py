"""A user's torch module behind the Model protocol: answers, gradients, trajectories, resume, files, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from alexandra.backends.base import Model, TrainState  # noqa: E402
from alexandra.backends.bind import bind  # noqa: E402
from alexandra.backends.foreign import Foreign, read_foreign, wrap  # noqa: E402
from alexandra.backends.pytorch import module  # noqa: E402
from alexandra.backends.trust import VARIABLE  # noqa: E402
from alexandra.errors import BackendError, StorageError, WeightsError  # noqa: E402
from alexandra.ir.build import mlp  # noqa: E402
from alexandra.ir.graph import TensorType  # noqa: E402
from alexandra.ir.weights import WeightSet, initialise  # noqa: E402
from alexandra.objectives.spec import MSE, SGD, AdamW, CrossEntropy, Program, Schedule  # noqa: E402
from alexandra.rng import derive  # noqa: E402

X = derive(0, "x").normal(92).reshape(23, 4).astype(np.float32)
Y = derive(0, "y").below(3, 23)
PROGRAM = Program(CrossEntropy(0.1), AdamW(0.01), Schedule("cosine", 2, 9), batch_size=5, clip_norm=0.5, seed=7)

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.h1, self.y = nn.Linear(4, width), nn.Linear(width, 3)
        self.norm, self.drop = nn.BatchNorm1d(width), nn.Dropout(0.3)

    def forward(self, x):
        return self.y(self.drop(torch.nn.functional.gelu(self.norm(self.h1(x)))))

def make():
    return Net()

def wider():
    return Net(9)

def number():
    return 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An importable module of the user's, trusted to make nets."""
    (tmp_path / "users_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "users_nets:make")
    import importlib

    return importlib.import_module("users_nets")


def twin() -> nn.Module:
    """A plain module that computes what `mlp(8)` with the weights of seed 3 does."""
    weights = initialise(mlp(8, inputs=4, outputs=3), 3)
    net = nn.Sequential()
    net.h1, net.act, net.y = nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)
    net.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return net


def wrapped(net: nn.Module, **settings: object) -> Foreign:
    return wrap(net, **{"inputs": {"x": 4}, "outputs": {"y": "softmax"}, **settings})  # type: ignore[arg-type]


def test_a_module_answers_differentiates_and_trains_as_its_graph_does() -> None:
    foreign, graph = wrapped(twin()), bind(mlp(8, inputs=4, outputs=3), "reference", seed=3)
    assert isinstance(foreign, Model)
    assert foreign.num_parameters == 4 * 8 + 8 + 8 * 3 + 3
    np.testing.assert_allclose(foreign.forward({"x": X})["y"], graph.forward({"x": X})["y"], rtol=1e-5, atol=1e-6)
    loss, grads = foreign.loss_and_grads({"x": X}, Y, CrossEntropy())
    wanted, theirs = graph.loss_and_grads({"x": X}, Y, CrossEntropy())
    assert loss == pytest.approx(wanted, abs=1e-5)
    for name, gradient in theirs.items():
        np.testing.assert_allclose(grads[name], gradient, atol=1e-5)
    state = foreign.start(PROGRAM, {"x": X}, Y)
    assert isinstance(state, TrainState)
    losses = graph.run(graph.start(PROGRAM, {"x": X}, Y), 10)
    np.testing.assert_allclose(foreign.run(state, 10), losses, rtol=1e-4, atol=1e-4)
    for name, array in graph.weights.items():
        np.testing.assert_allclose(foreign.weights[name], array, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("reading", "objective", "targets"),
    [
        ("sigmoid", CrossEntropy(), (derive(1, "b").below(2, 69).reshape(23, 3)).astype(np.float32)),
        ("softmax", MSE(), derive(1, "n").normal(69).reshape(23, 3)),
        ("linear", MSE(), derive(1, "n").normal(69).reshape(23, 3)),
        ("linear", CrossEntropy(), Y),
    ],
)
def test_every_reading_has_the_loss_of_the_activation_it_names(reading: str, objective, targets) -> None:
    graph = bind(mlp(8, inputs=4, outputs=3, output=reading), "reference", seed=3)
    loss, grads = wrapped(twin(), outputs={"y": reading}).loss_and_grads({"x": X}, targets, objective)
    wanted, theirs = graph.loss_and_grads({"x": X}, targets, objective)
    assert loss == pytest.approx(wanted, abs=1e-5)
    np.testing.assert_allclose(grads["h1.weight"], theirs["h1.weight"], atol=1e-5)


def test_a_run_with_dropout_and_running_means_can_be_resumed_to_the_last_bit(nets) -> None:
    start = nets.make().state_dict()

    def fresh() -> Foreign:
        net = nets.make()
        net.load_state_dict(start)
        return wrapped(net)

    whole, first, second = fresh(), fresh(), fresh()
    generator = torch.random.get_rng_state()
    program = Program(CrossEntropy(), AdamW(0.02), batch_size=6, seed=3)
    losses = whole.run(whole.start(program, {"x": X}, Y), 10)
    state = first.start(program, {"x": X}, Y)
    before = first.run(state, 4)
    resumed = second.start(program, {"x": X}, Y)
    second.load(first.weights)
    resumed.restore(state.arrays())
    np.testing.assert_array_equal(np.concatenate([before, second.run(resumed, 6)]), losses)
    assert second.weights == whole.weights
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert "buffers/norm.running_mean" in state.arrays()


def test_the_mode_of_every_submodule_is_put_back() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    net[1].eval()
    foreign = wrapped(net)
    np.testing.assert_array_equal(foreign.forward({"x": X})["y"], foreign.forward({"x": X})["y"])
    foreign.run(foreign.start(PROGRAM, {"x": X}, Y), 2)
    assert (net.training, net[0].training, net[1].training) == (True, True, False)


def test_frozen_parameters_stay_and_get_no_gradient() -> None:
    net = twin()
    net.h1.requires_grad_(False)
    foreign, before = wrapped(net), net.h1.weight.clone()
    assert set(foreign.loss_and_grads({"x": X}, Y, CrossEntropy())[1]) == {"y.weight", "y.bias"}
    foreign.run(foreign.start(PROGRAM, {"x": X}, Y), 3)
    assert torch.equal(net.h1.weight, before)
    assert foreign.memory["optimizer"] == 2 * 4 * (8 * 3 + 3)


class TwoHeads(nn.Module):
    def __init__(self, named: bool) -> None:
        super().__init__()
        self.table, self.named = nn.Embedding(5, 3), named

    def forward(self, tokens: "torch.Tensor", x: "torch.Tensor") -> object:
        means = self.table(tokens).mean(1)
        return {"z": x.sum(1), "y": means} if self.named else (means, x.sum(1))


@pytest.mark.parametrize("named", [True, False])
def test_several_inputs_and_outputs_go_by_order_or_by_name(named: bool) -> None:
    inputs = {"tokens": TensorType(("SEQ",), "int32"), "x": 4}
    foreign = wrap(TwoHeads(named), inputs=inputs, outputs={"y": "softmax", "z": "linear"})
    tokens = derive(2, "t").below(5, 23 * 6).reshape(23, 6)
    answers = foreign.forward({"x": X, "tokens": tokens})
    assert list(answers) == ["y", "z"]
    np.testing.assert_allclose(answers["y"].sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(answers["z"], X.sum(1), rtol=1e-4, atol=1e-5)
    loss, _ = foreign.loss_and_grads({"x": X, "tokens": tokens}, {"y": np.zeros((23, 3)), "z": np.zeros(23)}, MSE())
    assert loss == pytest.approx(float((answers["y"] ** 2).mean() + (answers["z"] ** 2).mean()), rel=1e-5)


def test_what_a_wrapped_module_is_asked_wrongly_is_refused() -> None:
    with pytest.raises(BackendError, match="a torch module needs its inputs named\nwrap"):
        wrap(twin())
    with pytest.raises(BackendError, match="output 'y' cannot be read as 'sofmax'\n.*Did you mean 'softmax'"):
        wrapped(twin(), outputs={"y": "sofmax"})
    with pytest.raises(BackendError, match=r"input 'x' needs shape \[rows, 4\], got \[23, 3\]"):
        wrapped(twin()).forward({"x": X[:, :3]})
    with pytest.raises(BackendError, match="the torch module Sequential returns Tensor; outputs= names y, z"):
        wrapped(twin(), outputs={"y": "linear", "z": "linear"}).forward({"x": X})
    with pytest.raises(BackendError, match="the torch module Sequential failed on these inputs: mat1 and mat2"):
        wrapped(twin(), inputs={"x": 5}).forward({"x": np.zeros((2, 5))})
    with pytest.raises(BackendError, match="returns z, y, but no 'answer'"):
        wrap(TwoHeads(True), inputs={"t": TensorType((2,), "int32"), "x": 4}, outputs={"answer": "linear"}).forward(
            {"t": np.zeros((23, 2), int), "x": X}
        )
    with pytest.raises(BackendError, match="target 'y' holds class 3, but the output has classes 0 .. 2"):
        wrapped(twin()).loss_and_grads({"x": X}, Y + 1, CrossEntropy())
    with pytest.raises(BackendError, match="'y' of the torch module Sequential holds probabilities; .* needs logits"):
        wrapped(twin(), outputs={"y": "probabilities"}).start(PROGRAM, {"x": X}, Y)
    with pytest.raises(BackendError, match="started by another model"):
        wrapped(twin()).run(wrapped(twin()).start(PROGRAM, {"x": X}, Y), 1)
    with pytest.raises(WeightsError, match="they differ in h1.bias"):
        wrapped(twin()).load(WeightSet({n: a for n, a in wrapped(twin()).weights.items() if n != "h1.bias"}))
    with pytest.raises(BackendError, match="the torch module Sequential is a foreign model, it has no graph"):
        _ = wrapped(twin()).graph


def test_our_own_module_can_be_wrapped_through_a_plain_one() -> None:
    inner = module(mlp(8, inputs=4, outputs=3), seed=3)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            return self.inner({"x": x})["y"]

    answers = wrapped(Plain(), outputs={"y": "probabilities"}).forward({"x": X})["y"]
    np.testing.assert_allclose(answers, wrapped(twin()).forward({"x": X})["y"], atol=1e-6)


# --- files ---------------------------------------------------------------------------------------------------


def test_a_stored_module_is_its_state_and_the_path_of_what_makes_it(nets) -> None:
    foreign = wrapped(nets.make(), factory="users_nets:make")
    foreign.run(foreign.start(Program(CrossEntropy(), SGD(0.1)), {"x": X}, Y), 3)
    files, description = foreign.files(), json.loads(json.dumps(foreign.description()))
    assert list(files) == ["weights.safetensors"]
    again = read_foreign(files, description)
    np.testing.assert_array_equal(again.forward({"x": X})["y"], foreign.forward({"x": X})["y"])
    assert (again.files(), again.description()) == (files, foreign.description())


def test_loading_runs_no_code_that_is_not_trusted(nets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    foreign = wrapped(nets.make(), factory="users_nets:make")
    files, description = foreign.files(), foreign.description()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(BackendError, match=f"users_nets:make is not trusted here\n.*{VARIABLE}=users_nets:make"):
        read_foreign(files, description)
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    with pytest.raises(BackendError, match="hostile:make is not trusted here"):
        read_foreign(files, {**description, "factory": "hostile:make"})
    assert not (tmp_path / "mark").exists()


def test_a_changed_byte_names_the_tensor(nets) -> None:
    foreign = wrapped(nets.make(), factory="users_nets:make")
    data = bytearray(foreign.files()["weights.safetensors"])
    data[-3] ^= 1
    with pytest.raises(StorageError, match="tensor '.*' is damaged"):
        read_foreign({"weights.safetensors": bytes(data)}, foreign.description())


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("", 'a function that makes it again, and there is none\n.*factory="mypackage.nets:make"'),
        ("users_nets:wider", r"makes another module than the torch module Net: they differ in .*\(9"),
        ("users_nets:number", "'users_nets:number' makes a int, not a torch module"),
        ("users_nets:absent", "cannot make the module by 'users_nets:absent'"),
        ("no_such_module:make", "cannot make the module by 'no_such_module:make': No module named 'no_such_module'"),
        ("nonsense", "cannot make the module by 'nonsense'"),
    ],
)
def test_a_factory_that_does_not_make_the_module_is_refused_before_anything_is_stored(
    nets, factory: str, message: str
) -> None:
    with pytest.raises((BackendError, StorageError), match=message):
        wrapped(nets.make(), factory=factory).files()


def test_weights_that_do_not_fit_what_the_factory_makes_now_are_refused(nets, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = wrapped(nets.make(), factory="users_nets:make")
    files, description = foreign.files(), foreign.description()
    monkeypatch.setattr(nets, "make", nets.wider)
    with pytest.raises(WeightsError, match="the stored weights do not fit what 'users_nets:make' makes"):
        read_foreign(files, description)


def test_half_precision_is_refused_with_the_way_out(nets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "make", lambda: nets.Net().bfloat16())
    with pytest.raises(BackendError, match=r"tensor '.*' has type bfloat16, not storable\n.*module.float\(\)"):
        wrapped(nets.make(), factory="users_nets:make").files()

"""The reference's kernels, losses and update rules against torch in float64."""

import numpy as np
import pytest

from alexandra.backends.reference_ops import KERNELS, Call
from alexandra.backends.reference_optim import (
    clipped,
    schedule_factor,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
    update,
)
from alexandra.ir.ops import PRIMITIVES
from alexandra.objectives.spec import SGD, Adam, AdamW, Optimizer, Schedule
from alexandra.rng import derive

torch = pytest.importorskip("torch")
F = torch.nn.functional


def normal(name: str, *shape: int) -> np.ndarray:
    return 2.0 * derive(0, name).normal(int(np.prod(shape))).reshape(shape)


# op -> (attributes, parameters, the same function of torch over (x, *parameters))
PEERS = {
    "relu": ({}, (), F.relu),
    "leaky_relu": ({"slope": 0.2}, (), lambda x: F.leaky_relu(x, 0.2)),
    "elu": ({"alpha": 0.7}, (), lambda x: F.elu(x, 0.7)),
    "gelu": ({}, (), F.gelu),
    "silu": ({}, (), F.silu),
    "sigmoid": ({}, (), torch.sigmoid),
    "tanh": ({}, (), torch.tanh),
    "softplus": ({}, (), F.softplus),
    "softmax": ({}, (), lambda x: F.softmax(x, -1)),
    "dense": ({"bias": True}, ("weight:9,6", "bias:9"), F.linear),
    "layernorm": ({"eps": 1e-5}, ("weight:6", "bias:6"), lambda x, w, b: F.layer_norm(x, (6,), w, b, 1e-5)),
    "rmsnorm": ({"eps": 1e-6}, ("weight:6",), lambda x, w: F.rms_norm(x, (6,), w, 1e-6)),
}


@pytest.mark.parametrize("op", PEERS)
def test_kernels_equal_torch(op: str) -> None:
    attrs, parameters, peer = PEERS[op]
    params = {}
    for text in parameters:
        name, _, shape = text.partition(":")
        params[name] = normal(name, *map(int, shape.split(",")))
    x = normal("x", 3, 4, 6)
    forward, backward = KERNELS[op]
    call = Call(attrs, (x,), params)
    y = forward(call)
    tensors = [torch.tensor(array, requires_grad=True) for array in (x, *params.values())]
    wanted = peer(*tensors)
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=1e-12, atol=1e-14)
    dy = normal("dy", *y.shape)
    wanted.backward(torch.tensor(dy))
    (dx,), d_params = backward(call, y, dy)
    for ours, tensor in zip((dx, *(d_params[name] for name in params)), tensors, strict=True):
        np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("op", ["sigmoid", "tanh", "softplus", "silu", "gelu", "elu", "softmax"])
def test_kernels_stay_finite_far_from_zero(op: str) -> None:
    x = np.array([[-1e4, -800.0, 0.0, 800.0, 1e4]])
    call = Call({"alpha": 1.0}, (x,))
    with np.errstate(all="raise", under="ignore"):
        y = KERNELS[op][0](call)
        (dx,), _ = KERNELS[op][1](call, y, np.ones_like(x))
    assert np.isfinite(y).all() and np.isfinite(dx).all()


def test_every_primitive_has_a_forward_and_a_backward_but_input() -> None:
    assert set(KERNELS) == set(PRIMITIVES) - {"input"}
    for op, (forward, backward) in KERNELS.items():
        assert (forward.__name__, backward.__name__) == (f"{op}_forward", f"{op}_backward")


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("shape", [(8, 5), (8, 3, 5)])
def test_softmax_cross_entropy_equals_torch(shape: tuple[int, ...], smoothing: float) -> None:
    logits = normal("logits", *shape)
    classes = derive(0, "classes").below(5, logits.size // 5).reshape(shape[:-1])
    z = torch.tensor(logits, requires_grad=True)
    wanted = F.cross_entropy(z.reshape(-1, 5), torch.tensor(classes).reshape(-1), label_smoothing=smoothing)
    wanted.backward()
    loss, gradient = softmax_cross_entropy(logits, classes, smoothing)
    assert loss == pytest.approx(wanted.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-11, atol=1e-14)


def test_sigmoid_cross_entropy_and_squared_error_equal_torch() -> None:
    logits, targets = normal("logits", 8, 4), derive(0, "bits").below(2, 32).reshape(8, 4).astype(np.float64)
    for ours, peer in (
        (lambda a, b: sigmoid_cross_entropy(a, b, 0.0), F.binary_cross_entropy_with_logits),
        (squared_error, F.mse_loss),
    ):
        z = torch.tensor(logits, requires_grad=True)
        wanted = peer(z, torch.tensor(targets))
        wanted.backward()
        loss, gradient = ours(logits, targets)
        assert loss == pytest.approx(wanted.item(), rel=1e-12)
        np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-11, atol=1e-14)


def test_smoothed_sigmoid_cross_entropy_is_that_of_the_smoothed_target() -> None:
    logits, targets = normal("logits", 6, 1), np.array([[0.0], [1.0]] * 3)
    wanted = F.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(targets * 0.8 + 0.1))
    assert sigmoid_cross_entropy(logits, targets, 0.2)[0] == pytest.approx(wanted.item(), rel=1e-12)


def peer_optimizer(rule: Optimizer, weight: object, bias: object) -> object:
    if isinstance(rule, SGD):
        return torch.optim.SGD([weight, bias], rule.lr, rule.momentum, weight_decay=rule.weight_decay)
    settings = {"lr": rule.lr, "betas": (rule.beta1, rule.beta2), "eps": rule.eps}
    if isinstance(rule, Adam):
        return torch.optim.Adam([weight, bias], weight_decay=rule.weight_decay, **settings)
    groups = [{"params": [weight], "weight_decay": rule.weight_decay}, {"params": [bias], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, **settings)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize(
    "rule",
    [
        SGD(0.1),
        SGD(0.1, 0.9, 0.01),
        Adam(0.01),
        Adam(0.01, 0.8, 0.99, 1e-6, 0.1),
        AdamW(0.01, weight_decay=0.1),
    ],
    ids=str,
)
def test_update_rules_and_clipping_equal_torch(rule: Optimizer, clip_norm: float) -> None:
    ours = {"weight": normal("w", 4, 3), "bias": normal("b", 4)}
    theirs = {name: torch.tensor(array.copy(), requires_grad=True) for name, array in ours.items()}
    peer = peer_optimizer(rule, theirs["weight"], theirs["bias"])
    moments = {kind: {name: np.zeros_like(array) for name, array in ours.items()} for kind in "mv"}
    for t in range(10):
        grads = {name: normal(f"g{t}", *array.shape) for name, array in ours.items()}
        for name, tensor in theirs.items():
            tensor.grad = torch.tensor(grads[name].copy())
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(list(theirs.values()), clip_norm)
        peer.step()
        update(rule, rule.lr, t, ours, clipped(grads, clip_norm), moments)
    for name, tensor in theirs.items():
        np.testing.assert_allclose(ours[name], tensor.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_schedules_follow_their_formulas() -> None:
    def factors(schedule: Schedule, steps: int) -> list[float]:
        return [schedule_factor(schedule, t) for t in range(steps)]

    assert factors(Schedule(), 3) == [1.0, 1.0, 1.0]
    assert factors(Schedule(warmup_steps=4), 5) == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors(Schedule("step", warmup_steps=1, every=2, decay=0.1), 6) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01])
    cosine = factors(Schedule("cosine", warmup_steps=2, total_steps=6, final=0.2), 9)
    half = 0.4 * 0.5**0.5
    assert cosine == pytest.approx([0.5, 1.0, 1.0, 0.6 + half, 0.6, 0.6 - half, 0.2, 0.2, 0.2])

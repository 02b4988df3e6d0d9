"""The reference's kernels, losses and update rules against torch in float64."""

import numpy as np
import pytest

from alexandra.backends.reference_ops import KERNELS, Call
from alexandra.backends.reference_optim import (
    clipped,
    kinds_of,
    norm_of,
    reduced,
    schedule_factor,
    terms_of,
    update,
)
from alexandra.ir.ops import PRIMITIVES
from alexandra.objectives.spec import (
    KL,
    MSE,
    SGD,
    Adam,
    AdamW,
    CrossEntropy,
    Objective,
    Optimizer,
    Schedule,
    WeightedCrossEntropy,
)
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


def loss_of(
    values: np.ndarray,
    target: np.ndarray,
    objective: Objective,
    kind: str | None = None,
    weights: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    return reduced(terms_of(values, target, objective, kind), weights, norm_of(target, weights, objective, kind))


def assert_is(ours: tuple[float, np.ndarray], wanted: object, z: object) -> None:
    """`ours`, a loss and its gradient, are torch's `wanted` and its gradient at `z`."""
    wanted.backward()
    assert ours[0] == pytest.approx(wanted.item(), rel=1e-12)
    np.testing.assert_allclose(ours[1], z.grad.numpy(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("shape", [(8, 5), (8, 3, 5)])
def test_softmax_cross_entropy_equals_torch(shape: tuple[int, ...], smoothing: float) -> None:
    logits = normal("logits", *shape)
    classes = derive(0, "classes").below(5, logits.size // 5).reshape(shape[:-1])
    z = torch.tensor(logits, requires_grad=True)
    wanted = F.cross_entropy(z.reshape(-1, 5), torch.tensor(classes).reshape(-1), label_smoothing=smoothing)
    assert_is(loss_of(logits, classes, CrossEntropy(smoothing)), wanted, z)


def test_sigmoid_cross_entropy_and_squared_error_equal_torch() -> None:
    logits, targets = normal("logits", 8, 4), derive(0, "bits").below(2, 32).reshape(8, 4).astype(np.float64)
    for objective, peer in ((CrossEntropy(), F.binary_cross_entropy_with_logits), (MSE(), F.mse_loss)):
        z = torch.tensor(logits, requires_grad=True)
        assert_is(loss_of(logits, targets, objective, "sigmoid"), peer(z, torch.tensor(targets)), z)


def test_smoothed_sigmoid_cross_entropy_is_that_of_the_smoothed_target() -> None:
    logits, targets = normal("logits", 6, 1), np.array([[0.0], [1.0]] * 3)
    wanted = F.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(targets * 0.8 + 0.1))
    ours, _ = loss_of(logits, targets, CrossEntropy(0.2), "sigmoid")
    assert ours == pytest.approx(wanted.item(), rel=1e-12)


@pytest.mark.parametrize("normalizer", ["weights", "count", 7.5])
def test_weighted_cross_entropy_equals_torch(normalizer: str | float) -> None:
    logits, weights = normal("logits", 8, 3, 5), normal("weights", 8, 3) + 1.0
    weights[2] = 0.0
    classes = derive(0, "classes").below(5, 24).reshape(8, 3)
    assert (weights < 0).any() and weights.sum() > 0
    norm = {"weights": weights.sum(), "count": 24}.get(normalizer, normalizer)
    z = torch.tensor(logits, requires_grad=True)
    each = F.cross_entropy(z.reshape(-1, 5), torch.tensor(classes).reshape(-1), reduction="none")
    wanted = (each * torch.tensor(weights).reshape(-1)).sum() / norm
    assert_is(loss_of(logits, classes, WeightedCrossEntropy(normalizer), None, weights), wanted, z)


def test_weights_of_all_zero_give_no_loss_and_those_that_cancel_give_nan() -> None:
    logits, classes, objective = normal("logits", 2, 5), np.array([1, 2]), WeightedCrossEntropy()
    loss, gradient = loss_of(logits, classes, objective, None, np.zeros(2))
    assert loss == 0.0 and not gradient.any()
    assert np.isnan(loss_of(logits, classes, objective, None, np.array([1.0, -1.0]))[0])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_equals_torch(temperature: float) -> None:
    logits, teacher = normal("logits", 8, 3, 5), torch.softmax(torch.tensor(normal("teacher", 8, 3, 5)), -1)
    teacher[0, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    z = torch.tensor(logits, requires_grad=True)
    each = F.kl_div(F.log_softmax(z / temperature, -1), teacher, reduction="none").sum(-1)
    assert_is(loss_of(logits, teacher.numpy(), KL(temperature)), temperature**2 * each.mean(), z)


def test_distillation_of_a_sigmoid_is_that_of_a_softmax_over_zero_and_the_logit() -> None:
    logits, teacher = normal("logits", 8, 4), np.linspace(0.0, 1.0, 32).reshape(8, 4)
    pairs = np.stack([np.zeros((8, 4)), logits], -1)
    wanted, gradient = loss_of(pairs, np.stack([1.0 - teacher, teacher], -1), KL(2.0))
    ours, slope = loss_of(logits, teacher, KL(2.0), "sigmoid")
    assert ours == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(slope, gradient[..., 1], rtol=1e-11, atol=1e-14)


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
    moments = {name: tuple(np.zeros_like(array) for _ in kinds_of(rule)) for name, array in ours.items()}
    for t in range(10):
        grads = {name: normal(f"g{t}", *array.shape) for name, array in ours.items()}
        for name, tensor in theirs.items():
            tensor.grad = torch.tensor(grads[name].copy())
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(list(theirs.values()), clip_norm)
        peer.step()
        for name, g in clipped(grads, clip_norm).items():
            update(rule, rule.lr, t, ours[name], g, moments[name])
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

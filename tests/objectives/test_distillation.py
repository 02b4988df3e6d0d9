"""Divergences and entropy against equations typed from the papers, in torch float64 with its autograd."""

import math

import numpy as np
import pytest

from alexandra.errors import UsageError
from alexandra.objectives.distillation import Distillation, distillation, entropy
from alexandra.rng import derive

torch = pytest.importorskip("torch")

B, T, V = 5, 4, 7
SETTINGS = [
    Distillation(),
    Distillation("forward", 2.0),
    Distillation("reverse"),
    Distillation("reverse", 0.7),
    Distillation("jsd", 1.0, 0.5),
    Distillation("jsd", 1.5, 0.1),
    Distillation("jsd", 1.0, 0.9),
]


def logits(seed: int, name: str) -> np.ndarray:
    return 3.0 * derive(seed, name).normal(B * T * V).reshape(B, T, V)


def mask(seed: int) -> np.ndarray:
    found = (derive(seed, "mask").uniform(B * T).reshape(B, T) < 0.6).astype(np.float64)
    found[0, 0] = 1.0
    return found


def oracle(student, teacher, counted, settings):  # type: ignore[no-untyped-def]
    """Position by position, token by token."""
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for b in range(B):
        for t in range(T):
            if not counted[b, t]:
                continue
            tokens += 1
            q = torch.softmax(student[b, t] / settings.temperature, -1)
            p = torch.softmax(teacher[b, t] / settings.temperature, -1)
            m = settings.mix * p + (1 - settings.mix) * q
            for v in range(V):
                if settings.divergence == "forward":
                    value = p[v] * torch.log(p[v] / q[v])
                elif settings.divergence == "reverse":
                    value = q[v] * torch.log(q[v] / p[v])
                else:
                    left = settings.mix * p[v] * torch.log(p[v] / m[v])
                    value = left + (1 - settings.mix) * q[v] * torch.log(q[v] / m[v])
                total = total + value
    return settings.temperature**2 * total / tokens


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_divergences_and_their_gradients(seed: int, settings: Distillation) -> None:
    counted = mask(seed)
    student = torch.tensor(logits(seed, "student"), requires_grad=True)
    teacher = logits(seed, "teacher")
    wanted = oracle(student, torch.tensor(teacher), counted, settings)
    wanted.backward()
    found = distillation(student.detach().numpy(), teacher, counted, settings, counted.sum())
    assert abs(found.value - float(wanted.detach())) <= 1e-12
    assert np.abs(found.grad_BTV - student.grad.numpy()).max() <= 1e-12


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(settings: Distillation) -> None:
    same, counted = logits(3, "both"), mask(3)
    found = distillation(same, same + 5.0, counted, settings, counted.sum())
    assert abs(found.value) <= 1e-12 and np.abs(found.grad_BTV).max() <= 1e-12
    assert found.stats["agreed"] == found.stats["tokens"] == counted.sum()


def test_entropy_and_its_gradient() -> None:
    given, counted = torch.tensor(logits(4, "policy"), requires_grad=True), mask(4)
    p = torch.softmax(given, -1)
    wanted = -(p * torch.log(p)).sum(-1)[torch.tensor(counted) > 0].sum() / counted.sum()
    wanted.backward()
    found = entropy(given.detach().numpy(), counted, counted.sum())
    assert abs(found.value - float(wanted.detach())) <= 1e-12
    assert np.abs(found.grad_BTV - given.grad.numpy()).max() <= 1e-12
    even = entropy(np.zeros((B, T, V)), counted, counted.sum())
    assert even.value == pytest.approx(math.log(V), abs=1e-12)


def test_a_batch_cut_anywhere_has_one_loss_and_one_gradient() -> None:
    student, teacher, counted = logits(5, "student"), logits(5, "teacher"), mask(5)
    settings, total = Distillation("jsd", 1.3, 0.4), counted.sum()
    whole = distillation(student, teacher, counted, settings, total)
    for cut in range(1, B):
        parts = [distillation(student[s], teacher[s], counted[s], settings, total) for s in (np.s_[:cut], np.s_[cut:])]
        assert math.fsum([*parts[0].rows_B, *parts[1].rows_B]) == whole.value
        np.testing.assert_array_equal(np.concatenate([p.grad_BTV for p in parts]), whole.grad_BTV)


def test_settings_and_shapes_that_are_wrong_are_refused() -> None:
    with pytest.raises(UsageError, match="no divergence 'forwards'"):
        Distillation("forwards")
    with pytest.raises(UsageError, match="mix must be inside"):
        Distillation("jsd", mix=1.0)
    with pytest.raises(UsageError, match="temperature must be a number above 0"):
        Distillation(temperature=0.0)
    with pytest.raises(UsageError, match="student, teacher and mask have shapes"):
        distillation(np.zeros((2, 3, 4)), np.zeros((2, 3, 5)), np.ones((2, 3)), Distillation(), 6)
    with pytest.raises(UsageError, match="no token of this batch counts"):
        distillation(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), np.zeros((2, 3)), Distillation(), 0)

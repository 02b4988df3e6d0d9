"""The structural loss in torch is the NumPy one: values and gradients, many graphs at once."""

from __future__ import annotations

import numpy as np
import pytest

from alexandra.maths import graph_arrays, parse
from alexandra.objectives.structural import StructuralLoss, Tree, structural_loss
from alexandra.rng import derive

torch = pytest.importorskip("torch")

LABELS = ["+", "sin", "x", "1"]
TARGETS = ("(+ (sin x) 1)", "(sin (sin (sin x)))", "(+ x (sin 1))")


def predictions(count: int, nodes: int, places: int) -> tuple[np.ndarray, np.ndarray]:
    words = derive(5, "structural").uniform(count * nodes * (len(LABELS) + 1 + nodes * places))
    labels = 0.1 + words[: count * nodes * (len(LABELS) + 1)].reshape(count, nodes, -1)
    labels /= labels.sum(-1, keepdims=True)
    edges = words[count * nodes * (len(LABELS) + 1) :].reshape(count, nodes, nodes, places) * 0.5
    return labels, edges


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_values_and_gradients_are_those_of_numpy(temperature: float) -> None:
    from alexandra.backends.pytorch_structural import structural_losses

    spec = StructuralLoss(temperature=temperature, rounds=3)
    goals = [Tree(*graph_arrays(parse(text), LABELS, 2)) for text in TARGETS]
    labels, edges = predictions(len(goals), 5, 2)
    p, a = torch.tensor(labels, requires_grad=True), torch.tensor(edges, requires_grad=True)
    wanted = torch.tensor(np.stack([goal.labels for goal in goals]))
    around = torch.tensor(np.stack([goal.edges for goal in goals]), dtype=torch.float64)
    found = structural_losses(p, a, wanted, around, spec)
    found.sum().backward()
    for row, goal in enumerate(goals):
        loss, d_labels, d_edges = structural_loss(labels[row], edges[row], goal, spec)
        assert float(found[row].detach()) == pytest.approx(loss, abs=1e-9)
        assert np.allclose(p.grad[row].numpy(), d_labels, atol=1e-7)
        assert np.allclose(a.grad[row].numpy(), d_edges, atol=1e-7)


def test_the_loss_is_zero_at_the_targets_themselves() -> None:
    from alexandra.backends.pytorch_structural import structural_losses

    goals = [Tree(*graph_arrays(parse(text), LABELS, 2)) for text in TARGETS]
    wanted = torch.tensor(np.stack([goal.labels for goal in goals]))
    around = torch.tensor(np.stack([goal.edges for goal in goals]), dtype=torch.float64)
    certain = torch.nn.functional.one_hot(wanted, len(LABELS) + 1).double()
    assert float(structural_losses(certain, around, wanted, around).max()) < 1e-6
    assert float(structural_losses(certain.flip(0), around.flip(0), wanted, around)[0]) > 0.4

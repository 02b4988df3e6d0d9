"""The structural loss: zero exactly at the same tree, its gradient, its order, its limits on general graphs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from alexandra.maths import Apply, Expr, graph_arrays, parse
from alexandra.objectives.structural import StructuralLoss, Tree, structural_loss

LABELS = ["+", "sin", "x", "1"]


def target(expr: Expr) -> Tree:
    return Tree(*graph_arrays(expr, LABELS, 2))


def certain(tree: Tree, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction without doubt: this tree, and nodes that do not exist up to `nodes`."""
    m, count = len(tree.labels), tree.edges.shape[2]
    labels = np.zeros((nodes, len(LABELS) + 1))
    labels[:, 0] = 1
    labels[:m] = np.eye(len(LABELS) + 1)[tree.labels]
    edges = np.zeros((nodes, nodes, count))
    edges[:m, :m] = tree.edges
    return labels, edges


def trees(most: int) -> list[Expr]:
    """All expression trees over + sin x 1 with at most so many nodes."""
    by_size: dict[int, list[Expr]] = {1: [parse("x"), parse("1")]}
    for size in range(2, most + 1):
        found = [Apply("sin", (inner,)) for inner in by_size[size - 1]]
        for left in range(1, size - 1):
            found += [Apply("+", pair) for pair in itertools.product(by_size[left], by_size[size - 1 - left])]
        by_size[size] = found
    return [tree for size in by_size for tree in by_size[size]]


def test_the_loss_is_zero_at_the_same_tree_and_nowhere_else_up_to_4_nodes() -> None:
    everything = trees(4)
    for one in everything:
        for other in everything:
            loss = structural_loss(*certain(target(one), 5), target(other))[0]
            assert (loss < 1e-6) == (one == other), (one, other, loss)
            assert one == other or loss > 0.4


@pytest.mark.slow
def test_the_loss_is_zero_at_every_tree_of_up_to_7_nodes_and_at_no_near_one() -> None:
    everything = trees(7)
    for place, one in enumerate(everything):
        goal = target(one)
        assert structural_loss(*certain(goal, len(goal.labels)), goal)[0] < 1e-6, one
        for other in everything[max(0, place - 6) : place]:
            assert structural_loss(*certain(target(other), 7), goal)[0] > 0.4, (one, other)


def permuted(tree: Tree, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, edges = certain(tree, len(tree.labels))
    return labels[order], edges[order][:, order]


def test_the_order_of_nodes_does_not_matter() -> None:
    goal = target(parse("(+ (+ x x) (+ x (sin x)))"))
    order = np.random.default_rng(0).permutation(len(goal.labels))
    assert structural_loss(*permuted(goal, order), goal)[0] < 1e-6


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize(("text", "nodes"), [("(+ x (sin 1))", 5), ("(+ (+ x 1) x)", 4)])
def test_the_gradient_is_that_of_finite_differences(temperature: float, text: str, nodes: int) -> None:
    dice = np.random.default_rng(3)
    labels, edges = dice.dirichlet(np.ones(len(LABELS) + 1), nodes), dice.random((nodes, nodes, 2)) * 0.5
    goal, spec = target(parse(text)), StructuralLoss(temperature=temperature)
    _, d_labels, d_edges = structural_loss(labels, edges, goal, spec)
    step = 1e-6
    for array, gradient in ((labels, d_labels), (edges, d_edges)):
        for place in np.ndindex(*array.shape):
            values = []
            for sign in (1, -1):
                array[place] += sign * step
                values.append(structural_loss(labels, edges, goal, spec)[0])
                array[place] -= sign * step
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient[place], rel=1e-4, abs=1e-5)


def test_descent_finds_the_tree() -> None:
    """Gradient descent on the logits of labels and edges ends at the target."""
    goal = target(parse("(+ x (sin 1))"))
    dice = np.random.default_rng(1)
    x, y = dice.normal(size=(4, 5)) * 0.1, dice.normal(size=(4, 4, 2)) * 0.1
    spec = StructuralLoss(temperature=0.3)
    first = last = 0.0
    for _ in range(400):
        p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        a = 1 / (1 + np.exp(-y))
        last, d_p, d_a = structural_loss(p, a, goal, spec)
        first = first or last
        x -= 0.3 * p * (d_p - (p * d_p).sum(axis=1, keepdims=True))
        y -= 0.3 * d_a * a * (1 - a)
    assert last < 0.5 * first


def test_each_weight_counts_its_edits() -> None:
    base = dict.fromkeys(("node_insertion_cost", "node_deletion_cost", "node_substitution_cost"), 0.0)
    base |= dict.fromkeys(("edge_insertion_cost", "edge_deletion_cost", "clique_weight"), 0.0)
    one, other = target(parse("(sin x)")), target(parse("x"))
    cases = {"node_insertion_cost": (other, one, 1), "node_deletion_cost": (one, other, 1)}
    cases |= {"edge_insertion_cost": (other, one, 1), "edge_deletion_cost": (one, other, 1)}
    cases["clique_weight"] = (other, one, 1)
    for name, (predicted, goal, count) in cases.items():
        spec = StructuralLoss(**{**base, name: 1.0})
        nodes = len(predicted.labels)
        assert structural_loss(*certain(predicted, nodes), goal, spec)[0] == pytest.approx(count, abs=1e-6), name


def test_on_graphs_with_symmetries_the_relaxation_cannot_decide() -> None:
    """Every node of a ring looks alike, so that the assignment is spread: the loss of a ring at itself is not zero."""
    ring = np.zeros((6, 6, 1))
    for i in range(6):
        ring[i, (i + 1) % 6, 0] = 1
    goal = Tree(np.full(6, 3), ring)
    labels = np.eye(5)[goal.labels]
    assert structural_loss(labels, ring, goal)[0] > 1

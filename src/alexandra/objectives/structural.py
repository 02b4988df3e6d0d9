"""A differentiable graph edit distance between a predicted expression graph and its target, in NumPy with its
gradient.

Nodes are assigned by Sinkhorn iterations (Sinkhorn 1964; Cuturi 2013) on a cost of labels and, over a few rounds, of
what stands around them; the loss then counts node substitutions, deletions and insertions, edge deletions and
insertions, and cliques (an operator with its operands) that are not matched as a whole, each with its weight. It is
zero only where prediction and target are one graph: any permutation inside an assignment of zero cost is an
isomorphism. Exact distances for evaluation are in maths/edit_distance.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NONE = 0  # the label of a node that does not exist


@dataclass(frozen=True)
class StructuralLoss:
    """The weights of the seed's `[loss]` section, and how sharply nodes are assigned."""

    node_insertion_cost: float = 1.0
    node_deletion_cost: float = 1.0
    node_substitution_cost: float = 1.0
    edge_insertion_cost: float = 0.5
    edge_deletion_cost: float = 0.5
    clique_weight: float = 2.0
    temperature: float = 0.01
    iterations: int = 40
    rounds: int = 7
    reach: float = 0.9  # how much of a neighbour's cost counts in the next round


@dataclass(frozen=True)
class Tree:
    """A target, as maths.graph_arrays makes one of an expression: labels [m] (1, 2 ...) and edges [m, m, positions],
    edges[i, j, k] = 1 where j is operand k of i."""

    labels: np.ndarray
    edges: np.ndarray


def structural_loss(
    labels: np.ndarray, edges: np.ndarray, target: Tree, spec: StructuralLoss | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss and its gradients by `labels` and `edges`.

    labels   float [n, 1 + number of labels]: probabilities of each node's label, the first that it does not exist
    edges    float [n, n, positions]: the probability that j is operand k of i
    """
    step = _Step(np.asarray(labels, float), np.asarray(edges, float), target, spec or StructuralLoss())
    loss = step.forward()
    return (loss, *step.backward())


class _Step:
    """One forward pass, kept for the backward pass. n predicted nodes, m of the target, K positions."""

    def __init__(self, labels: np.ndarray, edges: np.ndarray, target: Tree, spec: StructuralLoss) -> None:
        self.p, self.a, self.b, self.t, self.spec = labels, edges, target.edges, target.labels, spec
        self.n, self.m = len(labels), len(target.labels)
        self.hot = np.eye(labels.shape[1])[self.t]  # [m, labels]
        degree = self.b.sum(axis=(1, 2)) + self.b.sum(axis=(0, 2))
        self.share = spec.reach / np.maximum(degree, 1)  # [m]

    def forward(self) -> float:
        self.wrong = 1 - self.p[:, self.t]  # [n, m]
        self.exists = 1 - self.p[:, NONE]
        self._costs()
        self.s = self._assign()
        return self._node() + self._edge() + self._clique()

    # --- costs of pairs -----------------------------------------------------------------------------------------

    def _costs(self) -> None:
        """[n, m]: wrong labels, wrong numbers of operands and parents, and the same of neighbours, round by round."""
        down, up = self.a.sum(axis=1), self.a.sum(axis=0)  # [n, K]
        have, hang = self.b.sum(axis=1), self.b.sum(axis=0)  # [m, K]
        pairs = ((down, have), (up, hang))
        apart = [x.sum(1)[:, None] + y.sum(1)[None] - 2 * x @ y.T for x, y in pairs]
        self.base = self.wrong + 0.5 * (apart[0] + apart[1])
        self.costs = [self.base]
        for _ in range(self.spec.rounds):
            self.costs.append(self.base + self.share * self._around(self.costs[-1]))

    def _around(self, costs: np.ndarray) -> np.ndarray:
        """Costs of operands that face each other, and of parents."""
        below = np.einsum("ipk,pl,jlk->ij", self.a, costs, self.b, optimize=True)
        return np.asarray(below + np.einsum("pik,pl,ljk->ij", self.a, costs, self.b, optimize=True))

    def _costs_backward(self, d_last: np.ndarray, d_p: np.ndarray, d_a: np.ndarray) -> None:
        d_base = np.zeros_like(self.base)
        d_cost = d_last
        for before in reversed(self.costs[:-1]):
            d_base += d_cost
            scaled = d_cost * self.share
            d_a += np.einsum("ij,pl,jlk->ipk", scaled, before, self.b, optimize=True)
            d_a += np.einsum("ij,pl,ljk->pik", scaled, before, self.b, optimize=True)
            d_cost = np.einsum("ij,ipk,jlk->pl", scaled, self.a, self.b, optimize=True)
            d_cost = d_cost + np.einsum("ij,pik,ljk->pl", scaled, self.a, self.b, optimize=True)
        d_base += d_cost
        d_p -= d_base @ self.hot
        have, hang = self.b.sum(axis=1), self.b.sum(axis=0)
        d_a += 0.5 * (d_base @ (1 - 2 * have))[:, None, :]
        d_a += 0.5 * (d_base @ (1 - 2 * hang))[None, :, :]

    # --- assignment ---------------------------------------------------------------------------------------------

    def _assign(self) -> np.ndarray:
        """[n, m] of a doubly stochastic [n + m, m + n]: a node is matched, or deleted, or inserted."""
        n, m, heat = self.n, self.m, self.spec.temperature
        full = np.zeros((n + m, m + n))
        full[:n, :m] = self.costs[-1]
        self.kappa = 1 + float(self.costs[-1].mean())  # being left out costs more than an average pair
        full[:n, m:] = self.kappa * self.exists[:, None]
        full[n:, :m] = self.kappa
        self.full = full
        f, g = np.zeros(n + m), np.zeros(m + n)
        self.steps = []
        for now in np.geomspace(max(2.0, heat), heat, self.spec.iterations // 2).tolist() + [heat] * (
            self.spec.iterations - self.spec.iterations // 2
        ):
            low, rows = _soft_minimum(full - g[None, :], now, 1)
            f = low
            low, columns = _soft_minimum(full - f[:, None], now, 0)
            g = low
            self.steps.append((rows, columns))
        return np.asarray(np.exp((f[:, None] + g[None, :] - full) / heat)[:n, :m])

    def _assign_backward(self, d_s: np.ndarray, d_p: np.ndarray) -> np.ndarray:
        n, m = self.n, self.m
        d_x = np.zeros((n + m, m + n))
        d_x[:n, :m] = d_s * self.s / self.spec.temperature
        d_full, d_f, d_g = -d_x, d_x.sum(axis=1), d_x.sum(axis=0)
        for rows, columns in reversed(self.steps):
            d_full += columns * d_g[None, :]
            d_f = d_f - columns @ d_g
            d_full += rows * d_f[:, None]
            d_g = -(d_f @ rows)
            d_f = np.zeros(n + m)
        d_exists = d_full[:n, m:].sum(axis=1)
        d_p[:, NONE] -= self.kappa * d_exists
        d_kappa = float(self.exists @ d_exists) + float(d_full[n:, :m].sum())
        return np.asarray(d_full[:n, :m] + d_kappa / (n * m))

    # --- the three parts ----------------------------------------------------------------------------------------

    def _node(self) -> float:
        w, s = self.spec, self.s
        matched = w.node_substitution_cost * float((s * self.wrong).sum())
        deleted = w.node_deletion_cost * float(self.exists @ (1 - s.sum(axis=1)))
        return matched + deleted + w.node_insertion_cost * float((1 - s.sum(axis=0)).sum())

    def _node_backward(self, d_s: np.ndarray, d_p: np.ndarray) -> None:
        w, s = self.spec, self.s
        d_s += w.node_substitution_cost * self.wrong - w.node_insertion_cost
        d_s -= w.node_deletion_cost * self.exists[:, None]
        d_p -= w.node_substitution_cost * (s @ self.hot)
        d_p[:, NONE] -= w.node_deletion_cost * (1 - s.sum(axis=1))

    def _edge(self) -> float:
        """Edges of the target that nothing maps to, and predicted ones that map to nothing."""
        w = self.spec
        self.mapped = np.einsum("ij,jlk,pl->ipk", self.s, self.b, self.s, optimize=True)
        kept = float((self.a * self.mapped).sum())
        missing, spare = float(self.b.sum()) - kept, float(self.a.sum()) - kept
        return w.edge_insertion_cost * missing + w.edge_deletion_cost * spare

    def _edge_backward(self, d_s: np.ndarray, d_a: np.ndarray) -> None:
        w = self.spec
        both = w.edge_insertion_cost + w.edge_deletion_cost
        d_a += w.edge_deletion_cost - both * self.mapped
        d_s -= both * np.einsum("ipk,jlk,pl->ij", self.a, self.b, self.s, optimize=True)
        d_s -= both * np.einsum("ipk,jlk,ij->pl", self.a, self.b, self.s, optimize=True)

    def _clique(self) -> float:
        """For every operator of the target how far it is from being matched with its label and all its operands."""
        self.cliques = []
        total = 0.0
        for j in range(self.m):
            operands = np.argwhere(self.b[j] > 0)
            if not len(operands):
                continue
            held = np.stack([self.a[:, :, k] @ self.s[:, i] for i, k in operands])  # [operands, n]
            label = self.p[:, self.t[j]]
            total += 1 - float((self.s[:, j] * label * held.prod(axis=0)).sum())
            self.cliques.append((j, operands, held))
        return self.spec.clique_weight * total

    def _clique_backward(self, d_s: np.ndarray, d_p: np.ndarray, d_a: np.ndarray) -> None:
        w = self.spec.clique_weight
        for j, operands, held in self.cliques:
            label, whole = self.p[:, self.t[j]], held.prod(axis=0)
            d_s[:, j] -= w * label * whole
            d_p[:, self.t[j]] -= w * self.s[:, j] * whole
            for place, (i, k) in enumerate(operands):
                others = np.delete(held, place, axis=0).prod(axis=0)
                d_held = -w * self.s[:, j] * label * others  # [n]
                d_a[:, :, k] += np.outer(d_held, self.s[:, i])
                d_s[:, i] += self.a[:, :, k].T @ d_held

    def backward(self) -> tuple[np.ndarray, np.ndarray]:
        d_s, d_p, d_a = np.zeros_like(self.s), np.zeros_like(self.p), np.zeros_like(self.a)
        self._node_backward(d_s, d_p)
        self._edge_backward(d_s, d_a)
        self._clique_backward(d_s, d_p, d_a)
        d_cost = self._assign_backward(d_s, d_p)
        self._costs_backward(d_cost, d_p, d_a)
        return d_p, d_a


def _soft_minimum(costs: np.ndarray, heat: float, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """-heat * log sum exp(-costs / heat), and the shares of the terms."""
    least = costs.min(axis=axis, keepdims=True)
    shares = np.exp((least - costs) / heat)
    total = shares.sum(axis=axis, keepdims=True)
    return np.asarray((least - heat * np.log(total)).squeeze(axis)), np.asarray(shares / total)

"""The structural loss of objectives/structural.py in torch: many graphs of one size at once, gradients by autograd.

The arithmetic is the NumPy version's, step by step; a test compares values and gradients. Suffixes: B graphs, N
predicted nodes, M of the target, K places of operands, L labels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alexandra.objectives.structural import NONE, StructuralLoss


def structural_losses(
    labels_BNL: Tensor, edges_BNNK: Tensor, target_BM: Tensor, edges_BMMK: Tensor, spec: StructuralLoss | None = None
) -> Tensor:
    """The loss of each graph, [B]; arguments as objectives/structural.structural_loss has them, a graph a row."""
    spec = spec or StructuralLoss()
    index_BNM = target_BM[:, None, :].expand(-1, labels_BNL.shape[1], -1)
    right_BNM = labels_BNL.gather(2, index_BNM)
    exists_BN = 1 - labels_BNL[:, :, NONE]
    costs_BNM = _costs(1 - right_BNM, edges_BNNK, edges_BMMK, spec)
    s_BNM = _assigned(costs_BNM, exists_BN, spec)
    node = spec.node_substitution_cost * (s_BNM * (1 - right_BNM)).sum((1, 2))
    node = node + spec.node_deletion_cost * (exists_BN * (1 - s_BNM.sum(2))).sum(1)
    node = node + spec.node_insertion_cost * (1 - s_BNM.sum(1)).sum(1)
    mapped = torch.einsum("bij,bjlk,bpl->bipk", s_BNM, edges_BMMK, s_BNM)
    kept = (edges_BNNK * mapped).sum((1, 2, 3))
    edge = spec.edge_insertion_cost * (edges_BMMK.sum((1, 2, 3)) - kept)
    edge = edge + spec.edge_deletion_cost * (edges_BNNK.sum((1, 2, 3)) - kept)
    return node + edge + spec.clique_weight * _cliques(s_BNM, right_BNM, edges_BNNK, edges_BMMK)


def _costs(wrong: Tensor, a: Tensor, b: Tensor, spec: StructuralLoss) -> Tensor:
    """[B, N, M]: wrong labels and numbers of operands and parents, and the same of neighbours, round by round."""
    base = wrong
    for axis in (2, 1):
        x, y = a.sum(axis), b.sum(axis)
        base = base + 0.5 * (x.sum(2)[:, :, None] + y.sum(2)[:, None] - 2 * x @ y.transpose(1, 2))
    degree = b.sum((2, 3)) + b.sum((1, 3))
    share = (spec.reach / degree.clamp(min=1))[:, None]
    costs = base
    for _ in range(spec.rounds):
        below = torch.einsum("bipk,bpl,bjlk->bij", a, costs, b)
        costs = base + share * (below + torch.einsum("bpik,bpl,bljk->bij", a, costs, b))
    return costs


def _assigned(costs: Tensor, exists: Tensor, spec: StructuralLoss) -> Tensor:
    """[B, N, M] of a doubly stochastic [B, N + M, M + N]: a node is matched, or deleted, or inserted."""
    n, m, heat = costs.shape[1], costs.shape[2], spec.temperature
    kappa = 1 + costs.mean((1, 2))
    left_out = (kappa[:, None] * exists)[:, :, None].expand(-1, -1, n)
    inserted = kappa[:, None, None].expand(-1, m, m)
    none = torch.zeros(len(costs), m, n, dtype=costs.dtype, device=costs.device)
    full = torch.cat([torch.cat([costs, left_out], 2), torch.cat([inserted, none], 2)], 1)
    f, g = torch.zeros_like(full[:, :, 0]), torch.zeros_like(full[:, 0])
    half = spec.iterations // 2
    for now in [*np.geomspace(max(2.0, heat), heat, half).tolist(), *[heat] * (spec.iterations - half)]:
        f = -now * torch.logsumexp((g[:, None] - full) / now, 2)
        g = -now * torch.logsumexp((f[:, :, None] - full) / now, 1)
    return torch.exp((f[:, :, None] + g[:, None] - full) / heat)[:, :n, :m]


def _cliques(s: Tensor, right: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """[B]: how far the target's operators are from being matched with their label and all their operands."""
    held = torch.einsum("bnpk,bpi,bjik->bnjk", a, s, b)
    has_BMK = b.sum(2) > 0
    held = torch.where(has_BMK[:, None], held, torch.ones_like(held))
    whole = (s * right * held.prod(3)).sum(1)
    return torch.where(has_BMK.any(2), 1 - whole, torch.zeros_like(whole)).sum(1)

"""Gates and experts on torch: positions are sorted by expert, so that each expert multiplies one slice.

On a GPU in bfloat16 all slices go through one grouped matrix product; elsewhere one product per expert that is used.
Suffixes: N positions of all rows, E experts, H hidden, C width, P pairs of a position and its expert.
"""

from __future__ import annotations

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexandra.ir.graph import Node
from alexandra.ir.ops import OPS
from alexandra.ir.ops.experts import SELECTION_RATE
from alexandra.ir.ops.rules import number, whole
from alexandra.nn.passing import Pass
from alexandra.nn.pointwise import CALLS


def top_k_gate(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    """The weights; in training also the gate's losses and its moved bias, left in `now`."""
    attrs, logits = node.attrs, _jittered(node, inputs[0], now)
    scores = torch.softmax(logits, -1) if attrs["score"] == "softmax" else torch.sigmoid(logits)
    bias = owner.get_parameter("bias") if owner is not None and attrs["selection_bias"] else None
    ranked = (scores if bias is None else scores + bias).detach()
    best = torch.sort(ranked, dim=-1, descending=True, stable=True).indices[..., : whole(attrs["top_k"])]
    mask = torch.zeros_like(scores, requires_grad=False).scatter(-1, best, 1.0)
    weights = scores * mask
    if attrs["normalise"]:
        weights = weights / weights.sum(-1, keepdim=True)
    if now.training:
        _leave(node, (logits, scores, mask), bias, now)
        weights = weights * _kept(node, mask)
    return weights * number(attrs["scale"])


def _jittered(node: Node, logits: Tensor, now: Pass) -> Tensor:
    if now.masks is not None and node.name in now.masks:
        return logits * now.masks[node.name]
    if now.noisy and now.masks is None and node.attrs["jitter"]:
        return logits * (1.0 + number(node.attrs["jitter"]) * (2.0 * torch.rand_like(logits) - 1.0))
    return logits


def _kept(node: Node, mask: Tensor) -> Tensor:
    """`mask` without what is beyond an expert's capacity in its row; the first positions come first."""
    if not node.attrs["capacity"]:
        return torch.ones_like(mask)
    flat = mask.reshape(len(mask), -1, mask.shape[-1])
    limit = ceil(number(node.attrs["capacity"]) * flat.shape[1] * whole(node.attrs["top_k"]) / flat.shape[2])
    return (flat.cumsum(1) <= limit).to(mask.dtype).reshape(mask.shape)


def _leave(node: Node, parts: tuple[Tensor, Tensor, Tensor], bias: Tensor | None, now: Pass) -> None:
    logits, scores, mask = parts
    experts, load_E = scores.shape[-1], mask.reshape(-1, mask.shape[-1]).sum(0)
    if balance := number(node.attrs["balance"]):
        probability = scores / scores.sum(-1, keepdim=True)
        share_E = load_E / load_E.sum()
        now.losses.append(balance * experts * (share_E * probability.reshape(-1, experts).mean(0)).sum())
    if z_loss := number(node.attrs["z_loss"]):
        now.losses.append(z_loss * torch.logsumexp(logits, -1).square().mean())
    if bias is not None:
        step = SELECTION_RATE * torch.sign(load_E.mean() - load_E)
        now.moved[f"{node.owner}.bias"] = (bias + step).detach()


def experts(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    assert owner is not None
    x_NC, gates_NE = (x.flatten(0, -2) for x in inputs)
    expert_P, position_P = gates_NE.detach().t().nonzero(as_tuple=True)
    x_PC = x_NC.index_select(0, position_P)
    counts_E = torch.bincount(expert_P, minlength=gates_NE.shape[1])
    up, down = owner.get_parameter("up"), owner.get_parameter("down")
    gate = owner.get_parameter("gate") if node.attrs["gated"] else None
    if x_PC.is_cuda and x_PC.dtype == torch.bfloat16:
        y_PC = _grouped(node, x_PC, counts_E, (up, down, gate))
    else:
        y_PC = _looped(node, x_PC, counts_E, (up, down, gate))
    y_PC = y_PC * gates_NE[position_P, expert_P].unsqueeze(-1)
    return torch.zeros_like(x_NC).index_add(0, position_P, y_PC.to(x_NC.dtype)).view_as(inputs[0])


Weights = tuple[Tensor, Tensor, Tensor | None]  # up, down, gate


def _looped(node: Node, x_PC: Tensor, counts_E: Tensor, weights: Weights) -> Tensor:
    up, down = weights[0].unbind(), weights[1].unbind()  # whose gradient is put together once, not per expert
    gate = weights[2].unbind() if weights[2] is not None else None
    parts = []
    for e, x in enumerate(torch.split(x_PC, counts_E.tolist())):
        if len(x):
            other = F.linear(x, gate[e]) if gate is not None else None
            parts.append(F.linear(_hidden(node, F.linear(x, up[e]), other), down[e]))
    return torch.cat(parts) if parts else x_PC * 0.0


def _grouped(node: Node, x_PC: Tensor, counts_E: Tensor, weights: Weights) -> Tensor:
    """One grouped product for all experts (bfloat16 on CUDA)."""
    up, down, gate = weights
    ends_E = counts_E.cumsum(0).to(torch.int32)
    up_PH = F.grouped_mm(x_PC, up.transpose(1, 2), offs=ends_E)
    gate_PH = F.grouped_mm(x_PC, gate.transpose(1, 2), offs=ends_E) if gate is not None else None
    return F.grouped_mm(_hidden(node, up_PH, gate_PH), down.transpose(1, 2), offs=ends_E)


def _hidden(node: Node, up: Tensor, gate: Tensor | None) -> Tensor:
    name = str(node.attrs["activation"])
    given = up if gate is None else gate
    active = given if name == "linear" else CALLS[name](OPS[name].complete({}), (given,))
    return active if gate is None else active * up

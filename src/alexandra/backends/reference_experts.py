"""Kernels of the reference backend: gates and experts, and the losses that gates add in training.

Suffixes: N positions of all rows, E experts, H hidden, C width.
"""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from alexandra.backends.reference_call import F64, Backward, Call, Forward, Grads
from alexandra.backends.reference_elementwise import sigmoid
from alexandra.ir.ops import OPS


def _scores(call: Call) -> tuple[F64, F64]:
    """(logits with jitter, scores), [..., E]."""
    logits = call.x if call.mask is None else call.x * call.mask
    if call.attrs["score"] == "sigmoid":
        return logits, sigmoid(logits)
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return logits, np.asarray(exp / exp.sum(-1, keepdims=True))


def chosen(call: Call) -> F64:
    """1 at the top_k best of each position (of equals the first), before any capacity."""
    _, scores = _scores(call)
    if "bias" in call.params:
        scores = scores + call.params["bias"]
    best = np.argsort(-scores, axis=-1, kind="stable")[..., : call.count("top_k")]
    mask = np.zeros_like(scores)
    np.put_along_axis(mask, best, 1.0, axis=-1)
    return mask


def _kept(call: Call, mask: F64) -> F64:
    """`mask` without what is beyond an expert's capacity in its row; the first positions come first."""
    if not (call.training and call.number("capacity")):
        return mask
    flat = mask.reshape(len(mask), -1, mask.shape[-1])
    limit = ceil(call.number("capacity") * flat.shape[1] * call.count("top_k") / flat.shape[2])
    return np.asarray(np.where(np.cumsum(flat, axis=1) <= limit, flat, 0.0)).reshape(mask.shape)


def top_k_gate_forward(call: Call) -> F64:
    _, scores = _scores(call)
    mask = chosen(call)
    weights = scores * mask
    if call.attrs["normalise"]:
        weights = weights / weights.sum(-1, keepdims=True)
    return weights * _kept(call, mask) * call.number("scale")


def top_k_gate_backward(call: Call, y: F64, dy: F64) -> Grads:
    """Through the scores of what was chosen; the choice is constant almost everywhere."""
    _, scores = _scores(call)
    mask = chosen(call)
    d = dy * _kept(call, mask) * call.number("scale")
    if call.attrs["normalise"]:
        picked = scores * mask
        total = picked.sum(-1, keepdims=True)
        d = (d - (d * picked / total).sum(-1, keepdims=True)) / total
    return (_through_scores(call, scores, d * mask),), {}


def _through_scores(call: Call, scores: F64, d: F64) -> F64:
    if call.attrs["score"] == "sigmoid":
        d_logits = d * scores * (1.0 - scores)
    else:
        d_logits = scores * (d - (d * scores).sum(-1, keepdims=True))
    return d_logits if call.mask is None else d_logits * call.mask


def gate_loss(call: Call) -> tuple[float, F64]:
    """What a gate adds to the training loss, and the gradient of its logits.

    balance * E * sum_e f_e P_e with f_e the expert's share of all assignments and P_e its mean probability (sigmoid
    scores count as a share of their sum); plus z_loss * mean of logsumexp(logits)^2.
    """
    logits, scores = _scores(call)
    experts = scores.shape[-1]
    positions = scores.size // experts
    loss, gradient = 0.0, np.zeros_like(logits)
    if balance := call.number("balance"):
        share_E = chosen(call).reshape(-1, experts).sum(0) / (positions * call.count("top_k"))
        total = scores.sum(-1, keepdims=True)
        probability = scores / total
        loss += float(balance * experts * (share_E * probability.reshape(-1, experts).mean(0)).sum())
        d = np.broadcast_to(balance * experts * share_E / positions, probability.shape)
        gradient += _through_scores(call, scores, (d - (d * probability).sum(-1, keepdims=True)) / total)
    if z_loss := call.number("z_loss"):
        high = logits.max(-1, keepdims=True)
        exp = np.exp(logits - high)
        size = np.log(exp.sum(-1, keepdims=True)) + high
        loss += float(z_loss * (size**2).mean())
        d_logits = z_loss * 2.0 * size * exp / exp.sum(-1, keepdims=True) / positions
        gradient += d_logits if call.mask is None else d_logits * call.mask
    return loss, gradient


def selection_bias(call: Call, rate: float) -> F64:
    """The bias after a step: up where an expert had less than the mean load, down where it had more."""
    load = chosen(call).reshape(-1, call.x.shape[-1]).sum(0)
    return np.asarray(call.params["bias"] + rate * np.sign(load.mean() - load))


def experts_forward(call: Call) -> F64:
    x_NC, gates_NE = (array.reshape(prod(array.shape[:-1]), array.shape[-1]) for array in call.inputs)
    y_NC = np.zeros_like(x_NC)
    for e in range(gates_NE.shape[1]):
        n = np.flatnonzero(gates_NE[:, e])
        y_NC[n] += gates_NE[n, e, None] * _expert(call, e, x_NC[n])[0]
    return y_NC.reshape(call.x.shape)


def experts_backward(call: Call, y: F64, dy: F64) -> Grads:
    """An expert whose weight is 0 was not computed: its weight gets no gradient."""
    x_NC, gates_NE = (array.reshape(prod(array.shape[:-1]), array.shape[-1]) for array in call.inputs)
    dy_NC = dy.reshape(x_NC.shape)
    dx, d_gates = np.zeros_like(x_NC), np.zeros_like(gates_NE)
    params = {name: np.zeros_like(array) for name, array in call.params.items()}
    _, slope = _activation(call)
    for e in range(gates_NE.shape[1]):
        n = np.flatnonzero(gates_NE[:, e])
        x, d_out = x_NC[n], gates_NE[n, e, None] * dy_NC[n]
        out, hidden, up, gate = _expert(call, e, x)
        d_gates[n, e] = (dy_NC[n] * out).sum(-1)
        params["down"][e] = d_out.T @ hidden
        d_hidden = d_out @ call.params["down"][e]
        if call.attrs["gated"]:
            active = _activation(call)[0](Call(_defaults(call), (gate,)))
            d_gate = slope(Call(_defaults(call), (gate,)), active, d_hidden * up)[0][0]
            d_up = d_hidden * active
            params["gate"][e] = d_gate.T @ x
            dx[n] += d_gate @ call.params["gate"][e]
        else:
            d_up = slope(Call(_defaults(call), (up,)), hidden, d_hidden)[0][0]
        params["up"][e] = d_up.T @ x
        dx[n] += d_up @ call.params["up"][e]
    return (dx.reshape(call.x.shape), d_gates.reshape(call.inputs[1].shape)), params


def _expert(call: Call, e: int, x: F64) -> tuple[F64, F64, F64, F64]:
    """(output, hidden, up, gate) of one expert; without a gate `gate` is `up`."""
    up = x @ call.params["up"][e].T
    gate = x @ call.params["gate"][e].T if call.attrs["gated"] else up
    active = _activation(call)[0](Call(_defaults(call), (gate,)))
    hidden = active * up if call.attrs["gated"] else active
    return hidden @ call.params["down"][e].T, hidden, up, gate


def _activation(call: Call) -> tuple[Forward, Backward]:
    """The kernels of the experts' activation; "linear" is the identity."""
    from alexandra.backends import reference_elementwise as kernels

    name = str(call.attrs["activation"])
    if name == "linear":
        name = "output"
    return getattr(kernels, f"{name}_forward"), getattr(kernels, f"{name}_backward")


def _defaults(call: Call) -> dict[str, float]:
    return OPS[str(call.attrs["activation"])].complete({})  # type: ignore[return-value]

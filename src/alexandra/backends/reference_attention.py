"""Kernels of the reference backend: positions and attention.

Scores of all pairs are held at once; masks follow ir.positions.visible. Suffixes: B rows, S queries, T keys, K
key-value heads, G query heads of one key-value head, D numbers of a head, C width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alexandra.backends.reference_call import F64, Call, Grads
from alexandra.ir.positions import relative_buckets, rope_angles, sinusoidal, visible


def position_forward(call: Call) -> F64:
    first, length = call.count("offset"), call.x.shape[1]
    if call.attrs["kind"] == "learned":
        return call.x + call.params["weight"][first : first + length]
    return np.asarray(call.x + sinusoidal(length, call.x.shape[2], first))


def position_backward(call: Call, y: F64, dy: F64) -> Grads:
    if call.attrs["kind"] != "learned":
        return (dy,), {}
    dweight, first = np.zeros_like(call.params["weight"]), call.count("offset")
    dweight[first : first + dy.shape[1]] = dy.sum(0)
    return (dy,), {"weight": dweight}


def rope_forward(call: Call) -> F64:
    return _turned(call, call.x, 1.0)


def rope_backward(call: Call, y: F64, dy: F64) -> Grads:
    """A rotation's gradient turns back."""
    return (_turned(call, dy, -1.0),), {}


def _turned(call: Call, x_BSC: F64, sign: float) -> F64:
    rows, length, width = x_BSC.shape
    cos, sin = (table[:, None, :] for table in rope_angles(call.attrs, length))
    x = x_BSC.reshape(rows, length, -1, call.count("head_dim")).copy()
    pairs = cos.shape[-1]
    if call.attrs["layout"] == "half":
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    else:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    a, b = x[..., first].copy(), x[..., second].copy()
    x[..., first], x[..., second] = a * cos - sign * b * sin, b * cos + sign * a * sin
    return x.reshape(rows, length, width)


def sdpa_forward(call: Call) -> F64:
    _, v, weights, _ = _attend(call)
    y_BSKGD = np.einsum("bkgst,btkd->bskgd", weights, v)
    return np.asarray(y_BSKGD.reshape(*y_BSKGD.shape[:2], -1))


def sdpa_backward(call: Call, y: F64, dy: F64) -> Grads:
    (q, k), v, weights, capped = _attend(call)
    dy = dy.reshape(*q.shape[:4], v.shape[-1])
    dv = np.einsum("bkgst,bskgd->btkd", weights, dy)
    d_weights = np.einsum("bskgd,btkd->bkgst", dy, v)
    d_scores = weights * (d_weights - (d_weights * weights).sum(-1, keepdims=True))
    params = {}
    if "relative" in call.params:
        buckets, (_, _, _, length, keys) = _buckets(call), weights.shape
        per_head = d_scores.sum(0).reshape(-1, length, keys)
        params["relative"] = np.zeros_like(call.params["relative"])
        np.add.at(params["relative"], buckets.reshape(-1), per_head.reshape(len(per_head), -1).T)
    if cap := call.number("softcap"):
        d_scores = d_scores * (1.0 - (capped / cap) ** 2)
    d_scores = d_scores * _scale(call, q.shape[-1])
    dq = np.einsum("bkgst,btkd->bskgd", d_scores, k)
    dk = np.einsum("bkgst,bskgd->btkd", d_scores, q)
    shaped = tuple(d.reshape(given.shape) for d, given in zip((dq, dk, dv), call.inputs, strict=False))
    return (*shaped, *(np.zeros(given.shape) for given in call.inputs[3:])), params


def _attend(call: Call) -> tuple[tuple[F64, F64], F64, F64, F64]:
    """((q_BSKGD, k_BTKD), v_BTKD, weights_BKGST, scores before the bias) of a call."""
    q_BSC, k_BTC, v_BTC = call.inputs[:3]
    heads = call.count("heads")
    groups = heads if call.attrs["kv_heads"] is None else call.count("kv_heads")
    q = q_BSC.reshape(*q_BSC.shape[:2], groups, heads // groups, -1)
    k, v = (array.reshape(*array.shape[:2], groups, -1) for array in (k_BTC, v_BTC))
    scores = np.einsum("bskgd,btkd->bkgst", q, k) * _scale(call, q.shape[-1])
    if cap := call.number("softcap"):
        scores = cap * np.tanh(scores / cap)
    biased = scores
    if "relative" in call.params:
        bias_STH = call.params["relative"][_buckets(call)]
        biased = scores + np.moveaxis(bias_STH, -1, 0).reshape(1, groups, heads // groups, *bias_STH.shape[:2])
    seen = visible(call.attrs, *(np.arange(array.shape[1]) for array in (q_BSC, k_BTC)))[None]
    if len(call.inputs) > 3:
        segments = call.inputs[3]
        seen = seen & (segments != 0)[:, None, :]
        if q_BSC.shape[1] == k_BTC.shape[1]:
            seen = seen & (segments[:, :, None] == segments[:, None, :])
    return (q, k), v, _masked_softmax(biased, seen[:, None, None]), scores


def _masked_softmax(scores: F64, seen: F64) -> F64:
    """Softmax over the keys that are seen; all 0 where none is."""
    highest = np.where(seen, scores, -np.inf).max(-1, keepdims=True)
    exp = np.where(seen, np.exp(np.where(seen, scores - np.where(np.isfinite(highest), highest, 0.0), 0.0)), 0.0)
    return np.asarray(exp / np.maximum(exp.sum(-1, keepdims=True), np.finfo(np.float64).tiny))


def _scale(call: Call, head_dim: int) -> float:
    return head_dim**-0.5 if call.attrs["scale"] is None else call.number("scale")


def _buckets(call: Call) -> npt.NDArray[np.int64]:
    return relative_buckets(call.attrs, *(np.arange(array.shape[1]) for array in call.inputs[:2]))

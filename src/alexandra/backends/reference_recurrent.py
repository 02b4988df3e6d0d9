"""Kernels of the reference backend: recurrent layers, one position after the other, and back through time.

Suffixes: B rows, S positions, I inputs, H state. Gates stand as in ir/ops/recurrent.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alexandra.backends.reference_call import F64, Call, Grads
from alexandra.backends.reference_elementwise import sigmoid


def _order(call: Call) -> Sequence[int]:
    """The positions in the order in which they are read."""
    positions = range(call.x.shape[1])
    return positions[::-1] if call.attrs["reverse"] else positions


def _given(call: Call) -> F64:
    """What the inputs alone give each gate, [B, S, gates * H]."""
    return call.x @ call.params["input"].T + call.params["bias"]


def _result(call: Call, states: dict[int, F64]) -> F64:
    if call.attrs["last"]:
        return states[_order(call)[-1]]
    return np.stack([states[s] for s in range(call.x.shape[1])], axis=1)


def _gradient_at(call: Call, dy: F64, s: int) -> F64:
    """What the result at position `s` gets from outside."""
    if not call.attrs["last"]:
        return dy[:, s]
    return dy if s == _order(call)[-1] else np.zeros_like(dy)


def _finished(call: Call, d_gates: F64, d_hidden: F64) -> Grads:
    """The gradients of input and parameters from those of the gates [B, S, gates * H]."""
    flat = d_gates.reshape(-1, d_gates.shape[-1])
    d_input = flat.T @ call.x.reshape(-1, call.x.shape[-1])
    return (d_gates @ call.params["input"],), {"input": d_input, "hidden": d_hidden, "bias": flat.sum(0)}


def _start(call: Call) -> F64:
    return np.zeros((len(call.x), call.count("size")))


def _rnn_states(call: Call) -> dict[int, F64]:
    given, h, states = _given(call), _start(call), {}
    for s in _order(call):
        before = given[:, s] + h @ call.params["hidden"].T
        h = states[s] = np.tanh(before) if call.attrs["activation"] == "tanh" else np.maximum(before, 0.0)
    return states


def rnn_forward(call: Call) -> F64:
    return _result(call, _rnn_states(call))


def rnn_backward(call: Call, y: F64, dy: F64) -> Grads:
    states, order, hidden = _rnn_states(call), _order(call), call.params["hidden"]
    d_gates, d_hidden, dh = np.zeros((*call.x.shape[:2], len(hidden))), np.zeros_like(hidden), _start(call)
    for at in range(len(order) - 1, -1, -1):
        s, h = order[at], states[order[at]]
        slope = 1.0 - h**2 if call.attrs["activation"] == "tanh" else (h > 0).astype(np.float64)
        d = d_gates[:, s] = (dh + _gradient_at(call, dy, s)) * slope
        d_hidden += d.T @ (states[order[at - 1]] if at else _start(call))
        dh = d @ hidden
    return _finished(call, d_gates, d_hidden)


def _lstm_states(call: Call) -> tuple[dict[int, F64], dict[int, tuple[F64, ...]]]:
    """(h, (i, f, g, o, c) after each position)."""
    given, h, c = _given(call), _start(call), _start(call)
    states: dict[int, F64] = {}
    inner: dict[int, tuple[F64, ...]] = {}
    for s in _order(call):
        i, f, g, o = np.split(given[:, s] + h @ call.params["hidden"].T, 4, axis=-1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = states[s] = o * np.tanh(c)
        inner[s] = i, f, g, o, c
    return states, inner


def lstm_forward(call: Call) -> F64:
    return _result(call, _lstm_states(call)[0])


def lstm_backward(call: Call, y: F64, dy: F64) -> Grads:
    (states, inner), order, hidden = _lstm_states(call), _order(call), call.params["hidden"]
    d_gates, d_hidden = np.zeros((*call.x.shape[:2], len(hidden))), np.zeros_like(hidden)
    dh, dc = _start(call), _start(call)
    for at in range(len(order) - 1, -1, -1):
        s, before = order[at], order[at - 1] if at else None
        i, f, g, o, c = inner[s]
        c_before = _start(call) if before is None else inner[before][4]
        dh = dh + _gradient_at(call, dy, s)
        dc = dc + dh * o * (1.0 - np.tanh(c) ** 2)
        parts = dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g**2), dh * np.tanh(c) * o * (1 - o)
        d = d_gates[:, s] = np.concatenate(parts, axis=-1)
        d_hidden += d.T @ (_start(call) if before is None else states[before])
        dh, dc = d @ hidden, dc * f
    return _finished(call, d_gates, d_hidden)


def _gru_states(call: Call) -> tuple[dict[int, F64], dict[int, tuple[F64, ...]]]:
    """(h, (r, z, n, the hidden side of n) at each position)."""
    given, h, size = _given(call), _start(call), call.count("size")
    states: dict[int, F64] = {}
    inner: dict[int, tuple[F64, ...]] = {}
    for s in _order(call):
        from_h = h @ call.params["hidden"].T
        r, z = np.split(sigmoid(given[:, s, : 2 * size] + from_h[:, : 2 * size]), 2, axis=-1)
        side = from_h[:, 2 * size :] + call.params["hidden_bias"]
        n = np.tanh(given[:, s, 2 * size :] + r * side)
        h = states[s] = (1.0 - z) * n + z * h
        inner[s] = r, z, n, side
    return states, inner


def gru_forward(call: Call) -> F64:
    return _result(call, _gru_states(call)[0])


def gru_backward(call: Call, y: F64, dy: F64) -> Grads:
    (states, inner), order, hidden = _gru_states(call), _order(call), call.params["hidden"]
    d_gates, d_hidden = np.zeros((*call.x.shape[:2], len(hidden))), np.zeros_like(hidden)
    dh, d_side = _start(call), np.zeros(call.count("size"))
    for at in range(len(order) - 1, -1, -1):
        s = order[at]
        r, z, n, side = inner[s]
        h_before = states[order[at - 1]] if at else _start(call)
        dh = dh + _gradient_at(call, dy, s)
        dn = dh * (1.0 - z) * (1.0 - n**2)
        dr, dz = dn * side * r * (1.0 - r), dh * (h_before - n) * z * (1.0 - z)
        d_gates[:, s] = np.concatenate((dr, dz, dn), axis=-1)
        d = np.concatenate((dr, dz, dn * r), axis=-1)
        d_hidden += d.T @ h_before
        d_side += (dn * r).sum(0)
        dh = dh * z + d @ hidden
    (dx,), grads = _finished(call, d_gates, d_hidden)
    return (dx,), {**grads, "hidden_bias": d_side}

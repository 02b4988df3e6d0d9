"""Kernels of the reference backend: values put side by side, cut, turned, reduced, multiplied and chosen."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np

from alexandra.backends.reference_call import F64, Call, Grads


def concat_forward(call: Call) -> F64:
    return np.concatenate(call.inputs, axis=-1)


def concat_backward(call: Call, y: F64, dy: F64) -> Grads:
    ends = np.cumsum([x.shape[-1] for x in call.inputs])[:-1]
    return tuple(np.split(dy, ends, axis=-1)), {}


def reshape_forward(call: Call) -> F64:
    shape = call.attrs["shape"]
    assert isinstance(shape, tuple)
    return call.x.reshape(len(call.x), *(int(dim) for dim in shape))


def reshape_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (dy.reshape(call.x.shape),), {}


def slice_forward(call: Call) -> F64:
    return call.x[..., int(call.number("start")) : int(call.number("stop"))]


def slice_backward(call: Call, y: F64, dy: F64) -> Grads:
    dx = np.zeros_like(call.x)
    dx[..., int(call.number("start")) : int(call.number("stop"))] = dy
    return (dx,), {}


COMPARE: dict[str, Callable[[F64, np.float32], F64]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def select_forward(call: Call) -> F64:
    return np.where(_holds(call), call.inputs[1], call.inputs[2])


def select_backward(call: Call, y: F64, dy: F64) -> Grads:
    """No gradient reaches the condition: the choice is constant almost everywhere."""
    holds = _holds(call)
    return (np.zeros_like(call.x), np.where(holds, dy, 0.0), np.where(holds, 0.0, dy)), {}


def _holds(call: Call) -> F64:
    return COMPARE[str(call.attrs["cmp"])](call.x.astype(np.float32), np.float32(call.number("value")))


def transpose_forward(call: Call) -> F64:
    return np.swapaxes(call.x, -1, -2)


def transpose_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (np.swapaxes(dy, -1, -2),), {}


def reduce_forward(call: Call) -> F64:
    kind = call.attrs["kind"]
    if kind in ("first", "last"):
        return call.x[:, 0 if kind == "first" else -1]
    if kind == "max":
        return np.asarray(call.x.max(1))
    return np.asarray(call.x.mean(1) if kind == "mean" else call.x.sum(1))


def reduce_backward(call: Call, y: F64, dy: F64) -> Grads:
    """Of equal maxima the first has the gradient."""
    kind, x, dx = call.attrs["kind"], call.x, np.zeros_like(call.x)
    if kind in ("first", "last"):
        dx[:, 0 if kind == "first" else -1] = dy
    elif kind == "max":
        np.put_along_axis(dx, x.argmax(1)[:, None], dy[:, None], axis=1)
    else:
        dx += dy[:, None] / (x.shape[1] if kind == "mean" else 1)
    return (dx,), {}


def matmul_forward(call: Call) -> F64:
    a, b = call.inputs
    return call.number("scale") * (a @ (np.swapaxes(b, -1, -2) if call.attrs["transpose"] else b))


def matmul_backward(call: Call, y: F64, dy: F64) -> Grads:
    a, b = call.inputs
    d = call.number("scale") * dy
    if call.attrs["transpose"]:
        return (d @ b, np.swapaxes(d, -1, -2) @ a), {}
    return (d @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ d), {}

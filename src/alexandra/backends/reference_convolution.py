"""Kernels of the reference backend: convolution and pooling, as sums over the places of a window.

Suffixes: B rows, H and W places, C channels, O filters.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from alexandra.backends.reference_call import F64, Call, Grads
from alexandra.ir.ops.convolution import Window, window_of


def _padded(x: F64, window: Window, fill: float) -> F64:
    sides = [(0, 0), *zip(window.before, window.after, strict=True), (0, 0)]
    return np.pad(x, sides, constant_values=fill)


def _unpadded(padded: F64, window: Window, shape: tuple[int, ...]) -> F64:
    top, left = window.before
    return padded[:, top : top + shape[1], left : left + shape[2]]


def _places(window: Window, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, int], tuple[slice, slice, slice]]]:
    """For each place in the window, where in the padded image all its positions read; `shape` is of the image."""
    sizes = [window.out(shape[axis + 1], axis) for axis in (0, 1)]
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            cuts = []
            for offset, size, step in zip((i, j), sizes, window.stride, strict=True):
                assert isinstance(size, int)
                start = offset * window.dilation
                cuts.append(slice(start, start + (size - 1) * step + 1, step))
            yield (i, j), (slice(None), cuts[0], cuts[1])


def conv2d_forward(call: Call) -> F64:
    window, groups = window_of(call.attrs), call.count("groups")
    weight, padded = call.params["weight"], _padded(call.x, window, 0.0)
    total: F64 = np.zeros(())
    for (i, j), cut in _places(window, call.x.shape):
        x_BHWGC = _grouped(padded[cut], groups)
        total = total + np.einsum("bhwgc,goc->bhwgo", x_BHWGC, weight[:, i, j].reshape(groups, -1, weight.shape[-1]))
    y = total.reshape(*total.shape[:3], -1)
    return y + call.params["bias"] if "bias" in call.params else y


def conv2d_backward(call: Call, y: F64, dy: F64) -> Grads:
    window, groups = window_of(call.attrs), call.count("groups")
    weight, padded = call.params["weight"], _padded(call.x, window, 0.0)
    d_padded, d_weight = np.zeros_like(padded), np.zeros_like(weight)
    dy_BHWGO = _grouped(dy, groups)
    for (i, j), cut in _places(window, call.x.shape):
        filters = weight[:, i, j].reshape(groups, -1, weight.shape[-1])
        d_filters = np.einsum("bhwgc,bhwgo->goc", _grouped(padded[cut], groups), dy_BHWGO)
        d_weight[:, i, j] = d_filters.reshape(-1, weight.shape[-1])
        d_padded[cut] += np.einsum("bhwgo,goc->bhwgc", dy_BHWGO, filters).reshape(*dy.shape[:3], -1)
    grads = {"weight": d_weight}
    if "bias" in call.params:
        grads["bias"] = dy.sum((0, 1, 2))
    return (_unpadded(d_padded, window, call.x.shape),), grads


def _grouped(x: F64, groups: int) -> F64:
    return x.reshape(*x.shape[:3], groups, -1)


def pool2d_forward(call: Call) -> F64:
    window = window_of(call.attrs)
    if call.attrs["kind"] == "mean":
        padded = _padded(call.x, window, 0.0)
        return np.asarray(sum(padded[cut] for _, cut in _places(window, call.x.shape))) / np.prod(window.kernel)
    padded = _padded(call.x, window, -np.inf)
    return np.asarray(np.max([padded[cut] for _, cut in _places(window, call.x.shape)], axis=0))


def pool2d_backward(call: Call, y: F64, dy: F64) -> Grads:
    """Of equal maxima the first in the window has the gradient."""
    window, is_max = window_of(call.attrs), call.attrs["kind"] == "max"
    padded = _padded(call.x, window, -np.inf if is_max else 0.0)
    d_padded, free = np.zeros(padded.shape), np.ones(y.shape, bool)
    for _, cut in _places(window, call.x.shape):
        if is_max:
            hit = free & (padded[cut] == y)
            free &= ~hit
            d_padded[cut] += np.where(hit, dy, 0.0)
        else:
            d_padded[cut] += dy / np.prod(window.kernel)
    return (_unpadded(d_padded, window, call.x.shape),), {}

"""One forward and one backward per primitive in float64 NumPy: the meaning that every backend is compared with.

Written to be read, not to be fast: a backward recomputes what it needs from the inputs. KERNELS is the table;
an op of ir.ops.PRIMITIVES without a row fails the parity suite. Suffixes: B rows, I inputs, O outputs of a
dense, L last axis; leading axes between B and the last are untouched.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from alexandra.ir.graph import Attr

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Call:
    """One primitive about to run: attributes, inputs, parameters by suffix, and in training a dropout mask.

    `mask` holds 0 or 1 / (1 - rate) per value; None leaves dropout out.
    """

    attrs: Mapping[str, Attr]
    inputs: tuple[F64, ...]
    params: Mapping[str, F64] = field(default_factory=dict)
    mask: F64 | None = None

    @property
    def x(self) -> F64:
        return self.inputs[0]

    def number(self, name: str) -> float:
        value = self.attrs[name]
        assert isinstance(value, int | float)
        return float(value)


Grads = tuple[tuple[F64, ...], dict[str, F64]]  # of the inputs, of the parameters
Forward = Callable[[Call], F64]
Backward = Callable[[Call, F64, F64], Grads]  # (call, output, gradient of the output)


def output_forward(call: Call) -> F64:
    return call.x


def output_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (dy,), {}


def dense_forward(call: Call) -> F64:
    y = call.x @ call.params["weight"].T
    return y + call.params["bias"] if "bias" in call.params else y


def dense_backward(call: Call, y: F64, dy: F64) -> Grads:
    x_BI, dy_BO = call.x.reshape(-1, call.x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    grads = {"weight": dy_BO.T @ x_BI}
    if "bias" in call.params:
        grads["bias"] = dy_BO.sum(0)
    return (dy @ call.params["weight"],), grads


def embedding_forward(call: Call) -> F64:
    return np.take(call.params["weight"], _indices(call), axis=0)


def embedding_backward(call: Call, y: F64, dy: F64) -> Grads:
    dweight = np.zeros_like(call.params["weight"])
    np.add.at(dweight, _indices(call).reshape(-1), dy.reshape(-1, dy.shape[-1]))
    return (np.zeros(call.x.shape),), {"weight": dweight}


def _indices(call: Call) -> npt.NDArray[np.int32]:
    return call.x.astype(np.int32)


def relu_forward(call: Call) -> F64:
    return np.maximum(call.x, 0.0)


def relu_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (np.where(call.x > 0, dy, 0.0),), {}


def leaky_relu_forward(call: Call) -> F64:
    return np.where(call.x > 0, call.x, call.number("slope") * call.x)


def leaky_relu_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (np.where(call.x > 0, dy, call.number("slope") * dy),), {}


def elu_forward(call: Call) -> F64:
    return np.where(call.x > 0, call.x, call.number("alpha") * np.expm1(np.minimum(call.x, 0.0)))


def elu_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (np.where(call.x > 0, dy, dy * call.number("alpha") * np.exp(np.minimum(call.x, 0.0))),), {}


def gelu_forward(call: Call) -> F64:
    return call.x * _normal_cdf(call.x)


def gelu_backward(call: Call, y: F64, dy: F64) -> Grads:
    density = np.exp(-0.5 * call.x**2) / np.sqrt(2.0 * np.pi)
    return (dy * (_normal_cdf(call.x) + call.x * density),), {}


def _normal_cdf(x: F64) -> F64:
    return np.asarray(0.5 * (1.0 + erf(x / np.sqrt(2.0))))


def silu_forward(call: Call) -> F64:
    return call.x * sigmoid(call.x)


def silu_backward(call: Call, y: F64, dy: F64) -> Grads:
    s = sigmoid(call.x)
    return (dy * s * (1.0 + call.x * (1.0 - s)),), {}


def sigmoid(x: F64) -> F64:
    """1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def sigmoid_forward(call: Call) -> F64:
    return sigmoid(call.x)


def sigmoid_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (dy * y * (1.0 - y),), {}


def tanh_forward(call: Call) -> F64:
    return np.tanh(call.x)


def tanh_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (dy * (1.0 - y**2),), {}


def softplus_forward(call: Call) -> F64:
    return np.logaddexp(0.0, call.x)


def softplus_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (dy * sigmoid(call.x),), {}


def softmax_forward(call: Call) -> F64:
    exp_BL = np.exp(call.x - call.x.max(-1, keepdims=True))
    return np.asarray(exp_BL / exp_BL.sum(-1, keepdims=True))


def softmax_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (y * (dy - (dy * y).sum(-1, keepdims=True)),), {}


def layernorm_forward(call: Call) -> F64:
    normal_BL, _ = _standardised(call)
    return normal_BL * call.params["weight"] + call.params["bias"]


def layernorm_backward(call: Call, y: F64, dy: F64) -> Grads:
    normal_BL, deviation = _standardised(call)
    d_BL = dy * call.params["weight"]
    centred = d_BL - d_BL.mean(-1, keepdims=True) - normal_BL * (d_BL * normal_BL).mean(-1, keepdims=True)
    return (centred / deviation,), {"weight": _over_rows(dy * normal_BL), "bias": _over_rows(dy)}


def _standardised(call: Call) -> tuple[F64, F64]:
    centred = call.x - call.x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + call.number("eps"))
    return centred / deviation, deviation


def _over_rows(values: F64) -> F64:
    return np.asarray(values.reshape(-1, values.shape[-1]).sum(0))


def rmsnorm_forward(call: Call) -> F64:
    return call.x / _rms(call) * call.params["weight"]


def rmsnorm_backward(call: Call, y: F64, dy: F64) -> Grads:
    rms = _rms(call)
    normal_BL, d_BL = call.x / rms, dy * call.params["weight"]
    dx = (d_BL - normal_BL * (d_BL * normal_BL).mean(-1, keepdims=True)) / rms
    return (dx,), {"weight": _over_rows(dy * normal_BL)}


def _rms(call: Call) -> F64:
    return np.asarray(np.sqrt((call.x**2).mean(-1, keepdims=True) + call.number("eps")))


def dropout_forward(call: Call) -> F64:
    return call.x if call.mask is None else call.x * call.mask


def dropout_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (dy if call.mask is None else dy * call.mask,), {}


def add_forward(call: Call) -> F64:
    return np.asarray(sum(call.inputs[1:], call.inputs[0]))


def add_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (dy,) * len(call.inputs), {}


def mul_forward(call: Call) -> F64:
    return _product(call.inputs)


def mul_backward(call: Call, y: F64, dy: F64) -> Grads:
    others = [call.inputs[:i] + call.inputs[i + 1 :] for i in range(len(call.inputs))]
    return tuple(dy * _product(other) for other in others), {}


def _product(arrays: tuple[F64, ...]) -> F64:
    result = arrays[0]
    for array in arrays[1:]:
        result = result * array
    return result


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


KERNELS: dict[str, tuple[Forward, Backward]] = {
    "output": (output_forward, output_backward),
    "dense": (dense_forward, dense_backward),
    "embedding": (embedding_forward, embedding_backward),
    "relu": (relu_forward, relu_backward),
    "leaky_relu": (leaky_relu_forward, leaky_relu_backward),
    "elu": (elu_forward, elu_backward),
    "gelu": (gelu_forward, gelu_backward),
    "silu": (silu_forward, silu_backward),
    "sigmoid": (sigmoid_forward, sigmoid_backward),
    "tanh": (tanh_forward, tanh_backward),
    "softplus": (softplus_forward, softplus_backward),
    "softmax": (softmax_forward, softmax_backward),
    "layernorm": (layernorm_forward, layernorm_backward),
    "rmsnorm": (rmsnorm_forward, rmsnorm_backward),
    "dropout": (dropout_forward, dropout_backward),
    "add": (add_forward, add_backward),
    "mul": (mul_forward, mul_backward),
    "concat": (concat_forward, concat_backward),
    "reshape": (reshape_forward, reshape_backward),
    "slice": (slice_forward, slice_backward),
    "select": (select_forward, select_backward),
}

"""Kernels of the reference backend: dense layers, embeddings, activations, norms and elementwise sums.

Suffixes: B rows, I inputs, O outputs of a dense, L last axis; leading axes between B and the last are untouched.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from alexandra.backends.reference_call import F64, Call, Grads

GELU_ROOT, GELU_CUBE = float(np.sqrt(2.0 / np.pi)), 0.044715


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


def gelu_tanh_forward(call: Call) -> F64:
    return 0.5 * call.x * (1.0 + np.tanh(_gelu_argument(call.x)))


def gelu_tanh_backward(call: Call, y: F64, dy: F64) -> Grads:
    t = np.tanh(_gelu_argument(call.x))
    slope = GELU_ROOT * (1.0 + 3.0 * GELU_CUBE * call.x**2)
    return (dy * (0.5 * (1.0 + t) + 0.5 * call.x * (1.0 - t**2) * slope),), {}


def _gelu_argument(x: F64) -> F64:
    return GELU_ROOT * (x + GELU_CUBE * x**3)


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


def batchnorm_forward(call: Call) -> F64:
    normal_BL, _ = _batch_standardised(call)
    return normal_BL * call.params["weight"] + call.params["bias"]


def batchnorm_backward(call: Call, y: F64, dy: F64) -> Grads:
    normal_BL, deviation_L = _batch_standardised(call)
    grads = {"weight": _over_rows(dy * normal_BL), "bias": _over_rows(dy)}
    d_BL = dy * call.params["weight"]
    if call.training:
        count = call.x.size // call.x.shape[-1]
        d_BL = d_BL - _over_rows(d_BL) / count - normal_BL * _over_rows(d_BL * normal_BL) / count
    return (d_BL / deviation_L,), grads


def batch_statistics(call: Call) -> tuple[F64, F64]:
    """(mean, biased variance) of each place of the last axis, over rows and leading axes."""
    x_BL = call.x.reshape(-1, call.x.shape[-1])
    return np.asarray(x_BL.mean(0)), np.asarray(x_BL.var(0))


def running_statistics(call: Call) -> dict[str, F64]:
    """What the running mean and variance become after this batch; the variance counts unbiased, as in torch."""
    count, momentum = call.x.size // call.x.shape[-1], call.number("momentum")
    mean, variance = batch_statistics(call)
    newest = {"mean": mean, "variance": variance * count / max(1, count - 1)}
    return {name: (1.0 - momentum) * call.params[name] + momentum * value for name, value in newest.items()}


def _batch_standardised(call: Call) -> tuple[F64, F64]:
    mean, variance = batch_statistics(call) if call.training else (call.params["mean"], call.params["variance"])
    deviation = np.sqrt(variance + call.number("eps"))
    return (call.x - mean) / deviation, deviation


def scale_forward(call: Call) -> F64:
    return call.x * call.number("factor")


def scale_backward(call: Call, y: F64, dy: F64) -> Grads:
    return (dy * call.number("factor"),), {}


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

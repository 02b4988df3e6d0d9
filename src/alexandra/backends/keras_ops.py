"""The primitives of the IR as TensorFlow functions, one row per op: what `GraphModel` (keras.py) runs.

Gradients are TensorFlow's. A row is f(call) of a Call: attributes, inputs, parameters by suffix, and the pass.
Suffixes: B rows, S queries, T keys, H heads, D numbers of a head, C width, E experts, N positions of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
import tensorflow as tf

from alexandra.ir.graph import Node
from alexandra.ir.ops import OPS
from alexandra.ir.ops.convolution import window_of
from alexandra.ir.ops.rules import number, optional, whole
from alexandra.ir.positions import relative_buckets, rope_angles, sinusoidal, visible

Tensor = Any  # tf.Tensor; TensorFlow ships no types


@dataclass
class Pass:
    """One evaluation: training or not, the noise of nodes (without it Keras' own), symbolic sizes, and moved values."""

    training: bool = False
    masks: Mapping[str, Tensor] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    moved: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One primitive about to run."""

    node: Node
    inputs: tuple[Tensor, ...]
    params: Mapping[str, Tensor]
    now: Pass

    @property
    def x(self) -> Tensor:
        return self.inputs[0]

    def number(self, name: str) -> float:
        return number(self.node.attrs[name])

    def whole(self, name: str) -> int:
        return whole(self.node.attrs[name])


def dense(call: Call) -> Tensor:
    y = (
        tf.linalg.matmul(call.x, call.params["weight"], transpose_b=True)
        if call.x.shape.rank == 2
        else tf.tensordot(call.x, call.params["weight"], [[-1], [1]])
    )
    return y + call.params["bias"] if call.node.attrs["bias"] else y


def layernorm(call: Call) -> Tensor:
    mean, variance = tf.nn.moments(call.x, [-1], keepdims=True)
    y = (call.x - mean) * tf.math.rsqrt(variance + call.number("eps"))
    return y * call.params["weight"] + call.params["bias"]


def rmsnorm(call: Call) -> Tensor:
    square = tf.reduce_mean(tf.square(call.x), -1, keepdims=True)
    return call.x * tf.math.rsqrt(square + call.number("eps")) * call.params["weight"]


def batchnorm(call: Call) -> Tensor:
    eps, p = call.number("eps"), call.params
    if not call.now.training:
        return (call.x - p["mean"]) * tf.math.rsqrt(p["variance"] + eps) * p["weight"] + p["bias"]
    flat = tf.reshape(call.x, [-1, call.x.shape[-1]])
    mean, variance = tf.nn.moments(flat, [0])
    count = tf.cast(tf.shape(flat)[0], tf.float32)
    newest = {"mean": mean, "variance": variance * count / tf.maximum(1.0, count - 1.0)}
    for name, value in newest.items():
        running = p[name] + call.number("momentum") * (tf.stop_gradient(value) - p[name])
        call.now.moved[f"{call.node.owner}.{name}"] = running
    return (call.x - mean) * tf.math.rsqrt(variance + eps) * p["weight"] + p["bias"]


def dropout(call: Call) -> Tensor:
    if call.now.masks is not None:
        return call.x * call.now.masks[call.node.name] if call.node.name in call.now.masks else call.x
    return tf.nn.dropout(call.x, call.number("rate")) if call.now.training else call.x


def select(call: Call) -> Tensor:
    """No gradient reaches the condition. The value is compared in float32, as the op table says."""
    condition, then, other = call.inputs
    compare = {"==": tf.equal, "!=": tf.not_equal, "<": tf.less, "<=": tf.less_equal, ">": tf.greater}
    found = compare.get(str(call.node.attrs["cmp"]), tf.greater_equal)
    return tf.where(found(condition, np.float32(call.number("value"))), then, other)


def reduce(call: Call) -> Tensor:
    kind = call.node.attrs["kind"]
    if kind in ("first", "last"):
        return call.x[:, 0 if kind == "first" else -1]
    if kind == "max":  # the first of equal values has the gradient
        index = tf.argmax(call.x, axis=1)
        return tf.reduce_sum(call.x * tf.one_hot(index, tf.shape(call.x)[1], axis=1, dtype=call.x.dtype), 1)
    return tf.reduce_mean(call.x, 1) if kind == "mean" else tf.reduce_sum(call.x, 1)


def transpose(call: Call) -> Tensor:
    rank = call.x.shape.rank
    return tf.transpose(call.x, [*range(rank - 2), rank - 1, rank - 2])


def matmul(call: Call) -> Tensor:
    product = tf.linalg.matmul(call.inputs[0], call.inputs[1], transpose_b=bool(call.node.attrs["transpose"]))
    return call.number("scale") * product


def reshape(call: Call) -> Tensor:
    shape = call.node.attrs["shape"]
    assert isinstance(shape, tuple)
    dims = [dim if isinstance(dim, int) else call.now.sizes[dim] for dim in shape]
    return tf.reshape(call.x, [tf.shape(call.x)[0], *dims])


def total(call: Call) -> Tensor:
    result = call.x
    for other in call.inputs[1:]:
        result = result + other
    return result


def product(call: Call) -> Tensor:
    result = call.x
    for other in call.inputs[1:]:
        result = result * other
    return result


# --- images and sequences -------------------------------------------------------------------------------------


def conv2d(call: Call) -> Tensor:
    """A group after the other: TensorFlow's CPU kernels know no groups backward."""
    window, groups = window_of(call.node.attrs), call.whole("groups")
    pads = [[0, 0], *([before, after] for before, after in zip(window.before, window.after, strict=True)), [0, 0]]
    weight = tf.transpose(call.params["weight"], [1, 2, 3, 0])
    padded = tf.pad(call.x, pads)
    # TensorFlow has no stride beside a dilation: every place is computed then, and some are kept
    down, right = window.stride if window.dilation == 1 else (1, 1)
    parts = [
        tf.nn.convolution(x, w, strides=[down, right], padding="VALID", dilations=window.dilation)
        for x, w in zip(tf.split(padded, groups, 3), tf.split(weight, groups, 3), strict=True)
    ]
    y = tf.concat(parts, 3)
    y = y if window.dilation == 1 else y[:, :: window.stride[0], :: window.stride[1]]
    return y + call.params["bias"] if call.node.attrs["bias"] else y


def pool2d(call: Call) -> Tensor:
    window = window_of(call.node.attrs)
    pads = [[0, 0], *([before, before] for before in window.before), [0, 0]]
    is_max = call.node.attrs["kind"] == "max"
    padded = tf.pad(call.x, pads, constant_values=call.x.dtype.min if is_max else 0.0)
    pool = tf.nn.max_pool2d if is_max else tf.nn.avg_pool2d
    return pool(padded, list(window.kernel), list(window.stride), "VALID")


def recurrent(call: Call) -> Tensor:
    """Step by step; gates in torch's order (lstm i f g o, gru r z n)."""
    attrs, p, size = call.node.attrs, call.params, call.whole("size")
    x_SBI = tf.transpose(call.x, [1, 0, 2])
    x_SBI = tf.reverse(x_SBI, [0]) if attrs["reverse"] else x_SBI
    given_SBG = tf.tensordot(x_SBI, p["input"], [[2], [1]]) + p["bias"]
    start = tf.zeros([tf.shape(call.x)[0], size], call.x.dtype)
    step = {"rnn": _rnn_step, "lstm": _lstm_step, "gru": _gru_step}[call.node.op]
    states, h, c = [], start, start
    for given in tf.unstack(given_SBG):
        h, c = step(call, given, h, c)
        states.append(h)
    if attrs["last"]:
        return states[-1]
    return tf.stack(states[::-1] if attrs["reverse"] else states, 1)


def _rnn_step(call: Call, given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    z = given + tf.linalg.matmul(h, call.params["hidden"], transpose_b=True)
    return (tf.tanh(z) if call.node.attrs["activation"] == "tanh" else tf.nn.relu(z)), c


def _lstm_step(call: Call, given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    z = given + tf.linalg.matmul(h, call.params["hidden"], transpose_b=True)
    i, f, g, o = tf.split(z, 4, -1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def _gru_step(call: Call, given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    r_in, z_in, n_in = tf.split(given, 3, -1)
    r_h, z_h, n_h = tf.split(tf.linalg.matmul(h, call.params["hidden"], transpose_b=True), 3, -1)
    r, z = tf.sigmoid(r_in + r_h), tf.sigmoid(z_in + z_h)
    n = tf.tanh(n_in + r * (n_h + call.params["hidden_bias"]))
    return (1.0 - z) * n + z * h, c


def position(call: Call) -> Tensor:
    first, length = call.whole("offset"), int(call.x.shape[1])
    if call.node.attrs["kind"] == "learned":
        return call.x + call.params["weight"][first : first + length]
    return call.x + tf.constant(sinusoidal(length, int(call.x.shape[2]), first), call.x.dtype)


def rope(call: Call) -> Tensor:
    head, length = call.whole("head_dim"), int(call.x.shape[1])
    cos, sin = (tf.constant(part[:, None, :], call.x.dtype) for part in rope_angles(call.node.attrs, length))
    x = tf.reshape(call.x, [-1, length, int(call.x.shape[2]) // head, head])
    dims = whole(optional(call.node.attrs["dims"], head))
    turned, rest = x[..., :dims], x[..., dims:]
    if call.node.attrs["layout"] == "half":
        a, b = tf.split(turned, 2, -1)
        turned = tf.concat([a * cos - b * sin, b * cos + a * sin], -1)
    else:
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = tf.reshape(tf.stack([a * cos - b * sin, b * cos + a * sin], -1), tf.shape(turned))
    return tf.reshape(tf.concat([turned, rest], -1), tf.shape(call.x))


def sdpa(call: Call) -> Tensor:
    """All pairs of positions at once, masked."""
    attrs, (q_BSC, k_BTC, v_BTC) = call.node.attrs, call.inputs[:3]
    heads = call.whole("heads")
    groups = whole(optional(attrs["kv_heads"], heads))
    queries, keys = int(q_BSC.shape[1]), int(k_BTC.shape[1])
    q, k, v = (_by_head(x, n) for x, n in ((q_BSC, heads), (k_BTC, groups), (v_BTC, groups)))
    k, v = (tf.repeat(x, heads // groups, axis=1) for x in (k, v))
    scale = int(q.shape[-1]) ** -0.5 if attrs["scale"] is None else number(attrs["scale"])
    scores = tf.linalg.matmul(q, k, transpose_b=True) * scale
    if cap := number(attrs["softcap"]):
        scores = cap * tf.tanh(scores / cap)
    rows, columns = np.arange(queries), np.arange(keys)
    if attrs["relative_buckets"]:
        bias = tf.gather(call.params["relative"], relative_buckets(attrs, rows, columns))
        scores += tf.transpose(bias, [2, 0, 1])[None]
    seen = tf.constant(visible(attrs, rows, columns))[None, None]
    if len(call.inputs) > 3:
        seen = _segmented(seen, call.inputs[3], queries == keys)
    scores = tf.where(seen, scores, np.float32(-1e30))
    weights = tf.where(seen, tf.nn.softmax(scores, -1), 0.0)
    y_BSHD = tf.transpose(tf.linalg.matmul(weights, v), [0, 2, 1, 3])
    return tf.reshape(y_BSHD, [-1, queries, heads * int(v.shape[-1])])


def _by_head(x_BSC: Tensor, heads: int) -> Tensor:
    split = tf.reshape(x_BSC, [-1, int(x_BSC.shape[1]), heads, int(x_BSC.shape[2]) // heads])
    return tf.transpose(split, [0, 2, 1, 3])


def _segmented(seen: Tensor, segments_BT: Tensor, own: bool) -> Tensor:
    keys = segments_BT[:, None, None, :]
    seen = tf.logical_and(seen, keys != 0)
    return tf.logical_and(seen, keys == segments_BT[:, None, :, None]) if own else seen


# --- mixtures of experts ----------------------------------------------------------------------------------------


def top_k_gate(call: Call) -> Tensor:
    """The weights; what gates add to the loss is worked out from their logits by whoever trains."""
    attrs, logits = call.node.attrs, call.x
    if call.now.masks is not None and call.node.name in call.now.masks:
        logits = logits * call.now.masks[call.node.name]
    scores = tf.nn.softmax(logits, -1) if attrs["score"] == "softmax" else tf.sigmoid(logits)
    ranked = scores + call.params["bias"] if attrs["selection_bias"] else scores
    order = tf.argsort(tf.stop_gradient(ranked), axis=-1, direction="DESCENDING", stable=True)
    mask = tf.reduce_sum(tf.one_hot(order[..., : call.whole("top_k")], scores.shape[-1], dtype=scores.dtype), -2)
    weights = scores * mask
    if attrs["normalise"]:
        weights = weights / tf.reduce_sum(weights, -1, keepdims=True)
    if call.now.training and attrs["capacity"]:
        flat = tf.reshape(mask, [tf.shape(mask)[0], -1, int(mask.shape[-1])])
        limit = ceil(number(attrs["capacity"]) * int(flat.shape[1]) * call.whole("top_k") / int(flat.shape[2]))
        weights = weights * tf.reshape(tf.cast(tf.cumsum(flat, 1) <= limit, scores.dtype), tf.shape(mask))
    return weights * call.number("scale")


def experts(call: Call) -> Tensor:
    """Each expert on the positions that chose it."""
    x_NC, gates_NE = (tf.reshape(x, [-1, int(x.shape[-1])]) for x in call.inputs)
    name, p = str(call.node.attrs["activation"]), call.params
    result = tf.zeros_like(x_NC)
    for e in range(int(gates_NE.shape[1])):
        places = tf.where(gates_NE[:, e] != 0)
        x = tf.gather_nd(x_NC, places)
        up = tf.linalg.matmul(x, p["up"][e], transpose_b=True)
        given = tf.linalg.matmul(x, p["gate"][e], transpose_b=True) if call.node.attrs["gated"] else up
        active = given if name == "linear" else _activate(name, given)
        hidden = active * up if call.node.attrs["gated"] else active
        y = (
            tf.linalg.matmul(hidden, p["down"][e], transpose_b=True)
            * tf.gather_nd(gates_NE[:, e : e + 1], tf.pad(places, [[0, 0], [0, 1]]))[:, None]
        )
        result = tf.tensor_scatter_nd_add(result, places, y)
    return tf.reshape(result, tf.shape(call.inputs[0]))


def _activate(name: str, x: Tensor) -> Tensor:
    node = Node("activation", name, (), OPS[name].complete({}))
    return KERNELS[name](Call(node, (x,), {}, Pass()))


KERNELS: dict[str, Callable[[Call], Tensor]] = {
    "output": lambda call: call.x,
    "dense": dense,
    "embedding": lambda call: tf.gather(call.params["weight"], call.x),
    "relu": lambda call: tf.nn.relu(call.x),
    "leaky_relu": lambda call: tf.where(call.x > 0, call.x, call.number("slope") * call.x),
    "elu": lambda call: tf.where(call.x > 0, call.x, call.number("alpha") * tf.math.expm1(tf.minimum(call.x, 0.0))),
    "gelu": lambda call: tf.nn.gelu(call.x, approximate=False),
    "gelu_tanh": lambda call: tf.nn.gelu(call.x, approximate=True),
    "silu": lambda call: call.x * tf.sigmoid(call.x),
    "sigmoid": lambda call: tf.sigmoid(call.x),
    "tanh": lambda call: tf.tanh(call.x),
    "softplus": lambda call: tf.math.softplus(call.x),
    "softmax": lambda call: tf.nn.softmax(call.x, -1),
    "layernorm": layernorm,
    "rmsnorm": rmsnorm,
    "batchnorm": batchnorm,
    "dropout": dropout,
    "add": total,
    "mul": product,
    "concat": lambda call: tf.concat(call.inputs, -1),
    "reshape": reshape,
    "slice": lambda call: call.x[..., call.whole("start") : call.whole("stop")],
    "scale": lambda call: call.x * call.number("factor"),
    "transpose": transpose,
    "reduce": reduce,
    "matmul": matmul,
    "select": select,
    "conv2d": conv2d,
    "pool2d": pool2d,
    "rnn": recurrent,
    "lstm": recurrent,
    "gru": recurrent,
    "position": position,
    "rope": rope,
    "sdpa": sdpa,
    "top_k_gate": top_k_gate,
    "experts": experts,
}

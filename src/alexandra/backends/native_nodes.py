"""Primitives as the native engine takes them: tuples of name, op, inputs, shape, parameters and numbers.

The numbers are an op's attributes in the order that its file csrc/ops_*.cpp states; what has one definition for every
backend (angles, buckets, sinusoidal rows) is computed here and passed along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.ir.ops import COMPARISONS, OPS
from alexandra.ir.ops.convolution import window_of
from alexandra.ir.ops.experts import SELECTION_RATE
from alexandra.ir.ops.rules import optional, whole
from alexandra.ir.positions import relative_buckets, rope_angles, sinusoidal

NodeTuple = tuple[str, str, list[int], list[int], list[int], list[float]]
Types = Mapping[str, TensorType]

# csrc/kernels.h, enum Unary
UNARIES = ("relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "softplus", "tanh", "gelu_tanh")
REDUCTIONS = ("mean", "max", "sum", "first", "last")


def node_tuples(graph: Graph, types: Types, params: Mapping[str, int]) -> list[NodeTuple]:
    """The nodes of a primitive graph of these types; `params` numbers the parameters."""
    index = {node.name: i for i, node in enumerate(graph.nodes)}
    return [_node(node, types, index, params) for node in graph.nodes]


def axes(given: TensorType) -> tuple[int, ...]:
    """The axes of a bound type."""
    assert all(isinstance(dim, int) for dim in given.shape) and prod(map(int, given.shape)) > 0
    return tuple(int(dim) for dim in given.shape)


def _node(node: Node, types: Types, index: Mapping[str, int], params: Mapping[str, int]) -> NodeTuple:
    given = [types[name] for name in node.inputs]
    own = OPS[node.op].params(node.attrs, given) if node.op != "output" else {}
    return (
        node.name,
        node.op,
        [index[name] for name in node.inputs],
        list(axes(types[node.name])),
        [params[f"{node.owner}.{suffix}"] for suffix in own],
        _NUMBERS[node.op](node, given) if node.op in _NUMBERS else [],
    )


def _named(*names: str) -> Callable[[Node, list[TensorType]], list[float]]:
    return lambda node, given: [_number(node, name) for name in names]


def _number(node: Node, name: str) -> float:
    value = node.attrs[name]
    assert isinstance(value, int | float)
    return float(value)


def _input(node: Node, given: list[TensorType]) -> list[float]:
    return [float(node.attrs["dtype"] == "int32")]


def _select(node: Node, given: list[TensorType]) -> list[float]:
    return [float(COMPARISONS.index(str(node.attrs["cmp"]))), _number(node, "value")]


def _position(node: Node, given: list[TensorType]) -> list[float]:
    if node.attrs["kind"] == "learned":
        return [1.0, _number(node, "offset")]
    positions, width = axes(given[0])
    return [0.0, 0.0, *sinusoidal(positions, width, whole(node.attrs["offset"])).reshape(-1).tolist()]


def _rope(node: Node, given: list[TensorType]) -> list[float]:
    cosine, sine = rope_angles(node.attrs, axes(given[0])[0])
    head = [_number(node, "head_dim"), float(cosine.shape[1]), float(node.attrs["layout"] == "interleaved")]
    return [*head, *cosine.reshape(-1).tolist(), *sine.reshape(-1).tolist()]


def _sdpa(node: Node, given: list[TensorType]) -> list[float]:
    attrs, heads = node.attrs, whole(node.attrs["heads"])
    (queries, width), (keys, _) = axes(given[0]), axes(given[1])
    scale = (width // heads) ** -0.5 if attrs["scale"] is None else _number(node, "scale")
    buckets: list[Any] = []
    if attrs["relative_buckets"]:  # by key - query, from -(queries - 1) on
        far = relative_buckets(attrs, np.array([queries - 1]), np.arange(queries + keys - 1))
        buckets = far.reshape(-1).tolist()
    pattern = [_number(node, "globals"), _number(node, "stride")]
    return [
        float(heads),
        float(whole(optional(attrs["kv_heads"], heads))),
        float(bool(attrs["causal"])),
        float(whole(optional(attrs["window"], 0))),
        *pattern,
        scale,
        _number(node, "softcap"),
        _number(node, "relative_buckets"),
        *map(float, buckets),
    ]


def _gate(node: Node, given: list[TensorType]) -> list[float]:
    chosen = [_number(node, "top_k"), float(node.attrs["score"] == "sigmoid"), float(bool(node.attrs["normalise"]))]
    rest = [_number(node, name) for name in ("scale", "balance", "z_loss", "jitter", "capacity")]
    return [*chosen, *rest, SELECTION_RATE]


def _experts(node: Node, given: list[TensorType]) -> list[float]:
    activation = str(node.attrs["activation"])
    number = 0.0
    for value in OPS[activation].complete({}).values() if activation != "linear" else ():
        assert isinstance(value, int | float)
        number = float(value)
    code = UNARIES.index(activation) if activation != "linear" else -1
    return [_number(node, "hidden"), float(code), number, float(bool(node.attrs["gated"]))]


def _window(node: Node, given: list[TensorType]) -> list[float]:
    window = window_of(node.attrs)
    numbers = [*window.kernel, *window.stride, window.dilation, *window.before]
    last = whole(node.attrs["groups"]) if node.op == "conv2d" else node.attrs["kind"] == "max"
    return [float(number) for number in (*numbers, last)]


def _recurrent(node: Node, given: list[TensorType]) -> list[float]:
    relu = node.attrs.get("activation") == "relu"
    return [float(bool(node.attrs["reverse"])), float(bool(node.attrs["last"])), float(relu)]


def _reduce(node: Node, given: list[TensorType]) -> list[float]:
    return [float(REDUCTIONS.index(str(node.attrs["kind"])))]


def _matmul(node: Node, given: list[TensorType]) -> list[float]:
    return [float(bool(node.attrs["transpose"])), _number(node, "scale")]


_NUMBERS: dict[str, Callable[[Node, list[TensorType]], list[float]]] = {
    "input": _input,
    "select": _select,
    "leaky_relu": _named("slope"),
    "elu": _named("alpha"),
    "slice": _named("start", "stop"),
    "dropout": _named("rate"),
    "scale": _named("factor"),
    "layernorm": _named("eps"),
    "rmsnorm": _named("eps"),
    "batchnorm": _named("eps", "momentum"),
    "position": _position,
    "rope": _rope,
    "sdpa": _sdpa,
    "top_k_gate": _gate,
    "experts": _experts,
    "conv2d": _window,
    "pool2d": _window,
    "rnn": _recurrent,
    "lstm": _recurrent,
    "gru": _recurrent,
    "reduce": _reduce,
    "matmul": _matmul,
}

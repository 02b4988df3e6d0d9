"""How each primitive is said in ONNX: RULES, one row per op of ir.ops.PRIMITIVES. Dropout is left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from alexandra.backends import onnx_attention, onnx_layers
from alexandra.backends.onnx_writer import Rule, Writer
from alexandra.errors import BackendError
from alexandra.ir.graph import Node
from alexandra.ir.ops import OPS
from alexandra.ir.ops.rules import number

COMPARE = {
    "==": ("Equal", False),
    "!=": ("Equal", True),
    "<": ("Less", False),
    "<=": ("LessOrEqual", False),
    ">": ("Greater", False),
    ">=": ("GreaterOrEqual", False),
}


def _plain(op: str, **names: str) -> Rule:
    """An op that ONNX has: the inputs as they are; `names` maps its attributes to ours."""

    def rule(out: Writer, node: Node) -> None:
        out.put(op, list(node.inputs), node.name, **{theirs: node.attrs[ours] for theirs, ours in names.items()})

    return rule


def _last_axis(op: str) -> Rule:
    return lambda out, node: out.put(op, list(node.inputs), node.name, axis=-1)


def _folded(op: str) -> Rule:
    """A binary ONNX op over all inputs, from left to right."""

    def rule(out: Writer, node: Node) -> None:
        first, *others = node.inputs
        for other in others[:-1]:
            first = out.step(op, [first, other], node)
        out.put(op, [first, others[-1]], node.name)

    return rule


def _dense(out: Writer, node: Node) -> None:
    """Gemm where there is one axis beside rows, else MatMul on the transposed weight."""
    x, bias = node.inputs[0], bool(node.attrs["bias"])
    weight = out.parameter(node, "weight")
    if len(out.types[x].shape) == 1:
        out.put("Gemm", [x, weight, *([out.parameter(node, "bias")] if bias else [])], node.name, transB=1)
        return
    turned = out.step("Transpose", [weight], node, perm=[1, 0])
    if bias:
        product = out.step("MatMul", [x, turned], node)
        out.put("Add", [product, out.parameter(node, "bias")], node.name)
    else:
        out.put("MatMul", [x, turned], node.name)


def _embedding(out: Writer, node: Node) -> None:
    out.put("Gather", [out.parameter(node, "weight"), node.inputs[0]], node.name, axis=0)


def _gelu(out: Writer, node: Node) -> None:
    """x * (1 + erf(x / sqrt 2)) / 2."""
    x = node.inputs[0]
    error = out.step("Erf", [out.step("Div", [x, out.scalar(node, "root", np.sqrt(2.0))], node)], node)
    twice = out.step("Mul", [x, out.step("Add", [error, out.scalar(node, "one", 1.0)], node)], node)
    out.put("Mul", [twice, out.scalar(node, "half", 0.5)], node.name)


def _gelu_tanh(out: Writer, node: Node) -> None:
    """x * (1 + tanh(root * (x + 0.044715 * x^3))) / 2."""
    x = node.inputs[0]
    cube = out.step(
        "Mul", [out.step("Mul", [out.step("Mul", [x, x], node), x], node), out.scalar(node, "cube", 0.044715)], node
    )
    inner = out.step("Mul", [out.step("Add", [x, cube], node), out.scalar(node, "root", np.sqrt(2.0 / np.pi))], node)
    twice = out.step(
        "Mul", [x, out.step("Add", [out.step("Tanh", [inner], node), out.scalar(node, "one", 1.0)], node)], node
    )
    out.put("Mul", [twice, out.scalar(node, "half", 0.5)], node.name)


def _silu(out: Writer, node: Node) -> None:
    out.put("Mul", [node.inputs[0], out.step("Sigmoid", [node.inputs[0]], node)], node.name)


def _layernorm(out: Writer, node: Node) -> None:
    inputs = [node.inputs[0], out.parameter(node, "weight"), out.parameter(node, "bias")]
    out.put("LayerNormalization", inputs, node.name, axis=-1, epsilon=node.attrs["eps"])


def _rmsnorm(out: Writer, node: Node) -> None:
    x = node.inputs[0]
    square = out.step("ReduceMean", [out.step("Mul", [x, x], node)], node, axes=[-1], keepdims=1)
    eps = node.attrs["eps"]
    assert isinstance(eps, float)
    norm = out.step("Sqrt", [out.step("Add", [square, out.scalar(node, "eps", eps)], node)], node)
    out.put("Mul", [out.step("Div", [x, norm], node), out.parameter(node, "weight")], node.name)


def _reshape(out: Writer, node: Node) -> None:
    """0 keeps the number of rows; -1 stands for the one axis whose length is not known yet."""
    shape = node.attrs["shape"]
    assert isinstance(shape, tuple)
    symbols = [dim for dim in shape if not isinstance(dim, int)]
    if len(symbols) > 1:
        raise BackendError(
            f"layer {node.name!r} (reshape) has the open axes {', '.join(symbols)}; ONNX can leave one open",
            hint="bind them first: bind_sizes(graph, {...})",
        )
    sizes = [0, *(dim if isinstance(dim, int) else -1 for dim in shape)]
    out.put("Reshape", [node.inputs[0], out.constant(f"{node.name}.shape", np.array(sizes, np.int64))], node.name)


def _slice(out: Writer, node: Node) -> None:
    places = {"start": node.attrs["start"], "stop": node.attrs["stop"], "axis": -1}
    names = [out.constant(f"{node.name}.{what}", np.array([value], np.int64)) for what, value in places.items()]
    out.put("Slice", [node.inputs[0], *names], node.name)


def _select(out: Writer, node: Node) -> None:
    condition, then, otherwise = node.inputs
    op, negated = COMPARE[str(node.attrs["cmp"])]
    value = node.attrs["value"]
    assert isinstance(value, float)
    holds = out.step(op, [condition, out.scalar(node, "value", value)], node)
    branches = [otherwise, then] if negated else [then, otherwise]
    out.put("Where", [holds, *branches], node.name)


def _batchnorm(out: Writer, node: Node) -> None:
    """The running statistics, folded into one factor and one summand."""
    weight, bias, mean, variance = (
        out.weights[f"{node.owner}.{name}"].astype(np.float64) for name in ("weight", "bias", "mean", "variance")
    )
    factor = weight / np.sqrt(variance + number(node.attrs["eps"]))
    names = [
        out.constant(f"{node.name}.{what}", array.astype(np.float32))
        for what, array in (("factor", factor), ("summand", bias - mean * factor))
    ]
    out.put("Add", [out.step("Mul", [node.inputs[0], names[0]], node), names[1]], node.name)


def _scale(out: Writer, node: Node) -> None:
    out.put("Mul", [node.inputs[0], out.scalar(node, "factor", number(node.attrs["factor"]))], node.name)


def _swapped(out: Writer, x: str, axes: int, node: Node) -> str:
    return out.turned(node, x, *range(axes - 1), axes, axes - 1)


def _transpose(out: Writer, node: Node) -> None:
    x = node.inputs[0]
    out.put("Identity", [_swapped(out, x, len(out.types[x].shape), node)], node.name)


def _reduce(out: Writer, node: Node) -> None:
    x, kind = node.inputs[0], str(node.attrs["kind"])
    if kind in ("first", "last"):
        place = out.constant(f"{node.name}.place", np.array(0 if kind == "first" else -1, np.int64))
        out.put("Gather", [x, place], node.name, axis=1)
    elif kind == "sum":
        out.put("ReduceSum", [x, out.whole(node, "axes", 1)], node.name, keepdims=0)
    else:
        out.put("ReduceMean" if kind == "mean" else "ReduceMax", [x], node.name, axes=[1], keepdims=0)


def _matmul(out: Writer, node: Node) -> None:
    a, b = node.inputs
    if node.attrs["transpose"]:
        b = _swapped(out, b, len(out.types[b].shape), node)
    product = out.step("MatMul", [a, b], node)
    out.put("Mul", [product, out.scalar(node, "scale", number(node.attrs["scale"]))], node.name)


def _experts(out: Writer, node: Node) -> None:
    """Every expert on every position (ONNX has no grouped product), then their weighted sum."""
    x, gates = node.inputs
    width, experts = out.types[x].shape[-1], out.types[gates].shape[-1]
    assert isinstance(width, int) and isinstance(experts, int)
    flat, last = out.reshaped(node, x, -1, width), (0, 2, 1)
    up = out.step("MatMul", [flat, out.turned(node, out.parameter(node, "up"), *last)], node)
    given = up
    if node.attrs["gated"]:
        given = out.step("MatMul", [flat, out.turned(node, out.parameter(node, "gate"), *last)], node)
    name = str(node.attrs["activation"])
    active = given
    if name != "linear":
        active = out.fresh(f"{node.name}.active")
        RULES[name](out, Node(active, name, (given,), OPS[name].complete({})))
    hidden = out.step("Mul", [active, up], node) if node.attrs["gated"] else active
    made = out.step("MatMul", [hidden, out.turned(node, out.parameter(node, "down"), *last)], node)
    weights = out.widened(node, out.turned(node, out.reshaped(node, gates, -1, experts), 1, 0), 2)
    total = out.step(
        "ReduceSum", [out.step("Mul", [made, weights], node), out.whole(node, "axes", 0)], node, keepdims=0
    )
    out.put("Reshape", [total, out.step("Shape", [x], node)], node.name)


RULES: Mapping[str, Rule] = {
    "output": _plain("Identity"),
    "dense": _dense,
    "embedding": _embedding,
    "relu": _plain("Relu"),
    "leaky_relu": _plain("LeakyRelu", alpha="slope"),
    "elu": _plain("Elu", alpha="alpha"),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "softplus": _plain("Softplus"),
    "softmax": _last_axis("Softmax"),
    "layernorm": _layernorm,
    "rmsnorm": _rmsnorm,
    "batchnorm": _batchnorm,
    "scale": _scale,
    "dropout": _plain("Identity"),
    "add": _folded("Add"),
    "mul": _folded("Mul"),
    "concat": _last_axis("Concat"),
    "reshape": _reshape,
    "slice": _slice,
    "select": _select,
    "transpose": _transpose,
    "reduce": _reduce,
    "matmul": _matmul,
    "position": onnx_attention.position,
    "rope": onnx_attention.rope,
    "sdpa": onnx_attention.sdpa,
    "top_k_gate": onnx_layers.top_k_gate,
    "experts": _experts,
    "conv2d": onnx_layers.conv2d,
    "pool2d": onnx_layers.pool2d,
    "rnn": onnx_layers.recurrent,
    "lstm": onnx_layers.recurrent,
    "gru": onnx_layers.recurrent,
}

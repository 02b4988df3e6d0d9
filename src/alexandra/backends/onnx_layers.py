"""ONNX rules of gates, convolution, pooling and recurrent layers; images and sequences are turned to ONNX's order."""

from __future__ import annotations

import numpy as np

from alexandra.backends.onnx_writer import Writer
from alexandra.ir.graph import Node
from alexandra.ir.ops.convolution import window_of
from alexandra.ir.ops.rules import number, whole

# Where ONNX has our gates: LSTM i, o, f, g; GRU z, r, n.
GATE_ORDER = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def top_k_gate(out: Writer, node: Node) -> None:
    logits, attrs = node.inputs[0], node.attrs
    softmax = attrs["score"] == "softmax"
    scores = out.step("Softmax", [logits], node, axis=-1) if softmax else out.step("Sigmoid", [logits], node)
    ranked = scores
    if attrs["selection_bias"]:
        ranked = out.step("Add", [scores, out.parameter(node, "bias")], node)
    best = out.fresh(f"{node.name}.best")
    count = out.whole(node, "count", whole(attrs["top_k"]))
    values = out.fresh(f"{node.name}.values")
    out.put("TopK", [ranked, count], [values, best], axis=-1, largest=1, sorted=1)
    chosen = out.step("GatherElements", [scores, best], node, axis=-1)
    if attrs["normalise"]:
        total = out.step("ReduceSum", [chosen, out.whole(node, "axes", -1)], node, keepdims=1)
        chosen = out.step("Div", [chosen, total], node)
    scaled = out.step("Mul", [chosen, out.scalar(node, "scale", number(attrs["scale"]))], node)
    empty = out.step("Mul", [scores, out.scalar(node, "zero", 0.0)], node)
    out.put("ScatterElements", [empty, best, scaled], node.name, axis=-1)


def conv2d(out: Writer, node: Node) -> None:
    window = window_of(node.attrs)
    weight = np.moveaxis(out.weights[f"{node.owner}.weight"], 3, 1)
    names = [out.turned(node, node.inputs[0], 0, 3, 1, 2), out.constant(f"{node.name}.filters", weight)]
    if node.attrs["bias"]:
        names.append(out.parameter(node, "bias"))
    made = out.step(
        "Conv",
        names,
        node,
        kernel_shape=list(window.kernel),
        strides=list(window.stride),
        dilations=[window.dilation] * 2,
        pads=[*window.before, *window.after],
        group=whole(node.attrs["groups"]),
    )
    out.put("Transpose", [made], node.name, perm=[0, 2, 3, 1])


def pool2d(out: Writer, node: Node) -> None:
    window, is_max = window_of(node.attrs), node.attrs["kind"] == "max"
    made = out.step(
        "MaxPool" if is_max else "AveragePool",
        [out.turned(node, node.inputs[0], 0, 3, 1, 2)],
        node,
        kernel_shape=list(window.kernel),
        strides=list(window.stride),
        pads=[*window.before, *window.after],
        **({} if is_max else {"count_include_pad": 1}),
    )
    out.put("Transpose", [made], node.name, perm=[0, 2, 3, 1])


def recurrent(out: Writer, node: Node) -> None:
    size = whole(node.attrs["size"])

    def ordered(suffix: str) -> np.ndarray:
        array = out.weights[f"{node.owner}.{suffix}"]
        gates = array.reshape(-1, size, *array.shape[1:])
        return gates[list(GATE_ORDER[node.op])].reshape(array.shape)[None]

    bias = ordered("bias")
    second = np.zeros_like(bias)
    if node.op == "gru":
        second[0, 2 * size :] = out.weights[f"{node.owner}.hidden_bias"]
    arrays = {"inputs": ordered("input"), "hidden": ordered("hidden"), "biases": np.concatenate((bias, second), 1)}
    names = [out.constant(f"{node.name}.{what}", array) for what, array in arrays.items()]
    extra: dict[str, object] = {"linear_before_reset": 1} if node.op == "gru" else {}
    if node.op == "rnn":
        extra["activations"] = ["Tanh" if node.attrs["activation"] == "tanh" else "Relu"]
    states, last = out.fresh(f"{node.name}.states"), out.fresh(f"{node.name}.last")
    direction = "reverse" if node.attrs["reverse"] else "forward"
    x_SBI = out.turned(node, node.inputs[0], 1, 0, 2)
    out.put(node.op.upper(), [x_SBI, *names], [states, last], hidden_size=size, direction=direction, **extra)
    if node.attrs["last"]:
        out.put("Squeeze", [last, out.whole(node, "axes", 0)], node.name)
    else:
        out.put(
            "Transpose", [out.step("Squeeze", [states, out.whole(node, "axes", 1)], node)], node.name, perm=[1, 0, 2]
        )

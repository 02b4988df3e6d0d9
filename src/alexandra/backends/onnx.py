"""A graph and its weights as an ONNX model, written from the primitives; no torch is involved.

    Path("churn.onnx").write_bytes(export(graph, weights))

Operators are those of opset 17, so that old runtimes read it too. Inputs and outputs keep their names and have a
first axis "rows"; parameters keep their full names. RULES is the table: an op of ir.ops.PRIMITIVES without a row
fails its test. Dropout is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from alexandra import __version__
from alexandra.backends.admit import Admission, refuse_ops
from alexandra.backends.foreign import refuse_foreign
from alexandra.backends.native_unsupported import UNSUPPORTED
from alexandra.errors import BackendError, missing_extra
from alexandra.ir.check import infer
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import WeightSet

OPSET, IR_VERSION = 17, 8
LARGEST_BYTES = 2**31 - 2**20  # what one protobuf message may hold, less the graph itself
COMPARE = {
    "==": ("Equal", False),
    "!=": ("Equal", True),
    "<": ("Less", False),
    "<=": ("LessOrEqual", False),
    ">": ("Greater", False),
    ">=": ("GreaterOrEqual", False),
}


def export(graph: Graph, weights: WeightSet) -> bytes:
    """The ONNX model of `graph` with `weights`, checked by `onnx.checker`; equal arguments give equal bytes.

    Raises WeightsError for weights of another graph, BackendError for what ONNX cannot hold (2 GB of weights, a
    reshape to two axes of unknown length) and MissingExtraError without the package `onnx`.
    """
    try:
        import onnx
    except ImportError:
        raise missing_extra("writing ONNX", "onnx") from None
    refuse_foreign(graph, "writing ONNX")
    weights.exact(graph)
    if 4 * weights.num_values > LARGEST_BYTES:
        raise BackendError(f"network {graph.name!r} has {4 * weights.num_values:,} bytes of weights; ONNX holds 2 GB")
    writer = _Writer(graph, weights, onnx.helper)
    model = writer.model()
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    assert isinstance(data, bytes)
    return data


class _Writer:
    """The ONNX nodes and constants written so far, and which name carries each primitive's value."""

    def __init__(self, graph: Graph, weights: WeightSet, helper: Any) -> None:
        self.graph, self.weights, self.helper = graph, weights, helper
        self.primitive = Admission(graph).primitive
        refuse_ops(self.primitive, UNSUPPORTED, "onnx")
        self.types = infer(self.primitive)
        self.taken = set(self.primitive.by_name)
        symbols = {dim for given in self.types.values() for dim in given.shape if isinstance(dim, str)}
        self.rows = "rows" if "rows" not in symbols else max(symbols, key=len) + "_rows"
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._parameters: dict[str, str] = {}

    def model(self) -> Any:
        """The whole model, a `ModelProto`."""
        for node in self.primitive.nodes:
            if node.op != "input":
                RULES[node.op](self, node)
        body = self.helper.make_graph(
            self.nodes,
            self.graph.name or "network",
            [self._value_info(node) for node in self.primitive.inputs],
            [self._value_info(node) for node in self.primitive.outputs],
            initializer=self.constants,
        )
        model = self.helper.make_model(
            body,
            opset_imports=[self.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="alexandra-foundry",
            producer_version=__version__,
        )
        facts = {"spec_hash": self.graph.spec_hash, "weights": self.weights.content_hash}
        self.helper.set_model_props(model, facts)
        return model

    def _value_info(self, node: Node) -> Any:
        given = self.types[node.name]
        kind = 6 if given.dtype == "int32" else 1  # TensorProto.INT32, FLOAT
        return self.helper.make_tensor_value_info(node.name, kind, [self.rows, *given.shape])

    def fresh(self, name: str) -> str:
        """`name`, with underscores behind it when it is taken."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def put(self, op: str, inputs: list[str], output: str, **attrs: object) -> str:
        """Write one ONNX node; returns `output`, the name of its value."""
        self.nodes.append(self.helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attrs))
        return output

    def step(self, op: str, inputs: list[str], node: Node, **attrs: object) -> str:
        """A node on the way to `node`'s value, under a fresh name."""
        return self.put(op, inputs, self.fresh(f"{node.name}.{op.lower()}"), **attrs)

    def constant(self, name: str, array: np.ndarray) -> str:
        """An initializer; returns its name."""
        from onnx import numpy_helper

        name = self.fresh(name)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def scalar(self, node: Node, what: str, value: float) -> str:
        return self.constant(f"{node.name}.{what}", np.array(value, np.float32))

    def parameter(self, node: Node, suffix: str) -> str:
        """The initializer of a parameter, written once however many nodes share it."""
        name = f"{node.owner}.{suffix}"
        if name not in self._parameters:
            self._parameters[name] = self.constant(name, self.weights[name])
        return self._parameters[name]


Rule = Callable[[_Writer, Node], object]


def _plain(op: str, **names: str) -> Rule:
    """An op that ONNX has: the inputs as they are; `names` maps its attributes to ours."""

    def rule(out: _Writer, node: Node) -> None:
        out.put(op, list(node.inputs), node.name, **{theirs: node.attrs[ours] for theirs, ours in names.items()})

    return rule


def _last_axis(op: str) -> Rule:
    return lambda out, node: out.put(op, list(node.inputs), node.name, axis=-1)


def _folded(op: str) -> Rule:
    """A binary ONNX op over all inputs, from left to right."""

    def rule(out: _Writer, node: Node) -> None:
        first, *others = node.inputs
        for other in others[:-1]:
            first = out.step(op, [first, other], node)
        out.put(op, [first, others[-1]], node.name)

    return rule


def _dense(out: _Writer, node: Node) -> None:
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


def _embedding(out: _Writer, node: Node) -> None:
    out.put("Gather", [out.parameter(node, "weight"), node.inputs[0]], node.name, axis=0)


def _gelu(out: _Writer, node: Node) -> None:
    """x * (1 + erf(x / sqrt 2)) / 2."""
    x = node.inputs[0]
    error = out.step("Erf", [out.step("Div", [x, out.scalar(node, "root", np.sqrt(2.0))], node)], node)
    twice = out.step("Mul", [x, out.step("Add", [error, out.scalar(node, "one", 1.0)], node)], node)
    out.put("Mul", [twice, out.scalar(node, "half", 0.5)], node.name)


def _silu(out: _Writer, node: Node) -> None:
    out.put("Mul", [node.inputs[0], out.step("Sigmoid", [node.inputs[0]], node)], node.name)


def _layernorm(out: _Writer, node: Node) -> None:
    inputs = [node.inputs[0], out.parameter(node, "weight"), out.parameter(node, "bias")]
    out.put("LayerNormalization", inputs, node.name, axis=-1, epsilon=node.attrs["eps"])


def _rmsnorm(out: _Writer, node: Node) -> None:
    x = node.inputs[0]
    square = out.step("ReduceMean", [out.step("Mul", [x, x], node)], node, axes=[-1], keepdims=1)
    eps = node.attrs["eps"]
    assert isinstance(eps, float)
    norm = out.step("Sqrt", [out.step("Add", [square, out.scalar(node, "eps", eps)], node)], node)
    out.put("Mul", [out.step("Div", [x, norm], node), out.parameter(node, "weight")], node.name)


def _reshape(out: _Writer, node: Node) -> None:
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


def _slice(out: _Writer, node: Node) -> None:
    places = {"start": node.attrs["start"], "stop": node.attrs["stop"], "axis": -1}
    names = [out.constant(f"{node.name}.{what}", np.array([value], np.int64)) for what, value in places.items()]
    out.put("Slice", [node.inputs[0], *names], node.name)


def _select(out: _Writer, node: Node) -> None:
    condition, then, otherwise = node.inputs
    op, negated = COMPARE[str(node.attrs["cmp"])]
    value = node.attrs["value"]
    assert isinstance(value, float)
    holds = out.step(op, [condition, out.scalar(node, "value", value)], node)
    branches = [otherwise, then] if negated else [then, otherwise]
    out.put("Where", [holds, *branches], node.name)


RULES: Mapping[str, Rule] = {
    "output": _plain("Identity"),
    "dense": _dense,
    "embedding": _embedding,
    "relu": _plain("Relu"),
    "leaky_relu": _plain("LeakyRelu", alpha="slope"),
    "elu": _plain("Elu", alpha="alpha"),
    "gelu": _gelu,
    "silu": _silu,
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "softplus": _plain("Softplus"),
    "softmax": _last_axis("Softmax"),
    "layernorm": _layernorm,
    "rmsnorm": _rmsnorm,
    "dropout": _plain("Identity"),
    "add": _folded("Add"),
    "mul": _folded("Mul"),
    "concat": _last_axis("Concat"),
    "reshape": _reshape,
    "slice": _slice,
    "select": _select,
}

"""The ONNX nodes and constants of one graph while they are written; the rules (onnx_rules.py) call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alexandra import __version__
from alexandra.backends.admit import Admission
from alexandra.ir.check import infer
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import WeightSet

OPSET, IR_VERSION = 17, 8


class Writer:
    """The ONNX nodes and constants written so far, and which name carries each primitive's value."""

    def __init__(self, graph: Graph, weights: WeightSet, helper: Any) -> None:
        self.graph, self.weights, self.helper = graph, weights, helper
        self.primitive = Admission(graph).primitive
        self.types = infer(self.primitive)
        self.taken = set(self.primitive.by_name)
        symbols = {dim for given in self.types.values() for dim in given.shape if isinstance(dim, str)}
        self.rows = "rows" if "rows" not in symbols else max(symbols, key=len) + "_rows"
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._parameters: dict[str, str] = {}

    def model(self) -> Any:
        """Everything that was written, a `ModelProto`."""
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

    def put(self, op: str, inputs: list[str], output: str | list[str], **attrs: object) -> str:
        """Write one ONNX node; returns `output`, the name of its value (of several, the first)."""
        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(self.helper.make_node(op, inputs, outputs, name=f"{outputs[0]}/{op}", **attrs))
        return outputs[0]

    def step(self, op: str, inputs: list[str], node: Node, **attrs: object) -> str:
        """A node on the way to `node`'s value, under a fresh name."""
        return self.put(op, inputs, self.fresh(f"{node.name}.{op.lower()}"), **attrs)

    def constant(self, name: str, array: np.ndarray) -> str:
        """An initializer; returns its name."""
        from onnx import numpy_helper

        name = self.fresh(name)
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def scalar(self, node: Node, what: str, value: float) -> str:
        return self.constant(f"{node.name}.{what}", np.array(value, np.float32))

    def parameter(self, node: Node, suffix: str) -> str:
        """The initializer of a parameter, written once however many nodes share it."""
        name = f"{node.owner}.{suffix}"
        if name not in self._parameters:
            self._parameters[name] = self.constant(name, self.weights[name])
        return self._parameters[name]

    def whole(self, node: Node, what: str, *values: int) -> str:
        """A constant vector of whole numbers."""
        return self.constant(f"{node.name}.{what}", np.array(values, np.int64))

    def reshaped(self, node: Node, x: str, *sizes: int) -> str:
        """`x` under another shape; 0 keeps an axis, -1 is what is left."""
        return self.step("Reshape", [x, self.whole(node, "sizes", *sizes)], node)

    def turned(self, node: Node, x: str, *order: int) -> str:
        return self.step("Transpose", [x], node, perm=list(order))

    def cut(self, node: Node, x: str, places: Sequence[int], axis: int = -1) -> str:
        """Elements start .. stop - 1 of an axis; `places` are start, stop and, with three, the step."""
        names = [self.whole(node, "place", value) for value in (*places[:2], axis, *places[2:])]
        return self.step("Slice", [x, *names], node)

    def widened(self, node: Node, x: str, *axes: int) -> str:
        """`x` with new axes of length 1."""
        return self.step("Unsqueeze", [x, self.whole(node, "axes", *axes)], node)


Rule = Callable[[Writer, Node], object]

"""A graph and its weights as an ONNX model, written from the primitives; no torch is involved.

    Path("churn.onnx").write_bytes(export(graph, weights))

Operators are those of opset 17, so that old runtimes read it too. Inputs and outputs keep their names and have a
first axis "rows"; parameters keep their full names. RULES is the table: an op of ir.ops.PRIMITIVES without a row
fails its test. Dropout is left out.
"""

from __future__ import annotations

from alexandra.backends.foreign import refuse_foreign
from alexandra.backends.onnx_rules import RULES
from alexandra.backends.onnx_writer import Writer
from alexandra.errors import BackendError, missing_extra
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet

__all__ = ["RULES", "export"]

LARGEST_BYTES = 2**31 - 2**20  # what one protobuf message may hold, less the graph itself


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
    writer = Writer(graph, weights, onnx.helper)
    for node in writer.primitive.nodes:
        if node.op != "input":
            RULES[node.op](writer, node)
    model = writer.model()
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    assert isinstance(data, bytes)
    return data

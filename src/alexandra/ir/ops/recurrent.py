"""Rows of the op table: recurrent layers over sequences [S, I]; the state starts at 0.

Gates stand in torch's order: i, f, g, o in an LSTM; r, z, n in a GRU, whose n has a bias of its own on the hidden
side (inside the reset). Biases of input and hidden side are one.
"""

from __future__ import annotations

from alexandra.ir.graph import TensorType
from alexandra.ir.ops.rules import bound_dim, dim, sequence, whole
from alexandra.ir.ops.spec import Attrs, AttrSpec, OpSpec, ParamSpec, Types

GATES = {"rnn": 1, "lstm": 4, "gru": 3}

_COMMON = {
    "size": AttrSpec(("int",), "width of the state", low=1, aliases=("n", "units")),
    "reverse": AttrSpec(("bool",), "whether the last position is read first", False),
    "last": AttrSpec(("bool",), "whether only the state after the last step is the result", False),
}


def _infer(attrs: Attrs, types: Types) -> TensorType:
    positions, _ = sequence(types[0])
    return TensorType((dim(attrs["size"]),) if attrs["last"] else (positions, dim(attrs["size"])))


def _row(name: str, doc: str, **attrs: AttrSpec) -> OpSpec:
    gates = GATES[name]

    def params(given: Attrs, types: Types) -> dict[str, ParamSpec]:
        size, width = whole(given["size"]), bound_dim(types[0].shape[1], "the input's size")
        found = {
            "input": ParamSpec((gates * size, width), "glorot", width, size),
            "hidden": ParamSpec((gates * size, size), "glorot", size, size),
            "bias": ParamSpec((gates * size,), "zeros"),
        }
        return {**found, "hidden_bias": ParamSpec((size,), "zeros")} if name == "gru" else found

    def flops(given: Attrs, types: Types, out: TensorType) -> int:
        size, width = whole(given["size"]), bound_dim(types[0].shape[1], "the input's size")
        return 2 * bound_dim(types[0].shape[0], "the number of positions") * gates * size * (width + size)

    return OpSpec(name, doc, 1, None, {**_COMMON, **attrs}, _infer, params, flops, joins=True)


ROWS = (
    _row(
        "rnn",
        "h = activation(input x + hidden h + bias), position after position.",
        activation=AttrSpec(("str",), "of the state", "tanh", allowed=("tanh", "relu")),
    ),
    _row("lstm", "Long short-term memory (Hochreiter and Schmidhuber, 1997), with a forget gate."),
    _row("gru", "Gated recurrent unit (Cho et al., 2014), its reset applied after the hidden product."),
)

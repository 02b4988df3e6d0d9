"""Rows of the op table: inputs, outputs, dense layers, embeddings."""

from __future__ import annotations

from math import prod

from alexandra.errors import GraphError
from alexandra.ir.graph import AUTO, TensorType
from alexandra.ir.ops.rules import bound_dim, dim, floats, same
from alexandra.ir.ops.spec import ACTIVATIONS, DTYPES, Attrs, AttrSpec, OpSpec, ParamSpec, Types

SIZE = AttrSpec(("int",), "width of the last axis of the result", low=1, aliases=("n", "units"))
ACTIVATION = AttrSpec(("str",), "applied to the result", "linear", allowed=ACTIVATIONS)
BIAS = AttrSpec(("bool",), "whether a bias is added", True)


def _input(attrs: Attrs, types: Types) -> TensorType:
    shape, dtype = attrs["shape"], str(attrs["dtype"])
    return TensorType(shape if isinstance(shape, tuple) else (AUTO,), dtype)


def _last_axis_to_size(attrs: Attrs, types: Types) -> TensorType:
    given, size = floats(types[0]), attrs["size"]
    return given if size is None else TensorType((*given.shape[:-1], dim(size)))


def _embedding(attrs: Attrs, types: Types) -> TensorType:
    if types[0].dtype != "int32":
        raise GraphError(f"needs an int32 input, got {types[0]}", hint="declare the input with dtype=int32")
    return TensorType((*types[0].shape, dim(attrs["size"])))


def _dense_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    if attrs["size"] is None:
        return {}
    fan_in, fan_out = bound_dim(types[0].shape[-1], "the input's size"), bound_dim(dim(attrs["size"]), "size")
    weight = ParamSpec((fan_out, fan_in), "glorot", fan_in, fan_out)
    return {"weight": weight, "bias": ParamSpec((fan_out,), "zeros")} if attrs["bias"] else {"weight": weight}


def _dense_flops(attrs: Attrs, types: Types, out: TensorType) -> int:
    if attrs["size"] is None:
        return 0
    return 2 * bound_dim(types[0].shape[-1], "the input's size") * prod(bound_dim(d, "an axis") for d in out.shape)


def _embedding_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    vocab, size = bound_dim(dim(attrs["vocab"]), "vocab"), bound_dim(dim(attrs["size"]), "size")
    return {"weight": ParamSpec((vocab, size), "normal", vocab, size)}


ROWS = (
    OpSpec(
        "input",
        "A named array that the caller gives.",
        0,
        0,
        {
            "shape": AttrSpec(
                ("shape", "auto"),
                "sizes without the batch axis, or AUTO (checked as one axis until bound)",
                aliases=("size",),
            ),
            "dtype": AttrSpec(("str",), "type of the values", "float32", allowed=DTYPES),
        },
        _input,
    ),
    OpSpec(
        "output",
        "A named result: with a size a dense projection and an activation, without one its input as it is.",
        1,
        None,
        {
            "size": AttrSpec(("int", "auto", "none"), "width, AUTO or nothing", None, low=1, aliases=("n", "units")),
            "activation": ACTIVATION,
            "bias": BIAS,
        },
        _last_axis_to_size,
        _dense_params,
        _dense_flops,
        joins=True,
    ),
    OpSpec(
        "dense",
        "x W' + b on the last axis, then an activation; W is (size, inputs).",
        1,
        None,
        {"size": SIZE, "activation": ACTIVATION, "bias": BIAS},
        _last_axis_to_size,
        _dense_params,
        _dense_flops,
        joins=True,
    ),
    OpSpec(
        "embedding",
        "One learned row of `size` numbers for each whole number below `vocab`.",
        1,
        1,
        {"vocab": AttrSpec(("int", "auto"), "how many rows there are, or AUTO", low=1), "size": SIZE},
        _embedding,
        _embedding_params,
    ),
    OpSpec("linear", "The identity; it vanishes in primitives.", 1, None, {}, same, joins=True, composite=True),
)

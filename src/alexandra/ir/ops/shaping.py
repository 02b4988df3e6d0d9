"""Rows of the op table: values put side by side, cut, turned and chosen."""

from __future__ import annotations

from math import prod

from alexandra.errors import GraphError
from alexandra.ir.graph import TensorType
from alexandra.ir.ops.rules import at_least, bound_dim, dims_agree, floats, join_types, merge, size_of, whole, words
from alexandra.ir.ops.spec import COMPARISONS, Attrs, AttrSpec, OpSpec, Types


def _concat(attrs: Attrs, types: Types) -> TensorType:
    return join_types(types)


def _reshape(attrs: Attrs, types: Types) -> TensorType:
    given, shape = floats(types[0]), attrs["shape"]
    assert isinstance(shape, tuple)
    known = all(isinstance(d, int) for d in (*given.shape, *shape))
    if known and prod(map(int, given.shape)) != prod(map(int, shape)):
        left, right = prod(map(int, given.shape)), prod(map(int, shape))
        raise GraphError(f"cannot turn {given} ({left} values) into shape {words(shape)} ({right} values)")
    return TensorType(shape)


def _slice(attrs: Attrs, types: Types) -> TensorType:
    given, start, stop = floats(types[0]), whole(attrs["start"]), whole(attrs["stop"])
    last = given.shape[-1]
    if start >= stop:
        raise GraphError(f"start={start} must be below stop={stop}")
    if isinstance(last, int) and stop > last:
        raise GraphError(f"stop={stop} is beyond the last axis of {given}, which has {last} elements")
    return TensorType((*given.shape[:-1], stop - start))


def _select(attrs: Attrs, types: Types) -> TensorType:
    condition, result = floats(types[0]), merge(floats(types[1]), floats(types[2]))
    if not dims_agree(condition.shape, (*result.shape[:-1], 1)):
        wanted = TensorType((*result.shape[:-1], 1))
        raise GraphError(f"needs a condition of type {wanted} for branches of type {result}, got {condition}")
    return result


def _transpose(attrs: Attrs, types: Types) -> TensorType:
    given = at_least(floats(types[0]), 2)
    return TensorType((*given.shape[:-2], given.shape[-1], given.shape[-2]))


def _reduce(attrs: Attrs, types: Types) -> TensorType:
    return TensorType(at_least(floats(types[0]), 2).shape[1:])


def _matmul(attrs: Attrs, types: Types) -> TensorType:
    left, right = (at_least(floats(given), 2) for given in types)
    inner, columns = right.shape[-2:] if not attrs["transpose"] else right.shape[:-3:-1]
    if not dims_agree(left.shape[:-2], right.shape[:-2]) or not dims_agree(left.shape[-1:], (inner,)):
        wanted = "[.., n, k]" if attrs["transpose"] else "[.., k, n]"
        raise GraphError(f"multiplies [.., m, k] by {wanted}, got {left} and {right}")
    return TensorType((*left.shape[:-1], columns))


def _matmul_flops(attrs: Attrs, types: Types, out: TensorType) -> int:
    return 2 * size_of(out) * bound_dim(types[0].shape[-1], "the inner axis")


ROWS = (
    OpSpec("concat", "The inputs side by side along the last axis.", 2, None, {}, _concat),
    OpSpec(
        "reshape",
        "The same values, in row-major order, under another shape.",
        1,
        None,
        {"shape": AttrSpec(("shape",), "sizes without the batch axis", aliases=("size",))},
        _reshape,
        joins=True,
    ),
    OpSpec(
        "slice",
        "Elements start .. stop-1 of the last axis; one element keeps an axis of length 1.",
        1,
        None,
        {
            "start": AttrSpec(("int",), "first element, from 0", 0, low=0),
            "stop": AttrSpec(("int",), "one past the last element", low=1),
        },
        _slice,
        joins=True,
    ),
    OpSpec(
        "select",
        "Inputs condition, then, else: row by row `then` where `condition cmp value` holds (in float32), else `else`.",
        3,
        3,
        {
            "cmp": AttrSpec(("str",), "the comparison", allowed=COMPARISONS),
            "value": AttrSpec(("float",), "what the condition is compared with"),
        },
        _select,
    ),
    OpSpec("transpose", "The last two axes change places.", 1, None, {}, _transpose, joins=True),
    OpSpec(
        "reduce",
        "The first axis (a sequence's positions) becomes one value.",
        1,
        None,
        {"kind": AttrSpec(("str",), "which value", "mean", allowed=("mean", "max", "sum", "first", "last"))},
        _reduce,
        joins=True,
    ),
    OpSpec(
        "matmul",
        "Matrix products a b of the last two axes, times scale.",
        2,
        2,
        {
            "transpose": AttrSpec(("bool",), "whether b is given as its transpose", False),
            "scale": AttrSpec(("float",), "factor on the product", 1.0),
        },
        _matmul,
        flops=_matmul_flops,
    ),
)

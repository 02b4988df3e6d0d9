"""Rows of the op table: values put side by side, cut, turned and chosen."""

from __future__ import annotations

from math import prod

from alexandra.errors import GraphError
from alexandra.ir.graph import TensorType
from alexandra.ir.ops.rules import dims_agree, floats, join_types, merge, whole, words
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
)

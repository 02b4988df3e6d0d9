"""Pieces that the shape rules of several ops are made of: equal, joined, bound and float types.

They raise GraphError in words about the types alone; who the layer is, check.py knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from alexandra.errors import GraphError
from alexandra.ir.graph import AUTO, Attr, TensorType
from alexandra.ir.ops.spec import Attrs, Dim, Types


def join_types(types: Types) -> TensorType:
    """The type of the concatenation of `types` along the last axis."""
    for other in types:
        floats(other)
    first = types[0]
    for other in types[1:]:
        if len(other.shape) != len(first.shape) or not dims_agree(other.shape[:-1], first.shape[:-1]):
            raise GraphError(f"cannot join {first} and {other}: all axes but the last must be equal")
    lasts = [t.shape[-1] for t in types]
    last: Dim = sum(d for d in lasts if isinstance(d, int)) if all(isinstance(d, int) for d in lasts) else AUTO
    return TensorType((*first.shape[:-1], last)) if len(types) > 1 else first


def bound_dim(size: Dim, what: str) -> int:
    """`size` as a number; GraphError when it is still AUTO or a symbol."""
    if isinstance(size, int):
        return size
    raise GraphError(f"{what} is {size}, not a number yet", hint="bind it first: bind_sizes(graph, {...})")


def floats(given: TensorType) -> TensorType:
    if given.dtype != "float32":
        raise GraphError(f"needs a float32 input, got {given}", hint="feed whole numbers through an embedding layer")
    return given


def dims_agree(left: Sequence[Dim], right: Sequence[Dim]) -> bool:
    return len(left) == len(right) and all(a == b or AUTO in (a, b) for a, b in zip(left, right, strict=True))


def merge(left: TensorType, right: TensorType) -> TensorType:
    if not dims_agree(left.shape, right.shape):
        raise GraphError(f"needs equal shapes, got {left} and {right}")
    return TensorType(tuple(b if a == AUTO else a for a, b in zip(left.shape, right.shape, strict=True)))


def same(attrs: Attrs, types: Types) -> TensorType:
    return floats(types[0])


def dim(value: Attr) -> Dim:
    assert isinstance(value, int | str)
    return value


def whole(value: Attr) -> int:
    assert isinstance(value, int)
    return value


def words(shape: tuple[Dim, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def at_least(given: TensorType, axes: int) -> TensorType:
    """`given`, which must have that many axes."""
    if len(given.shape) < axes:
        raise GraphError(f"needs an input with at least {axes} axes, got {given}")
    return given


def sequence(given: TensorType, what: str = "input") -> tuple[Dim, Dim]:
    """(positions, width) of a sequence."""
    if len(floats(given).shape) != 2:
        raise GraphError(f"needs a sequence (positions, width) as its {what}, got {given}")
    return given.shape[0], given.shape[1]


def multiple(width: Dim, of: int, what: str) -> Dim:
    """`width` / `of`; GraphError when that is not whole."""
    if not isinstance(width, int):
        return AUTO
    if width % of:
        raise GraphError(f"needs {what} that is a multiple of {of}, got {width}")
    return width // of


def size_of(given: TensorType) -> int:
    """How many values there are for one row."""
    return prod(bound_dim(axis, "an axis") for axis in given.shape)


def number(value: Attr) -> float:
    assert isinstance(value, int | float)
    return float(value)


def optional(value: Attr, otherwise: Dim) -> Dim:
    """A size, or `otherwise` where it is none."""
    return otherwise if value is None else dim(value)

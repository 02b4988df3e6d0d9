"""The closed table of layers: arity, attributes, shape rule, parameters and FLOPs of each op, as literals.

`OPS` is what the languages, the checks, every backend and the parity suite walk; to add an op, add its row to the
module of its kind and the row that each of those tables then misses. Rules see shapes without the batch dimension.
This package expands and runs nothing.
"""

from alexandra.ir.ops import attention, composites, convolution, elementwise, experts, layers, recurrent, shaping
from alexandra.ir.ops.rules import bound_dim, join_types
from alexandra.ir.ops.spec import (
    ACTIVATIONS,
    COMPARISONS,
    DTYPES,
    REQUIRED,
    Attrs,
    AttrSpec,
    Dim,
    OpSpec,
    ParamSpec,
    Required,
    Types,
)

__all__ = [
    "ACTIVATIONS",
    "COMPARISONS",
    "DTYPES",
    "OPS",
    "PRIMITIVES",
    "REQUIRED",
    "AttrSpec",
    "Attrs",
    "Dim",
    "OpSpec",
    "ParamSpec",
    "Required",
    "Types",
    "bound_dim",
    "join_types",
]

_ROWS = (
    *layers.ROWS,
    *elementwise.ROWS,
    *shaping.ROWS,
    *attention.ROWS,
    *experts.ROWS,
    *convolution.ROWS,
    *recurrent.ROWS,
    *composites.ROWS,
)

OPS: dict[str, OpSpec] = {row.name: row for row in _ROWS}
PRIMITIVES = tuple(row.name for row in _ROWS if not row.composite)

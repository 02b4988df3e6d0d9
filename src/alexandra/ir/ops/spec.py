"""What a row of the op table is made of: attributes, parameters, and the rules of one op.

An OpSpec is data and three functions: shape rule, parameters, FLOPs. Rules see shapes without the batch dimension.
A rule raises GraphError without naming the layer; check.py adds the name. Nothing here knows any op.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, prod

from alexandra.errors import GraphError, suggest
from alexandra.ir.graph import AUTO, Attr, TensorType

Attrs = Mapping[str, Attr]
Types = Sequence[TensorType]
Dim = int | str


class Required:
    """The type of REQUIRED, the default of an attribute that has none."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = Required()

ACTIVATIONS = ("elu", "gelu", "leaky_relu", "linear", "relu", "sigmoid", "silu", "softmax", "softplus", "tanh")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
DTYPES = ("float32", "int32")
SYMBOL = re.compile(r"[A-Za-z_][A-Za-z_0-9]*\Z")


@dataclass(frozen=True)
class AttrSpec:
    """One setting of an op: accepted kinds of value ("int", "float", "bool", "str", "shape", "auto", "none"),
    default, allowed values, bounds (`low` <= value, value < `below`), and other names that texts may use."""

    kinds: tuple[str, ...]
    doc: str
    default: Attr | Required = REQUIRED
    allowed: tuple[str, ...] | None = None
    low: float | None = None
    below: float | None = None
    aliases: tuple[str, ...] = ()

    def canonical(self, value: object) -> Attr:
        """`value` in its one stored form (a float for "float", a tuple for "shape"); GraphError when not allowed."""
        for kind in self.kinds:
            known, result = _KINDS[kind](value)
            if known:
                self._admit(result)
                return result
        raise GraphError(f"must be {self.wanted()}, got {value!r}")

    def wanted(self) -> str:
        """The accepted values in words, for messages."""
        if self.allowed is not None:
            return "one of " + ", ".join(self.allowed)
        return " or ".join(_KIND_WORDS[kind] for kind in self.kinds)

    def _admit(self, value: Attr) -> None:
        if self.allowed is not None and value not in self.allowed:
            raise GraphError(f"has no value {value!r}", hint=suggest(str(value), self.allowed))
        if isinstance(value, int | float):
            if self.low is not None and value < self.low:
                raise GraphError(f"must be at least {self.low:g}, got {value!r}")
            if self.below is not None and value >= self.below:
                raise GraphError(f"must be below {self.below:g}, got {value!r}")


@dataclass(frozen=True)
class ParamSpec:
    """One parameter tensor. `init` names a row of weights.INITS; `decay` says whether AdamW decays it."""

    shape: tuple[int, ...]
    init: str
    fan_in: int = 1
    fan_out: int = 1

    @property
    def decay(self) -> bool:
        return len(self.shape) >= 2

    @property
    def size(self) -> int:
        return prod(self.shape)


Infer = Callable[[Attrs, Types], TensorType]
Params = Callable[[Attrs, Types], dict[str, ParamSpec]]
Flops = Callable[[Attrs, Types, TensorType], int]


@dataclass(frozen=True)
class OpSpec:
    """One row. `joins`: several inputs are concatenated along the last axis before the rules see them as one.

    `infer` gives the output's type, `params` the parameters by suffix (sizes must be bound), `flops` the
    floating-point operations of one row (a matmul m*n*k counts 2mnk, all else 0, as torch's FlopCounterMode).
    A `composite` op never reaches a backend: expand.py replaces it.
    """

    name: str
    doc: str
    min_inputs: int
    max_inputs: int | None
    attrs: Mapping[str, AttrSpec]
    infer: Infer
    params: Params = field(default=lambda attrs, types: {})
    flops: Flops = field(default=lambda attrs, types, out: 0)
    joins: bool = False
    composite: bool = False

    def attr_name(self, given: str) -> str | None:
        """The attribute that `given` names, directly or as an alias, in any case; None when there is none."""
        name = given.lower()
        return next((key for key, spec in self.attrs.items() if name == key or name in spec.aliases), None)


# --- kinds of attribute values: value -> (is of this kind, canonical form) ---------------------------------


def _as_int(value: object) -> tuple[bool, Attr]:
    if isinstance(value, bool):
        return False, None
    try:
        return True, operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False, None


def _as_float(value: object) -> tuple[bool, Attr]:
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        return False, None
    number = float(value)
    return isfinite(number), number


def _as_shape(value: object) -> tuple[bool, Attr]:
    if value == AUTO:
        return False, None
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    dims: list[Dim] = []
    for item in items:
        is_int, number = _as_int(item)
        if is_int and isinstance(number, int) and number > 0:
            dims.append(number)
        elif isinstance(item, str) and SYMBOL.match(item) and item != AUTO:
            dims.append(item)
        else:
            return False, None
    return bool(dims), tuple(dims)


_KINDS: dict[str, Callable[[object], tuple[bool, Attr]]] = {
    "int": _as_int,
    "float": _as_float,
    "bool": lambda value: (isinstance(value, bool), bool(value)),
    "str": lambda value: (isinstance(value, str), str(value)),
    "shape": _as_shape,
    "auto": lambda value: (value == AUTO, AUTO),
    "none": lambda value: (value is None, None),
}
_KIND_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "TRUE or FALSE",
    "str": "a word",
    "shape": "a shape of positive sizes such as (3, 4)",
    "auto": "AUTO",
    "none": "nothing",
}

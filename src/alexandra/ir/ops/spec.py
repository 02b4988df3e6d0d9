"""What a row of the op table is made of: attributes, parameters, and the rules of one op.

An OpSpec is data and three functions: shape rule, parameters, FLOPs. Rules see shapes without the batch dimension.
A rule raises GraphError without naming the layer; check.py adds the name. Nothing here knows any op.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

ACTIVATIONS = (
    "elu",
    "gelu",
    "gelu_tanh",
    "leaky_relu",
    "linear",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
)
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
            others = "".join(f", or {_KIND_WORDS[kind]}" for kind in self.kinds if kind not in ("str", "none"))
            return "one of " + ", ".join(self.allowed) + others
        return " or ".join(_KIND_WORDS[kind] for kind in self.kinds)

    def _admit(self, value: Attr) -> None:
        if self.allowed is not None and isinstance(value, str) and value not in self.allowed:
            raise GraphError(f"has no value {value!r}", hint=suggest(str(value), self.allowed))
        if isinstance(value, int | float):
            if self.low is not None and value < self.low:
                raise GraphError(f"must be at least {self.low:g}, got {value!r}")
            if self.below is not None and value >= self.below:
                raise GraphError(f"must be below {self.below:g}, got {value!r}")


@dataclass(frozen=True)
class ParamSpec:
    """One parameter tensor. `init` names a row of weights.INITS; `decay` says whether AdamW decays it.

    What is not `trained` (batchnorm's running statistics) has gradient 0 and no optimiser touches it.
    """

    shape: tuple[int, ...]
    init: str
    fan_in: int = 1
    fan_out: int = 1
    trained: bool = True

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
    A `composite` op never reaches a backend: expand.py replaces it by its `parts`, of which composite() makes the
    other rules; without parts it is the identity.
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
    parts: Parts | None = None

    def attr_name(self, given: str) -> str | None:
        """The attribute that `given` names, directly or as an alias, in any case; None when there is none."""
        name = given.lower()
        return next((key for key, spec in self.attrs.items() if name == key or name in spec.aliases), None)

    def complete(self, attrs: Attrs) -> dict[str, Attr]:
        """`attrs` with the defaults of the others, in the table's order."""
        filled = {name: attrs.get(name, spec.default) for name, spec in self.attrs.items()}
        assert not any(isinstance(value, Required) for value in filled.values()), (self.name, filled)
        return filled  # type: ignore[return-value]


@dataclass(frozen=True)
class Part:
    """One layer of a composite's expansion, called `<layer>.<name>` ("" is the layer's own name).

    `inputs` are numbers of the composite's inputs or names of earlier parts. Parameters are `<layer>.<name>.<suffix>`,
    with `own` `<layer>.<suffix>`; a part with name "" that is not `own` has none.
    """

    name: str
    spec: OpSpec
    inputs: tuple[int | str, ...]
    attrs: Attrs = field(default_factory=dict)
    own: bool = False


Parts = Callable[[Attrs, Types], Sequence[Part]]


def walk(parts: Sequence[Part], types: Types) -> Iterator[tuple[Part, list[TensorType], TensorType]]:
    """Each part with the types that it is given and the type that it gives."""
    known: dict[int | str, TensorType] = dict(enumerate(types))
    for part in parts:
        given = [known[name] for name in part.inputs]
        known[part.name] = part.spec.infer(part.spec.complete(part.attrs), given)
        yield part, given, known[part.name]


def composite(row: OpSpec, parts: Parts) -> OpSpec:
    """`row` with the parameters and FLOPs of its parts."""

    def params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
        found: dict[str, ParamSpec] = {}
        for part, given, _ in walk(parts(attrs, types), types):
            for suffix, spec in part.spec.params(part.spec.complete(part.attrs), given).items():
                found[suffix if part.own else f"{part.name}.{suffix}"] = spec
        return found

    def flops(attrs: Attrs, types: Types, out: TensorType) -> int:
        walked = walk(parts(attrs, types), types)
        return sum(part.spec.flops(part.spec.complete(part.attrs), given, made) for part, given, made in walked)

    return replace(row, params=params, flops=flops, composite=True, parts=parts)


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

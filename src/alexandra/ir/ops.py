"""The closed table of layers: arity, attributes, shape rule, parameters and FLOPs of each op, as one literal.

`OPS` is what the languages, the checks, every backend and the parity suite walk; to add an op, add its row
here and the row that each of those tables then misses. Rules see shapes without the batch dimension. A rule
raises GraphError without naming the layer; check.py adds the name. This module expands and runs nothing.
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


def join_types(types: Types) -> TensorType:
    """The type of the concatenation of `types` along the last axis."""
    for other in types:
        _float(other)
    first = types[0]
    for other in types[1:]:
        if len(other.shape) != len(first.shape) or not _dims_agree(other.shape[:-1], first.shape[:-1]):
            raise GraphError(f"cannot join {first} and {other}: all axes but the last must be equal")
    lasts = [t.shape[-1] for t in types]
    last: Dim = sum(d for d in lasts if isinstance(d, int)) if all(isinstance(d, int) for d in lasts) else AUTO
    return TensorType((*first.shape[:-1], last)) if len(types) > 1 else first


def bound_dim(size: Dim, what: str) -> int:
    """`size` as a number; GraphError when it is still AUTO or a symbol."""
    if isinstance(size, int):
        return size
    raise GraphError(f"{what} is {size}, not a number yet", hint="bind it first: bind_sizes(graph, {...})")


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


# --- shape rules --------------------------------------------------------------------------------------------


def _float(given: TensorType) -> TensorType:
    if given.dtype != "float32":
        raise GraphError(f"needs a float32 input, got {given}", hint="feed whole numbers through an embedding layer")
    return given


def _dims_agree(left: Sequence[Dim], right: Sequence[Dim]) -> bool:
    return len(left) == len(right) and all(a == b or AUTO in (a, b) for a, b in zip(left, right, strict=True))


def _merge(left: TensorType, right: TensorType) -> TensorType:
    if not _dims_agree(left.shape, right.shape):
        raise GraphError(f"needs equal shapes, got {left} and {right}")
    return TensorType(tuple(b if a == AUTO else a for a, b in zip(left.shape, right.shape, strict=True)))


def _input(attrs: Attrs, types: Types) -> TensorType:
    shape, dtype = attrs["shape"], str(attrs["dtype"])
    return TensorType(shape if isinstance(shape, tuple) else (AUTO,), dtype)


def _same(attrs: Attrs, types: Types) -> TensorType:
    return _float(types[0])


def _equal(attrs: Attrs, types: Types) -> TensorType:
    result = _float(types[0])
    for other in types[1:]:
        result = _merge(result, _float(other))
    return result


def _concat(attrs: Attrs, types: Types) -> TensorType:
    return join_types(types)


def _last_axis_to_size(attrs: Attrs, types: Types) -> TensorType:
    given, size = _float(types[0]), attrs["size"]
    return given if size is None else TensorType((*given.shape[:-1], _dim(size)))


def _embedding(attrs: Attrs, types: Types) -> TensorType:
    if types[0].dtype != "int32":
        raise GraphError(f"needs an int32 input, got {types[0]}", hint="declare the input with dtype=int32")
    return TensorType((*types[0].shape, _dim(attrs["size"])))


def _reshape(attrs: Attrs, types: Types) -> TensorType:
    given, shape = _float(types[0]), attrs["shape"]
    assert isinstance(shape, tuple)
    known = all(isinstance(d, int) for d in (*given.shape, *shape))
    if known and prod(map(int, given.shape)) != prod(map(int, shape)):
        left, right = prod(map(int, given.shape)), prod(map(int, shape))
        raise GraphError(f"cannot turn {given} ({left} values) into shape {_words(shape)} ({right} values)")
    return TensorType(shape)


def _slice(attrs: Attrs, types: Types) -> TensorType:
    given, start, stop = _float(types[0]), _int(attrs["start"]), _int(attrs["stop"])
    last = given.shape[-1]
    if start >= stop:
        raise GraphError(f"start={start} must be below stop={stop}")
    if isinstance(last, int) and stop > last:
        raise GraphError(f"stop={stop} is beyond the last axis of {given}, which has {last} elements")
    return TensorType((*given.shape[:-1], stop - start))


def _select(attrs: Attrs, types: Types) -> TensorType:
    condition, result = _float(types[0]), _merge(_float(types[1]), _float(types[2]))
    if not _dims_agree(condition.shape, (*result.shape[:-1], 1)):
        wanted = TensorType((*result.shape[:-1], 1))
        raise GraphError(f"needs a condition of type {wanted} for branches of type {result}, got {condition}")
    return result


def _dim(value: Attr) -> Dim:
    assert isinstance(value, int | str)
    return value


def _int(value: Attr) -> int:
    assert isinstance(value, int)
    return value


def _words(shape: tuple[Dim, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


# --- parameters and FLOPs -----------------------------------------------------------------------------------


def _dense_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    if attrs["size"] is None:
        return {}
    fan_in, fan_out = bound_dim(types[0].shape[-1], "the input's size"), bound_dim(_dim(attrs["size"]), "size")
    weight = ParamSpec((fan_out, fan_in), "glorot", fan_in, fan_out)
    return {"weight": weight, "bias": ParamSpec((fan_out,), "zeros")} if attrs["bias"] else {"weight": weight}


def _dense_flops(attrs: Attrs, types: Types, out: TensorType) -> int:
    if attrs["size"] is None:
        return 0
    return 2 * bound_dim(types[0].shape[-1], "the input's size") * prod(bound_dim(d, "an axis") for d in out.shape)


def _embedding_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    vocab, size = bound_dim(_dim(attrs["vocab"]), "vocab"), bound_dim(_dim(attrs["size"]), "size")
    return {"weight": ParamSpec((vocab, size), "normal", vocab, size)}


def _layernorm_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    width = bound_dim(types[0].shape[-1], "the input's size")
    return {"weight": ParamSpec((width,), "ones"), "bias": ParamSpec((width,), "zeros")}


def _rmsnorm_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    return {"weight": ParamSpec((bound_dim(types[0].shape[-1], "the input's size"),), "ones")}


# --- the table ----------------------------------------------------------------------------------------------

_SIZE = AttrSpec(("int",), "width of the last axis of the result", low=1, aliases=("n", "units"))
_ACTIVATION = AttrSpec(("str",), "applied to the result", "linear", allowed=ACTIVATIONS)
_BIAS = AttrSpec(("bool",), "whether a bias is added", True)


def _eps(default: float) -> AttrSpec:
    return AttrSpec(("float",), "added under the square root", default, low=0.0)


def _elementwise(name: str, doc: str, **attrs: AttrSpec) -> OpSpec:
    return OpSpec(name, doc, 1, None, attrs, _same, joins=True)


_ROWS = (
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
            "activation": _ACTIVATION,
            "bias": _BIAS,
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
        {"size": _SIZE, "activation": _ACTIVATION, "bias": _BIAS},
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
        {"vocab": AttrSpec(("int", "auto"), "how many rows there are, or AUTO", low=1), "size": _SIZE},
        _embedding,
        _embedding_params,
    ),
    OpSpec("linear", "The identity; it vanishes in primitives.", 1, None, {}, _same, joins=True, composite=True),
    _elementwise("relu", "max(x, 0)."),
    _elementwise("leaky_relu", "x where x > 0, else slope * x.", slope=AttrSpec(("float",), "factor below zero", 0.01)),
    _elementwise(
        "elu", "x where x > 0, else alpha * (exp(x) - 1).", alpha=AttrSpec(("float",), "the limit below zero", 1.0)
    ),
    _elementwise("gelu", "x * Phi(x), with the exact normal distribution function."),
    _elementwise("silu", "x * sigmoid(x)."),
    _elementwise("sigmoid", "1 / (1 + exp(-x))."),
    _elementwise("tanh", "Hyperbolic tangent."),
    _elementwise("softplus", "log(1 + exp(x))."),
    _elementwise("softmax", "exp(x) over its sum along the last axis."),
    OpSpec(
        "layernorm",
        "Zero mean and unit variance along the last axis, times weight, plus bias.",
        1,
        None,
        {"eps": _eps(1e-5)},
        _same,
        _layernorm_params,
        joins=True,
    ),
    OpSpec(
        "rmsnorm",
        "x over its root mean square along the last axis, times weight.",
        1,
        None,
        {"eps": _eps(1e-6)},
        _same,
        _rmsnorm_params,
        joins=True,
    ),
    _elementwise(
        "dropout",
        "In training, zeroes each value with probability `rate` and scales the rest by 1 / (1 - rate).",
        rate=AttrSpec(("float",), "probability of a zero", low=0.0, below=1.0, aliases=("p",)),
    ),
    OpSpec("add", "The sum of two or more inputs of one shape.", 2, None, {}, _equal),
    OpSpec("mul", "The elementwise product of two or more inputs of one shape.", 2, None, {}, _equal),
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

OPS: dict[str, OpSpec] = {row.name: row for row in _ROWS}
PRIMITIVES = tuple(row.name for row in _ROWS if not row.composite)

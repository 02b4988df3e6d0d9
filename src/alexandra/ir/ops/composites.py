"""Rows of the op table that are made of others: each states its expansion, and has no other meaning.

A composite's parameters are those of its parts, `<layer>.q.weight`; backends never see it (expand.py), its shape rule
alone is written by hand, because sizes may still be open when it is asked.
"""

from __future__ import annotations

from dataclasses import replace

from alexandra.errors import GraphError
from alexandra.ir.graph import TensorType
from alexandra.ir.ops import attention, convolution, elementwise, experts, layers, shaping
from alexandra.ir.ops.rules import bound_dim, floats, multiple, optional, sequence, whole
from alexandra.ir.ops.spec import Attrs, AttrSpec, Infer, OpSpec, Part, Parts, Types, composite

_GROUPS = (layers, elementwise, shaping, attention, experts, convolution)
_ROW = {row.name: row for group in _GROUPS for row in group.ROWS}


def _taken(attrs: Attrs, row: OpSpec, **others: object) -> Attrs:
    """The attributes of `row` that a composite has under the same names, and `others`."""
    return {**{name: attrs[name] for name in row.attrs if name in attrs}, **others}  # type: ignore[dict-item]


# --- attention ----------------------------------------------------------------------------------------------


def _inputs(types: Types) -> tuple[int, int | None]:
    """Which inputs of an attention are its memory (0: its own) and its segments."""
    memory = 1 if len(types) > 1 and types[1].dtype == "float32" else 0
    rest = len(types) - 1 - memory
    if rest > 1 or (rest == 1 and types[-1].dtype != "int32"):
        raise GraphError(f"reads x, a memory and int32 segments, got {', '.join(map(str, types))}")
    return memory, len(types) - 1 if rest else None


def _attention(attrs: Attrs, types: Types) -> TensorType:
    positions, width = sequence(types[0])
    memory, segments = _inputs(types)
    keys, _ = sequence(types[memory], "memory")
    if memory and attrs["causal"]:
        raise GraphError("reads a memory and is causal", hint="write causal=FALSE: every position sees all of a memory")
    if segments is not None:
        attention.check_segments(types[segments:], keys)
    heads = whole(attrs["heads"])
    if heads % whole(optional(attrs["kv_heads"], heads)):
        raise GraphError(f"shares kv_heads={attrs['kv_heads']} among heads={heads}, which does not come out even")
    if attrs["head_dim"] is None:
        multiple(width, heads, "a width")
    return TensorType((positions, optional(attrs["size"], width)))


def _rotation(attrs: Attrs, head: int) -> Attrs:
    base = attrs["base"] if attrs["rope"] is True else attrs["rope"]
    return _taken({name: attrs[name] for name in attention.ROTATION}, _ROW["rope"], head_dim=head, base=base)


def _attention_parts(attrs: Attrs, types: Types) -> list[Part]:
    memory, segments = _inputs(types)
    width, heads = bound_dim(types[0].shape[-1], "the input's size"), whole(attrs["heads"])
    groups = whole(optional(attrs["kv_heads"], heads))
    head = whole(optional(attrs["head_dim"], width // heads))
    bias = attrs["bias"]
    places: tuple[tuple[str, int, int], ...] = (("q", 0, heads), ("k", memory, groups), ("v", memory, groups))
    parts = [Part(name, _ROW["dense"], (at,), {"size": count * head, "bias": bias}) for name, at, count in places]
    ends = {"q": "q", "k": "k"}
    for name, at, count in places[:2]:
        positions = types[at].shape[0]
        if attrs["qk_norm"]:
            heads_shape, flat = (positions, count, head), (positions, count * head)
            parts += [
                Part(f"{name}_heads", _ROW["reshape"], (name,), {"shape": heads_shape}),
                Part(f"{name}_norm", _ROW["rmsnorm"], (f"{name}_heads",), {"eps": attrs["norm_eps"]}),
                Part(f"{name}_flat", _ROW["reshape"], (f"{name}_norm",), {"shape": flat}),
            ]
            ends[name] = f"{name}_flat"
        if attrs["rope"]:
            rotation = _rotation(attrs, head)
            parts.append(Part(f"{name}_rope", _ROW["rope"], (ends[name],), rotation))
            ends[name] = f"{name}_rope"
    seen: tuple[int, ...] = () if segments is None else (segments,)
    core = _taken({k: attrs[k] for k in attention.PATTERN}, _ROW["sdpa"], heads=heads, kv_heads=attrs["kv_heads"])
    out = {"size": optional(attrs["size"], width), "bias": bias if attrs["out_bias"] is None else attrs["out_bias"]}
    parts.append(Part("sdpa", _ROW["sdpa"], (ends["q"], ends["k"], "v", *seen), core))
    return [*parts, Part("out", _ROW["dense"], ("sdpa",), out)]


# --- feed-forward and mixtures ------------------------------------------------------------------------------


def _ffn(attrs: Attrs, types: Types) -> TensorType:
    given = floats(types[0])
    return TensorType((*given.shape[:-1], optional(attrs["size"], given.shape[-1])))


def _ffn_parts(attrs: Attrs, types: Types) -> list[Part]:
    inner = {"size": attrs["hidden"], "bias": attrs["bias"]}
    active = {**inner, "activation": attrs["activation"]}
    out = {"size": optional(attrs["size"], types[0].shape[-1]), "bias": attrs["bias"]}
    if not attrs["gated"]:
        return [Part("up", _ROW["dense"], (0,), active), Part("down", _ROW["dense"], ("up",), out)]
    return [
        Part("gate", _ROW["dense"], (0,), active),
        Part("up", _ROW["dense"], (0,), inner),
        Part("product", _ROW["mul"], ("gate", "up")),
        Part("down", _ROW["dense"], ("product",), out),
    ]


FFN = composite(
    OpSpec(
        "ffn",
        "A feed-forward block: down(activation(gate x) * up x) (Shazeer, 2020), or down(activation(up x)).",
        1,
        None,
        {
            "hidden": experts.HIDDEN,
            "activation": experts.FFN_ACTIVATION,
            "gated": experts.GATED,
            "bias": replace(layers.BIAS, default=False),
            "size": AttrSpec(("int", "none"), "width of the result; none: as the input", None, low=1),
        },
        _ffn,
        joins=True,
    ),
    _ffn_parts,
)


def _moe(attrs: Attrs, types: Types) -> TensorType:
    if whole(attrs["top_k"]) > whole(attrs["experts"]):
        raise GraphError(f"cannot choose top_k={attrs['top_k']} of {attrs['experts']} experts")
    return floats(types[0])


def _moe_parts(attrs: Attrs, types: Types) -> list[Part]:
    gate, inner = _ROW["top_k_gate"], _taken(attrs, _ROW["experts"], used=attrs["top_k"])
    parts = [
        Part("router", _ROW["dense"], (0,), {"size": attrs["experts"], "bias": False}),
        Part("top_k", gate, ("router",), _taken(attrs, gate)),
        Part("experts", _ROW["experts"], (0, "top_k"), inner),
    ]
    if attrs["shared_experts"]:
        wide = {"hidden": whole(attrs["shared_experts"]) * whole(attrs["hidden"])}
        parts.append(Part("shared", FFN, (0,), {"activation": attrs["activation"], "gated": attrs["gated"], **wide}))
        parts.append(Part("sum", _ROW["add"], ("experts", "shared")))
    return parts


# --- one axis as two ----------------------------------------------------------------------------------------


def _lined(attrs: Attrs) -> Attrs:
    """Attributes for a window over (positions, 1)."""
    stride = attrs["stride"]
    return {**attrs, "kernel": (attrs["kernel"], 1), "stride": None if stride is None else (stride, 1)}  # type: ignore[dict-item]


def _line(row: str) -> tuple[Infer, Parts]:
    two = _ROW[row]

    def infer(attrs: Attrs, types: Types) -> TensorType:
        positions, width = sequence(types[0])
        made = two.infer(_lined(attrs), [TensorType((positions, 1, width))])
        return TensorType((made.shape[0], made.shape[2]))

    def parts(attrs: Attrs, types: Types) -> list[Part]:
        positions, width = sequence(types[0])
        return [
            Part("plane", _ROW["reshape"], (0,), {"shape": (positions, 1, width)}),
            Part("inner", two, ("plane",), _lined(attrs), own=True),
            Part("", _ROW["reshape"], ("inner",), {"shape": infer(attrs, types).shape}),
        ]

    return infer, parts


_CONV1D, _POOL1D = _line("conv2d"), _line("pool2d")
_LINE = {
    "kernel": replace(convolution.KERNEL, kinds=("int",), doc="positions in the window"),
    "stride": replace(convolution.STRIDE, kinds=("int",), doc="steps of the window"),
}

ROWS = (
    composite(
        OpSpec(
            "attention",
            "Self-attention of x, or attention of x to a memory (the second input): q, k, v projections, sdpa, out. An "
            "int32 input last says which positions belong together (0: none).",
            1,
            3,
            {
                "heads": AttrSpec(("int",), "how many heads there are", low=1),
                "kv_heads": AttrSpec(("int", "none"), "heads of keys and values; none: as many", None, low=1),
                "head_dim": AttrSpec(("int", "none"), "numbers of one head; none: width / heads", None, low=1),
                "size": AttrSpec(("int", "none"), "width of the result; none: as the input", None, low=1),
                "bias": replace(layers.BIAS, default=False),
                "out_bias": AttrSpec(("bool", "none"), "whether the last projection has a bias; none: as bias", None),
                "qk_norm": AttrSpec(("bool",), "whether each head's queries and keys pass an rmsnorm", False),
                "norm_eps": replace(_ROW["rmsnorm"].attrs["eps"], doc="eps of that rmsnorm"),
                "rope": AttrSpec(
                    ("bool", "float"), "whether queries and keys pass a rope; a number is its base", False
                ),
                **attention.ROTATION,
                **attention.PATTERN,
            },
            _attention,
        ),
        _attention_parts,
    ),
    FFN,
    composite(
        OpSpec(
            "moe",
            "A mixture of experts: router, top_k_gate, experts, and `shared_experts` that every position uses.",
            1,
            None,
            {
                "experts": AttrSpec(("int",), "how many experts there are", low=1),
                "hidden": experts.HIDDEN,
                "shared_experts": AttrSpec(
                    ("int",), "experts that are always used, as one of that many widths", 0, low=0
                ),
                "activation": experts.FFN_ACTIVATION,
                "gated": experts.GATED,
                **experts.GATE,
            },
            _moe,
            joins=True,
        ),
        _moe_parts,
    ),
    composite(
        OpSpec(
            "conv1d",
            "Filters moved along a sequence; weight is (size, kernel, 1, channels / groups).",
            1,
            None,
            {**_ROW["conv2d"].attrs, **_LINE},
            _CONV1D[0],
            joins=True,
        ),
        _CONV1D[1],
    ),
    composite(
        OpSpec(
            "pool1d",
            "The maximum or the mean of each channel within a window moved along a sequence.",
            1,
            None,
            {
                **_ROW["pool2d"].attrs,
                "kernel": replace(_LINE["kernel"], default=2),
                "stride": replace(_LINE["stride"], kinds=("int", "none"), default=None),
            },
            _POOL1D[0],
            joins=True,
        ),
        _POOL1D[1],
    ),
)

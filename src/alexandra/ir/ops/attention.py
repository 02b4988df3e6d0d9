"""Rows of the op table: attention over sequences [S, C] and what tells it positions.

`sdpa` is scaled dot-product attention with grouped key-value heads (Ainslie et al., "GQA", 2023), sliding windows,
global positions and strides (Beltagy et al., "Longformer", 2020; Child et al., "Sparse Transformers", 2019) and T5's
relative bias; `rope` rotates by position (Su et al., "RoFormer", 2021). The frequencies are in ir/positions.py.
"""

from __future__ import annotations

from alexandra.errors import GraphError
from alexandra.ir.graph import AUTO, TensorType
from alexandra.ir.ops.rules import bound_dim, dim, dims_agree, multiple, number, optional, sequence, whole
from alexandra.ir.ops.spec import Attrs, AttrSpec, OpSpec, ParamSpec, Types

SCALINGS = ("none", "linear", "ntk", "yarn", "llama3")

ROTATION = {
    "base": AttrSpec(("float",), "wavelengths run from 2 pi to 2 pi * base", 10000.0, low=1.0),
    "dims": AttrSpec(("int", "none"), "how many of a head's numbers turn; none: all", None, low=2),
    "layout": AttrSpec(("str",), "pairs (i, i + dims/2) or (2i, 2i + 1)", "half", allowed=("half", "interleaved")),
    "scaling": AttrSpec(("str",), "how frequencies are stretched beyond `original`", "none", allowed=SCALINGS),
    "factor": AttrSpec(("float",), "how many times longer the sequences become", 1.0, low=1.0),
    "original": AttrSpec(("int",), "positions that the model was trained on (yarn, llama3)", 0, low=0),
    "low": AttrSpec(("float",), "llama3's low frequency factor", 1.0),
    "high": AttrSpec(("float",), "llama3's high frequency factor", 4.0),
    "beta_fast": AttrSpec(("float",), "yarn: turns within `original` above which a frequency stays", 32.0),
    "beta_slow": AttrSpec(("float",), "yarn: turns below which it is divided by factor", 1.0),
    "attention_factor": AttrSpec(("float", "none"), "yarn's factor on the result; none: 0.1 ln(factor) + 1", None),
}

PATTERN = {
    "causal": AttrSpec(("bool",), "whether position i sees positions 0 .. i only", True),
    "window": AttrSpec(("int", "none"), "i sees j where |i - j| < window; none: everything", None, low=1),
    "globals": AttrSpec(("int",), "the first positions, which all see and which see all", 0, low=0),
    "stride": AttrSpec(("int",), "with a window: i also sees j where (i - j) % stride == 0; 0: none", 0, low=0),
    "scale": AttrSpec(("float", "none"), "factor on the scores; none: 1 / sqrt(head size)", None),
    "softcap": AttrSpec(("float",), "scores s become softcap * tanh(s / softcap); 0: not", 0.0, low=0.0),
    "relative_buckets": AttrSpec(("int",), "T5's relative bias has that many rows; 0: none", 0, low=0),
    "relative_distance": AttrSpec(("int",), "from here on distances share a bucket", 128, low=1),
    "relative_bidirectional": AttrSpec(("bool",), "whether half of the buckets are for later positions", False),
}


def _rope(attrs: Attrs, types: Types) -> TensorType:
    _, width = sequence(types[0])
    head = whole(attrs["head_dim"])
    multiple(width, head, "a width")
    turned = whole(optional(attrs["dims"], head))
    if turned % 2 or turned > head:
        raise GraphError(f"turns pairs of a head's {head} numbers, so dims cannot be {turned}")
    if attrs["scaling"] in ("yarn", "llama3") and not attrs["original"]:
        raise GraphError(f"needs original= for scaling={attrs['scaling']} (the positions that were trained on)")
    if attrs["scaling"] == "llama3" and number(attrs["high"]) <= number(attrs["low"]):
        raise GraphError(f"needs high above low, got {attrs['high']} and {attrs['low']}")
    return types[0]


def _sdpa(attrs: Attrs, types: Types) -> TensorType:
    (queries, q_width), (keys, k_width) = sequence(types[0]), sequence(types[1], "keys")
    values, v_width = sequence(types[2], "values")
    heads = whole(attrs["heads"])
    groups = whole(optional(attrs["kv_heads"], heads))
    if heads % groups:
        raise GraphError(f"shares {groups} key-value heads among {heads} heads, which does not come out even")
    sizes = multiple(q_width, heads, "queries of a width"), multiple(k_width, groups, "keys of a width")
    if not dims_agree(sizes[:1], sizes[1:]):
        raise GraphError(f"has heads of {sizes[0]} numbers in the queries and {sizes[1]} in the keys")
    if not dims_agree((keys,), (values,)):
        raise GraphError(f"needs as many values as keys, got {types[2]} and {types[1]}")
    check_segments(types[3:], keys)
    if attrs["relative_buckets"] and whole(attrs["relative_buckets"]) < 4:
        raise GraphError(f"needs at least 4 relative_buckets, got {attrs['relative_buckets']}")
    head = multiple(v_width, groups, "values of a width")
    return TensorType((queries, head * heads if isinstance(head, int) else AUTO))


def check_segments(types: Types, keys: int | str) -> None:
    if types and (types[0].dtype != "int32" or not dims_agree(types[0].shape, (keys,))):
        raise GraphError(f"needs segments int32[{keys}], got {types[0]}")


def _sdpa_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    buckets, heads = whole(attrs["relative_buckets"]), whole(attrs["heads"])
    return {"relative": ParamSpec((buckets, heads), "normal", buckets, heads)} if buckets else {}


def _sdpa_flops(attrs: Attrs, types: Types, out: TensorType) -> int:
    """Both products, over all pairs or those that a window, globals and a stride leave; causality saves nothing."""
    queries, keys = (bound_dim(given.shape[0], "the number of positions") for given in types[:2])
    pairs = queries * keys
    if attrs["window"] is not None:
        reach = whole(attrs["window"]) * (1 if attrs["causal"] else 2)
        extra = whole(attrs["globals"]) + (keys // whole(attrs["stride"]) if attrs["stride"] else 0)
        pairs = min(pairs, queries * (reach + extra) + whole(attrs["globals"]) * keys)
    heads = whole(attrs["heads"])
    q_head = bound_dim(types[0].shape[1], "the width") // heads
    return 2 * pairs * (heads * q_head + bound_dim(out.shape[1], "the width"))


def _position(attrs: Attrs, types: Types) -> TensorType:
    positions, _ = sequence(types[0])
    length, offset = attrs["length"], whole(attrs["offset"])
    if attrs["kind"] == "learned" and length is None:
        raise GraphError("needs length= (how many positions it learns)")
    if length is not None and isinstance(positions, int) and positions + offset > whole(length):
        held = whole(length) - offset
        raise GraphError(f"has {held} positions (length={length}, offset={offset}), got a sequence of {positions}")
    return types[0]


def _position_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    if attrs["kind"] != "learned":
        return {}
    shape = bound_dim(dim(attrs["length"]), "length"), bound_dim(types[0].shape[1], "the input's size")
    return {"weight": ParamSpec(shape, "normal", *shape)}


ROWS = (
    OpSpec(
        "position",
        "x plus the row of its position's number: learned, or sines and cosines (Vaswani et al., 2017).",
        1,
        None,
        {
            "kind": AttrSpec(("str",), "where the rows come from", "learned", allowed=("learned", "sinusoidal")),
            "length": AttrSpec(("int", "none"), "how many positions there are", None, low=1),
            "offset": AttrSpec(("int",), "the number of the first position", 0, low=0),
        },
        _position,
        _position_params,
        joins=True,
    ),
    OpSpec(
        "rope",
        "Each head's pairs of numbers turned by an angle that grows with the position.",
        1,
        None,
        {"head_dim": AttrSpec(("int",), "numbers of one head", low=2), **ROTATION},
        _rope,
        joins=True,
    ),
    OpSpec(
        "sdpa",
        "Attention of queries, keys, values [, segments]: each head's softmax of its scores over visible keys, times "
        "their values. A key is visible only where its segment is not 0 and, among equals, is the query's own.",
        3,
        4,
        {
            "heads": AttrSpec(("int",), "how many heads the queries have", low=1),
            "kv_heads": AttrSpec(("int", "none"), "how many the keys and values have; none: as many", None, low=1),
            **PATTERN,
        },
        _sdpa,
        _sdpa_params,
        _sdpa_flops,
    ),
)

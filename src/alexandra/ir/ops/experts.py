"""Rows of the op table: mixtures of experts, as a gate over all experts and the experts themselves.

The balance loss is that of Fedus et al., "Switch Transformers", 2021 (E * sum of load times probability: 1 for a
uniform router), the z-loss that of Zoph et al., "ST-MoE", 2022, the selection bias DeepSeek-V3's (2024). They are
part of the training loss of every graph that has such a gate.
"""

from __future__ import annotations

from math import prod

from alexandra.errors import GraphError
from alexandra.ir.graph import TensorType
from alexandra.ir.ops.rules import bound_dim, dims_agree, floats, whole
from alexandra.ir.ops.spec import ACTIVATIONS, Attrs, AttrSpec, OpSpec, ParamSpec, Types

SELECTION_RATE = 1e-3  # a step of the selection bias

GATE = {
    "top_k": AttrSpec(("int",), "how many experts a position uses", low=1, aliases=("active", "k")),
    "score": AttrSpec(("str",), "what makes logits weights", "softmax", allowed=("softmax", "sigmoid")),
    "normalise": AttrSpec(("bool",), "whether the chosen weights are made to add up to 1", True),
    "scale": AttrSpec(("float",), "factor on the weights", 1.0),
    "balance": AttrSpec(("float",), "factor of the load-balance loss", 0.0, low=0.0),
    "z_loss": AttrSpec(("float",), "factor of the mean squared log-sum-exp of the logits", 0.0, low=0.0),
    "selection_bias": AttrSpec(("bool",), "whether a bias, moved by load, takes part in the choice", False),
    "jitter": AttrSpec(
        ("float",), "in training, logits are multiplied by uniform(1 - jitter, 1 + jitter)", 0.0, low=0.0, below=1.0
    ),
    "capacity": AttrSpec(
        ("float",), "in training an expert takes capacity * positions * top_k / experts of a row; 0: all", 0.0, low=0.0
    ),
}

HIDDEN = AttrSpec(("int",), "width between the two projections", low=1)
FFN_ACTIVATION = AttrSpec(("str",), "applied to the hidden values, or to their gate", "silu", allowed=ACTIVATIONS)
GATED = AttrSpec(("bool",), "whether activation(gate x) multiplies up x", True)


def _gate(attrs: Attrs, types: Types) -> TensorType:
    given, top_k = floats(types[0]), whole(attrs["top_k"])
    if isinstance(given.shape[-1], int) and top_k > given.shape[-1]:
        raise GraphError(f"cannot choose top_k={top_k} of {given.shape[-1]} experts")
    return given


def _gate_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    if not attrs["selection_bias"]:
        return {}
    return {"bias": ParamSpec((bound_dim(types[0].shape[-1], "the number of experts"),), "zeros", trained=False)}


def _experts(attrs: Attrs, types: Types) -> TensorType:
    given, gates = floats(types[0]), floats(types[1])
    if not dims_agree(given.shape[:-1], gates.shape[:-1]):
        raise GraphError(f"needs weights for each position of {given}, got {gates}")
    return given


def _experts_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    width, hidden = bound_dim(types[0].shape[-1], "the input's size"), whole(attrs["hidden"])
    experts = bound_dim(types[1].shape[-1], "the number of experts")
    up = ParamSpec((experts, hidden, width), "glorot", width, hidden)
    down = ParamSpec((experts, width, hidden), "glorot", hidden, width)
    return {"up": up, "down": down, "gate": up} if attrs["gated"] else {"up": up, "down": down}


def _experts_flops(attrs: Attrs, types: Types, out: TensorType) -> int:
    positions = prod(bound_dim(axis, "an axis") for axis in out.shape[:-1])
    width, hidden = bound_dim(out.shape[-1], "the input's size"), whole(attrs["hidden"])
    experts = bound_dim(types[1].shape[-1], "the number of experts")
    used = experts if attrs["used"] is None else min(experts, whole(attrs["used"]))
    return 2 * positions * used * width * hidden * (3 if attrs["gated"] else 2)


ROWS = (
    OpSpec(
        "top_k_gate",
        "Weights of the experts from their logits: the scores of the top_k best (of equals the first), 0 elsewhere.",
        1,
        None,
        GATE,
        _gate,
        _gate_params,
        joins=True,
    ),
    OpSpec(
        "experts",
        "Inputs x and weights: the sum of weight times down(activation(gate x) * up x), or down(activation(up x)), "
        "over the experts whose weight is not 0.",
        2,
        2,
        {
            "hidden": HIDDEN,
            "activation": FFN_ACTIVATION,
            "gated": GATED,
            "used": AttrSpec(
                ("int", "none"), "weights that are not 0 at a position, for the cost; none: all", None, low=1
            ),
        },
        _experts,
        _experts_params,
        _experts_flops,
    ),
)

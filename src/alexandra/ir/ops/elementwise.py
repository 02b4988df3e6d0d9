"""Rows of the op table: what keeps the shape of its input (activations, norms, dropout) and elementwise sums."""

from __future__ import annotations

from alexandra.ir.graph import TensorType
from alexandra.ir.ops.rules import bound_dim, floats, merge, same
from alexandra.ir.ops.spec import Attrs, AttrSpec, OpSpec, ParamSpec, Types


def _equal(attrs: Attrs, types: Types) -> TensorType:
    result = floats(types[0])
    for other in types[1:]:
        result = merge(result, floats(other))
    return result


def _layernorm_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    width = bound_dim(types[0].shape[-1], "the input's size")
    return {"weight": ParamSpec((width,), "ones"), "bias": ParamSpec((width,), "zeros")}


def _rmsnorm_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    return {"weight": ParamSpec((bound_dim(types[0].shape[-1], "the input's size"),), "ones")}


def _batchnorm_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    width = bound_dim(types[0].shape[-1], "the input's size")
    return {
        "weight": ParamSpec((width,), "ones"),
        "bias": ParamSpec((width,), "zeros"),
        "mean": ParamSpec((width,), "zeros", trained=False),
        "variance": ParamSpec((width,), "ones", trained=False),
    }


def eps(default: float) -> AttrSpec:
    return AttrSpec(("float",), "added under the square root", default, low=0.0)


def elementwise(name: str, doc: str, **attrs: AttrSpec) -> OpSpec:
    return OpSpec(name, doc, 1, None, attrs, same, joins=True)


ROWS = (
    elementwise("relu", "max(x, 0)."),
    elementwise("leaky_relu", "x where x > 0, else slope * x.", slope=AttrSpec(("float",), "factor below zero", 0.01)),
    elementwise(
        "elu", "x where x > 0, else alpha * (exp(x) - 1).", alpha=AttrSpec(("float",), "the limit below zero", 1.0)
    ),
    elementwise("gelu", "x * Phi(x), with the exact normal distribution function."),
    elementwise("gelu_tanh", "gelu by its approximation x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2."),
    elementwise("silu", "x * sigmoid(x)."),
    elementwise("sigmoid", "1 / (1 + exp(-x))."),
    elementwise("tanh", "Hyperbolic tangent."),
    elementwise("softplus", "log(1 + exp(x))."),
    elementwise("softmax", "exp(x) over its sum along the last axis."),
    OpSpec(
        "layernorm",
        "Zero mean and unit variance along the last axis, times weight, plus bias.",
        1,
        None,
        {"eps": eps(1e-5)},
        same,
        _layernorm_params,
        joins=True,
    ),
    OpSpec(
        "rmsnorm",
        "x over its root mean square along the last axis, times weight.",
        1,
        None,
        {"eps": eps(1e-6)},
        same,
        _rmsnorm_params,
        joins=True,
    ),
    elementwise(
        "dropout",
        "In training, zeroes each value with probability `rate` and scales the rest by 1 / (1 - rate).",
        rate=AttrSpec(("float",), "probability of a zero", low=0.0, below=1.0, aliases=("p",)),
    ),
    elementwise("scale", "x * factor.", factor=AttrSpec(("float",), "what every value is multiplied with")),
    OpSpec(
        "batchnorm",
        "Zero mean and unit variance over rows and all axes but the last, times weight, plus bias; training uses the "
        "batch's statistics and moves the running ones by `momentum`, else the running ones are used.",
        1,
        None,
        {
            "eps": eps(1e-5),
            "momentum": AttrSpec(("float",), "weight of the newest batch", 0.1, low=0.0, below=1.0 + 1e-9),
        },
        same,
        _batchnorm_params,
        joins=True,
    ),
    OpSpec("add", "The sum of two or more inputs of one shape.", 2, None, {}, _equal),
    OpSpec("mul", "The elementwise product of two or more inputs of one shape.", 2, None, {}, _equal),
)

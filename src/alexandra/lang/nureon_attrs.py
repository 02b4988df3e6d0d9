"""Layer types and settings, checked against the op table where they are written.

A type is the name of an op in any case (LAYER_NORM is LAYERNORM); a setting is one of the op's attributes or its
alias. Words become what the attribute takes: TRUE and FALSE, AUTO, NONE, an allowed value in any case, a symbolic
axis such as SEQ in a shape. Everything about values that the table knows is checked by the table. A feed-forward
layer's LAYER_TYPE is one word for two settings (Shazeer, "GLU variants improve transformer", 2020).
"""

from __future__ import annotations

from alexandra.errors import GraphError, LanguageError, suggest
from alexandra.ir.graph import AUTO, Attr
from alexandra.ir.ops import OPS, AttrSpec
from alexandra.lang.lexis import Source, Span
from alexandra.lang.nureon_ast import Param
from alexandra.lang.nureon_space import NameRef, known_names
from alexandra.lang.nureon_values import Scope, Value, division_hint, show

# LAYER_TYPE=: the activation, and whether it gates a second projection.
FEED_FORWARD: dict[str, tuple[str, bool]] = {
    "glu": ("sigmoid", True),
    "bilinear": ("linear", True),
    "reglu": ("relu", True),
    "geglu": ("gelu", True),
    "swiglu": ("silu", True),
    "gelu": ("gelu", False),
    "relu": ("relu", False),
    "silu": ("silu", False),
}


def op_name(text: str) -> str | None:
    """The op that a layer type names, or None."""
    name = text.lower()
    if name in OPS:
        return name
    plain = name.replace("_", "")
    return next((op for op in OPS if op.replace("_", "") == plain), None)


def unknown_layer_type(source: Source, span: Span, text: str) -> LanguageError:
    return source.error(span, f"unknown layer type {text!r}", suggest(text, (op.upper() for op in OPS)))


def attributes(source: Source, op: str, param: Param, value: Value, scope: Scope) -> dict[str, Attr]:
    """The attributes that `param` sets, canonical. Raises LanguageError at the key or the value."""
    if param.key.lower() != "layer_type" or not {"activation", "gated"} <= OPS[op].attrs.keys():
        name, canonical = attribute(source, op, param, value, scope)
        return {name: canonical}
    word = value.text if isinstance(value, NameRef) else value
    if not isinstance(word, str) or word.lower() not in FEED_FORWARD:
        known = suggest(show(value).upper(), (name.upper() for name in FEED_FORWARD))
        raise source.error(param.value.span, f"unknown LAYER_TYPE {show(value)!r}", known)
    activation, gated = FEED_FORWARD[word.lower()]
    return {"activation": activation, "gated": gated}


def attribute(source: Source, op: str, param: Param, value: Value, scope: Scope) -> tuple[str, Attr]:
    """The attribute that `param` sets and its canonical value. Raises LanguageError at the key or the value."""
    spec = OPS[op]
    name = spec.attr_name(param.key)
    if name is None:
        known = suggest(param.key, [*spec.attrs, "name"])
        raise source.error(param.key_span, f"unknown attribute {param.key!r} of {op.upper()}", known)
    rule = spec.attrs[name]
    given = _given(source, param, rule, value, scope, is_alias=param.key.lower() != name)
    try:
        return name, rule.canonical(given)
    except GraphError as error:
        if rule.allowed is not None and isinstance(given, str):
            raise source.error(param.value.span, f"unknown {name} {given!r}", suggest(given, rule.allowed)) from None
        hint = error.hint or division_hint(value)
        raise source.error(param.value.span, f"{param.key} {error.message}", hint) from None


def _given(source: Source, param: Param, rule: AttrSpec, value: Value, scope: Scope, is_alias: bool) -> Attr:
    """The value as the table takes it; a word that is no setting is an unknown constant."""
    if isinstance(value, float) and value.is_integer() and ("int" in rule.kinds or "shape" in rule.kinds):
        return int(value)
    if not isinstance(value, NameRef | str):
        return value
    if isinstance(value, NameRef) and value.picks:
        raise source.error(param.value.span, f"{param.key} cannot be {show(value)}", f"it is {rule.wanted()}")
    word = value.text if isinstance(value, NameRef) else value
    if "auto" in rule.kinds and word.upper() == AUTO:
        return AUTO
    if "none" in rule.kinds and word.upper() == "NONE":
        return None
    if rule.allowed is not None:
        return word.lower() if word.lower() in rule.allowed else word
    takes_words = "str" in rule.kinds or ("shape" in rule.kinds and not is_alias)
    if isinstance(value, NameRef) and not takes_words:
        if word.upper() == AUTO:
            raise source.error(param.value.span, f"{param.key} cannot be AUTO here", f"it is {rule.wanted()}")
        names = scope.known("constants") | scope.known("arrays")
        hint = known_names(word, names) if names else f"{param.key} is {rule.wanted()}"
        raise source.error(param.value.span, f"unknown constant {word!r}", hint)
    return word

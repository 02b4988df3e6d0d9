"""`tied=`: an embedding and the projection back to its vocabulary use one matrix (Press and Wolf, 2017).

`LAYER EMBEDDING e tied=y` and `LAYER OUTPUT y tied=e` say the same, once or on both sides: the projection uses the
embedding's weights and has no bias, and a size that is AUTO is the other's. Layers may be named before they are
declared.
"""

from __future__ import annotations

from alexandra.ir.graph import AUTO
from alexandra.lang.lexis import Source
from alexandra.lang.nureon_space import Item, NameRef, Plan, resolve, unknown_layer

PROJECTIONS = ("output", "dense")


def tie(source: Source, plan: Plan) -> None:
    """Make every `tied=` of `plan` a shared matrix. Raises LanguageError at the name that cannot be tied."""
    for item in plan.items:
        if item.tied is not None:
            _tie(source, item, item.tied)


def _tie(source: Source, item: Item, ref: NameRef) -> None:
    other = _layer(source, ref)
    embedding, projection = (item, other) if item.op == "embedding" else (other, item)
    if embedding.op != "embedding" or projection.op not in PROJECTIONS:
        message = f"{item.local!r} ({item.op}) and {other.local!r} ({other.op}) cannot be tied"
        raise source.error(ref.span, message, "tied= joins an EMBEDDING and an OUTPUT or a DENSE; else write shared=")
    owner = projection.shared  # an instance of a SHARED module has its first instance's already
    if isinstance(owner, NameRef) or (owner is not None and owner.op == "embedding" and owner is not embedding):
        raise source.error(ref.span, f"{projection.local!r} already uses the weights of another layer")
    if projection.attrs.setdefault("bias", False):
        hint = "an embedding has none: leave bias= out, or write bias=FALSE"
        raise source.error(ref.span, f"{projection.local!r} is tied and has bias=TRUE", hint)
    projection.shared = owner or embedding
    size, vocab = projection.attrs.get("size"), embedding.attrs["vocab"]
    if size is None:
        message = f"{projection.local!r} has no size, so it is its input as it is"
        raise source.error(ref.span, message, "a tied output needs size=AUTO or the vocabulary's")
    projection.attrs["size"] = vocab if size == AUTO else size
    embedding.attrs["vocab"] = size if vocab == AUTO else vocab
    if projection.attrs["size"] != embedding.attrs["vocab"]:
        message = f"{projection.local!r} has size={size}, but {embedding.local!r} has vocab={vocab}"
        raise source.error(ref.span, message, "tied layers have one size; write it once and AUTO at the other")


def _layer(source: Source, ref: NameRef) -> Item:
    found = resolve(ref)
    if found is None:
        raise unknown_layer(source, ref)
    entity, picks = found
    if picks or not isinstance(entity, Item):
        raise source.error(ref.span, f"{str(ref)!r} is not a layer with weights")
    return entity

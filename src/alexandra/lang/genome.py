"""Typed edits of a network's program, for search over architectures: the program is the genome, its graph the body.

An Edit replaces one span of the canonical text. `edits` lists every one that the program offers, in a fixed order;
`apply` gives the edited program in canonical form, and only one that still develops into a verified network.
Nothing here trains or chooses by merit. After the developmental encodings of Gruau, "Neural network synthesis using
cellular encoding and the genetic algorithm" (1994): a change of one line may change the network in many places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from alexandra.errors import LanguageError
from alexandra.ir.check import Size
from alexandra.ir.graph import Graph
from alexandra.ir.ops import OPS, AttrSpec
from alexandra.lang.lexis import Limits, Source, Span
from alexandra.lang.nureon import compile_network, format_nureon
from alexandra.lang.nureon_ast import (
    Block,
    Connect,
    Layer,
    Let,
    Listing,
    Number,
    Param,
    Path,
    Repeat,
    Residual,
    Statement,
    inner_statements,
    parse_nureon,
)
from alexandra.rng import Stream

_T = TypeVar("_T")

# Layers of one input that keep its shape: what may replace each other, and be put between two layers.
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus")
NORMS = ("layernorm", "rmsnorm")
INSERTS = (*(f"LAYER {name.upper()}" for name in ("gelu", "silu", "tanh", *NORMS)), "LAYER DROPOUT rate=0.1")
# Small bodies: a mutated program that grows past these is no edit.
EDIT_LIMITS = Limits(layers=5_000, steps=100_000)


@dataclass(frozen=True)
class Edit:
    """One typed change: `kind` is a row of KINDS, text[start:stop] becomes `text`, `what` says it in words.

    `also` are further replacements that belong to it (a new layer's declaration beside its connection).
    """

    kind: str
    start: int
    stop: int
    text: str
    what: str
    also: tuple[tuple[int, int, str], ...] = ()


KINDS = {
    "number": "another value of a LET, a REPEAT count or a layer's setting",
    "word": "another of the allowed words of a layer's setting",
    "type": "another layer type of the same kind (activation for activation, norm for norm)",
    "insert": "a new layer that keeps shapes, in a chain or on a connection",
    "remove": "a layer less in a chain or on a connection",
    "duplicate": "a layer of a chain twice",
    "residual": "a layer of a chain inside a RESIDUAL of its own",
}


def develop(text: str, sizes: Mapping[str, Size] | None = None) -> Graph:
    """The network that a genome develops into. Raises LanguageError."""
    return compile_network(text, sizes, limits=EDIT_LIMITS)


def edits(text: str) -> tuple[Edit, ...]:
    """Every edit that `text` offers, in a fixed order. Positions are those of `text`; not all of them verify."""
    source = Source.of(text)
    found: list[Edit] = []
    program = parse_nureon(source)
    for statement, parent in _walk(program, None):
        found += _numbers(source, statement)
        if isinstance(statement, Layer):
            found += _words(source, statement)
            found += _chained(source, statement, parent)
        if isinstance(statement, Connect):
            found += _connections(source, statement, _declared(program))
    return tuple(found)


def apply(text: str, edit: Edit, sizes: Mapping[str, Size] | None = None) -> str:
    """`text` after `edit`, in canonical form. Raises LanguageError when that is no network any more."""
    result = text
    for start, stop, new in sorted([(edit.start, edit.stop, edit.text), *edit.also], reverse=True):
        result = result[:start] + new + result[stop:]
    result = format_nureon(result)
    develop(result, sizes)
    return result


def mutate(text: str, stream: Stream, sizes: Mapping[str, Size] | None = None) -> tuple[str, Edit]:
    """One edit that verifies, drawn by `stream`: first a kind, then an edit of it; LanguageError if none does."""
    canonical = format_nureon(text)
    develop(canonical, sizes)
    offered: dict[str, list[Edit]] = {}
    for edit in edits(canonical):
        offered.setdefault(edit.kind, []).append(edit)
    for kind in _shuffled(list(offered), stream.at(0)):
        for edit in _shuffled(offered[kind], stream.at(1)):
            try:
                result = apply(canonical, edit, sizes)
            except LanguageError:
                continue
            if result != canonical:
                return result, edit
    raise LanguageError("this program offers no edit that verifies", hint="give it a LET, a layer or a REPEAT")


def _shuffled(items: Sequence[_T], stream: Stream) -> list[_T]:
    return [items[int(i)] for i in stream.permutation(len(items))]


def _walk(statements: Sequence[Statement], parent: Statement | None) -> Iterator[tuple[Statement, Statement | None]]:
    """Every statement in the order of the text with the REPEAT, RESIDUAL or other one that holds its block."""
    for statement in statements:
        yield statement, parent
        owner = parent if isinstance(statement, Block) else statement
        yield from _walk(inner_statements(statement), owner)


def _declared(program: Sequence[Statement]) -> dict[str, Layer]:
    """Layers with a plain name that is declared once."""
    found: dict[str, list[Layer]] = {}
    for statement, _ in _walk(program, None):
        if isinstance(statement, Layer) and (name := _plain_name(statement)):
            found.setdefault(name, []).append(statement)
    return {name: layers[0] for name, layers in found.items() if len(layers) == 1}


def _plain_name(layer: Layer) -> str:
    value = next((p.value for p in layer.params if p.key.lower() == "name"), layer.name)
    return _plain(value) if isinstance(value, Path) else ""


def _plain(path: Path) -> str:
    return path.pieces[0].name if len(path.pieces) == 1 and not path.pieces[0].brackets else ""


# --- numbers and words ------------------------------------------------------------------------------------


def _numbers(source: Source, statement: Statement) -> Iterator[Edit]:
    if isinstance(statement, Let):
        values = statement.value.items if isinstance(statement.value, Listing) else (statement.value,)
        for value in values:
            yield from _other_numbers(value, f"LET {statement.name}")
    elif isinstance(statement, Repeat):
        yield from _other_numbers(statement.count, "REPEAT")
    elif isinstance(statement, Layer) and statement.type.lower() not in ("input", "output"):
        for param in statement.params:
            yield from _other_numbers(param.value, f"{statement.type.lower()} {param.key.lower()}")


def _other_numbers(value: object, where: str) -> Iterator[Edit]:
    if not isinstance(value, Number):
        return
    now = value.value
    others: list[int | float]
    if isinstance(now, int):
        others = sorted({n for n in (now // 2, now - 1, now + 1, now * 2) if n >= 1 and n != now})
    else:
        others = [float(f"{now * factor:.6g}") for factor in (0.5, 0.8, 1.25, 2.0) if now]
    for other in others:
        yield Edit("number", *_range(value.span), repr(other), f"{where}: {now} -> {other}")


def _words(source: Source, layer: Layer) -> Iterator[Edit]:
    spec = OPS.get(layer.type.lower())
    if spec is None or spec.name in ("input", "output"):
        return
    for param in layer.params:
        key = spec.attr_name(param.key)
        for word in _other_words(param, spec.attrs[key]) if key else ():
            yield Edit("word", *_range(param.value.span), word, f"{spec.name} {key}: {word}")
    for family in (ACTIVATIONS, NORMS):
        if spec.name in family:
            start, stop = _range(layer.type_span)
            for other in family:
                if other != spec.name and set(_keys(layer)) <= {"name", *OPS[other].attrs}:
                    yield Edit("type", start, stop, other.upper(), f"{spec.name} -> {other}")


def _other_words(param: Param, spec: AttrSpec) -> list[str]:
    if not isinstance(param.value, Path):
        return []
    now = _plain(param.value).lower()
    allowed = spec.allowed or (("true", "false") if now in ("true", "false") else ())
    return [word.upper() if now in ("true", "false") else word for word in allowed if word != now and word != "softmax"]


def _keys(layer: Layer) -> list[str]:
    return [param.key.lower() for param in layer.params]


# --- layers in chains and on connections --------------------------------------------------------------------


def _chained(source: Source, layer: Layer, parent: Statement | None) -> Iterator[Edit]:
    """What may happen to a layer that stands in the chain of a REPEAT or RESIDUAL."""
    if not isinstance(parent, Repeat | Residual) or "name" in _keys(layer) or layer.name is not None:
        return
    start, stop = _range(layer.span)
    written, kind = source.text[start:stop], layer.type.lower()
    for new in INSERTS:
        yield Edit("insert", stop, stop, f"\n{new}", f"{new} behind {kind}")
    yield Edit("remove", *_line(source.text, layer.span), "", f"without {kind}")
    yield Edit("duplicate", stop, stop, f"\n{written}", f"{kind} twice")
    yield Edit("residual", start, stop, f"RESIDUAL\nBEGIN\n{written}\nEND", f"a RESIDUAL around {kind}")


def _connections(source: Source, connect: Connect, layers: Mapping[str, Layer]) -> Iterator[Edit]:
    """A new layer between two ends of a CONNECT, or a layer of its middle left out with its declaration."""
    statement = connect.span.start
    for before, after in zip(connect.ends, connect.ends[1:], strict=False):
        for new in INSERTS:
            kind = new.split()[1].lower()
            name = _unused(f"{_plain(after) or 'layer'}_{kind}", source.text)
            declaration = new.replace(f"LAYER {kind.upper()}", f"LAYER {kind.upper()} name={name}")
            start = before.span.end
            also = ((statement, statement, f"{declaration}\n"),)
            yield Edit("insert", start, start, f" -> {name}", f"{kind} before {_plain(after) or 'a layer'}", also)
    for left, middle in zip(connect.ends, connect.ends[1:-1], strict=False):
        layer = layers.get(_plain(middle))
        if layer is not None:
            start, stop = left.span.end, middle.span.end
            yield Edit("remove", start, stop, "", f"without {_plain(middle)}", ((*_line(source.text, layer.span), ""),))


def _unused(name: str, text: str) -> str:
    words, number, result = set(text.replace("=", " ").split()), 1, name
    while result in words:
        number += 1
        result = f"{name}_{number}"
    return result


def _range(span: Span) -> tuple[int, int]:
    return span.start, span.end


def _line(text: str, span: Span) -> tuple[int, int]:
    """The span with the white space before it, so that no empty line stays behind."""
    return len(text[: span.start].rstrip()), span.end

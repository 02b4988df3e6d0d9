"""One spelling for each thing: what the seeds' README and the older dialect write is rewritten before all else.

    LAYER DENSE h size=8, LAYER h dense size=8   ->  LAYER DENSE name=h size=8
    INPUT x shape=(1, 128)                       ->  LAYER INPUT name=x shape=(1, 128)
    OUTPUT y size=3                              ->  LAYER OUTPUT name=y size=3
    OUTPUT e2, where a layer is named e2         ->  LAYER OUTPUT name=e2_out   CONNECT e2 -> e2_out
    CALL Encoder after INPUT x, not connected    ->  CALL Encoder               CONNECT x -> Encoder
The formatter prints the result; expansion sees nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from alexandra.lang.lexis import Span
from alexandra.lang.nureon_ast import (
    Block,
    Call,
    Connect,
    Define,
    Expand,
    For,
    If,
    Layer,
    Module,
    Param,
    Path,
    Piece,
    Repeat,
    Residual,
    Statement,
    inner_statements,
)
from alexandra.lang.nureon_attrs import op_name


def canonical(program: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The program in the one spelling."""
    return _Rewriter({name for layer in _layers(program) if (name := _plain_name(layer))}).body(program)


def _layers(program: tuple[Statement, ...]) -> Iterator[Layer]:
    stack = list(program)
    while stack:
        statement = stack.pop()
        if isinstance(statement, Layer):
            yield statement
        stack.extend(inner_statements(statement))


def _plain_name(layer: Layer) -> str:
    """The name that a layer statement declares, when it is one plain word and no bare `OUTPUT e2`."""
    if layer.short and layer.type.upper() == "OUTPUT" and not layer.params:
        return ""
    swapped = _swapped(layer)
    path = swapped.name or next((p.value for p in swapped.params if p.key.lower() == "name"), None)
    return path.word if isinstance(path, Path) else ""


def _swapped(layer: Layer) -> Layer:
    """LAYER e1 dense ... is LAYER DENSE e1 ..."""
    if layer.short or layer.name is None or op_name(layer.type) or not op_name(layer.name.word):
        return layer
    name = _path(layer.type, layer.type_span)
    return replace(layer, type=layer.name.word, name=name, type_span=layer.name.span)


def _path(word: str, span: Span) -> Path:
    return Path((Piece(word, (), span),), span)


class _Rewriter:
    def __init__(self, declared: set[str]) -> None:
        self.declared = declared

    def body(self, statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
        out: list[Statement] = []
        reached = {path.pieces[0].name for s in statements if isinstance(s, Connect) for path in s.ends[1:]}
        before: Path | None = None
        for statement in statements:
            if isinstance(statement, Layer):
                layers = self.layer(statement)
                out.extend(layers)
                if statement.short and statement.type.upper() == "INPUT":
                    before = statement.name
            elif isinstance(statement, Call) and before is not None and statement.keyword:
                out.append(statement)
                instance = statement.alias or Path(
                    (Piece(statement.name, (), statement.name_span),), statement.name_span
                )
                if statement.arguments is None and instance.word and instance.word not in reached:
                    out.append(Connect((before, instance), statement.span))
                before = instance
            else:
                out.append(self.statement(statement))
        return tuple(out)

    def layer(self, layer: Layer) -> list[Statement]:
        layer = _swapped(layer)
        kind = layer.type.upper() if op_name(layer.type) else layer.type
        path = layer.name
        if path is None:
            return [replace(layer, type=kind)]
        name = Param("name", path, path.span)
        if layer.short and kind == "OUTPUT" and not layer.params and path.pieces[-1].name in self.declared:
            result = _path("_".join(piece.name for piece in path.pieces) + "_out", path.span)
            made = replace(layer, type=kind, name=None, params=(replace(name, value=result),), short=False)
            return [made, Connect((path, result), layer.span)]
        return [replace(layer, type=kind, name=None, params=(name, *layer.params), short=False)]

    def block(self, block: Block) -> Block:
        return replace(block, body=self.body(block.body))

    def statement(self, statement: Statement) -> Statement:
        if isinstance(statement, Block):
            return self.block(statement)
        if isinstance(statement, If):
            otherwise = statement.otherwise and self.statement(statement.otherwise)
            assert otherwise is None or isinstance(otherwise, Block | If)
            return replace(statement, then=self.block(statement.then), otherwise=otherwise)
        if isinstance(statement, For | Module | Define | Repeat | Residual | Expand):
            return replace(statement, body=self.block(statement.body))
        return statement

"""The syntax tree of NureonLang and its builder: what was written, not yet what it means.

Nodes compare by meaning: positions, the spelling of numbers and the CALL keyword do not count. The builder's
methods replace the rules of nureon.lark while the text is parsed, so depth costs no recursion; `parse_nureon`
then bounds the depth of the tree, which is what lets every later walk recurse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alexandra.lang.lexis import Limits, Source, Span, limit_error, parse, span_of


def _span() -> Any:
    return field(compare=False, repr=False)


# ---------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True)
class Number:
    value: int | float
    text: str = field(compare=False)
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Text:
    """A STRING as written, with its quotes; lexis.string_value decodes it."""

    raw: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Dims:
    """28 x 28."""

    sizes: tuple[int, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Bracket:
    """[start], or [start:stop] when `is_range`; `tail` goes on with the name, as `_out` in h_[i]_out."""

    start: Expr | None
    stop: Expr | None
    is_range: bool
    tail: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Piece:
    name: str
    brackets: tuple[Bracket, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Path:
    """A dotted name whose pieces may carry brackets."""

    pieces: tuple[Piece, ...]
    span: Span = _span()

    @property
    def word(self) -> str:
        """The name when it is one plain word, else ""."""
        return self.pieces[0].name if len(self.pieces) == 1 and not self.pieces[0].brackets else ""


@dataclass(frozen=True, slots=True)
class Power:
    """(negated, base), (negated, exponent), ...: right-associative; a sign stands before all that follows it."""

    items: tuple[tuple[bool, Expr], ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Chain:
    """Left-associative: (operator, operand), ...; the first operator is "+" or "*"."""

    items: tuple[tuple[str, Expr], ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Group:
    inner: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[Expr, ...]
    span: Span = _span()


Expr = Number | Text | Dims | Path | Power | Chain | Group | Listing


# ---------------------------------------------------------------- statements


@dataclass(frozen=True, slots=True)
class Network:
    name: str
    raw: str = field(compare=False)
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class File:
    path: Text
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Param:
    key: str
    value: Expr
    key_span: Span = _span()

    @property
    def span(self) -> Span:
        return span_of(self.key_span, self.value.span)


@dataclass(frozen=True, slots=True)
class Layer:
    """`short` is the README's `INPUT x ...` and `OUTPUT e2` without LAYER."""

    type: str
    name: Path | None
    params: tuple[Param, ...]
    type_span: Span = _span()
    span: Span = _span()
    short: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    ends: tuple[Path, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Let:
    name: str
    index: Expr | None
    value: Expr
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Block:
    body: tuple[Statement, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class For:
    variable: str
    first: Expr
    last: Expr
    body: Block
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class If:
    left: Expr
    comparison: str
    right: Expr
    then: Block
    otherwise: Block | If | None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Module:
    name: str
    ports: tuple[str, ...] | None
    body: Block
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Define:
    name: str
    parameters: tuple[str, ...]
    body: Block
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Call:
    """A macro or module by name; `arguments` is None when no brackets were written."""

    name: str
    arguments: tuple[Expr, ...] | None
    alias: Path | None
    shared: bool
    keyword: bool = field(compare=False)
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Repeat:
    count: Expr
    name: str
    body: Block
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Residual:
    name: str
    body: Block
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Expand:
    """`axes` copies along axes (SPACE), or one copy per element of `group`."""

    axes: int
    group: str
    body: Block
    target_span: Span = _span()
    span: Span = _span()


Statement = (
    Network | File | Layer | Connect | Let | Block | For | If | Module | Define | Call | Repeat | Residual | Expand
)


def parse_nureon(source: Source, limits: Limits | None = None) -> tuple[Statement, ...]:
    """The statements of a program. Raises LanguageError, also when blocks nest deeper than the limit."""
    allowed = limits or Limits()
    program: tuple[Statement, ...] = parse("nureon", source, transformer=_Builder, limits=allowed)
    _check_depth(source, program, allowed.nesting)
    return program


def _check_depth(source: Source, program: Sequence[Statement], limit: int) -> None:
    stack = [(statement, 1) for statement in program]
    while stack:
        statement, depth = stack.pop()
        if depth > limit:
            raise limit_error(source, statement.span, "nesting", limit, "blocks are nested too deeply")
        stack.extend((inner, depth + 1) for inner in inner_statements(statement))


def inner_statements(statement: Statement) -> tuple[Statement, ...]:
    """The statements directly inside one."""
    if isinstance(statement, Block):
        return statement.body
    if isinstance(statement, If):
        return (statement.then, statement.otherwise) if statement.otherwise else (statement.then,)
    if isinstance(statement, For | Module | Define | Repeat | Residual | Expand):
        return (statement.body,)
    return ()


# ---------------------------------------------------------------- building


def _of(children: list[Any], kind: type[Any] | tuple[type[Any], ...]) -> list[Any]:
    return [child for child in children if isinstance(child, kind)]


def _span_over(children: list[Any]) -> Span:
    first, last = children[0], children[-1]
    return span_of(getattr(first, "span", first), getattr(last, "span", last))


_EXPRESSION = (Number, Text, Dims, Path, Power, Chain, Group, Listing)


class _Builder:
    """One method per rule of nureon.lark; children are all tokens and the results of inner rules, in order."""

    def start(self, children: list[Any]) -> tuple[Statement, ...]:
        out: list[Statement] = []
        for child in children:
            out.extend(child if isinstance(child, tuple) else () if isinstance(child, str) else (child,))
        return tuple(out)

    def statement(self, children: list[Any]) -> Any:
        return children[0]  # a lone semicolon

    def block(self, children: list[Any]) -> Block:
        return Block(self.start(children[1:-1]), _span_over(children))

    def network(self, children: list[Any]) -> Network:
        raw = "".join(children[1:])
        return Network(raw, raw, _span_over(children))

    def file(self, children: list[Any]) -> File:
        return File(self.text(children[1:]), _span_over(children))

    def layer(self, children: list[Any]) -> Layer | tuple[Layer, Call]:
        _, kind, *rest = children
        name = rest[0] if rest and isinstance(rest[0], Path) else None
        params = tuple(_of(rest, Param))
        if name and not params and name.word and name.span.line > kind.line:
            # LAYER RELU <new line> encoder: the second line calls a module
            call = Call(name.word, None, None, False, False, name.span, name.span)
            return Layer(str(kind), None, (), span_of(kind), _span_over(children[:2])), call
        return Layer(str(kind), name, params, span_of(kind), _span_over(children))

    def layer_then_call(self, children: list[Any]) -> tuple[Layer, Call]:
        kind = children[1]
        layer = Layer(str(kind), None, (), span_of(kind), _span_over(children[:2]))
        return layer, self.macro_call(children[2:])

    def short_layer(self, children: list[Any]) -> Layer:
        kind, name, *params = children
        return Layer(str(kind), name, tuple(params), span_of(kind), _span_over(children), short=True)

    def param(self, children: list[Any]) -> Param:
        return Param(str(children[0]), children[2], span_of(children[0]))

    def connect(self, children: list[Any]) -> Connect:
        return Connect(tuple(_of(children, Path)), _span_over(children))

    def let(self, children: list[Any]) -> Let:
        return Let(str(children[1]), None, children[3], span_of(children[1]), _span_over(children))

    def let_entry(self, children: list[Any]) -> Let:
        return Let(str(children[1]), children[3], children[6], span_of(children[1]), _span_over(children))

    def for_loop(self, children: list[Any]) -> For:
        _, variable, _, first, _, last, body = children
        return For(str(variable), first, last, body, _span_over(children))

    def if_else(self, children: list[Any]) -> If:
        _, left, comparison, right, then, *rest = children
        return If(left, comparison, right, then, rest[1] if rest else None, _span_over(children))

    def comparison(self, children: list[Any]) -> str:
        return "==" if children[0] == "=" else str(children[0])

    def names(self, children: list[Any]) -> tuple[str, ...]:
        return tuple(str(name) for name in children[::2])

    def module(self, children: list[Any]) -> Module:
        ports = next(iter(_of(children, tuple)), () if len(children) > 3 else None)
        return Module(str(children[1]), ports, children[-1], _span_over(children))

    def define(self, children: list[Any]) -> Define:
        parameters = next(iter(_of(children, tuple)), ())
        return Define(str(children[1]), parameters, children[-1], _span_over(children))

    def arguments(self, children: list[Any]) -> tuple[Expr, ...]:
        return tuple(children[::2])

    def bare_call(self, children: list[Any]) -> Call:
        return Call(str(children[0]), None, None, False, False, span_of(children[0]), span_of(children[0]))

    def macro_call(self, children: list[Any]) -> Call:
        arguments = next(iter(_of(children, tuple)), ())
        return Call(str(children[0]), arguments, None, False, False, span_of(children[0]), _span_over(children))

    def keyword_call(self, children: list[Any]) -> Call:
        rest = children[2:]
        arguments = next(iter(_of(rest, tuple)), () if "(" in rest else None)
        alias = next(iter(_of(rest, Path)), None)
        shared = isinstance(rest[-1], str) and rest[-1].upper() == "SHARED" if rest else False
        return Call(str(children[1]), arguments, alias, shared, True, span_of(children[1]), _span_over(children))

    def repeat(self, children: list[Any]) -> Repeat:
        name = str(children[3]) if len(children) > 3 else ""
        return Repeat(children[1], name, children[-1], _span_over(children))

    def residual(self, children: list[Any]) -> Residual:
        name = str(children[2]) if len(children) > 2 else ""
        return Residual(name, children[-1], _span_over(children))

    def expand_space(self, children: list[Any]) -> Expand:
        token = children[3]
        return Expand(_whole(token[:-1]), "", children[-1], span_of(token), _span_over(children))

    def expand_group(self, children: list[Any]) -> Expand:
        token = children[-2]
        return Expand(0, str(token), children[-1], span_of(token), _span_over(children))

    def path(self, children: list[Any]) -> Path:
        return Path(tuple(children[::2]), _span_over(children))

    def piece(self, children: list[Any]) -> Piece:
        return Piece(str(children[0]), tuple(children[1:]), _span_over(children))

    def index(self, children: list[Any]) -> Bracket:
        tail = str(children[3]) if len(children) > 3 else ""
        return Bracket(children[1], None, False, tail, _span_over(children))

    def extent(self, children: list[Any]) -> Bracket:
        colon = next(i for i, child in enumerate(children) if child == ":")
        start = children[1] if colon == 2 else None
        stop = children[colon + 1] if colon + 1 < len(children) - 1 else None
        return Bracket(start, stop, True, "", _span_over(children))

    def integer(self, children: list[Any]) -> Number:
        return Number(_whole(children[0]), str(children[0]), span_of(children[0]))

    def decimal(self, children: list[Any]) -> Number:
        return Number(float(children[0]), str(children[0]), span_of(children[0]))

    def text(self, children: list[Any]) -> Text:
        return Text(str(children[0]), span_of(children[0]))

    def dims(self, children: list[Any]) -> Dims:
        sizes = tuple(_whole(part) for part in str(children[0]).lower().split("x"))
        return Dims(sizes, span_of(children[0]))

    def group(self, children: list[Any]) -> Group:
        return Group(children[1], _span_over(children))

    def listing(self, children: list[Any]) -> Listing:
        return Listing(tuple(_of(children, _EXPRESSION)), _span_over(children))

    def power(self, children: list[Any]) -> Expr:
        items: list[tuple[bool, Expr]] = []
        negated = False
        for child in children:
            if isinstance(child, _EXPRESSION):
                items.append((negated, child))
                negated = False
            elif child == "-":
                negated = not negated
        if len(items) == 1 and not items[0][0]:
            return items[0][1]
        return Power(tuple(items), _span_over(children))

    def product(self, children: list[Any]) -> Chain:
        return self._chain("*", children)

    def sum(self, children: list[Any]) -> Chain:
        return self._chain("+", children)

    def _chain(self, first: str, children: list[Any]) -> Chain:
        operators = [first, *(str(token) for token in children[1::2])]
        return Chain(tuple(zip(operators, children[::2], strict=True)), _span_over(children))


def _whole(text: str) -> int:
    """int() of digits; very long ones are cut to a number that every size check refuses."""
    digits = text.strip().lstrip("0")
    return int(digits or "0") if len(digits) <= 30 else 10**30

"""The canonical layout of NureonLang: two spaces a level, keywords in capitals, one statement a line, comments kept.

The program is printed from its syntax tree in the one spelling of nureon_forms.py, so formatting twice changes
nothing and the result means the same. A comment stays behind the statement it stood behind, or on a line of its
own before what follows it; of several blank lines one remains.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from alexandra.lang.lexis import Comment, Source, comments, without_comments
from alexandra.lang.nureon_ast import (
    Block,
    Bracket,
    Call,
    Chain,
    Connect,
    Define,
    Dims,
    Expand,
    Expr,
    File,
    For,
    Group,
    If,
    Layer,
    Let,
    Listing,
    Module,
    Network,
    Number,
    Path,
    Repeat,
    Residual,
    Statement,
    Text,
    parse_nureon,
)
from alexandra.lang.nureon_forms import canonical


def format_program(source: Source) -> str:
    """The text of `source` in canonical layout. Raises LanguageError when it does not parse."""
    printer = _Printer(source)
    printer.body(canonical(parse_nureon(source)), 0)
    return _with_comments(source, printer.lines)


@dataclass
class _Line:
    """One line of output and the part of the source text that it stands for."""

    indent: int
    text: str
    start: int
    end: int

    @property
    def inside(self) -> int:
        """The indent of a comment on a line of its own before this one."""
        return self.indent + 1 if self.text == "END" else self.indent


# ---------------------------------------------------------------- statements


class _Printer:
    def __init__(self, source: Source) -> None:
        self.lines: list[_Line] = []
        self.bare = without_comments(source)

    def body(self, statements: tuple[Statement, ...], indent: int) -> None:
        for statement in statements:
            self.statement(statement, indent)

    def statement(self, statement: Statement, indent: int) -> None:
        if isinstance(statement, Block):
            self.block(statement, indent)
        elif isinstance(statement, If):
            self.if_else(statement, indent, statement.span.start, "")
        elif isinstance(statement, For | Module | Define | Repeat | Residual | Expand):
            self.header(indent, _header(statement), statement.span.start, statement.body)
            self.block(statement.body, indent)
        else:
            self.lines.append(_Line(indent, _one_line(statement), statement.span.start, statement.span.end))

    def header(self, indent: int, text: str, start: int, block: Block) -> None:
        end = start + len(self.bare[start : block.span.start].rstrip())
        self.lines.append(_Line(indent, text, start, end))

    def block(self, block: Block, indent: int) -> None:
        start, end = block.span.start, block.span.end
        self.lines.append(_Line(indent, "BEGIN", start, start + len("BEGIN")))
        self.body(block.body, indent + 1)
        self.lines.append(_Line(indent, "END", end - len("END"), end))

    def if_else(self, statement: If, indent: int, start: int, before: str) -> None:
        test = f"{before}IF {_expr(statement.left)} {statement.comparison} {_expr(statement.right)}"
        self.header(indent, test, start, statement.then)
        self.block(statement.then, indent)
        if statement.otherwise is None:
            return
        start = self.bare.lower().index("else", statement.then.span.end)
        if isinstance(statement.otherwise, If):
            self.if_else(statement.otherwise, indent, start, "ELSE ")
        else:
            self.lines.append(_Line(indent, "ELSE", start, start + len("ELSE")))
            self.block(statement.otherwise, indent)


def _header(statement: For | Module | Define | Repeat | Residual | Expand) -> str:
    if isinstance(statement, For):
        return f"FOR {statement.variable} FROM {_expr(statement.first)} TO {_expr(statement.last)}"
    if isinstance(statement, Module):
        ports = "" if statement.ports is None else f"({', '.join(statement.ports)})"
        return f"MODULE {statement.name}{ports}"
    if isinstance(statement, Define):
        return f"DEFINE {statement.name}({', '.join(statement.parameters)})"
    if isinstance(statement, Expand):
        return f"EXPAND GROUP = {statement.group}" if statement.group else f"EXPAND SPACE = {statement.axes}D"
    named = f" AS {statement.name}" if statement.name else ""
    return f"REPEAT {_expr(statement.count)}{named}" if isinstance(statement, Repeat) else f"RESIDUAL{named}"


def _one_line(statement: Network | File | Layer | Connect | Let | Call) -> str:
    if isinstance(statement, Network):
        return f"NETWORK {statement.name}"
    if isinstance(statement, File):
        return f"FILE {statement.path.raw}"
    if isinstance(statement, Layer):
        assert statement.name is None, "nureon_forms.canonical makes it a parameter"
        return " ".join(["LAYER", statement.type, *(f"{p.key}={_expr(p.value, tight=True)}" for p in statement.params)])
    if isinstance(statement, Connect):
        return "CONNECT " + " -> ".join(map(_path, statement.ends))
    if isinstance(statement, Let):
        index = "" if statement.index is None else f"[{_expr(statement.index, tight=True)}]"
        return f"LET {statement.name}{index} = {_expr(statement.value)};"
    return _call(statement)


def _call(call: Call) -> str:
    arguments = "" if call.arguments is None else f"({', '.join(map(_expr, call.arguments))})"
    alias = "" if call.alias is None else f" AS {_path(call.alias)}"
    word = "CALL " if call.keyword or call.arguments is None or alias or call.shared else ""
    return f"{word}{call.name}{arguments}{alias}{' SHARED' if call.shared else ''}"


# ---------------------------------------------------------------- expressions


def _expr(expr: Expr, tight: bool = False) -> str:
    """`tight`: without spaces around operators, inside brackets and parameters."""
    if isinstance(expr, Number):
        return expr.text
    if isinstance(expr, Text):
        return expr.raw
    if isinstance(expr, Dims):
        return " x ".join(map(str, expr.sizes))
    if isinstance(expr, Path):
        return _path(expr)
    if isinstance(expr, Group):
        return f"({_expr(expr.inner, tight)})"
    if isinstance(expr, Listing):
        inner = ", ".join(_expr(item, tight) for item in expr.items)
        return f"({inner},)" if len(expr.items) == 1 else f"({inner})"
    if isinstance(expr, Chain):
        space = "" if tight else " "
        first, *rest = expr.items
        return _expr(first[1], tight) + "".join(f"{space}{sign}{space}{_expr(item, tight)}" for sign, item in rest)
    return "^".join(("-" if negated else "") + _expr(item, tight) for negated, item in expr.items)


def _path(path: Path) -> str:
    return ".".join(piece.name + "".join(map(_bracket, piece.brackets)) for piece in path.pieces)


def _bracket(bracket: Bracket) -> str:
    start = "" if bracket.start is None else _expr(bracket.start, tight=True)
    if not bracket.is_range:
        return f"[{start}]{bracket.tail}"
    return f"[{start}:{'' if bracket.stop is None else _expr(bracket.stop, tight=True)}]"


# ---------------------------------------------------------------- comments


@dataclass
class _Placed:
    """Something to print: its text, and where it began and ended in the source."""

    text: str
    start: int
    end: int


def _with_comments(source: Source, lines: list[_Line]) -> str:
    """The lines with every comment behind the line it followed, or on its own line before the next."""
    behind: dict[int, list[Comment]] = {}
    before: dict[int, list[Comment]] = {}
    current = 0
    for comment in comments(source):
        while current < len(lines) and lines[current].end <= comment.span.start:
            current += 1
        last = current - 1
        if last >= 0 and "\n" not in source.text[lines[last].end : comment.span.start]:
            behind.setdefault(last, []).append(comment)
        else:
            before.setdefault(current, []).append(comment)
    out: list[_Placed] = []
    for number, line in enumerate([*lines, _Line(0, "", len(source.text), len(source.text))]):
        for comment in before.get(number, []):
            start = comment.span.start
            out.append(_Placed("  " * line.inside + comment.text, start, start + len(comment.text)))
        if number < len(lines):
            trailing = "".join(f" {comment.text}" for comment in behind.get(number, []))
            end = max([line.end, *(c.span.start + len(c.text) for c in behind.get(number, []))])
            out.append(_Placed("  " * line.indent + line.text + trailing, line.start, end))
    return "".join(_spaced(source, out))


_BLANK = re.compile(r"\n[ \t\f]*\n")


def _spaced(source: Source, placed: list[_Placed]) -> list[str]:
    """The texts as lines, with one blank line where the source had some, but none at the edges of a block."""
    out: list[str] = []
    for number, this in enumerate(placed):
        before = placed[number - 1] if number else None
        opens = before is not None and before.text.strip().startswith("BEGIN")
        closes = this.text.strip() == "END" or this.text.strip().startswith("END ")
        if before is not None and not opens and not closes and _BLANK.search(source.text[before.end : this.start]):
            out.append("\n")
        out.append(this.text + "\n")
    return out

"""The lexis of the three languages: parsers built once from .lark files, positions, errors, literals, comments.

A grammar file beside this module imports its terminals from lexis.lark. `parse` turns every failure of the
parser into one LanguageError with a position and a way out, and keeps the stated `Limits`. The parser is LALR
(no recursion over the text); lark itself is imported at the first parse, not with the package.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alexandra.errors import LanguageError

if TYPE_CHECKING:
    from lark import Lark, Token
    from lark.exceptions import UnexpectedInput


@dataclass(frozen=True)
class Limits:
    """What a program may cost; every limit ends in a LanguageError that names it. Pass another to raise one.

    characters  length of the text
    nesting     depth of brackets, blocks, and of calls while expanding
    steps       statements and expressions worked through while expanding
    layers      nodes of the network
    """

    characters: int = 1_000_000
    nesting: int = 64
    steps: int = 500_000
    layers: int = 50_000


class Span(NamedTuple):
    """Where something stands: line and column from 1, offsets from 0; `end` is one past the last character."""

    line: int
    column: int
    start: int
    end: int

    @property
    def length(self) -> int:
        return max(1, self.end - self.start)


NOWHERE = Span(1, 1, 0, 0)


def span_of(first: Token | Span, last: Token | Span | None = None) -> Span:
    """The span from `first` to `last` (default: `first` alone), each a lark Token or a Span."""
    begin = first if isinstance(first, Span) else _token_span(first)
    if last is None:
        return begin
    end = last if isinstance(last, Span) else _token_span(last)
    return Span(begin.line, begin.column, begin.start, end.end)


def _token_span(token: Token) -> Span:
    start = token.start_pos or 0
    return Span(token.line or 1, token.column or 1, start, start + len(token))


@dataclass(frozen=True)
class Source:
    """One program text with its file name; line ends are \\n, a leading byte-order mark is dropped."""

    text: str
    file: str = "<text>"

    @staticmethod
    def of(text: str, file: str = "<text>") -> Source:
        return Source(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), file)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def line_starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def at(self, offset: int, length: int = 1) -> Span:
        """The span of `length` characters at a character offset."""
        line = bisect_right(self.line_starts, offset)
        return Span(line, offset - self.line_starts[line - 1] + 1, offset, offset + length)

    def error(self, span: Span | Token, message: str, hint: str = "") -> LanguageError:
        """The LanguageError at `span`; the underline stays within the first line of the span."""
        where = span if isinstance(span, Span) else _token_span(span)
        line = self.lines[where.line - 1] if where.line <= len(self.lines) else ""
        room = max(1, len(line) - where.column + 1)
        return LanguageError(
            message,
            file=self.file,
            line=where.line,
            column=where.column,
            length=min(where.length, room),
            source_line=line.replace("\t", " ").rstrip(),
            hint=hint,
        )


def limit_error(source: Source, span: Span, limit: str, value: int, what: str) -> LanguageError:
    """The error for an exceeded limit: `what` says what is too large, `limit` is the field of Limits."""
    hint = f"make the program smaller, or raise it: limits=Limits({limit}=...)"
    return source.error(span, f"{what}: the limit '{limit}' is {value:,}", hint)


@cache
def parser(grammar: str, transformer: Callable[[], Any] | None = None, start: str = "start") -> Lark:
    """The LALR parser of `<grammar>.lark` beside this module from rule `start`, built once per process.

    With `transformer` (a class without state) its methods replace rules while parsing, so no tree is built.
    Every token, punctuation too, is passed on (`keep_all_tokens`): first and last child give the span.
    """
    from lark import Lark

    return Lark.open(
        str(Path(__file__).with_name(f"{grammar}.lark")),
        parser="lalr",
        lexer="contextual",
        propagate_positions=transformer is None,
        keep_all_tokens=transformer is not None,
        maybe_placeholders=False,
        start=start,
        transformer=transformer() if transformer else None,
    )


def parse(
    grammar: str,
    source: Source,
    *,
    transformer: Callable[[], Any] | None = None,
    start: str = "start",
    limits: Limits | None = None,
) -> Any:
    """Parse a whole text: a lark Tree, or what `transformer` makes of rule `start`. Raises LanguageError."""
    from lark.exceptions import UnexpectedInput

    allowed = limits or Limits()
    if len(source.text) > allowed.characters:
        raise limit_error(
            source, NOWHERE, "characters", allowed.characters, f"the text has {len(source.text):,} characters"
        )
    _check_brackets(source, allowed)
    machine = parser(grammar, transformer, start)
    try:
        return machine.parse(source.text)
    except UnexpectedInput as error:
        raise _syntax_error(source, error, machine) from None


# Texts and comments; an open one reaches to the end of its line or of all, so that a search passes over it once.
_SKIP = r'"(?:\\.|[^"\\\n])*"?|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)'
_BRACKET = re.compile(_SKIP + r"|([(\[])|([)\]])")
_BLOCK = re.compile(_SKIP + r"|(?<![\w.=])(BEGIN|END)\b", re.IGNORECASE)


def _check_brackets(source: Source, limits: Limits) -> None:
    depth = 0
    for match in _BRACKET.finditer(source.text):
        if match.group(1):
            depth += 1
            if depth > limits.nesting:
                raise limit_error(
                    source, source.at(match.start()), "nesting", limits.nesting, "brackets are nested too deeply"
                )
        elif match.group(2):
            depth = max(0, depth - 1)


# ---------------------------------------------------------------- syntax errors

_WORDS = {
    "NAME": "a name",
    "INT": "a whole number",
    "FLOAT": "a number",
    "STRING": 'a "text"',
    "DURATION": "a duration (5m)",
    "SIZE": "a size (2GB)",
    "PERCENT": "a percentage (70%)",
    "DIMS": "a shape (28 x 28)",
    "COMPARE": "a comparison",
    "TAIL": "",
    "KEY": "name=value",
    "AXES": "a number of axes (3D)",
    "$END": "the end of the text",
}


def _syntax_error(source: Source, error: UnexpectedInput, machine: Lark) -> LanguageError:
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    if isinstance(error, UnexpectedCharacters):
        return _character_error(source, error.pos_in_stream or 0, _display(error.allowed, machine))
    assert isinstance(error, UnexpectedToken)
    token = error.token
    expected = _display(error.accepts or error.expected, machine)
    if token.type == "$END":
        return _end_error(source, expected)
    span = _token_span(token)
    start = span.start - int(token == "*")
    if source.text.startswith("/*", max(0, start)):
        return _character_error(source, start, expected)
    statement = _misspelt_statement(source, span, machine)
    if statement:
        return statement
    near = _nearest(str(token), [word for word in expected if word[:1].isupper()])
    return source.error(span, f"unexpected {_quote_token(token)}", _expected_hint(expected, near))


def _display(terminals: Iterable[str] | None, machine: Lark) -> list[str]:
    """Terminal names in a reader's words, keywords in capitals, sorted."""
    from lark.lexer import PatternStr

    patterns = {terminal.name: terminal.pattern for terminal in machine.terminals}
    words = set()
    for name in terminals or ():
        if name in _WORDS:
            words.add(_WORDS[name])
        elif isinstance(patterns.get(name), PatternStr):
            value = patterns[name].value
            words.add(value.upper() if value.isalpha() else f"'{value}'")
        elif name not in ("COMMENT", "WS"):
            words.add(name)
    words.discard("")
    return sorted(words)


def _expected_hint(expected: list[str], near: str) -> str:
    shown = expected if len(expected) <= 24 else [*expected[:24], "..."]
    hint = f"expected: {', '.join(shown)}." if shown else ""
    return f"{hint} Did you mean '{near}'?" if near else hint


def _quote_token(token: str) -> str:
    text = str(token)
    return repr(text) if len(text) <= 40 else repr(text[:37] + "...")


def _nearest(word: str, allowed: Iterable[str], cutoff: float = 0.6) -> str:
    import difflib

    names = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=cutoff)
    return names[near[0]] if near else ""


_LINE_START = re.compile(r"[ \t]*([A-Za-z_][A-Za-z_0-9]*)(?=[ \t]+[A-Za-z_])")


def _misspelt_statement(source: Source, span: Span, machine: Lark) -> LanguageError | None:
    """An error at the first word of the line when that word is nearly a keyword ('LAYR DENSE name=h')."""
    match = _LINE_START.match(source.lines[span.line - 1]) if span.line <= len(source.lines) else None
    if not match:
        return None
    keywords = [name for name in (t.pattern.value.upper() for t in machine.terminals) if name.isalpha()]
    word = match.group(1)
    if word.upper() in keywords or not (near := _nearest(word, keywords, cutoff=0.7)):
        return None
    start = span.start - (span.column - 1) + match.start(1)
    where = Span(span.line, match.start(1) + 1, start, start + len(word))
    return source.error(where, f"unknown statement {word!r}", f"Did you mean '{near}'?")


def _character_error(source: Source, offset: int, expected: list[str]) -> LanguageError:
    text = source.text
    here = text[offset : offset + 1]
    if text.startswith("/*", offset):
        return source.error(source.at(offset, 2), "this comment is not closed", "close it with */")
    if here == '"':
        end = text.find("\n", offset)
        length = (end if end >= 0 else len(text)) - offset
        return source.error(source.at(offset, length), "this text is not closed", 'close it with " on the same line')
    glued = re.compile(r"[0-9][A-Za-z_0-9.]*").match(text, offset)
    if glued and not glued.group().isdigit():
        word = glued.group()
        return source.error(source.at(offset, len(word)), f"{word!r} is not a number", _expected_hint(expected, ""))
    shown = repr(here) if here.isprintable() and here.isascii() else f"{here!r} (U+{ord(here):04X})"
    return source.error(source.at(offset), f"unexpected character {shown}", _expected_hint(expected, ""))


def _end_error(source: Source, expected: list[str]) -> LanguageError:
    """The text ended too early: point at its last character and name the BEGIN that is still open."""
    stripped = source.text.rstrip()
    hint = _expected_hint(expected, "")
    if "END" in expected:
        opened: list[int] = []
        for match in _BLOCK.finditer(stripped):
            word = (match.group(1) or "").upper()
            if word == "BEGIN":
                opened.append(match.start())
            elif word == "END" and opened:
                opened.pop()
        if opened:
            where = source.at(opened[-1])
            hint = f"the BEGIN of line {where.line} has no END. {hint}"
    return source.error(source.at(max(0, len(stripped) - 1)), "the text ends too early", hint)


# ---------------------------------------------------------------- literals

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}
_SECONDS = {"us": "0.000001", "ms": "0.001", "s": "1", "m": "60", "h": "3600", "d": "86400"}
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def string_value(source: Source, token: Token | Span) -> str:
    """The text of a STRING token; escapes are those of JSON."""
    span = token if isinstance(token, Span) else _token_span(token)
    raw = source.text[span.start + 1 : span.end - 1]

    def replaced(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] == "u" and len(code) == 5 and not 0xD800 <= int(code[1:], 16) <= 0xDFFF:
            return chr(int(code[1:], 16))
        if code in _ESCAPES:
            return _ESCAPES[code]
        where = source.at(span.start + 1 + match.start(), 1 + len(code))
        raise source.error(where, f"unknown escape '\\{code}' in a text", r"known: \n, \t, \r, \", \\, \/, \uXXXX.")

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|.)", replaced, raw)


def quote(text: str) -> str:
    """The STRING literal of a text; `string_value` is its inverse."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + re.sub(r"[\x00-\x1f\x7f\u2028\u2029]", lambda m: f"\\u{ord(m.group()):04x}", escaped) + '"'


def duration_seconds(text: str) -> float:
    """Seconds of a DURATION ('5m', '20ms', '2h'), the nearest float to what is written."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(Decimal(number) * Decimal(_SECONDS[unit]))


def size_bytes(text: str) -> int:
    """Bytes of a SIZE: kB, MB, GB, TB are powers of 1000; KiB, MiB, GiB, TiB powers of 1024."""
    number, prefix, binary = re.fullmatch(r"([0-9.]+)([kKMGT]?)(i?)B", text).groups()  # type: ignore[union-attr]
    prefix = "k" if prefix == "K" else prefix
    scale = 1024 ** "kMGT".index(prefix) * 1024 if binary else _BYTES[prefix]
    return round(float(number) * scale)


def percent_value(text: str) -> float:
    """The fraction of a PERCENT ('70%' is 0.7), the nearest float to what is written."""
    return float(Decimal(text.rstrip("% \t")).scaleb(-2))


# ---------------------------------------------------------------- comments


@dataclass(frozen=True)
class Comment:
    """A comment as written; `own_line` when nothing but white space stands before it on its line."""

    text: str
    span: Span
    own_line: bool


_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"?|(//[^\n]*|/\*[\s\S]*?(?:\*/|\Z))')


def comments(source: Source) -> list[Comment]:
    """All comments in order: formatters put them back, because the parser never sees them."""
    found = []
    for match in _COMMENT.finditer(source.text):
        if match.group(1):
            span = source.at(match.start(), len(match.group(1)))
            before = source.text[source.text.rfind("\n", 0, match.start()) + 1 : match.start()]
            found.append(Comment(match.group(1).rstrip(), span, not before.strip()))
    return found


def without_comments(source: Source) -> str:
    """The text with every comment replaced by as many spaces: offsets stay."""
    return _COMMENT.sub(lambda match: " " * len(match.group()) if match.group(1) else match.group(), source.text)

"""Constants and arithmetic of NureonLang, decided while expanding.

Rules: `^` is right-associative and binds tighter than the sign before it (-2^2 is -4); `/` of two whole numbers is
whole when it comes out even, else a decimal number (no silent rounding); `%` is the remainder, never negative for a
positive divisor; `+` joins texts. A word that names no constant is itself: a layer's name, or a setting such as relu.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field

from alexandra.errors import LanguageError
from alexandra.lang.lexis import Limits, Source, Span, limit_error, string_value
from alexandra.lang.nureon_ast import (
    Bracket,
    Chain,
    Define,
    Dims,
    Expr,
    Group,
    Listing,
    Module,
    Number,
    Path,
    Piece,
    Power,
    Text,
)
from alexandra.lang.nureon_space import NameRef, Pick, Space, known_names

Value = int | float | bool | str | NameRef | tuple[int | str, ...]

LARGEST = 2**63 - 1
LONGEST_TEXT = 1000


@dataclass(frozen=True, eq=False)
class Definition:
    """A DEFINE or MODULE with the scope and the space of its text."""

    node: Define | Module
    scope: Scope
    space: Space


@dataclass(eq=False)
class Scope:
    """Constants, arrays and definitions of one block, over those of the block around its text."""

    parent: Scope | None = None
    constants: dict[str, Value] = field(default_factory=dict)
    arrays: dict[str, dict[int, Value]] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    spans: dict[str, Span] = field(default_factory=dict)

    def constant(self, name: str) -> Value | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.constants:
                return scope.constants[name]
            if name in scope.arrays:
                return None
            scope = scope.parent
        return None

    def array(self, name: str) -> dict[int, Value] | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.arrays:
                return scope.arrays[name]
            if name in scope.constants:
                return None
            scope = scope.parent
        return None

    def definition(self, name: str) -> Definition | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.definitions:
                return scope.definitions[name]
            scope = scope.parent
        return None

    def is_parameter(self, name: str) -> bool:
        """Whether the nearest constant of that name is a macro's parameter."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.constants or name in scope.arrays:
                return name in scope.parameters
            scope = scope.parent
        return False

    def known(self, kind: str) -> set[str]:
        """All names of one kind ("constants", "arrays", "definitions") visible here."""
        names: set[str] = set()
        scope: Scope | None = self
        while scope is not None:
            names.update(getattr(scope, kind))
            scope = scope.parent
        return names


class Evaluator:
    """Computes expressions of one program and counts its steps."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.steps = 0

    def step(self, span: Span) -> None:
        """Count one step; LanguageError at the limit."""
        self.steps += 1
        if self.steps > self.limits.steps:
            raise limit_error(self.source, span, "steps", self.limits.steps, "expanding the program takes too long")

    def value(self, expr: Expr, scope: Scope, space: Space) -> Value:
        """The value of an expression; a name without a value is a NameRef."""
        self.step(expr.span)
        if isinstance(expr, Number):
            return self._sized(expr.value, expr.span)
        if isinstance(expr, Path):
            return self._path_value(expr, scope, space)
        if isinstance(expr, Text):
            return string_value(self.source, expr.span)
        if isinstance(expr, Dims):
            self._not_longer(len(expr.sizes), expr.span)
            return tuple(int(self._sized(size, expr.span)) for size in expr.sizes)
        if isinstance(expr, Group):
            return self.value(expr.inner, scope, space)
        if isinstance(expr, Listing):
            return tuple(self._listed(item, scope, space) for item in expr.items)
        if isinstance(expr, Power):
            return self._power(expr, scope, space)
        return self._chain(expr, scope, space)

    def whole(self, expr: Expr, scope: Scope, space: Space, what: str) -> int:
        """A whole number, or a LanguageError that says what it is for."""
        value = self.value(expr, scope, space)
        if isinstance(value, NameRef):
            raise self.unknown_constant(value, scope)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            message = f"{what} must be a whole number, got {show(value)}"
            raise self.source.error(expr.span, message, division_hint(value))
        return value

    def unknown_constant(self, ref: NameRef, scope: Scope) -> LanguageError:
        names = scope.known("constants") | scope.known("arrays")
        hint = known_names(str(ref), names) if names else "no constant is declared here: write LET name = value."
        return self.source.error(ref.span, f"unknown constant {str(ref)!r}", hint)

    # ---- names

    def ref(self, path: Path, scope: Scope, space: Space) -> NameRef:
        """The layer name that a path writes: pieces computed, macro parameters and text constants put in."""
        words: list[str] = []
        picks: tuple[Pick, ...] = ()
        where, given = space, False
        self._not_longer(len(path.pieces) + sum(len(piece.brackets) for piece in path.pieces), path.span)
        for number, piece in enumerate(path.pieces):
            first = scope.constant(piece.name) if number == 0 else None
            if isinstance(first, NameRef):
                where, given, picks = first.space, True, first.picks
                words.extend(first.words[:-1])
                word = first.words[-1]
            elif isinstance(first, str):
                *before, word = self._text_words(first, piece.span)
                words.extend(before)
            elif first is not None and scope.is_parameter(piece.name):
                message = f"parameter {piece.name!r} is {show(first)}, where the name of a layer is needed"
                raise self.source.error(piece.span, message, "pass a name in the call")
            else:
                word = piece.name
            is_last = number == len(path.pieces) - 1
            word, picked = self._word(piece, word, is_last, scope, space)
            words.append(word)
            picks = (*picks, *picked)
        self._not_longer(len(words) + len(picks), path.span)
        return NameRef(where, tuple(words), picks, path.span, space, given)

    def _not_longer(self, length: int, span: Span) -> None:
        if length > self.limits.nesting:
            what = f"this has {length} parts"
            raise limit_error(self.source, span, "nesting", self.limits.nesting, what)

    def _text_words(self, text: str, span: Span) -> list[str]:
        words = text.split(".")
        if not all(word.isidentifier() and word.isascii() for word in words):
            raise self.source.error(span, f"{text!r} is not the name of a layer", "use letters, digits and _")
        return words

    def _word(self, piece: Piece, word: str, is_last: bool, scope: Scope, space: Space) -> tuple[str, tuple[Pick, ...]]:
        picks: list[Pick] = []
        for bracket in piece.brackets:
            joins = word.endswith("_") or bool(bracket.tail) or not is_last
            if bracket.is_range:
                if joins:
                    raise self.source.error(bracket.span, "a range selects values and cannot be part of a name")
                picks.append(self._range(bracket, scope, space))
                continue
            assert bracket.start is not None
            value = self.value(bracket.start, scope, space)
            if joins:
                glue = "" if word.endswith("_") else "_"
                word += glue + self._name_piece(value, bracket) + bracket.tail
            else:
                picks.append(Pick(self._index(value, bracket.start, scope)))
        return word, tuple(picks)

    def _name_piece(self, value: Value, bracket: Bracket) -> str:
        if isinstance(value, NameRef) and len(value.words) == 1 and not value.picks:
            return value.words[0]
        if isinstance(value, str) and ("_" + value).isidentifier() and value.isascii():
            return value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            message = f"{show(value)} cannot be part of a name: use a whole number from 0 up"
            raise self.source.error(bracket.span, message)
        return str(value)

    def _index(self, value: Value, expr: Expr, scope: Scope) -> int:
        if isinstance(value, NameRef):
            raise self.unknown_constant(value, scope)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.source.error(expr.span, f"an index must be a whole number, got {show(value)}")
        if value < 0:
            raise self.source.error(expr.span, f"an index counts from 0, got {value}")
        return value

    def _range(self, bracket: Bracket, scope: Scope, space: Space) -> Pick:
        start = 0
        if bracket.start is not None:
            start = self._index(self.value(bracket.start, scope, space), bracket.start, scope)
        if bracket.stop is None:
            raise self.source.error(bracket.span, "a range needs its end", "x[2:5] selects elements 2, 3 and 4")
        stop = self._index(self.value(bracket.stop, scope, space), bracket.stop, scope)
        if stop <= start:
            raise self.source.error(bracket.span, f"the range {start}:{stop} is empty", "its end is not included")
        return Pick(start, stop)

    def _path_value(self, path: Path, scope: Scope, space: Space) -> Value:
        name = path.pieces[0].name
        if path.word:
            value = scope.constant(name)
            if value is not None:
                return value
            if name.upper() in ("TRUE", "FALSE"):
                return name.upper() == "TRUE"
        elif len(path.pieces) == 1:
            entries: dict[int, Value] | None = scope.array(name)
            value = scope.constant(name)
            if isinstance(value, tuple):
                entries = dict(enumerate(value))
            if entries is not None:
                return self._entry(path, entries, scope, space)
        return self.ref(path, scope, space)

    def _entry(self, path: Path, entries: dict[int, Value], scope: Scope, space: Space) -> Value:
        bracket, *more = path.pieces[0].brackets
        if more or bracket.is_range or bracket.tail or bracket.start is None:
            raise self.source.error(path.span, f"an entry of {path.pieces[0].name!r} is written with one index, a[2]")
        index = self._index(self.value(bracket.start, scope, space), bracket.start, scope)
        if index not in entries:
            known = ", ".join(map(str, sorted(entries)[:20]))
            raise self.source.error(bracket.span, f"{path.pieces[0].name}[{index}] has no value", f"known: {known}.")
        return entries[index]

    def _listed(self, item: Expr, scope: Scope, space: Space) -> int | str:
        value = self.value(item, scope, space)
        if isinstance(value, NameRef) and not value.picks:
            return value.text
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | str):
            message = f"an element of a list must be a whole number or a name, got {show(value)}"
            raise self.source.error(item.span, message, division_hint(value))
        return value

    # ---- arithmetic

    def _power(self, expr: Power, scope: Scope, space: Space) -> Value:
        result: Value | None = None
        for negated, item in reversed(expr.items):
            value = self._number(item, scope, space)
            if result is not None:
                assert isinstance(result, int | float)
                value = self._raised(value, result, expr.span)
            result = self._sized(-value if negated else value, expr.span)
        assert result is not None
        return result

    def _raised(self, base: int | float, exponent: int | float, span: Span) -> int | float:
        if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
            if abs(base) > 1 and exponent * math.log2(abs(base)) > 64:
                raise self._too_large(span)
            return int(base**exponent)
        try:
            result: float | complex = float(base) ** float(exponent)
        except ZeroDivisionError:
            raise self.source.error(span, "0 to a negative power has no value") from None
        except OverflowError:
            raise self._too_large(span) from None
        if isinstance(result, complex):
            raise self.source.error(span, f"{show(base)} to the power {show(exponent)} is not a real number")
        return float(result)

    def _chain(self, expr: Chain, scope: Scope, space: Space) -> Value:
        _, first = expr.items[0]
        result = self.value(first, scope, space)
        for sign, item in expr.items[1:]:
            value = self.value(item, scope, space)
            if sign == "+" and (isinstance(result, str) or isinstance(value, str)):
                result = self._joined(result, value, item.span)
                continue
            left, right = self._as_number(result, first, scope), self._as_number(value, item, scope)
            result = self._sized(self._computed(sign, left, right, item.span), expr.span)
        return result

    def _computed(self, sign: str, left: int | float, right: int | float, span: Span) -> int | float:
        if sign in "/%" and right == 0:
            raise self.source.error(span, "division by zero")
        if sign == "/":
            if isinstance(left, int) and isinstance(right, int):
                return left // right if left % right == 0 else left / right
            return left / right
        try:
            return _OPERATORS[sign](left, right)
        except OverflowError:
            raise self._too_large(span) from None

    def _joined(self, left: Value, right: Value, span: Span) -> str:
        parts = [part.text if isinstance(part, NameRef) else part for part in (left, right)]
        if any(isinstance(part, tuple | bool | float) for part in parts):
            raise self.source.error(span, f"cannot join {show(left)} and {show(right)}")
        text = "".join(map(str, parts))
        if len(text) > LONGEST_TEXT:
            raise self.source.error(span, f"a joined text is limited to {LONGEST_TEXT} characters, got {len(text)}")
        return text

    def _number(self, expr: Expr, scope: Scope, space: Space) -> int | float:
        return self._as_number(self.value(expr, scope, space), expr, scope)

    def _as_number(self, value: Value, expr: Expr, scope: Scope) -> int | float:
        if isinstance(value, NameRef):
            raise self.unknown_constant(value, scope)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.source.error(expr.span, f"arithmetic needs numbers, got {show(value)}")
        return value

    def _sized(self, value: int | float, span: Span) -> int | float:
        if isinstance(value, int) and abs(value) > LARGEST or isinstance(value, float) and not math.isfinite(value):
            raise self._too_large(span)
        return value

    def _too_large(self, span: Span) -> LanguageError:
        return self.source.error(span, "this number is too large", "whole numbers end at 2^63 - 1")


_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "%": operator.mod,
}


def show(value: object) -> str:
    """A value as the language writes it, for messages."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, tuple):
        return f"({', '.join(map(str, value))})"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    return str(value)


def division_hint(value: object) -> str:
    """The way out where a division that did not come out even is the likely cause."""
    if isinstance(value, float) and not value.is_integer():
        return "a division that does not come out even is a decimal number: write (a - a % b) / b to round down"
    return ""

"""Parse trees of conditions.lark become expr.py nodes; names are checked against the table of facts on the way.

A Reader belongs to one source text and turns every refusal into a LanguageError at the word that caused it.
TaskLang and RuleLang share it; neither the trees nor lark leave this package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from alexandra.errors import AlexandraError, LanguageError, UsageError, suggest
from alexandra.lang import expr
from alexandra.lang.checks import canonical, check_compare, check_fact, check_place, unit_of
from alexandra.lang.expr import Condition, Expr, Fact, Gap, Number, Word
from alexandra.lang.facts import FACTS, PLACES, FactSpec
from alexandra.lang.lexis import (
    Limits,
    Source,
    Span,
    duration_seconds,
    limit_error,
    parse,
    percent_value,
    size_bytes,
    span_of,
    string_value,
)
from alexandra.storage import read_bytes

T = TypeVar("T")
Tree: TypeAlias = Any  # lark's Tree and Token, which are imported with the first parse
Token: TypeAlias = Any

DEFAULT_LIMITS = Limits(characters=200_000)  # of a task or rules: some seconds to read at the very most


def read_program(path: str | Path) -> str:
    """The text of a program file; StorageError when it is missing, LanguageError when it is not UTF-8."""
    data = read_bytes(Path(path))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise LanguageError(message, file=str(path), line=line, column=column, hint="save the file as UTF-8") from None


def parse_condition(
    text: str, place: str = "accept", file: str = "<text>", *, known_facts: Mapping[str, FactSpec] = FACTS
) -> Condition:
    """One condition, for a Task or a Gate that is built in Python; `place` is a key of facts.PLACES."""
    if place not in PLACES:
        raise UsageError(f"unknown place {place!r} of a condition", hint=suggest(place, PLACES))
    source = Source.of(text, file)
    tree = parse("conditions", source, limits=DEFAULT_LIMITS)
    return Reader(source, known_facts).condition(tree.children[0], place)


class Reader:
    """Reads names, numbers, expressions and conditions out of the trees of one source text."""

    def __init__(self, source: Source, known: Mapping[str, FactSpec] = FACTS, limits: Limits = DEFAULT_LIMITS) -> None:
        self.source = source
        self.known = known
        self.limits = limits

    # ------------------------------------------------------------ positions

    def span(self, item: Tree | Token) -> Span:
        """Where a token or a tree stands in the text."""
        if is_token(item):
            return span_of(item)
        meta = item.meta
        return Span(meta.line, meta.column, meta.start_pos, meta.end_pos)

    def made(self, item: Tree | Token, build: Callable[[], T]) -> T:
        """What `build` returns; its refusals become LanguageErrors at `item`."""
        try:
            return build()
        except LanguageError:
            raise
        except AlexandraError as error:
            raise self.fail(item, error.message, error.hint) from None
        except (ValueError, ArithmeticError) as error:
            message, _, hint = str(error).partition("; ")
            raise self.fail(item, message, hint) from None

    def fail(self, item: Tree | Token, message: str, hint: str = "") -> LanguageError:
        """The LanguageError at `item`."""
        return self.source.error(self.span(item), message, hint)

    # ------------------------------------------------------------ words and numbers

    def label(self, item: Tree | Token) -> str:
        """A NAME as it is or the text of a STRING; `item` is the token or a tree around it."""
        token = item if is_token(item) else item.children[0]
        value = string_value(self.source, token) if token.type == "STRING" else str(token)
        if not value:
            raise self.fail(item, "a name cannot be empty")
        return value

    def number(self, token: Token, negative: bool = False) -> Number:
        """An INT, FLOAT, PERCENT, DURATION or SIZE in base units."""
        read, unit = _NUMBERS[token.type]
        return self.made(token, lambda: Number(-read(str(token)) if negative else read(str(token)), unit))

    def whole(self, token: Token) -> int:
        """An INT; refused when it is too long to mean anything."""
        if len(token) > 18:
            raise self.fail(token, f"{str(token)[:20]!r}... is too large", "at most 18 digits")
        return int(token)

    # ------------------------------------------------------------ conditions

    def condition(self, tree: Tree, place: str, depth: int = 0) -> Condition:
        """A condition that stands at `place` (a key of facts.PLACES)."""
        self._check_depth(tree, depth)
        kind, parts = _kind(tree), tree.children
        if kind in ("condition", "conjunction"):
            items = [self.condition(part, place, depth + 1) for part in _trees(parts)]
            if len(items) == 1:
                return items[0]
            return expr.Or(tuple(items)) if kind == "condition" else expr.And(tuple(items))
        if kind == "negated":
            return expr.Not(self.condition(_trees(parts)[0], place, depth + 1))
        if kind == "has":
            return self._has(tree, place)
        if kind in ("better", "no_worse"):
            return self._paired(tree, kind, place)
        assert kind == "compare", kind
        left, right = (self._side(part, place, depth + 1) for part in _trees(parts))
        self._check_bare(tree, left, right)
        compare = expr.Compare(left, str(parts[1]), right)
        self.made(tree, lambda: check_compare(compare, self.known))
        return compare

    def _has(self, tree: Tree, place: str) -> Condition:
        subject, tag = (token for token in tree.children if token.type == "NAME")
        if str(subject).lower() not in expr.SUBJECTS:
            raise self.fail(subject, f"unknown subject {str(subject)!r} of HAS", suggest(str(subject), expr.SUBJECTS))
        if place != "select":
            raise self.fail(tree, "HAS belongs to the WHEN of a rule", "a task and a gate know their own tags")
        return expr.Has(str(subject).lower(), str(tag).upper())

    def _paired(self, tree: Tree, kind: str, place: str) -> Condition:
        """better(reference, paired=bootstrap, alpha=1%) and no_worse(reference, margin=1%)."""
        if place not in ("accept", "require"):
            hint = "it compares two models item by item, which is done for ACCEPT and REQUIRE"
            raise self.fail(tree, f"{kind} is not known here", hint)
        allowed = ("paired", "alpha") if kind == "better" else ("margin",)
        reference = ""
        given: dict[str, Any] = {}
        for name, value in self.arguments(_trees(tree.children)[0]):
            if name is None:
                if reference:
                    raise self.fail(value, f"{kind} takes one reference", f"known: {', '.join(expr.REFERENCES)}.")
                reference = self._one_of(value, "reference", expr.REFERENCES)
                continue
            self._argument_name(name, allowed, kind, given)
            if name == "paired":
                given[str(name)] = self._one_of(value, "paired test", expr.TESTS)
            else:
                given[str(name)] = self._literal(value, f"{name} is a number or a percentage")
        if not reference:
            raise self.fail(tree, f"{kind} needs what it compares with", f"known: {', '.join(expr.REFERENCES)}.")
        node = expr.Better if kind == "better" else expr.NoWorse
        return self.made(tree, lambda: node(reference, **given))

    def _check_bare(self, tree: Tree, left: Expr, right: Expr) -> None:
        """Refuse a bare name that is compared with anything but a word fact."""
        sides = _trees(tree.children)
        for side, other, part in ((left, right, sides[0]), (right, left, sides[1])):
            if isinstance(side, Word) and self.made(tree, lambda node=other: unit_of(node, self.known)) != "word":  # type: ignore[misc]
                raise self._unknown(_lone_word(part), side.value)

    def _side(self, tree: Tree, place: str, depth: int) -> Expr:
        """One side of a comparison: an expression, or the value of a word fact."""
        token = _lone_word(tree)
        if token is not None and (token.type == "STRING" or str(token) not in self.known):
            return Word(self.label(token))
        return self.expression(tree, place, depth)

    # ------------------------------------------------------------ expressions

    def expression(self, tree: Tree, place: str, depth: int = 0) -> Expr:
        """An arithmetic expression over facts."""
        self._check_depth(tree, depth)
        kind, parts = _kind(tree), tree.children
        if kind in ("sum", "product"):
            first, *rest = parts
            out = self.expression(first, place, depth + 1)
            if len(rest) // 2 + depth > self.limits.nesting:
                self._check_depth(tree, self.limits.nesting + 1)
            for op, part in zip(rest[::2], rest[1::2], strict=True):
                out = expr.Arith(out, str(op), self.expression(part, place, depth + 1))
            return out
        if kind == "negative":
            inner = self.expression(_trees(parts)[0], place, depth + 1)
            return Number(-inner.value, inner.unit) if isinstance(inner, Number) else expr.Neg(inner)
        if kind == "number":
            return self.number(parts[0])
        if kind == "word":
            return self._fact(parts[0], place)
        assert kind == "call", kind
        return self._call(tree, place, depth)

    def _fact(self, token: Token, place: str) -> Fact:
        name = self.label(token)
        if token.type == "STRING" or name not in self.known:
            raise self._unknown(token, name)
        self.made(token, lambda: check_place(name, place, self.known))
        return self.fact_with_params(token)

    def _call(self, tree: Tree, place: str, depth: int) -> Expr:
        """A function, a gap, or a fact with parameters."""
        head, arguments = tree.children
        name = str(head)
        if name.lower() in expr.FUNCTIONS:
            args = []
            for label, value in self.arguments(arguments):
                if label is not None:
                    raise self.fail(label, f"{name.lower()} has no named arguments")
                args.append(self.expression(value, place, depth + 1))
            return self.made(tree, lambda: expr.Function(name.lower(), tuple(args)))
        is_gap = name.lower() == "gap"
        if not is_gap and name not in self.known:
            raise self._unknown(head, name)
        self.made(head, lambda: check_place("gap" if is_gap else name, place, self.known))
        return self._gap(tree) if is_gap else self.fact_with_params(head, arguments)

    def _gap(self, tree: Tree) -> Gap:
        column, of = "", "equalized_odds"
        given: dict[str, Any] = {}
        for name, value in self.arguments(tree.children[1]):
            if name is not None:
                self._argument_name(name, ("of",), "gap", given)
                of = given["of"] = self._one_of(value, "gap", expr.GAPS)
                continue
            token = _lone_word(value)
            if token is None or column:
                raise self.fail(value, "gap takes one column", "write gap(gender, of=equalized_odds)")
            column = self.label(token)
        if not column:
            raise self.fail(tree, "gap needs a column", "write gap(gender, of=equalized_odds)")
        return Gap(column, of)

    def fact_with_params(self, head: Token, arguments: Tree | None = None) -> Fact:
        """A fact or metric with its parameters; only a single required one may stand without its name."""
        name = str(head)
        params = self.known[name].params
        required = [key for key, default in params.items() if math.isnan(default)]
        given: dict[str, float] = {}
        for key, value in self.arguments(arguments) if arguments is not None else ():
            if key is not None:
                self._argument_name(key, tuple(params), name, given)
                given[str(key)] = self._literal(value, f"{key} is a number or a percentage").value
            elif len(required) == 1 and required[0] not in given:
                given[required[0]] = self._literal(value, f"{name} needs a percentage").value
            else:
                usage = f"write {name}({', '.join(f'{key}=...' for key in required or params)})" if params else ""
                raise self.fail(value, f"{name} takes {'named parameters' if params else 'no parameters'}", usage)
        fact = canonical(name, given, self.known)
        self.made(head if arguments is None else arguments, lambda: check_fact(fact, self.known))
        return fact

    # ------------------------------------------------------------ arguments

    def arguments(self, tree: Tree) -> Iterator[tuple[Token | None, Tree]]:
        """(name or None, value) of each argument."""
        for argument in _trees(tree.children):
            *name, value = [part for part in argument.children if not _is_sign(part)]
            yield (name[0] if name else None), value

    def _argument_name(self, name: Token, allowed: tuple[str, ...], owner: str, given: Mapping[str, Any]) -> None:
        if str(name) not in allowed:
            raise self.fail(name, f"{owner} has no parameter {str(name)!r}", suggest(str(name), allowed))
        if str(name) in given:
            raise self.fail(name, f"parameter {str(name)!r} is given twice")

    def _one_of(self, tree: Tree, what: str, allowed: tuple[str, ...]) -> str:
        token = _lone_word(tree)
        value = self.label(token) if token is not None else self.source.text[slice(*self.span(tree)[2:])]
        if value.lower() not in allowed:
            raise self.fail(tree, f"unknown {what} {value!r}", suggest(value, allowed))
        return value.lower()

    def _literal(self, tree: Tree, message: str) -> Number:
        """A number, possibly negative, without arithmetic."""
        try:
            value = self.expression(tree, "")
        except LanguageError:
            value = Word("")
        if not isinstance(value, Number) or value.unit not in ("", "%"):
            raise self.fail(tree, message)
        return value

    # ------------------------------------------------------------ refusals

    def _unknown(self, token: Token, name: str) -> LanguageError:
        return self.fail(token, f"unknown fact {name!r}", suggest(name, [*self.known, "gap"]))

    def _check_depth(self, tree: Tree, depth: int) -> None:
        if depth > self.limits.nesting:
            raise limit_error(
                self.source, self.span(tree), "nesting", self.limits.nesting, "an expression is nested too deeply"
            )


_NUMBERS: dict[str, tuple[Callable[[str], float], str]] = {
    "PERCENT": (percent_value, "%"),
    "DURATION": (duration_seconds, "s"),
    "SIZE": (size_bytes, "B"),
    "INT": (float, ""),
    "FLOAT": (float, ""),
}


def is_token(item: Tree | Token) -> bool:
    """True for a token, False for a tree."""
    return isinstance(item, str)


def _kind(tree: Tree) -> str:
    """The rule's own name: an imported rule carries its grammar's name in front."""
    return str(tree.data).rpartition("__")[2]


def _trees(parts: list[Any]) -> list[Tree]:
    return [part for part in parts if not is_token(part)]


def _is_sign(part: Any) -> bool:
    return is_token(part) and part.type == "EQUAL"


def _lone_word(tree: Tree) -> Token | None:
    """The token of an expression that is a single NAME or STRING."""
    while not is_token(tree):
        if len(tree.children) != 1 or _kind(tree) in ("number", "call"):
            return None
        tree = tree.children[0]
    return tree if tree.type in ("NAME", "STRING") else None

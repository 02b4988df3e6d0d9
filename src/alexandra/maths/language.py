"""The prefix language: `parse` reads an expression, `Expr.text` writes it back; they are inverses on every tree.

    expr    := number | constant | symbol | "(" op expr* ")" | "[" op expr* "]"
    number  := "-"? digits ("." digits | "/" digits)?        read exactly: 0.1 is 1/10, -6/4 is -3/2
    constant := pi | e
    symbol  := letter (letter | digit | "_")*                no reserved word (expr.RESERVED)
    op      := a name of expr.OPERATORS: + - * / ^ % = sin ... derive integrate solve set tuple

Blanks and line ends separate; a minus directly before a digit is its sign, so `(- 2)` has an operator and `-2` has
none. What is not understood is a LanguageError with its position; every limit is one too, nothing recurses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from alexandra.errors import LanguageError
from alexandra.maths.expr import (
    CONSTANTS,
    MAX_CHARACTERS,
    MAX_DEPTH,
    OPERATORS,
    Apply,
    Constant,
    Expr,
    Number,
    Symbol,
    apply_problem,
    symbol_problem,
    too_large,
)

MAX_DIGITS = 3_900  # of one run of digits
SHOWN = 120  # characters of a long line around the place of an error
_TOKEN = re.compile(r"[()\[\]]|[^\s()\[\]]+")
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+)|/([0-9]+))?")
_CLOSING = {"(": ")", "[": "]"}
# What people write for an operator -> the operator
_NEAR = {
    "**": "^", "add": "+", "plus": "+", "sub": "-", "subtract": "-", "minus": "-", "neg": "-", "\u2212": "-",
    "mul": "*", "times": "*", "multiply": "*", "\u00d7": "*", "\u00b7": "*", "div": "/", "divide": "/", "\u00f7": "/",
    "mod": "%", "modulo": "%", "pow": "^", "power": "^", "==": "=", "eq": "=", "diff": "derive", "d": "derive",
    "differentiate": "derive", "int": "integrate", "root": "sqrt", "ceiling": "ceil", "log10": "log",
}  # fmt: skip
_NUMBERS = "a number is 12, -3, 0.25 or 1/3"


@dataclass
class _Open:
    """A bracket that waits for its end: its token, its operator (None before it is read) and its operands so far."""

    token: re.Match[str]
    op: str | None = None
    args: list[Expr] = field(default_factory=list)


def parse(text: str, file: str = "<expression>") -> Expr:
    """The expression that `text` is, all of it; LanguageError says where it is none and what would be."""
    if not isinstance(text, str):
        raise LanguageError(f"an expression is text, got {type(text).__name__}", file=file)
    return _Parser(text, file).run()


class _Parser:
    """One reading of one text; a stack of open brackets instead of recursion."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.stack: list[_Open] = []
        self.done: Expr | None = None

    def run(self) -> Expr:
        if len(self.text) > MAX_CHARACTERS:
            raise self._fail(0, f"the text has {len(self.text):,} characters, at most {MAX_CHARACTERS:,} are read")
        for token in _TOKEN.finditer(self.text):
            self._take(token)
        end = len(self.text.rstrip())
        if self.stack:
            first = self.stack[-1].token
            wanted = _CLOSING[first[0]]
            raise self._fail(first.start(), f"{first[0]!r} is never closed", hint=f"add {wanted!r} at the end")
        if self.done is None:
            raise self._fail(end, "the text is empty", hint="write an expression, for instance (+ 2 3)")
        return self.done

    def _take(self, token: re.Match[str]) -> None:
        word = token[0]
        if self.done is not None:
            raise self._at(token, f"{word!r} follows a complete expression", hint="write one expression only")
        if word in _CLOSING:
            self._need_operator(token)
            if len(self.stack) >= MAX_DEPTH:
                raise self._at(token, f"brackets are nested deeper than {MAX_DEPTH} levels")
            self.stack.append(_Open(token))
        elif word in (")", "]"):
            self._close(token)
        elif self.stack and self.stack[-1].op is None:
            self.stack[-1].op = self._operator(token)
        else:
            self._give(self._atom(token))

    def _need_operator(self, token: re.Match[str]) -> None:
        """A bracket opens where an operator must stand."""
        if self.stack and self.stack[-1].op is None:
            raise self._at(token, f"{token[0]!r} stands where an operator must", hint=_known())

    def _operator(self, token: re.Match[str]) -> str:
        word = token[0]
        if word in OPERATORS:
            return word
        near = _NEAR.get(word.lower())
        if near:
            raise self._at(token, f"unknown operator {word!r}", hint=f"{_known()} Did you mean '{near}'?")
        if word[0] in OPERATORS and len(word) > 1 and (_NUMBER.fullmatch(word[1:]) or word[1:].isalnum()):
            hint = f"put a blank after the operator: ({word[0]} {word[1:]} ...)"
            raise self._at(token, f"{word!r} stands where an operator must", hint=hint)
        if _NUMBER.fullmatch(word):
            raise self._at(token, f"the number {word} stands where an operator must", hint=_known())
        raise self._at(token, f"unknown operator {word!r}", hint=_known())

    def _close(self, token: re.Match[str]) -> None:
        word = token[0]
        if not self.stack:
            raise self._at(token, f"{word!r} closes nothing")
        top = self.stack[-1]
        if _CLOSING[top.token[0]] != word:
            hint = f"close {top.token[0]!r} with {_CLOSING[top.token[0]]!r}"
            raise self._at(token, f"{word!r} closes {top.token[0]!r}", hint=hint)
        if top.op is None:
            raise self._at(token, "the brackets are empty", hint=_known())
        problem = apply_problem(top.op, top.args)
        if problem:
            raise self._at(top.token, problem[0], hint=problem[1])
        self.stack.pop()
        self._give(Apply(top.op, tuple(top.args)))

    def _give(self, expr: Expr) -> None:
        """Hand a finished expression to the bracket around it, or finish."""
        if self.stack:
            self.stack[-1].args.append(expr)
        else:
            self.done = expr

    def _atom(self, token: re.Match[str]) -> Expr:
        word = token[0]
        number = _NUMBER.fullmatch(word)
        if number:
            return self._number(token, number)
        if word in OPERATORS:
            raise self._at(token, f"the operator {word!r} stands where an operand must", hint=f"open it: ({word} ...)")
        if word in CONSTANTS:
            return Constant(word)
        problem = symbol_problem(word)
        if problem:
            message, hint = problem
            if not word[0].isalpha():
                message, hint = f"{word!r} is neither a number nor a symbol", _atom_hint(word)
            raise self._at(token, message, hint=hint)
        return Symbol(word)

    def _number(self, token: re.Match[str], number: re.Match[str]) -> Number:
        sign, whole, decimals, below = number.groups()
        if max(len(digits or "") for digits in (whole, decimals, below)) > MAX_DIGITS:
            raise self._at(token, f"a number has more than {MAX_DIGITS:,} digits in a row")
        if below is not None and not int(below):
            raise self._at(token, f"{token[0]!r} has the denominator zero")
        value = Fraction(int(whole), int(below or 1))
        if decimals is not None:
            value += Fraction(int(decimals), 10 ** len(decimals))
        if too_large(value):
            raise self._at(token, f"a number has more than {MAX_DIGITS:,} digits above or below its fraction bar")
        return Number(-value if sign else value)

    def _at(self, token: re.Match[str], message: str, hint: str = "") -> LanguageError:
        return self._fail(token.start(), message, len(token[0]), hint)

    def _fail(self, place: int, message: str, length: int = 1, hint: str = "") -> LanguageError:
        start = self.text.rfind("\n", 0, place) + 1
        end = self.text.find("\n", place)
        line = self.text[start : end if end >= 0 else len(self.text)]
        shown = line if len(line) <= SHOWN and "\t" not in line else ""
        return LanguageError(
            message if len(message) <= 2 * SHOWN else message[: 2 * SHOWN] + "...",
            file=self.file,
            line=self.text.count("\n", 0, place) + 1,
            column=place - start + 1,
            length=min(length, SHOWN),
            source_line=shown,
            hint=hint,
        )


def _known() -> str:
    signs = " ".join(row.name for row in OPERATORS.values() if row.kind == "operator")
    words = " ".join(name for name in OPERATORS if name.isalpha())
    return f"operators: {signs}. Others: = {words}."


def _atom_hint(word: str) -> str:
    """The way out for a word that starts like a number or a sign but is none."""
    if re.fullmatch(r"-[A-Za-z]\w*", word):
        return f"the negative of a symbol is written (- {word[1:]})"
    if re.fullmatch(r"-?\.[0-9]+", word):
        return f"write {word.replace('.', '0.')}"
    if re.fullmatch(r"\+[0-9./]+", word):
        return f"write {word[1:]}"
    if re.fullmatch(r"[0-9]+[A-Za-z]\w*", word) and not re.fullmatch(r"[0-9.]+[eE][0-9]+", word):
        digits = re.match(r"[0-9]+", word)
        assert digits is not None
        return f"a product is written (* {digits[0]} {word[digits.end() :]})"
    return f"{_NUMBERS}; there is no exponent form"

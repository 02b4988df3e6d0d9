r"""Answers as people and models write them: prefix, infix or LaTeX in, an expression out.

Understood: + - * / ^ ** % = , implicit multiplication (2x, 3(x + 1)), calls and bare arguments (sin(x), \sin 2x,
sin^2 x), \frac, \dfrac, \tfrac, \sqrt[n]{}, \cdot, \times, \div, |x|, \pi, \left \right, $ and \boxed around the
whole, sets in braces, tuples in brackets, "x = 2 or x = 3", 1,234 for thousands, 50\% (and 50%) as 1/2, mixed numbers
1\frac{1}{2}, and, behind a number, units: \text{ cm}, a degree sign, a word. Two numbers side by side are refused.
LanguageError says where a text is not understood; nothing is guessed beyond this list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from alexandra.errors import LanguageError
from alexandra.maths.expr import (
    CONSTANTS,
    MAX_SOLUTIONS,
    OPERATORS,
    Apply,
    Constant,
    Expr,
    ExpressionError,
    Number,
    Symbol,
)
from alexandra.maths.language import MAX_DIGITS, parse

MAX_LENGTH = 10_000
MAX_NESTING = 60
_FUNCTIONS = tuple(name for name, row in OPERATORS.items() if row.kind == "function")
_TASKS = tuple(name for name, row in OPERATORS.items() if row.kind == "task")

_CLEAN = [
    (re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])"), ""),
    (re.compile(r"\\[,;:!\s]|\\q?quad(?![A-Za-z])|~|\\\\"), " "),
    (re.compile(r"\\[dt]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:operatorname|mathrm|mathit|mathbf|mathsf)\*?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\u00b0"), " "),
    (re.compile(r"\\text(?:bf|it|rm)?\{\s*(and|or)\s*\}"), r" \1 "),
    (re.compile(r"(?<=[0-9}\)])\s*\\(?:text|mbox|hbox)(?:bf|it|rm)?\{[^{}]*\}(?:\^\{?\d\}?)?\s*$"), ""),
    (re.compile(r"(?<=\d)\{,\}(?=\d{3})|(?<=\d),\\?!?(?=\d{3}(?!\d))(?<![\d,]\d{4},)"), ""),
]
_SIGNS = {
    "\u2212": "-", "\u00d7": "*", "\u00b7": "*", "\u22c5": "*", "\u00f7": "/", "\u03c0": " pi ", "\u221a": r"\sqrt ",
    "\u00b2": "^2", "\u00b3": "^3", "\u00bd": "(1/2)", r"\cdot": "*", r"\times": "*", r"\div": "/", r"\%": "%",
    r"\lvert": "|", r"\rvert": "|", r"\mid": "|", r"\{": "{", r"\}": "}", r"\_": "_", "**": "^", r"\bmod": "%",
}  # fmt: skip
_SIGN = re.compile("|".join(re.escape(sign) + (r"(?![A-Za-z])" if sign[1:].isalpha() else "") for sign in _SIGNS))
_TOKEN = re.compile(r"\s*(\\[A-Za-z]+|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[A-Za-z][A-Za-z0-9_]*|.)", re.DOTALL)
_UNIT = re.compile(r"(?P<number>[-+]?[0-9][0-9.,/ ]*?)\s+(?P<unit>[A-Za-z]{2,}(?:\s[A-Za-z]+)*)\.?")
_OR = re.compile(r"\s*(?:\\or\b|\\lor\b|\bor\b|\band\b|;)\s*")


def read(text: str, symbols: Iterable[str] = ()) -> Expr:
    """The expression that an answer is. `symbols` are names that occur in the question: a word made of them alone is
    read as their product when it is none of them. LanguageError when the text is not understood."""
    if not isinstance(text, str):
        raise LanguageError(f"an answer is text, got {type(text).__name__}", file="<answer>")
    plain = text.strip()
    if plain.startswith(("(", "[")):
        try:
            return parse(plain, "<answer>")
        except LanguageError:
            pass
    if len(plain) > MAX_LENGTH:
        raise LanguageError(f"an answer has at most {MAX_LENGTH:,} characters", file="<answer>")
    try:
        return _read_infix(plain, frozenset(symbols))
    except (ExpressionError, ValueError) as error:
        raise LanguageError(f"the answer is not understood: {error}", file="<answer>") from error


def _read_infix(text: str, names: frozenset[str]) -> Expr:
    text = _unwrapped(text)
    spelled = "\\" in text
    for pattern, by in _CLEAN:
        text = pattern.sub(by, text)
    text = _SIGN.sub(lambda match: _SIGNS[match[0]], text).strip().lstrip("$\u20ac\u00a3").rstrip(".$ ")
    unit = _UNIT.fullmatch(text)
    if unit and not set(unit["unit"].split()) & {*CONSTANTS, *_FUNCTIONS, "or", "and", *names}:
        text = unit["number"]
    parts = [part for part in _OR.split(text) if part]
    if len(parts) > 1:
        values = [_Reader(part, names, spelled).whole() for part in parts]
        kind = "tuple" if _one_each(values) else "set"
        return Apply(kind, tuple(value for one in values for value in _members(one)))
    return _Reader(text, names, spelled).whole()


def _one_each(values: list[Expr]) -> bool:
    """x = 1 and y = 2: different symbols, so that the values belong together."""
    left = [one.args[0] for one in values if isinstance(one, Apply) and one.op == "="]
    return len(left) == len(values) == len(set(left))


def _members(value: Expr) -> tuple[Expr, ...]:
    return value.args if isinstance(value, Apply) and value.op == "set" else (value,)


def _unwrapped(text: str) -> str:
    """Without $...$, \\(...\\), \\[...\\], \\boxed{...} around the whole."""
    while True:
        before = text
        text = text.strip()
        for left, right in (
            ("$$", "$$"),
            ("$", "$"),
            (r"\(", r"\)"),
            (r"\[", r"\]"),
            (r"\boxed{", "}"),
            (r"\fbox{", "}"),
        ):
            if text.startswith(left) and text.endswith(right) and len(text) >= len(left) + len(right):
                text = text[len(left) : len(text) - len(right)]
        if text == before:
            return text


class _Reader:
    """A precedence climber over the tokens of one text."""

    def __init__(self, text: str, names: frozenset[str], spelled: bool) -> None:
        self.text, self.names, self.spelled = text, names, spelled
        self.tokens = [match[1] for match in _TOKEN.finditer(text) if match[1].strip()]
        if re.search(r"[0-9][eE][-+]?[0-9]", text):
            raise self._fail("a number has no exponent form", "write 0.001 or 10^-3")
        self.place = 0
        self.nesting = 0
        self.bars = 0

    def _fail(self, message: str, hint: str = "") -> LanguageError:
        shown = self.text if len(self.text) <= 120 else ""
        return LanguageError(message, file="<answer>", source_line=shown.replace("\n", " "), hint=hint)

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        if not token:
            raise self._fail("the answer ends too early")
        self.place += 1
        return token

    def expect(self, token: str) -> None:
        found = self.peek()
        if found != token:
            raise self._fail(f"{token!r} is missing" + (f" before {found!r}" if found else " at the end"))
        self.place += 1

    def whole(self) -> Expr:
        values = self._list("")
        if self.peek():
            raise self._fail(f"{self.peek()!r} follows a complete answer")
        if len(values) == 1:
            return values[0]
        return Apply("tuple" if _one_each(values) else "set", tuple(values))

    def _list(self, end: str) -> list[Expr]:
        values = [self.equation()]
        while self.peek() == ",":
            self.take()
            if end and self.peek() == end:
                break
            values.append(self.equation())
            if len(values) > MAX_SOLUTIONS:
                raise self._fail(f"more than {MAX_SOLUTIONS} values")
        return values

    def equation(self) -> Expr:
        left = self.sum()
        if self.peek() == "=":
            self.take()
            return Apply("=", (left, self.sum()))
        return left

    def sum(self) -> Expr:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise self._fail(f"the answer is nested deeper than {MAX_NESTING} levels")
        found = self.signed()
        while self.peek() in ("+", "-"):
            sign = self.take()
            found = Apply(sign, (found, self.signed()))
        self.nesting -= 1
        return found

    def signed(self) -> Expr:
        """A product with signs before it."""
        minus = 0
        while self.peek() in ("+", "-"):
            minus += self.take() == "-"
        found = self.product()
        if minus % 2:
            negative = isinstance(found, Number)
            found = Number(-found.value) if negative else Apply("-", (found,))  # type: ignore[attr-defined]
        return found

    def product(self, bare: bool = False) -> Expr:
        """Factors side by side; `bare` ends before a function or a sign, as in the argument of sin 2x."""
        found = self.power()
        while True:
            token = self.peek()
            if token in ("*", "/", "%") and not bare:
                if token == "%" and self._ends_after():
                    self.take()
                    found = _percent(found)
                    continue
                self.take()
                other = self.factor_signed()
                if token == "/" and _is_whole(found) and _is_whole(other) and other.value:  # type: ignore[attr-defined]
                    found = Number(Fraction(found.value, other.value))  # type: ignore[attr-defined]
                else:
                    found = Apply(token, (found, other))
            elif self._starts_factor(token) and not (bare and self._function(token)):
                found = self._beside(found)
            else:
                return found

    def factor_signed(self) -> Expr:
        if self.peek() in ("+", "-"):
            minus = self.take() == "-"
            inner = self.factor_signed()
            return Apply("-", (inner,)) if minus else inner
        return self.power()

    def _beside(self, found: Expr) -> Expr:
        """Implicit multiplication; a whole number before a fraction of whole numbers is a mixed number."""
        token = self.peek()
        if token[0].isdigit() or token[0] == ".":
            raise self._fail(f"two numbers stand side by side before {token!r}", "write the sign between them")
        mixed = token == r"\frac" and _is_whole(found)
        other = self.power()
        if mixed and isinstance(other, Number):
            return Number(found.value + other.value)  # type: ignore[attr-defined]
        return Apply("*", (found, other))

    def _ends_after(self) -> bool:
        following = self.tokens[self.place + 1] if self.place + 1 < len(self.tokens) else ""
        return following in ("", ")", "}", "]", ",", "+", "-", "=", "*", "/")

    def _starts_factor(self, token: str) -> bool:
        if token in (r"\rfloor", r"\rceil"):
            return False
        if token == "|":
            return not self.bars
        return bool(token) and (token in ("(", "{", "[") or token[0].isalnum() or token[0] in ".\\")

    def _function(self, token: str) -> bool:
        return token.lstrip("\\") in _FUNCTIONS

    def power(self) -> Expr:
        base = self.atom()
        while self.peek() == "!":
            raise self._fail("'!' is not understood")
        if self.peek() == "^":
            self.take()
            return Apply("^", (base, self.exponent()))
        return base

    def exponent(self) -> Expr:
        if self.peek() in ("-", "+"):
            minus = self.take() == "-"
            inner = self.exponent()
            if minus:
                return Number(-inner.value) if isinstance(inner, Number) else Apply("-", (inner,))
            return inner
        return self.power()

    def group(self) -> Expr:
        """What a LaTeX command takes: {...}, else one digit or one atom."""
        if self.peek() == "{":
            return self.atom()
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1:
            self.tokens[self.place : self.place + 1] = [token[0], token[1:]]
            return Number(int(self.take()))
        return self.atom()

    def atom(self) -> Expr:
        token = self.take()
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            return _number(token)
        if token in ("(", "{", "["):
            return self._bracket(token)
        if token == "|":
            self.bars += 1
            inner = self.sum()
            self.bars -= 1
            self.expect("|")
            return Apply("abs", (inner,))
        if token[0] == "\\":
            return self._command(token)
        if token[0].isalpha():
            return self._word(token)
        raise self._fail(f"{token!r} is not understood here")

    def _bracket(self, token: str) -> Expr:
        end = {"(": ")", "{": "}", "[": "]"}[token]
        bars, self.bars = self.bars, 0
        if token == "{" and self.peek() == "}":
            self.take()
            return Apply("set", ())
        values = self._list(end)
        self.expect(end)
        self.bars = bars
        if len(values) == 1:
            return values[0]
        return Apply("set" if token == "{" else "tuple", tuple(values))

    def _command(self, token: str) -> Expr:
        name = token[1:]
        if name == "frac":
            above, below = self.group(), self.group()
            if _is_whole(above) and _is_whole(below) and below.value:  # type: ignore[attr-defined]
                return Number(Fraction(above.value, below.value))  # type: ignore[attr-defined]
            return Apply("/", (above, below))
        if name == "sqrt":
            if self.peek() == "[":
                self.take()
                degree = self.sum()
                self.expect("]")
                return Apply("^", (self.group(), Apply("/", (Number(1), degree))))
            return Apply("sqrt", (self.group(),))
        if name in ("lfloor", "lceil"):
            inner = self.sum()
            self.expect("\\r" + name[1:])
            return Apply(name[1:], (inner,))
        if name in ("emptyset", "varnothing"):
            return Apply("set", ())
        if name in _FUNCTIONS or name in CONSTANTS:
            return self._word(name)
        raise self._fail(f"{token!r} is not understood", "known: \\frac, \\sqrt, \\sin, \\cdot, \\pi ...")

    def _word(self, word: str) -> Expr:
        if word in CONSTANTS:
            return Constant(word)
        if word in _FUNCTIONS:
            return self._call(word)
        if word in _TASKS:
            return self._task(word)
        if word in self.names or len(word) == 1:
            return Symbol(word)
        letters = re.fullmatch(r"[A-Za-z]+", word) is not None
        if letters and (self.spelled or set(word) <= self.names):
            found: Expr = _letter(word[0])
            for letter in word[1:]:
                found = Apply("*", (found, _letter(letter)))
            return found
        return Symbol(word)

    def _call(self, name: str) -> Expr:
        """name(...), name^2(...), name of the factors that follow."""
        exponent = None
        if self.peek() == "^":
            self.take()
            exponent = self.exponent_of_function()
        if name == "log" and self.peek() == "_":
            return self._logarithm()
        if self.peek() in ("(", "{"):
            argument = self.atom()
        elif self.peek() == "-":
            raise self._fail(f"the argument of {name} needs brackets")
        else:
            argument = self.product(bare=True)
        found: Expr = Apply(name, (argument,))
        return found if exponent is None else Apply("^", (found, exponent))

    def exponent_of_function(self) -> Expr:
        exponent = self.group() if self.peek() != "-" else self.exponent()
        if exponent == Number(-1):
            raise self._fail("the power -1 of a function may mean its inverse", "write 1 / sin(x)")
        return exponent

    def _logarithm(self) -> Expr:
        self.take()
        base = self.group()
        argument = self.atom() if self.peek() in ("(", "{") else self.product(bare=True)
        if base == Number(10):
            return Apply("log", (argument,))
        return Apply("/", (Apply("ln", (argument,)), Apply("ln", (base,))))

    def _task(self, name: str) -> Expr:
        self.expect("(")
        values = self._list(")")
        self.expect(")")
        return Apply(name, tuple(values))


def _letter(name: str) -> Expr:
    return Constant(name) if name in CONSTANTS else Symbol(name)


def _is_whole(expr: Expr) -> bool:
    return isinstance(expr, Number) and type(expr.exact) is int and expr.exact >= 0


def _percent(expr: Expr) -> Expr:
    return Number(expr.value / 100) if isinstance(expr, Number) else Apply("/", (expr, Number(100)))


def _number(token: str) -> Number:
    if len(token) > MAX_DIGITS or not token.isascii():
        raise ExpressionError(f"a number has more than {MAX_DIGITS:,} digits or strange ones")
    return Number(Fraction("0" + token if token[0] == "." else token))

"""Expressions and conditions as data: what ACCEPT, WHEN, SCORE, REQUIRE and QUARANTINE are made of.

Small frozen nodes and their canonical text; `text(node)` parses back to an equal node. Nothing here knows
which facts exist (facts.py), what they measure (conditions.py) or how text is read (clauses.py).
Numbers are in base units: 5% is 0.05, 20ms is 0.02 (seconds), 2GB is 2e9 (bytes); the unit is kept for the text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal, localcontext

from alexandra.lang.lexis import quote

UNITS = ("", "%", "s", "B")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
ARITHMETIC = ("+", "-", "*", "/")
FUNCTIONS = {"log10": (1, 1), "log": (1, 1), "sqrt": (1, 1), "abs": (1, 1), "min": (2, 16), "max": (2, 16)}
GAPS = ("selection", "tpr", "equalized_odds", "auc")
REFERENCES = ("baseline", "production", "protected")
TESTS = ("auto", "bootstrap", "delong", "mcnemar", "mean")
SUBJECTS = ("task", "model")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_0-9]*\Z")

_SECONDS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1), ("ms", Decimal("0.001")), ("us", Decimal("0.000001")))
_RESERVED = ("AND", "OR", "NOT", "BEGIN", "END", "TRUE", "FALSE")
_BYTES: tuple[tuple[str, int | Decimal], ...] = (
    *(("TiB", 2**40), ("TB", 10**12), ("GiB", 2**30), ("GB", 10**9)),
    *(("MiB", 2**20), ("MB", 10**6), ("KiB", 2**10), ("kB", 10**3), ("B", 1)),
)


@dataclass(frozen=True)
class Number:
    """A literal: `value` in base units and the unit it is written in ("" plain, "%", "s", "B")."""

    value: float
    unit: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"a number must be finite, got {self.value!r}")
        if self.unit not in UNITS:
            raise ValueError(f"unknown unit {self.unit!r}; known: plain '', '%', 's' (seconds), 'B' (bytes)")
        if self.unit == "B" and self.value != int(self.value):
            raise ValueError(f"a size is a whole number of bytes, got {self.value!r}")


@dataclass(frozen=True)
class Word:
    """A name that a word fact is compared with: stage == production."""

    value: str


@dataclass(frozen=True)
class Fact:
    """A named measurement, with parameters for those that have them: roc_auc, recall_at(10%), profit(tp=100, fp=-10).

    A task's METRIC is one too. `params` are (name, value) pairs in the order of the fact table.
    """

    name: str
    params: tuple[tuple[str, float], ...] = ()

    @property
    def key(self) -> str:
        """The canonical text: under this key the measured value stands in a table of facts."""
        return text(self)

    @property
    def kwargs(self) -> dict[str, float]:
        """The parameters as a dict, for a call of the metric."""
        return dict(self.params)


@dataclass(frozen=True)
class Gap:
    """The difference between the groups of `column` at the task's threshold; `of` says in what."""

    column: str
    of: str = "equalized_odds"

    @property
    def key(self) -> str:
        return text(self)


@dataclass(frozen=True)
class Neg:
    """-x; a negative literal is Number(-x)."""

    operand: Expr

    def __post_init__(self) -> None:
        if isinstance(self.operand, Number):
            raise ValueError("write a negative literal as Number(-x)")


@dataclass(frozen=True)
class Arith:
    """left op right, op one of + - * /."""

    left: Expr
    op: str
    right: Expr

    def __post_init__(self) -> None:
        if self.op not in ARITHMETIC:
            raise ValueError(f"unknown operator {self.op!r}; known: {' '.join(ARITHMETIC)}")


@dataclass(frozen=True)
class Function:
    """log10, log, sqrt, abs of one expression; min, max of two or more."""

    name: str
    args: tuple[Expr, ...]

    def __post_init__(self) -> None:
        if self.name not in FUNCTIONS:
            raise ValueError(f"unknown function {self.name!r}; known: {', '.join(FUNCTIONS)}")
        low, high = FUNCTIONS[self.name]
        if not low <= len(self.args) <= high:
            wanted = "1 argument" if high == 1 else f"{low} to {high} arguments"
            raise ValueError(f"{self.name} takes {wanted}, got {len(self.args)}")


Expr = Number | Word | Fact | Gap | Neg | Arith | Function


@dataclass(frozen=True)
class Compare:
    """left op right. It holds when the interval proves it: >= by the lower bound, <= by the upper bound."""

    left: Expr
    op: str
    right: Expr

    def __post_init__(self) -> None:
        if self.op not in COMPARISONS:
            raise ValueError(f"unknown comparison {self.op!r}; known: {' '.join(COMPARISONS)}")


@dataclass(frozen=True)
class Has:
    """task HAS TAG, model HAS TAG."""

    subject: str
    tag: str

    def __post_init__(self) -> None:
        if self.subject not in SUBJECTS:
            raise ValueError(f"unknown subject {self.subject!r}; known: {', '.join(SUBJECTS)}")


@dataclass(frozen=True)
class Better:
    """A paired test finds a gain over `reference` at level `alpha`; true while the reference is empty."""

    reference: str
    paired: str = "bootstrap"
    alpha: Number = Number(0.01, "%")

    def __post_init__(self) -> None:
        _check_reference(self.reference)
        if self.paired not in TESTS:
            raise ValueError(f"unknown paired test {self.paired!r}; known: {', '.join(TESTS)}")
        if not 0 < self.alpha.value <= 0.5 or self.alpha.unit not in ("", "%"):
            raise ValueError(f"alpha must lie above 0% and at most at 50%, got {text(self.alpha)}")


@dataclass(frozen=True)
class NoWorse:
    """The lower bound of the paired difference to `reference` stays above -margin.

    A margin in percent is points for a metric in 0..1, and a share of the reference's value for any other.
    """

    reference: str
    margin: Number = Number(0.01, "%")

    def __post_init__(self) -> None:
        _check_reference(self.reference)
        if self.margin.value < 0 or self.margin.unit not in ("", "%"):
            raise ValueError(f"a margin is a number or a percentage from 0 up, got {text(self.margin)}")


@dataclass(frozen=True)
class Not:
    """The opposite; of a comparison it turns the operator, so that the opposite must be proven too."""

    operand: Condition


@dataclass(frozen=True)
class And:
    """All of two or more conditions."""

    items: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if len(self.items) < 2:
            raise ValueError(f"AND joins two or more conditions, got {len(self.items)}")


@dataclass(frozen=True)
class Or:
    """At least one of two or more conditions."""

    items: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if len(self.items) < 2:
            raise ValueError(f"OR joins two or more conditions, got {len(self.items)}")


Condition = Compare | Has | Better | NoWorse | Not | And | Or
Node = Expr | Condition


def _check_reference(reference: str) -> None:
    if reference not in REFERENCES:
        raise ValueError(f"unknown reference {reference!r}; known: {', '.join(REFERENCES)}")


def text(node: Node) -> str:
    """The canonical text of an expression or a condition."""
    return _text(node, 0)


# Binding strength: OR 1, AND 2, NOT 3, comparison 4, + - 5, * / 6, unary minus 7, the rest 8.
def _strength(node: Node) -> int:
    match node:
        case Or():
            return 1
        case And():
            return 2
        case Not():
            return 3
        case Compare():
            return 4
        case Arith():
            return 5 if node.op in "+-" else 6
        case Neg():
            return 7
        case Number():
            return 7 if node.value < 0 else 8
    return 8


def _text(node: Node, outer: int) -> str:
    """Text of `node` inside a context that binds with strength `outer`: parentheses where it is weaker."""
    body = _body(node)
    return f"({body})" if _strength(node) < outer else body


def _body(node: Node) -> str:
    match node:
        case Number():
            return number_text(node.value, node.unit)
        case Word(value):
            return name_text(value)
        case Fact(name, params):
            return f"{name}({', '.join(_param(*pair) for pair in params)})" if params else name
        case Gap(column, of):
            return f"gap({name_text(column)}, of={of})"
        case Neg(operand):
            return f"-{_text(operand, 8)}"
        case Arith(left, op, right):
            own = _strength(node)
            return f"{_text(left, own)} {op} {_text(right, own + 1)}"
        case Function(name, args):
            return f"{name}({', '.join(text(arg) for arg in args)})"
        case _:
            return _condition_body(node)


def _condition_body(node: Condition) -> str:
    match node:
        case Compare(left, op, right):
            return f"{_text(left, 5)} {op} {_text(right, 5)}"
        case Has(subject, tag):
            return f"{subject} HAS {tag}"
        case Better(reference, paired, alpha):
            return f"better({reference}, paired={paired}, alpha={text(alpha)})"
        case NoWorse(reference, margin):
            return f"no_worse({reference}, margin={text(margin)})"
        case Not(operand):
            return f"NOT {_text(operand, 3)}"
        case And(items):
            return " AND ".join(_text(item, 3) for item in items)
        case Or(items):
            return " OR ".join(_text(item, 2) for item in items)


def _param(name: str, value: float) -> str:
    """A share stands alone and in percent; every other parameter is named."""
    return number_text(value, "%") if name == "share" else f"{name}={number_text(value)}"


def number_text(value: float, unit: str = "") -> str:
    """The shortest literal that reads back as exactly this value in this unit."""
    if unit == "%":
        return f"{_plain(Decimal(repr(float(value))) * 100)}%"
    if unit == "s":
        return _scaled(value, _SECONDS, "s")
    if unit == "B":
        return _scaled(value, _BYTES, "B")
    plain = _plain(Decimal(repr(float(value))))
    return plain if len(plain) <= 17 else re.sub(r"e\+", "e", repr(float(value)))


def _scaled(value: float, scale: tuple[tuple[str, int | Decimal], ...], base: str) -> str:
    """In the largest unit that gives a whole number, otherwise in the base unit."""
    exact = Decimal(repr(float(value)))
    with localcontext() as context:
        context.prec = 700
        for name, size in scale:
            if exact and exact % size == 0:
                return f"{_plain(exact / size)}{name}"
    return f"{_plain(exact)}{base}"


def _plain(value: Decimal) -> str:
    """Digits without an exponent, which a percentage, a duration and a size cannot have."""
    digits = f"{value:f}"
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits in ("-0", "") else digits


def name_text(name: str) -> str:
    """A name as it is when it is an identifier and no word of the languages, otherwise as a string."""
    return name if IDENTIFIER.match(name) and name.upper() not in _RESERVED else quote(name)


def walk(node: Node) -> list[Node]:
    """`node` and everything below it, in the order of the text."""
    match node:
        case Neg(operand) | Not(operand):
            below: tuple[Node, ...] = (operand,)
        case Arith(left, _, right) | Compare(left, _, right):
            below = (left, right)
        case Function(_, args):
            below = args
        case And(items) | Or(items):
            below = items
        case _:
            below = ()
    return [node, *(inner for child in below for inner in walk(child))]


def facts_of(node: Node | None) -> tuple[Fact | Gap, ...]:
    """The distinct facts that an expression or a condition reads, in the order of the text."""
    if node is None:
        return ()
    return tuple(dict.fromkeys(item for item in walk(node) if isinstance(item, Fact | Gap)))

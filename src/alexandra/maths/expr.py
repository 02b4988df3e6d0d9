"""Expressions: frozen trees over exact rationals, the table of operators and functions, and the limits of both.

A node is a Number, a Constant, a Symbol or an Apply of an operator to operands. Its text (the prefix language of
language.py) is made when the node is: texts are equal exactly when trees are, so comparing, hashing and sorting never
recurse. A tree is an input as it was written: nothing is evaluated or rearranged here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from alexandra.errors import AlexandraError, suggest

MAX_DEPTH = 100  # operators inside one another
MAX_CHARACTERS = 100_000  # of an expression's text
MAX_BITS = 13_000  # of a numerator or a denominator: 3,914 decimal digits, which Python still prints
SYMBOL = re.compile(r"[A-Za-z][A-Za-z_0-9]*")


class ExpressionError(AlexandraError):
    """An expression is ill-formed or over a limit."""


class DomainError(AlexandraError):
    """An expression has no value at a point; `name` is one of DOMAIN_ERRORS."""

    def __init__(self, name: str, message: str, *, hint: str = "") -> None:
        assert name in DOMAIN_ERRORS
        super().__init__(message, hint=hint)
        self.name = name


# name -> what it means
DOMAIN_ERRORS = {
    "division_by_zero": "the divisor of / is zero",
    "modulo_by_zero": "the divisor of % is zero",
    "zero_to_negative": "zero is raised to a negative power",
    "negative_base": "a negative number is raised to a power that is not a whole number",
    "root_of_negative": "the operand of sqrt is negative",
    "log_of_nonpositive": "the operand of ln or log is zero or negative",
    "tan_pole": "tan has no value where cos is zero",
    "unbound_symbol": "a symbol has no value",
    "no_antiderivative": "no antiderivative was found in the class that is integrated",
    "outside_domain": "an integral runs over a point at which its integrand has no value",
    "not_solved": "the equation is outside the class that is solved",
    "every_value": "the equation holds for every value",
    "not_a_value": "an equation, a set or a tuple is no number",
    "undecided": "the value is so close to the end of a domain that its side is not known",
    "too_large": f"a numerator or denominator would exceed {MAX_BITS:,} bits",
}


@dataclass(frozen=True)
class Operator:
    """A row of the table: how many operands, whether they commute, how infix writes it, and its kind:

    "operator" and "function" have values; "task" (derive, integrate, solve) stands for what is to be found; "relation"
    and "collection" hold parts side by side and are operands of a solve, of a collection, or the whole.
    """

    name: str
    arities: tuple[int, ...]
    commutative: bool
    precedence: int
    doc: str
    kind: str = "operator"


MAX_SOLUTIONS = 64


def _function(name: str, doc: str) -> Operator:
    return Operator(name, (1,), False, 9, doc, "function")


OPERATORS = {
    row.name: row
    for row in (
        Operator("+", (2,), True, 1, "sum"),
        Operator("-", (1, 2), False, 1, "difference; with one operand its negative"),
        Operator("*", (2,), True, 2, "product"),
        Operator("/", (2,), False, 2, "quotient, exact"),
        Operator("%", (2,), False, 2, "a - b * floor(a / b): the remainder with the sign of the divisor"),
        Operator("^", (2,), False, 4, "power; x ^ 0 is 1, also for x = 0; a negative base takes whole exponents"),
        _function("sin", "sine of radians"),
        _function("cos", "cosine of radians"),
        _function("tan", "sine by cosine"),
        _function("log", "logarithm to the base 10"),
        _function("ln", "natural logarithm"),
        _function("exp", "e ^ x"),
        _function("sqrt", "the root that is not negative"),
        _function("abs", "absolute value"),
        _function("floor", "the largest whole number that is not larger"),
        _function("ceil", "the smallest whole number that is not smaller"),
        Operator("derive", (2,), False, 9, "(derive f x): the derivative of f by x", "task"),
        Operator("integrate", (2, 4), False, 9, "(integrate f x), or (integrate f x a b) from a to b", "task"),
        Operator("solve", (2, 4, 6, 8), False, 9, "(solve equation x), or n equations and then n symbols", "task"),
        Operator("=", (2,), True, 0, "an equation", "relation"),
        Operator("set", tuple(range(MAX_SOLUTIONS + 1)), True, 9, "values in any order", "collection"),
        Operator("tuple", tuple(range(1, MAX_SOLUTIONS + 1)), False, 9, "values in order", "collection"),
    )
}
CONSTANTS = {"pi": "the ratio of a circle's circumference to its diameter", "e": "the base of the natural logarithm"}

# Words of the language, so that no symbol can be called so.
RESERVED = tuple(sorted({name for name in OPERATORS if name.isalpha()} | set(CONSTANTS)))
_SIDE_BY_SIDE = ("relation", "collection")


class Expr:
    """A node. `depth` counts operators inside one another, `size` nodes; `text()` is the prefix form."""

    __slots__ = ("_text", "depth", "size")

    _text: str
    depth: int
    size: int

    def text(self) -> str:
        """The canonical spacing of the prefix form; `parse(expr.text()) == expr`."""
        return self._text

    def __str__(self) -> str:
        return self._text

    def __float__(self) -> float:
        """The nearest float to the value, or one of its neighbours; DomainError when there is no value."""
        from alexandra.maths.interval import nearest_float

        return nearest_float(self)

    def __repr__(self) -> str:
        return f"parse({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Expr) and self._text == other._text)

    def __hash__(self) -> int:
        return hash(self._text)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an expression does not change; {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an expression does not change; {name!r} cannot be deleted")

    def __copy__(self) -> Expr:
        return self

    def __deepcopy__(self, memo: object) -> Expr:
        return self

    def _fill(self, text: str, depth: int, size: int) -> None:
        _put(self, "_text", text)
        _put(self, "depth", depth)
        _put(self, "size", size)


_put = object.__setattr__


class Number(Expr):
    """An exact rational; its text is `3`, `-3` or `1/3` in lowest terms."""

    __slots__ = ("exact", "value")
    __match_args__ = ("value",)

    value: Fraction
    exact: int | Fraction  # the value, as an int where it is whole: what arithmetic uses

    def __new__(cls, value: int | Fraction) -> Number:
        """Small whole numbers are made once."""
        if type(value) is int and value in _SMALL:
            return _SMALL[value]
        if isinstance(value, bool) or not isinstance(value, int | Fraction):
            raise ExpressionError(
                f"a Number holds an int or a Fraction, got {value!r}", hint="write Fraction('0.1') for a decimal"
            )
        self = object.__new__(cls)
        exact = Fraction(value)
        if too_large(exact):
            raise ExpressionError(f"a number has at most {MAX_BITS:,} bits above and below its fraction bar")
        _put(self, "value", exact)
        _put(self, "exact", exact.numerator if exact.denominator == 1 else exact)
        self._fill(str(exact), 0, 1)
        return self

    def __reduce__(self) -> tuple[type[Number], tuple[Fraction]]:
        return Number, (self.value,)


_SMALL: dict[int, Number] = {}


class Symbol(Expr):
    """A variable: letters, digits and underscores, starting with a letter; case counts."""

    __slots__ = ("name",)
    __match_args__ = ("name",)

    name: str

    def __init__(self, name: str) -> None:
        problem = symbol_problem(name)
        if problem:
            raise ExpressionError(problem[0], hint=problem[1])
        object.__setattr__(self, "name", name)
        self._fill(name, 0, 1)

    def __reduce__(self) -> tuple[type[Symbol], tuple[str]]:
        return Symbol, (self.name,)


class Constant(Expr):
    """One of CONSTANTS."""

    __slots__ = ("name",)
    __match_args__ = ("name",)

    name: str

    def __init__(self, name: str) -> None:
        if name not in CONSTANTS:
            raise ExpressionError(f"no constant {name!r}", hint=suggest(name, CONSTANTS))
        object.__setattr__(self, "name", name)
        self._fill(name, 0, 1)

    def __reduce__(self) -> tuple[type[Constant], tuple[str]]:
        return Constant, (self.name,)


class Apply(Expr):
    """An operator of OPERATORS applied to its operands."""

    __slots__ = ("args", "op")
    __match_args__ = ("op", "args")

    op: str
    args: tuple[Expr, ...]

    def __init__(self, op: str, args: tuple[Expr, ...]) -> None:
        depth, size, length = 0, 1, 0
        texts = [op]
        plain = (op, len(args)) in _PLAIN
        for arg in args:
            if not isinstance(arg, Expr):
                raise ExpressionError(f"an operand is an expression, got {arg!r}", hint="write Number(3), Symbol('x')")
            if arg.depth > depth:
                depth = arg.depth
            size += arg.size
            length += len(arg._text)
            texts.append(arg._text)
            if plain and type(arg) is Apply and arg.op in _NO_VALUE:
                plain = False
        if not plain or depth >= MAX_DEPTH or length + 12 > MAX_CHARACTERS:
            problem = apply_problem(op, args)
            if problem:
                raise ExpressionError(problem[0], hint=problem[1])
        _put(self, "op", op)
        _put(self, "args", args if type(args) is tuple else tuple(args))
        _put(self, "_text", f"({' '.join(texts)})")
        _put(self, "depth", depth + 1)
        _put(self, "size", size)

    def __reduce__(self) -> tuple[type[Apply], tuple[str, tuple[Expr, ...]]]:
        return Apply, (self.op, self.args)


_PLAIN = frozenset(
    (row.name, arity) for row in OPERATORS.values() if row.kind in ("operator", "function") for arity in row.arities
)
_NO_VALUE = frozenset(row.name for row in OPERATORS.values() if row.kind in _SIDE_BY_SIDE or row.name == "solve")


def too_large(value: Fraction) -> bool:
    """Over MAX_BITS above or below the fraction bar."""
    return value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS


def symbol_problem(name: str) -> tuple[str, str] | None:
    """Why `name` cannot be a symbol and what to do, or None."""
    if not isinstance(name, str) or not SYMBOL.fullmatch(name):
        return f"{name!r} is not a symbol", "a symbol is letters, digits and underscores and starts with a letter"
    if name.lower() in RESERVED:
        return f"{name!r} is a reserved word of the language, not a symbol", "reserved: " + ", ".join(RESERVED)
    return None


def apply_problem(op: str, args: Sequence[Expr]) -> tuple[str, str] | None:
    """Why `op` cannot be applied to `args` and what to do, or None."""
    if op not in OPERATORS:
        return f"unknown operator {op!r}", suggest(op, OPERATORS)
    row = OPERATORS[op]
    if len(args) not in row.arities:
        return _wrong_count(row, len(args)), f"{op}: {row.doc}"
    problem = None if row.kind in ("operator", "function") else _task_problem(op, args)
    if problem:
        return problem, f"{op}: {row.doc}"
    if row.kind != "collection" and op != "solve":
        for arg in args:
            if isinstance(arg, Apply) and (OPERATORS[arg.op].kind in _SIDE_BY_SIDE or arg.op == "solve"):
                return f"{op!r} takes values, not {arg.op!r}", f"{arg.op}: {OPERATORS[arg.op].doc}"
    if max([arg.depth for arg in args], default=0) >= MAX_DEPTH:
        return f"operators are nested deeper than {MAX_DEPTH} levels", "name a part by a symbol and bind it"
    if sum([len(arg._text) for arg in args]) + 12 > MAX_CHARACTERS:
        return f"the expression has more than {MAX_CHARACTERS:,} characters", "name a part by a symbol and bind it"
    return None


def _wrong_count(row: Operator, count: int) -> str:
    if len(row.arities) > 4:
        return f"{row.name!r} takes {row.arities[0]} to {row.arities[-1]} operands, got {count}"
    wanted = " or ".join(str(arity) for arity in row.arities)
    return f"{row.name!r} takes {wanted} operand{'s' if row.arities != (1,) else ''}, got {count}"


def _task_problem(op: str, args: Sequence[Expr]) -> str:
    """What is wrong with the operands of a task, a relation or a collection; "" when nothing is."""
    if op in ("derive", "integrate"):
        return "" if isinstance(args[1], Symbol) else f"the second operand of {op!r} is a symbol, got {args[1]}"
    if op == "solve":
        half = len(args) // 2
        for arg in args[:half]:
            if not (isinstance(arg, Apply) and arg.op == "="):
                return f"'solve' takes equations first, got {arg}"
        names = [arg.name for arg in args[half:] if isinstance(arg, Symbol)]
        if len(set(names)) < half:
            return f"'solve' takes {half} different symbols after its equations"
    return ""


def symbols(expr: Expr) -> tuple[str, ...]:
    """The names that occur, sorted, each once."""
    return tuple(sorted({node.name for node in nodes(expr) if isinstance(node, Symbol)}))


def nodes(expr: Expr) -> Iterator[Expr]:
    """Every node, an operator before its operands."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, Apply):
            stack.extend(reversed(node.args))


_SMALL.update({value: Number(value) for value in range(-1000, 10_001)})

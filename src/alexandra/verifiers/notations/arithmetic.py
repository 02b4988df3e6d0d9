"""Arithmetic as people write it, "3*(x+1)^2 <= y/2", read into a tree and written for the tools.

Numbers are exact (0.1 is 1/10); `^` and `**` bind right and tightest, unary minus looser, as in mathematics. The tree
is nested tuples: a Fraction, a symbol's text, or (operator, part, ...). It is written as the prefix language of
alexandra.maths, as SMT-LIB 2, and as a NumPy function. Depth and length are bounded; nothing is evaluated as code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from alexandra.errors import VerifierError

Tree = Any  # Fraction | str | tuple[str, Tree, ...]
MAX_CHARS, MAX_DEPTH, MAX_POWER = 4_000, 60, 64
RELATIONS = ("=", "!=", "<=", ">=", "<", ">")
FUNCTIONS = ("sin", "cos", "exp", "sqrt", "abs", "log")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/%^()]))")


def parse(text: str) -> Tree:
    """The tree of an expression; VerifierError with the place of what is not understood."""
    if len(text) > MAX_CHARS:
        raise VerifierError(f"an expression of {len(text):,} characters; at most {MAX_CHARS:,} are read")
    reader = _Reader(text)
    tree = reader.sum(0)
    if reader.token is not None:
        raise reader.error("an operator")
    return tree


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.place, self.start = text.rstrip(), 0, 0
        self.token: str | None = ""
        self.next()

    def next(self) -> None:
        self.start = self.place
        if self.place >= len(self.text):
            self.token = None
            return
        found = _TOKEN.match(self.text, self.place)
        if not found:
            raise self.error("a number, a name, an operator or a bracket")
        self.token, self.place = found.group().strip(), found.end()

    def error(self, wanted: str) -> VerifierError:
        shown = self.text[self.start : self.start + 20] or "the end"
        return VerifierError(f"in {self.text[:60]!r}, at {shown!r}: {wanted} belongs here")

    def sum(self, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise VerifierError(f"an expression nested deeper than {MAX_DEPTH} levels")
        left = self.product(depth)
        while self.token in ("+", "-"):
            op = self.token
            self.next()
            left = (op, left, self.product(depth))
        return left

    def product(self, depth: int) -> Tree:
        left = self.signed(depth)
        while self.token in ("*", "/", "%"):
            op = self.token
            self.next()
            left = (op, left, self.signed(depth))
        return left

    def signed(self, depth: int) -> Tree:
        if self.token == "-":
            self.next()
            return ("-", self.signed(depth + 1)) if depth < MAX_DEPTH else self.sum(depth + 1)
        return self.power(depth)

    def power(self, depth: int) -> Tree:
        base = self.atom(depth)
        if self.token in ("^", "**"):
            self.next()
            if depth > MAX_DEPTH:
                raise VerifierError(f"an expression nested deeper than {MAX_DEPTH} levels")
            return ("^", base, self.signed(depth + 1))
        return base

    def atom(self, depth: int) -> Tree:
        token = self.token
        if token is None or token in "+-*/%^)" or token == "**":
            raise self.error("a number, a name or an opening bracket")
        self.next()
        if token == "(":
            inner = self.sum(depth + 1)
            if self.token != ")":
                raise self.error("a closing bracket")
            self.next()
            return inner
        if token[0].isdigit():
            return Fraction(token)
        if token in FUNCTIONS and self.token == "(":
            return (token, self.atom(depth + 1))
        return token


def symbols(tree: Tree) -> tuple[str, ...]:
    """The names in a tree, sorted."""
    names, stack = set(), [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, str):
            names.add(part)
        elif isinstance(part, tuple):
            stack += part[1:]
    return tuple(sorted(names))


def prefix(tree: Tree) -> str:
    """The tree in the prefix language of alexandra.maths."""
    if isinstance(tree, tuple):
        return f"({tree[0]} {' '.join(prefix(part) for part in tree[1:])})"
    return str(tree)


def smt(tree: Tree, sorts: Mapping[str, str], whole: bool, guards: list[str]) -> str:
    """The tree as an SMT-LIB term of sort Int (`whole`) or Real; what it needs to have a value goes to `guards`."""
    if isinstance(tree, Fraction):
        return _smt_number(tree, whole)
    if isinstance(tree, str):
        return f"(to_real |{tree}|)" if sorts.get(tree) == "int" and not whole else f"|{tree}|"
    op, *parts = tree
    if op == "^":
        power = _constant(parts[1])
        if power is None or power.denominator != 1 or not 0 <= power <= MAX_POWER:
            raise VerifierError(f"powers are whole numbers from 0 to {MAX_POWER} here, not {prefix(parts[1])}")
        base = smt(parts[0], sorts, whole, guards)
        return (
            f"(* {' '.join([base] * int(power))})" if power > 1 else base if power else _smt_number(Fraction(1), whole)
        )
    if op in FUNCTIONS:
        raise VerifierError(f"{op} has no exact theory here")
    if op == "%" and not whole:
        raise VerifierError("% is read for whole numbers", hint='say where: {"x": "int"}')
    inner = [smt(part, sorts, whole, guards) for part in parts]
    if op in ("/", "%"):
        guards.append(f"(not (= {inner[1]} {_smt_number(Fraction(0), whole)}))")
    return f"({'mod' if op == '%' else op} {' '.join(inner)})"


def refutation(left: str, relation: str, right: str, where: Mapping[str, str]) -> tuple[str, str]:
    """Two SMT-LIB scripts: the first is satisfiable where both sides have a value ("" when they always have one), both
    together are unsatisfiable exactly when the relation holds wherever they do."""
    if relation not in RELATIONS:
        raise VerifierError(f"unknown relation {relation!r}", hint="one of: " + " ".join(RELATIONS))
    trees = (parse(left), parse(right))
    names = sorted({*symbols(trees[0]), *symbols(trees[1])})
    sorts = {name: where.get(name, "real") for name in names}
    for name, sort in sorts.items():
        if sort not in ("int", "real"):
            raise VerifierError(f"unknown sort {sort!r} of {name!r}", hint="one of: int, real")
    whole = all(sort == "int" for sort in sorts.values()) and not any(map(_is_fractional, trees)) and bool(sorts)
    guards: list[str] = []
    sides = [smt(tree, sorts, whole, guards) for tree in trees]
    meets = f"(not (= {sides[0]} {sides[1]}))" if relation == "!=" else f"({relation} {sides[0]} {sides[1]})"
    lines = [f"(declare-const |{name}| {sort.capitalize()})" for name, sort in sorts.items()]
    lines += [f"(assert {guard})" for guard in dict.fromkeys(guards)]
    domain, against = "\n".join(lines), f"\n(assert (not {meets}))"
    return (domain, against) if guards else ("", domain + against)


def _is_fractional(tree: Tree) -> bool:
    if isinstance(tree, tuple):
        return tree[0] == "/" or any(map(_is_fractional, tree[1:]))
    return isinstance(tree, Fraction) and tree.denominator != 1


def _smt_number(value: Fraction, whole: bool) -> str:
    top = str(abs(value.numerator)) + ("" if whole else ".0")
    text = top if value.denominator == 1 else f"(/ {top} {value.denominator}.0)"
    return f"(- {text})" if value < 0 else text


def _constant(tree: Tree) -> Fraction | None:
    if isinstance(tree, tuple) and tree[0] == "-" and len(tree) == 2:
        inner = _constant(tree[1])
        return None if inner is None else -inner
    return tree if isinstance(tree, Fraction) else None


_NUMPY = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power, "%": np.mod, "sin": np.sin,
    "cos": np.cos, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs, "log": np.log,
}  # fmt: skip


def values(tree: Tree, at: Mapping[str, np.ndarray]) -> np.ndarray:
    """The tree's values in floating point for arrays of values of its symbols."""
    if isinstance(tree, Fraction):
        return np.float64(tree.numerator / tree.denominator)  # type: ignore[return-value]
    if isinstance(tree, str):
        if tree not in at:
            raise VerifierError(f"the symbol {tree!r} has no value", hint="given: " + ", ".join(at))
        return at[tree]
    parts = [values(part, at) for part in tree[1:]]
    if tree[0] == "-" and len(parts) == 1:
        return np.asarray(-parts[0])
    with np.errstate(all="ignore"):
        return np.asarray(_NUMPY[tree[0]](*parts))

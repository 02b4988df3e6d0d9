"""First-order formulas as they are printed, "∀x (Drinks(x) → Dependent(x))", read and written as SMT-LIB.

Symbols: ∀ ∃ ¬ ∧ ∨ → ↔ ⊕ and =; what is quantified is a variable, everything else a constant of one sort. Binding, from
tight to loose: ¬ and quantifiers, ∧, ∨ and ⊕, →, ↔. Depth and length are bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from alexandra.errors import VerifierError

MAX_CHARS, MAX_DEPTH = 4_000, 50
_TOKEN = re.compile(r"\s*([∀∃¬∧∨→↔⊕=≠(),]|[\w'’.\-+]+)")
_LEVELS = (("↔",), ("→",), ("⊕", "∨"), ("∧",))
_SMT = {"↔": "=", "→": "=>", "⊕": "xor", "∨": "or", "∧": "and"}


@dataclass
class Vocabulary:
    """Predicates with their number of terms, functions and constants met so far, under names that SMT-LIB takes."""

    predicates: dict[tuple[str, int], str] = field(default_factory=dict)
    functions: dict[tuple[str, int], str] = field(default_factory=dict)

    def declarations(self) -> str:
        lines = ["(declare-sort Thing 0)"]
        for table, sort in ((self.predicates, "Bool"), (self.functions, "Thing")):
            lines += [f"(declare-fun {name} ({' '.join(['Thing'] * key[1])}) {sort})" for key, name in table.items()]
        return "\n".join(lines)


def to_smt(formula: str, words: Vocabulary) -> str:
    """The formula as an SMT-LIB term; VerifierError quotes what is not understood."""
    if len(formula) > MAX_CHARS:
        raise VerifierError(f"a formula of {len(formula):,} characters; at most {MAX_CHARS:,} are read")
    reader = _Reader(formula, words)
    term = reader.level(0, 0)
    if reader.token:
        raise reader.error("a connective")
    return term


class _Reader:
    def __init__(self, text: str, words: Vocabulary) -> None:
        self.text, self.words, self.place, self.token = text.strip(), words, 0, ""
        self.bound: list[str] = []
        self.next()

    def next(self) -> str:
        before = self.token
        found = _TOKEN.match(self.text, self.place)
        if not found and self.place < len(self.text):
            raise self.error("a symbol or a name")
        self.token, self.place = (found[1], found.end()) if found else ("", len(self.text))
        return before

    def error(self, wanted: str) -> VerifierError:
        return VerifierError(
            f"in {self.text[:80]!r}, near {self.text[max(0, self.place - 12) :][:24]!r}: {wanted} belongs"
        )

    def level(self, number: int, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise VerifierError(f"a formula nested deeper than {MAX_DEPTH} levels")
        if number == len(_LEVELS):
            return self.unary(depth)
        parts, ops = [self.level(number + 1, depth)], []
        while self.token in _LEVELS[number]:
            ops.append(self.next())
            parts.append(self.level(number + 1, depth + 1))
        if "→" in ops:  # binds right
            term = parts.pop()
            while parts:
                term = f"(=> {parts.pop()} {term})"
            return term
        term = parts[0]
        for op, part in zip(ops, parts[1:], strict=True):
            term = f"({_SMT[op]} {term} {part})"
        return term

    def unary(self, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise VerifierError(f"a formula nested deeper than {MAX_DEPTH} levels")
        if self.token == "¬":
            self.next()
            return f"(not {self.unary(depth + 1)})"
        if self.token in ("∀", "∃"):
            kind = "forall" if self.next() == "∀" else "exists"
            name = self.next()
            self.bound.append(name)
            inner = self.unary(depth + 1)
            self.bound.pop()
            return f"({kind} ((|v_{name}| Thing)) {inner})"
        if self.token == "(":
            self.next()
            inner = self.level(0, depth + 1)
            if self.next() != ")":
                raise self.error("a closing bracket")
            return inner
        return self.atom(depth)

    def atom(self, depth: int) -> str:
        name = self.next()
        if not re.match(r"[\w'’]", name):
            raise self.error("a name")
        if self.token == "(":
            terms = self.terms(depth)
            if self.token not in ("=", "≠"):
                key = (name, len(terms))
                made = self.words.predicates.setdefault(key, f"|p_{name}_{len(terms)}|")
                return f"({made} {' '.join(terms)})"
            left = self.function(name, terms)
        elif self.token in ("=", "≠"):
            left = self.term_of(name)
        else:
            made = self.words.predicates.setdefault((name, 0), f"|p_{name}_0|")
            return made
        sign = self.next()
        right = self.term(depth)
        return f"(= {left} {right})" if sign == "=" else f"(not (= {left} {right}))"

    def terms(self, depth: int) -> list[str]:
        self.next()
        out = [self.term(depth + 1)]
        while self.token == ",":
            self.next()
            out.append(self.term(depth + 1))
        if self.next() != ")":
            raise self.error("a closing bracket")
        return out

    def term(self, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise VerifierError(f"a formula nested deeper than {MAX_DEPTH} levels")
        name = self.next()
        if not re.match(r"[\w'’]", name):
            raise self.error("a name")
        return self.function(name, self.terms(depth)) if self.token == "(" else self.term_of(name)

    def term_of(self, name: str) -> str:
        return f"|v_{name}|" if name in self.bound else self.words.functions.setdefault((name, 0), f"|c_{name}|")

    def function(self, name: str, terms: list[str]) -> str:
        made = self.words.functions.setdefault((name, len(terms)), f"|f_{name}_{len(terms)}|")
        return f"({made} {' '.join(terms)})"

"""Facts and rules, "nice(X) :- sees(X, tiger), -young(X).", read into a program that every logic tool gets alike.

Strong negation: `-p(a)` must be stated or derived like any other fact; a rule is never used backwards. So a program is
a Horn program over atoms p and not-p, and all tools must find the same least model. Names are lower case, variables
upper case, both plain identifiers; there are no function symbols, so that every program ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from alexandra.errors import VerifierError

MAX_RULES, MAX_INSTANCES, MAX_VARIABLES = 2_000, 50_000, 6
_ATOM = re.compile(r"\s*(-?)\s*([a-z]\w*)\s*(?:\(([^()]*)\))?\s*", re.ASCII)
_TERM = re.compile(r"[A-Za-z]\w*|\d+", re.ASCII)
ANSWERS = ("true", "false", "unknown")


@dataclass(frozen=True)
class Atom:
    """p(a, X) or its strong negation."""

    name: str
    terms: tuple[str, ...]
    negated: bool = False

    @property
    def opposite(self) -> Atom:
        return Atom(self.name, self.terms, not self.negated)

    def named(self, prefix: str = "n_") -> str:
        """Its predicate's name where a negation is a predicate of its own."""
        return f"{prefix if self.negated else 'p_'}{self.name}_{len(self.terms)}"

    def text(self) -> str:
        sign = "-" if self.negated else ""
        return sign + self.name + (f"({','.join(self.terms)})" if self.terms else "")


@dataclass(frozen=True)
class Rule:
    head: Atom
    body: tuple[Atom, ...] = ()


@dataclass(frozen=True)
class Program:
    rules: tuple[Rule, ...]
    query: Atom

    @property
    def constants(self) -> tuple[str, ...]:
        atoms = [self.query, *(atom for rule in self.rules for atom in (rule.head, *rule.body))]
        return tuple(sorted({term for atom in atoms for term in atom.terms if not is_variable(term)}))


def is_variable(term: str) -> bool:
    return term[0].isupper()


def parse(program: str, query: str) -> Program:
    """Program and query; VerifierError quotes the clause that is not understood."""
    rules = []
    for clause in program.split("."):
        if not clause.strip():
            continue
        head, arrow, body = clause.partition(":-")
        rule = Rule(_atom(head, clause), tuple(_atoms(body, clause)) if arrow else ())
        bound = {term for atom in rule.body for term in atom.terms}
        loose = [term for term in rule.head.terms if is_variable(term) and term not in bound]
        if loose:
            raise VerifierError(f"in {clause.strip()!r}: {loose[0]} is in the head only", hint="bind it in the body")
        rules.append(rule)
        if len(rules) > MAX_RULES:
            raise VerifierError(f"more than {MAX_RULES} clauses")
    asked = _atom(query.rstrip(". \n"), query)
    if any(is_variable(term) for term in asked.terms):
        raise VerifierError(f"the query {query!r} has a variable", hint="ask about named things")
    return Program(tuple(rules), asked)


def _atoms(text: str, clause: str) -> Iterator[Atom]:
    place = 0
    while place < len(text):
        found = _ATOM.match(text, place)
        if not found:
            raise VerifierError(f"in {clause.strip()[:200]!r}: not an atom at {text[place : place + 20]!r}")
        yield _made(found, clause)
        place = found.end()
        if place < len(text):
            if text[place] != ",":
                raise VerifierError(f"in {clause.strip()[:200]!r}: a comma belongs at {text[place : place + 20]!r}")
            place += 1


def _atom(text: str, clause: str) -> Atom:
    found = _ATOM.fullmatch(text)
    if not found:
        hint = "write p(a), -p(a) or head(X) :- body(X)."
        raise VerifierError(f"not an atom: {text.strip()[:200]!r} in {clause.strip()[:200]!r}", hint=hint)
    return _made(found, clause)


def _made(found: re.Match[str], clause: str) -> Atom:
    sign, name, inside = found.groups()
    terms = tuple(term.strip() for term in inside.split(",")) if inside is not None else ()
    for term in terms:
        if not _TERM.fullmatch(term):
            raise VerifierError(f"not a name or variable: {term!r} in {clause.strip()[:200]!r}")
    return Atom(name, terms, bool(sign))


def ground(program: Program) -> list[Rule]:
    """Every instance of every rule over the program's constants."""
    constants = program.constants
    out: list[Rule] = []
    for rule in program.rules:
        names = sorted({t for atom in (rule.head, *rule.body) for t in atom.terms if is_variable(t)})
        if len(names) > MAX_VARIABLES or len(out) + len(constants) ** len(names) > MAX_INSTANCES:
            raise VerifierError(f"more than {MAX_INSTANCES:,} instances of rules")
        for chosen in product(constants, repeat=len(names)):
            at = dict(zip(names, chosen, strict=True))
            out.append(Rule(_put(rule.head, at), tuple(_put(atom, at) for atom in rule.body)))
    return out


def _put(atom: Atom, at: dict[str, str]) -> Atom:
    return Atom(atom.name, tuple(at.get(term, term) for term in atom.terms), atom.negated)


def answer(query_holds: bool, opposite_holds: bool) -> str:
    """The answer that two derivations give; both at once is "contradiction"."""
    if query_holds and opposite_holds:
        return "contradiction"
    return "true" if query_holds else "false" if opposite_holds else "unknown"


def judge(found: str, claimed: str) -> bool:
    """Is the claimed answer the one found? VerifierError for one that nobody can give."""
    if claimed not in ANSWERS:
        raise VerifierError(f"unknown answer {claimed!r}", hint="one of: " + ", ".join(ANSWERS))
    return found == claimed

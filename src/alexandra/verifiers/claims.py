"""What can be claimed: one frozen payload per kind of claim, and their JSON, which a claims file, the cache and worker
processes share.

KINDS is the literal table. Free text is a plain string whose context says what it must fit; every other kind is
machine-checkable. Reading refuses unknown kinds and fields with what is allowed; it judges nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from alexandra.errors import VerifierError, suggest
from alexandra.records import EMPTY, Claim

MAX_DEPTH = 64


@dataclass(frozen=True)
class Expression:
    """`left relation right` for all values of the symbols; `where` gives their sort: "int", "real" (the default)."""

    left: str
    relation: str
    right: str
    where: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True)
class Derivation:
    """Steps that should each equal the one before; maths in infix or prefix notation."""

    steps: tuple[str, ...]


@dataclass(frozen=True)
class TableStatement:
    """A sentence about a table, for example "average of price where region = 'north' is 12.5"."""

    columns: Mapping[str, tuple[Any, ...]]
    statement: str


@dataclass(frozen=True)
class Triples:
    """A knowledge graph in Turtle, and a SPARQL ASK query that is claimed to hold."""

    turtle: str
    ask: str


@dataclass(frozen=True)
class Logic:
    """A program of facts and rules, `nice(X) :- sees(X, tiger), -young(X).`, and an answer to a query.

    `-` is strong negation: a negative fact must be derived too. answer: "true", "false" (its negation is derived) or
    "unknown" (neither).
    """

    program: str
    query: str
    answer: str = "true"


@dataclass(frozen=True)
class Formulas:
    """First-order formulas with ∀ ∃ ¬ ∧ ∨ → ↔ ⊕; answer: "true", "false", "unknown", or "consistent"."""

    premises: tuple[str, ...]
    conclusion: str = ""
    answer: str = "true"


@dataclass(frozen=True)
class Code:
    """A Python program and the assertions that it is claimed to pass."""

    source: str
    tests: tuple[str, ...]
    setup: str = ""


@dataclass(frozen=True)
class Proof:
    """A statement and its proof in the language of `system`: coq, metamath or lean."""

    system: str
    statement: str
    proof: str


@dataclass(frozen=True)
class Plan:
    """Values for the variables of a linear program, claimed feasible and within `gap` of the optimum.

    constraints: (coefficients, "<=" | ">=" | "=", limit). `whole`: variables are whole numbers. Variables are >= 0.
    """

    maximise: bool
    objective: Mapping[str, float]
    constraints: tuple[tuple[Mapping[str, float], str, float], ...]
    values: Mapping[str, float]
    whole: bool = True
    gap: float = 0.0


@dataclass(frozen=True)
class Decision:
    """A choice among lotteries: option -> ((probability, outcome), ...), claimed to be the best.

    risk_aversion: of constant absolute risk aversion, u(x) = (1 - exp(-a x)) / a; 0 is the expected value.
    """

    options: Mapping[str, tuple[tuple[float, float], ...]]
    chosen: str
    risk_aversion: float = 0.0


@dataclass(frozen=True)
class Game:
    """Payoffs of two players and strategies that are claimed to be a Nash equilibrium."""

    row_payoffs: tuple[tuple[float, ...], ...]
    column_payoffs: tuple[tuple[float, ...], ...]
    row_strategy: tuple[float, ...]
    column_strategy: tuple[float, ...]


@dataclass(frozen=True)
class Forecast:
    """Past cases with their outcomes (0 or 1), a new case, and the outcome claimed for it."""

    cases: tuple[tuple[float, ...], ...]
    outcomes: tuple[int, ...]
    case: tuple[float, ...]
    outcome: int


@dataclass(frozen=True)
class Series:
    """Values over time and what is claimed of them: "stable", "drifting", "rising" or "falling"."""

    values: tuple[float, ...]
    statement: str = "stable"


@dataclass(frozen=True)
class Samples:
    """Several answers to one question, and the one that was given."""

    answers: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Perturbed:
    """An answer, and the answers to versions of the question that mean the same."""

    answer: str
    variants: tuple[str, ...]


@dataclass(frozen=True)
class Swap:
    """Answers to one question that differs in the group it names only: group -> answer (a number or text)."""

    answers: Mapping[str, Any]
    tolerance: float = 0.0


@dataclass(frozen=True)
class Influence:
    """A directed graph of who affects whom; nobody's share of `measure` is claimed to exceed `limit`.

    measure: "pagerank", "betweenness" or "degree".
    """

    edges: tuple[tuple[str, str], ...]
    limit: float
    measure: str = "pagerank"


@dataclass(frozen=True)
class Perspectives:
    """Texts that are claimed to hold `count` distinct perspectives."""

    texts: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Bound:
    """`expression relation limit` for all values in a box: variable -> (low, high); relation "<=" or ">="."""

    expression: str
    box: Mapping[str, tuple[float, float]]
    relation: str
    limit: float


# kind -> payload; None is plain text. "outcomes" (records.Outcomes) holds arrays and has no JSON.
KINDS: dict[str, type | None] = {
    "text": None,
    "expression": Expression,
    "derivation": Derivation,
    "table": TableStatement,
    "triples": Triples,
    "logic": Logic,
    "formulas": Formulas,
    "code": Code,
    "proof": Proof,
    "plan": Plan,
    "decision": Decision,
    "game": Game,
    "forecast": Forecast,
    "series": Series,
    "samples": Samples,
    "perturbed": Perturbed,
    "swap": Swap,
    "influence": Influence,
    "perspectives": Perspectives,
    "bound": Bound,
}
DOMAIN_OF_KIND = {
    "expression": "logical",
    "derivation": "logical",
    "logic": "logical",
    "formulas": "logical",
    "proof": "logical",
    "bound": "logical",
    "plan": "social",
    "decision": "ethical",
    "game": "social",
    "swap": "ethical",
    "influence": "social",
    "perspectives": "social",
}
CONTEXT = (
    "domain", "stance", "stakes", "prompt", "passages", "passage", "required", "forbidden", "format", "language",
    "sentiment", "corpus", "topic", "archive", "history", "axioms", "claimed", "metric", "seed", "threshold",
)  # fmt: skip


def claim_from(value: Any, where: str = "claim") -> Claim:
    """A Claim from JSON: {"kind", "content", "context"?, "source"?}; content alone, as text, for a string."""
    if isinstance(value, str):
        return Claim("text", value)
    if not isinstance(value, Mapping):
        raise VerifierError(f"{where} is a {type(value).__name__}", hint='write {"kind": ..., "content": ...}')
    for name in value:
        if name not in ("kind", "content", "context", "source", "label"):
            raise VerifierError(f"{where}: unknown field {name!r}", hint=suggest(name, ["kind", "content", "context"]))
    kind = value.get("kind", "text")
    if kind not in KINDS:
        raise VerifierError(f"{where}: unknown kind {kind!r}", hint=suggest(str(kind), KINDS))
    context = value.get("context") or {}
    if not isinstance(context, Mapping):
        raise VerifierError(f"{where}: the context is a {type(context).__name__}, not an object")
    payload = _payload(kind, value.get("content"), where)
    return Claim(kind, payload, {key: _tuples(part) for key, part in context.items()}, str(value.get("source", "")))


def _payload(kind: str, content: Any, where: str) -> Any:
    made = KINDS[kind]
    if made is None:
        if not isinstance(content, str):
            raise VerifierError(f"{where}: the content of kind {kind!r} is text, got a {type(content).__name__}")
        return content
    assert hasattr(made, "__dataclass_fields__"), "payloads are dataclasses"
    names = {one.name: one for one in fields(made)}
    if not isinstance(content, Mapping):
        hint = "its fields: " + ", ".join(names)
        raise VerifierError(f"{where}: the content of kind {kind!r} is an object", hint=hint)
    for name in content:
        if name not in names:
            raise VerifierError(f"{where}: {kind} has no field {name!r}", hint=suggest(str(name), names))
    for name, one in names.items():
        if name not in content and one.default is MISSING and one.default_factory is MISSING:
            raise VerifierError(f"{where}: {kind} needs the field {name!r}", hint="its fields: " + ", ".join(names))
    values = {name: _tuples(content[name]) for name in content}
    for name, part in values.items():
        _check_type(f"{where}: {kind}.{name}", str(names[name].type), part)
    return made(**values)


_TYPES: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("tuple", (tuple,), "a list"),
    ("Mapping", (Mapping,), "an object"),
    ("str", (str,), "text"),
    ("bool", (bool,), "true or false"),
    ("int", (int,), "a whole number"),
    ("float", (int, float), "a number"),
)


def _check_type(where: str, annotation: str, value: Any) -> None:
    for start, types, words in _TYPES:
        if annotation.startswith(start):
            if not isinstance(value, types) or (isinstance(value, bool) and start in ("int", "float")):
                raise VerifierError(f"{where} is {words}, got a {type(value).__name__}")
            return


def _tuples(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise VerifierError(f"a claim is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(part, depth + 1) for part in value)
    if isinstance(value, Mapping):
        return {str(key): _tuples(part, depth + 1) for key, part in value.items()}
    return value


def claim_json(claim: Claim) -> dict[str, Any]:
    """The JSON that `claim_from` reads back; VerifierError for claims that hold arrays."""
    if claim.kind not in KINDS:
        raise VerifierError(f"claims of kind {claim.kind!r} have no JSON", hint=suggest(claim.kind, KINDS))
    content = claim.content if KINDS[claim.kind] is None else _fields(claim.content)
    out = {"kind": claim.kind, "content": content, "context": dict(claim.context)}
    return {**out, "source": claim.source} if claim.source else out


def _fields(payload: Any) -> dict[str, Any]:
    return {one.name: getattr(payload, one.name) for one in fields(payload)}


def read_claims(lines: Iterable[str], file: str = "<claims>") -> Iterator[tuple[Claim, Any]]:
    """(claim, label or None) for every line of a claims file: JSON objects, or plain text in quotes."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise VerifierError(f"{file}:{number}: not JSON: {error}", hint='example: {"kind": "text", ...}') from None
        label = value.get("label") if isinstance(value, Mapping) else None
        yield claim_from(value, f"{file}:{number}"), label


def domain_of(claim: Claim) -> str:
    """The domain that the claim names, else that of its kind, else empirical."""
    return str(claim.context.get("domain") or DOMAIN_OF_KIND.get(claim.kind, "empirical"))


def plain(payload: Any) -> dict[str, Any]:
    """A payload as a dict of its fields, deep."""
    return asdict(payload)

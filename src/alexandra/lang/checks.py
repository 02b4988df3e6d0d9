"""What a well-formed condition must keep, whoever built it: known facts, their place, parameters, units, ranges.

The checks raise TaskError; the reader of a text (clauses.py) adds the position, `check_condition` serves
conditions built in Python. Nothing here measures anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from alexandra.errors import TaskError, suggest
from alexandra.lang.expr import (
    Arith,
    Better,
    Compare,
    Condition,
    Expr,
    Fact,
    Function,
    Gap,
    Has,
    Neg,
    NoWorse,
    Number,
    Word,
    facts_of,
    number_text,
    text,
    walk,
)
from alexandra.lang.facts import FACTS, GAP, PLACES, FactSpec
from alexandra.metrics import METRICS, bind

_NOUNS = {"s": "a duration", "B": "a size", "word": "a name", "": "a number"}
_EXAMPLES = {"s": "write 20ms, 3s or 30d", "B": "write 500kB or 2GB"}


def check_fact(fact: Fact | Gap, known: Mapping[str, FactSpec] = FACTS) -> None:
    """Refuse an unknown fact, and wrong or missing parameters."""
    if isinstance(fact, Gap):
        return
    if fact.name not in known:
        raise TaskError(f"unknown fact {fact.name!r}", hint=suggest(fact.name, [*known, "gap"]))
    if fact.name in METRICS:
        bind(METRICS[fact.name], fact.kwargs)
    elif fact.params:
        raise TaskError(f"{fact.name} takes no parameters", hint=f"write {fact.name} alone")


def check_metric(metric: Fact) -> None:
    """Refuse what is no metric, and wrong or missing parameters."""
    if metric.name not in METRICS:
        raise TaskError(f"unknown metric {metric.name!r}", hint=suggest(metric.name, METRICS))
    check_fact(metric)


def canonical(name: str, given: Mapping[str, float], known: Mapping[str, FactSpec] = FACTS) -> Fact:
    """The fact with its parameters in the table's order, defaults left out: one measurement has one name."""
    order = [*known[name].params, *(key for key in given if key not in known[name].params)]
    kept = [key for key in order if key in given and given[key] != known[name].params.get(key)]
    return Fact(name, tuple((key, given[key]) for key in kept))


def check_place(name: str, place: str, known: Mapping[str, FactSpec] = FACTS) -> None:
    """Refuse a fact where it is not known yet, or no more."""
    spec = GAP if name == "gap" else known.get(name)
    if spec is None or not place or place in spec.places:
        return
    here = sorted([key for key, other in known.items() if place in other.places] + ["gap"] * (place in GAP.places))
    where = " and ".join(PLACES[key] for key in spec.places)
    raise TaskError(
        f"{name!r} is not known in {PLACES[place]}", hint=f"it is known in {where}. Known here: {', '.join(here)}."
    )


def unit_of(node: Expr, known: Mapping[str, FactSpec] = FACTS) -> str:
    """The unit of an expression: "" (a number), "%", "s", "B" or "word"; raises TaskError where units do not fit."""
    match node:
        case Number(_, unit):
            return unit
        case Word():
            return "word"
        case Gap():
            return ""
        case Fact(name):
            return known[name].kind.unit if name in known else ""
        case Neg(operand):
            return _no_word(operand, known)
        case Function(name, args):
            units = [_no_word(arg, known) for arg in args]
            if name in ("min", "max"):
                return _common(units, args)
            return units[0] if name == "abs" else ""
        case Arith(left, op, right):
            units = [_no_word(left, known), _no_word(right, known)]
            if op in "+-":
                return units[0] if units[1] == "%" else _common(units, (left, right))
            plain = [unit for unit in units if unit not in ("", "%")]
            return plain[0] if len(plain) == 1 and not (op == "/" and units[1] == plain[0]) else ""
    raise AssertionError(node)


def _no_word(node: Expr, known: Mapping[str, FactSpec]) -> str:
    unit = unit_of(node, known)
    if unit == "word":
        raise TaskError(f"{text(node)!r} is a name: nothing can be computed with it")
    return unit


def _common(units: list[str], nodes: tuple[Expr, ...]) -> str:
    first = next((unit for unit in units if unit not in ("", "%")), "")
    for unit, node in zip(units, nodes, strict=True):
        if first and unit != first:
            raise TaskError(
                f"{text(node)!r} is {_NOUNS['' if unit == '%' else unit]}, not {_NOUNS[first]}", hint=_EXAMPLES[first]
            )
    return first


def check_compare(node: Compare, known: Mapping[str, FactSpec] = FACTS) -> None:
    """Refuse a comparison of different units, of words by order, and of a fact with a value out of its range."""
    left, right = unit_of(node.left, known), unit_of(node.right, known)
    if "word" in (left, right):
        _check_words(node, left, right)
        return
    _common([left, right], (node.left, node.right))
    if not facts_of(node):
        raise TaskError(f"{text(node)!r} compares no fact", hint="name a fact, for instance roc_auc >= 0.8")
    for fact, value in ((node.left, node.right), (node.right, node.left)):
        if isinstance(fact, Fact | Gap) and isinstance(value, Number):
            _check_range(fact, value, known)


def _check_range(fact: Fact | Gap, value: Number, known: Mapping[str, FactSpec]) -> None:
    kind = GAP.kind if isinstance(fact, Gap) else known[fact.name].kind
    if kind.lowest <= value.value <= kind.highest:
        return
    percent = kind.highest == 1.0 and value.unit == "" and 1 < value.value <= 100
    hint = f"write {number_text(value.value / 100, '%')}" if percent else ""
    raise TaskError(f"{text(fact)} is {kind.noun}: {text(value)} lies outside", hint=hint)


def _check_words(node: Compare, left: str, right: str) -> None:
    fact = node.left if left == "word" and isinstance(node.left, Fact) else node.right
    other = node.right if fact is node.left else node.left
    if not isinstance(fact, Fact) or not isinstance(other, Word):
        raise TaskError(f"{text(node)!r} does not compare a fact with a name", hint="write stage == production")
    if node.op not in ("==", "!="):
        raise TaskError(f"{fact.name} is a name and has no order", hint="compare it by == or !=")
    values = FACTS[fact.name].values if fact.name in FACTS else ()
    if values and other.value not in values:
        raise TaskError(f"unknown {fact.name} {other.value!r}", hint=suggest(other.value, values))


def check_expression(node: Expr, place: str, known: Mapping[str, FactSpec] = FACTS) -> None:
    """Refuse a score that reads unknown facts or computes with names."""
    for fact in facts_of(node):
        check_fact(fact, known)
        check_place("gap" if isinstance(fact, Gap) else fact.name, place, known)
    _no_word(node, known)


def check_condition(node: Condition, place: str, known: Mapping[str, FactSpec] = FACTS) -> None:
    """All checks over a whole condition at `place` (a key of facts.PLACES)."""
    for fact in facts_of(node):
        check_fact(fact, known)
        check_place("gap" if isinstance(fact, Gap) else fact.name, place, known)
    for item in walk(node):
        if isinstance(item, Compare):
            check_compare(item, known)
        elif isinstance(item, Has) and place != "select":
            raise TaskError("HAS belongs to the WHEN of a rule")
        elif isinstance(item, Better | NoWorse) and place not in ("accept", "require"):
            raise TaskError(f"{text(item)} is known in ACCEPT and REQUIRE only")

"""Conditions decided by evidence: a Decision with a reason in words for every part.

A comparison holds when its interval proves it: `>=` by the lower bound, `<=` by the upper bound. NOT turns the
comparison, so the opposite must be proven as well. What was not measured abstains: it does not pass, and the
reason says so. AND and OR are those of Kleene's three-valued logic; every part is looked at, nothing is skipped.
Facts and what they mean are in facts.py; choosing among many models at once is ranking.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from alexandra.lang.expr import (
    And,
    Better,
    Compare,
    Condition,
    Expr,
    Fact,
    Gap,
    Has,
    Not,
    NoWorse,
    Number,
    Or,
    Word,
    facts_of,
    number_text,
    text,
)
from alexandra.lang.facts import FACTS, GAP, METRIC_NAME, means_points
from alexandra.lang.measure import OPPOSITE, Bounds, measure, proven, shortfall
from alexandra.metrics import METRICS
from alexandra.records import Interval

if TYPE_CHECKING:
    from alexandra.statistics import Paired


@dataclass(frozen=True)
class Missing:
    """A fact that was asked for and could not be measured; `reason` says why."""

    reason: str


@dataclass(frozen=True)
class Comparison:
    """A model against one other, item by item; `against` names the other: "production v3", "the baseline logistic"."""

    against: str
    paired: Paired


FactValue = Interval | float | int | bool | str | Collection[str] | Missing | None
Facts = Mapping[str, FactValue]
# (reference, paired test) -> one Comparison per model in that place; empty: nothing stands there; None, or Missing
# with its reason: none could be made.
Comparisons = Callable[[str, str], Sequence[Comparison] | Missing | None]


@dataclass(frozen=True)
class Reason:
    """One part of a condition: its text, whether it holds (None: abstained), and the measured figures in words."""

    text: str
    passed: bool | None
    words: str

    def __str__(self) -> str:
        return f"{self.text}: {self.words}"


@dataclass(frozen=True)
class Decision:
    """Whether a condition holds, with a reason for each of its parts in the order of the text."""

    passed: bool
    reasons: tuple[Reason, ...]

    @property
    def failed(self) -> tuple[Reason, ...]:
        """The parts that do not hold or were not measured."""
        return tuple(reason for reason in self.reasons if reason.passed is not True)

    def words(self) -> str:
        """One line a part."""
        marks = {True: "met", False: "missed", None: "unknown"}
        return "\n".join(f"{marks[reason.passed]:8}{reason}" for reason in self.reasons)


def evaluate(node: Condition, facts: Facts, comparisons: Comparisons | None = None) -> Decision:
    """Decide `node` on `facts`: canonical text -> Interval, number, name, or Missing with its reason.

    "tags" and "model_tags" hold the tags that HAS asks for; "metric_name" says which metric `metric` and
    `accepted` are. `comparisons` answers better and no_worse; without it they abstain.
    """
    judge = _Judge(facts, comparisons)
    passed = judge.decide(node, False)
    return Decision(passed is True, tuple(judge.reasons))


@dataclass
class _Judge:
    facts: Facts
    comparisons: Comparisons | None
    reasons: list[Reason] = field(default_factory=list)

    def decide(self, node: Condition, negated: bool) -> bool | None:
        """The truth of `node`, or of its opposite; reasons are collected on the way."""
        match node:
            case Not(operand):
                return self.decide(operand, not negated)
            case And(items) | Or(items):
                parts = [self.decide(item, negated) for item in items]
                return _any(parts) if isinstance(node, Or) is not negated else _all(parts)
            case Compare(left, op, right):
                node = Compare(left, OPPOSITE[op], right) if negated else node
                passed, words = self._compare(node)
                return self._note(text(node), passed, words)
        passed, words = self._has(node) if isinstance(node, Has) else self._paired(node)
        if negated:
            return self._note(f"NOT {text(node)}", None if passed is None else not passed, words)
        return self._note(text(node), passed, words)

    def _note(self, what: str, passed: bool | None, words: str) -> bool | None:
        self.reasons.append(Reason(what, passed, words))
        return passed

    # ------------------------------------------------------------ leaves

    def _compare(self, node: Compare) -> tuple[bool | None, str]:
        for fact in facts_of(node):
            value = self.facts.get(fact.key)
            if value is None or isinstance(value, Missing):
                why = f": {value.reason}" if isinstance(value, Missing) else ""
                return None, f"{fact.key} was not measured{why}"
        if isinstance(node.left, Word) or isinstance(node.right, Word):
            return self._compare_words(node)
        left, right = measure(node.left, self._lookup), measure(node.right, self._lookup)
        if np.isnan(left.value) or np.isnan(right.value):
            side = node.left if np.isnan(left.value) else node.right
            return None, f"{text(side)} has no finite value here"
        passed = bool(proven(left, node.op, right))
        return passed, _compare_text(node, left, right, passed)

    def _compare_words(self, node: Compare) -> tuple[bool | None, str]:
        fact, word = (node.left, node.right) if isinstance(node.right, Word) else (node.right, node.left)
        assert isinstance(fact, Fact) and isinstance(word, Word)
        value = str(self.facts[fact.key])
        return (value == word.value) is (node.op == "=="), f"{fact.key} is {value}"

    def _lookup(self, fact: Fact | Gap) -> tuple[Bounds, bool]:
        return bounds_of(self.facts.get(fact.key)), points(fact, self.facts.get(METRIC_NAME))

    def _has(self, node: Has) -> tuple[bool | None, str]:
        tags = self.facts.get("tags" if node.subject == "task" else "model_tags")
        if not isinstance(tags, Collection) or isinstance(tags, str):
            return None, f"the tags of the {node.subject} are not known"
        return node.tag in tags, f"the {node.subject} has {', '.join(sorted(tags)) or 'no tags'}"

    def _paired(self, node: Condition) -> tuple[bool | None, str]:
        assert isinstance(node, Better | NoWorse)
        test = node.paired if isinstance(node, Better) else "auto"
        found = self.comparisons(node.reference, test) if self.comparisons else None
        if isinstance(found, Missing):
            return None, f"no comparison with {node.reference}: {found.reason}"
        if found is None or (not found and node.reference == "baseline"):
            return None, f"no comparison with {node.reference} was made"
        if not found:
            return True, _EMPTY[node.reference]
        verdicts = [_better(node, one) if isinstance(node, Better) else _no_worse(node, one) for one in found]
        return _all([passed for passed, _ in verdicts]), "; ".join(words for _, words in verdicts)


_EMPTY = {"production": "production is empty", "protected": "no task is protected"}


def _all(parts: Sequence[bool | None]) -> bool | None:
    return False if False in parts else None if None in parts else True


def _any(parts: Sequence[bool | None]) -> bool | None:
    return True if True in parts else None if None in parts else False


def bounds_of(value: FactValue) -> Bounds:
    """The bounds of a fact's value; NaN for what is not a number."""
    if isinstance(value, Interval):
        return Bounds(*(np.asarray(part, dtype=np.float64) for part in (value.value, value.low, value.high)))
    if isinstance(value, bool | int | float | np.number):
        return Bounds.exact(float(value))
    return Bounds.exact(math.nan)


def points(fact: Fact | Gap, metric_name: object) -> bool:
    """True when a percentage beside this fact means points: it lies in 0..1, or it holds a metric that does."""
    if isinstance(fact, Gap):
        return GAP.kind.is_share
    if fact.name in ("metric", "accepted"):
        return not isinstance(metric_name, str) or means_points(metric_name.partition("(")[0])
    return fact.name not in FACTS or FACTS[fact.name].kind.is_share


def margin_of(margin: Number, paired: Paired) -> float:
    """A margin in the metric's own unit: a percentage is points for a metric in 0..1, else a share of b's value."""
    return margin.value * abs(paired.b) if margin.unit == "%" and paired.relative else margin.value


def _no_worse(node: NoWorse, one: Comparison) -> tuple[bool | None, str]:
    from alexandra.statistics import words

    paired, margin = one.paired, margin_of(node.margin, one.paired)
    if not math.isfinite(paired.low):
        return None, f"no difference to {one.against} could be measured"
    passed = paired.low > -margin
    outcome = "keeps" if passed else f"misses by {figure(-margin - paired.low)}"
    return passed, f"against {one.against} {words(paired)}: the lower bound {outcome} the margin {figure(margin)}"


def _better(node: Better, one: Comparison) -> tuple[bool | None, str]:
    from alexandra.statistics import better, words

    paired, alpha = one.paired, node.alpha.value
    if not (math.isfinite(paired.p_value) and math.isfinite(paired.difference)):
        return None, f"no difference to {one.against} could be measured"
    relation = "at most" if paired.p_value <= alpha else "above"
    level = f"p = {paired.p_value:.2g}, {relation} alpha = {number_text(alpha, '%')}"
    return better(paired, alpha), f"against {one.against} {words(paired)}: {level}"


# ------------------------------------------------------------ words


def figure(value: float, unit: str = "", sign: bool = False) -> str:
    """A measured number for reading: three decimals, or three digits where those would say nothing."""
    if unit == "s":
        scale, name = next(((s, n) for s, n in _TIMES if abs(value) >= s), (1e-6, "us"))
        return f"{value / scale:.3g}{name}" if value else "0s"
    if unit == "B":
        scale, name = next(((s, n) for s, n in _SIZES if abs(value) >= s), (1.0, "B"))
        return f"{value / scale:.3g}{name}"
    plus = "+" if sign else ""
    if unit == "%":
        return f"{value * 100:{plus}.3g}%" if abs(value) < 0.01 else f"{value * 100:{plus}.1f}%"
    if value == int(value) and abs(value) < 1e15 and not sign:
        return str(int(value))
    if abs(value) < 0.001:
        return f"{value:{plus}.2g}"
    return f"{value:{plus}.3f}" if abs(value) < 1000 else f"{value:{plus}.4g}"


_TIMES = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def _compare_text(node: Compare, left: Bounds, right: Bounds, passed: bool) -> str:
    """What was measured, and how far the deciding bound is from the limit."""
    unit = _display_unit(node)
    measured = [_measured(side, at, unit) for side, at in ((node.left, left), (node.right, right))]
    words = " against ".join(filter(None, measured))
    if node.op in ("==", "!="):
        return words
    side = right if isinstance(node.left, Number) else left
    bound = "lower bound" if (node.op in (">=", ">")) is (side is left) else "upper bound"
    which = f"{bound} " if side.low != side.high else ""
    gap = float(shortfall(left, node.op, right))
    if passed:
        return f"{words}, {which}clears it by {figure(-gap, unit)}"
    strict = " (it must not be equal)" if gap == 0 else ""
    return f"{words}, {which}misses by {figure(gap, unit)}{strict}"


def _measured(node: Expr, at: Bounds, unit: str) -> str:
    if isinstance(node, Number):
        return ""
    interval = f" [{figure(float(at.low), unit)}, {figure(float(at.high), unit)}]" if at.low != at.high else ""
    return f"{figure(float(at.value), unit)}{interval}"


def _display_unit(node: Compare) -> str:
    """The unit of the facts, or percent where the limit is written in percent."""
    for fact in facts_of(node):
        if isinstance(fact, Fact) and fact.name in FACTS and FACTS[fact.name].kind.unit in ("s", "B"):
            return FACTS[fact.name].kind.unit
    limits = [side.unit for side in (node.left, node.right) if isinstance(side, Number)]
    return "%" if limits == ["%"] else ""


# ------------------------------------------------------------ what no model could meet


def impossible(node: Condition, best: Callable[[Fact | Gap], Interval | float | None]) -> tuple[Reason, ...]:
    """The parts of an ACCEPT that even a perfect score could not meet; empty when it can be met.

    `best(fact)` is what a perfect model would show at this number of items: an Interval whose lower bound is
    the largest (for `>=`) and whose upper bound is the smallest (for `<=`) that can be reached; an exact number
    for what is fixed (samples); None for what is not known. Of an OR, the parts of every branch are listed.
    """
    found = _impossible(node, best, False)
    return tuple(found or ())


def _impossible(node: Condition, best: Callable[[Fact | Gap], Interval | float | None], negated: bool) -> list[Reason]:
    match node:
        case Not(operand):
            return _impossible(operand, best, not negated)
        case And(items) | Or(items):
            parts = [_impossible(item, best, negated) for item in items]
            needs_all = isinstance(node, And) is not negated
            return [reason for part in parts for reason in part] if needs_all or all(parts) else []
        case Compare(left, op, right):
            return _out_of_reach(Compare(left, OPPOSITE[op], right) if negated else node, best)
    return []


def _out_of_reach(node: Compare, best: Callable[[Fact | Gap], Interval | float | None]) -> list[Reason]:
    fact, limit, op = node.left, node.right, node.op
    if isinstance(limit, Fact | Gap):
        fact, limit, op = limit, fact, {">=": "<=", ">": "<", "<=": ">=", "<": ">"}.get(op, op)
    if not isinstance(fact, Fact | Gap) or not isinstance(limit, Number) or op in ("==", "!="):
        return []
    reach = best(fact)
    if reach is None or (isinstance(reach, Interval) and _wants_worse(fact, op)):
        return []
    at = bounds_of(reach)
    if bool(proven(at, op, Bounds.exact(limit.value))):
        return []
    edge = figure(float(at.low if op in (">=", ">") else at.high), "%" if limit.unit == "%" else "")
    n = f" at n={reach.n}" if isinstance(reach, Interval) and reach.n else ""
    words = f"even a perfect score reaches only {edge}{n}" if isinstance(reach, Interval) else f"it is {edge} here"
    return [Reason(text(node), False, words)]


def _wants_worse(fact: Fact | Gap, op: str) -> bool:
    """True for a comparison that a perfect score need not meet, because a worse one could: roc_auc <= 0.9."""
    higher = isinstance(fact, Fact) and fact.name in METRICS and METRICS[fact.name].higher_is_better
    return higher is (op in ("<=", "<"))

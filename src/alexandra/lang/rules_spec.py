"""Rules and gates as data: which models answer a task, who is promoted, who is withdrawn.

Frozen dataclasses with Python constructors; `Rules.text()` is the RuleLang program that parses back to equal
Rules. A rule sees facts only (facts.py). Choosing is ranking.py and the oracle, deciding a gate is conditions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from alexandra.errors import NotFoundError, suggest
from alexandra.lang.checks import check_condition, check_expression
from alexandra.lang.expr import Condition, Expr, Fact, name_text, text
from alexandra.lang.lexis import quote
from alexandra.lang.task_parts import check, check_known, check_name, repeated

COMBINE = ("best", "vote", "average", "pipeline")
MAX_SELECT = 1000
ABSTAIN = "no rule fits this task"


@dataclass(frozen=True)
class Select:
    """The `count` candidates with the highest score, and how their answers become one.

    best      the first of them answers, the others stand in for it
    vote      each has one vote for its class (regression: the median)
    average   mean of the probabilities or numbers
    pipeline  each takes the answer of the one before it, in the order of the score
    """

    count: int = 1
    combine: str = "best"

    def __post_init__(self) -> None:
        check(1 <= self.count <= MAX_SELECT, f"SELECT takes 1 to {MAX_SELECT} models, got {self.count}")
        check_known("way to COMBINE", self.combine, COMBINE)

    def text(self) -> str:
        return f"SELECT {self.count}" + f" COMBINE {self.combine}" * (self.combine != "best")


@dataclass(frozen=True)
class Pipeline:
    """Named stages, each answering to the one before: a task (its best model) or a reference like "task@production"."""

    stages: tuple[str, ...]

    def __post_init__(self) -> None:
        check(len(self.stages) >= 2, f"a pipeline has two stages or more, got {', '.join(self.stages) or 'none'}")
        check(all(self.stages), "a pipeline's stage has no name")

    def text(self) -> str:
        return f"SELECT PIPELINE {', '.join(map(name_text, self.stages))}"


@dataclass(frozen=True)
class Abstain:
    """Answer nothing, and say why."""

    reason: str = ABSTAIN

    def text(self) -> str:
        return f"ABSTAIN {quote(self.reason)}"


DEFAULT_SCORE = Fact("metric")


@dataclass(frozen=True)
class Rule:
    """WHEN chooses candidates (None: all), SCORE ranks them (None: by the task's metric), SELECT takes the first."""

    name: str
    select: Select | Pipeline = Select()
    when: Condition | None = None
    score: Expr | None = None

    def __post_init__(self) -> None:
        check_name("rule", self.name)
        _check_ranked(self.select, self.score)

    @property
    def ranking(self) -> Expr:
        """What candidates are ranked by."""
        return self.score or DEFAULT_SCORE

    def lines(self) -> list[str]:
        when = [f"  WHEN {text(self.when)}"] if self.when else []
        score = [f"  SCORE {text(self.score)}"] if self.score else []
        return [f"RULE {self.name}", *when, *score, f"  {self.select.text()}"]


@dataclass(frozen=True)
class Fallback:
    """OTHERWISE SELECT: taken when no rule finds a candidate."""

    select: Select | Pipeline = Select()
    score: Expr | None = None

    def __post_init__(self) -> None:
        _check_ranked(self.select, self.score)

    @property
    def ranking(self) -> Expr:
        """What candidates are ranked by."""
        return self.score or DEFAULT_SCORE

    def text(self) -> str:
        return (f"SCORE {text(self.score)} " if self.score else "") + self.select.text()


def _check_ranked(select: Select | Pipeline, score: Expr | None) -> None:
    check(score is None or isinstance(select, Select), "a named pipeline is not ranked", "leave out SCORE")


@dataclass(frozen=True)
class Gate:
    """Every REQUIRE must hold before promotion to the stage `name`; any QUARANTINE that holds withdraws a version."""

    name: str
    require: tuple[Condition, ...] = ()
    quarantine: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        check_name("gate", self.name)

    def lines(self) -> list[str]:
        return [
            *(f"REQUIRE {text(condition)}" for condition in self.require),
            *(f"QUARANTINE WHEN {text(condition)}" for condition in self.quarantine),
        ]


@dataclass(frozen=True)
class Rules:
    """The rules in the order in which they are tried, what happens otherwise, and the gates.

    A file with gates alone has no name and no rules.
    """

    name: str = ""
    rules: tuple[Rule, ...] = ()
    otherwise: Abstain | Fallback = Abstain()
    gates: tuple[Gate, ...] = ()

    def __post_init__(self) -> None:
        check(bool(self.name) or not self.rules, "rules need a name", "write RULES default BEGIN ... END")
        check(bool(self.name) or self.otherwise == Abstain(), "OTHERWISE needs a RULES block")
        if self.name:
            check_name("set of rules", self.name)
        for what, names in (("rule", [r.name for r in self.rules]), ("gate", [g.name for g in self.gates])):
            twice = repeated(names)
            check(twice is None, f"two {what}s are called {twice!r}")
        check(bool(self.name or self.gates), "neither RULES nor GATE")

    def gate(self, name: str) -> Gate:
        """The gate called `name`."""
        for gate in self.gates:
            if gate.name == name:
                return gate
        names = [gate.name for gate in self.gates]
        raise NotFoundError(f"no gate {name!r}", hint=suggest(name, names) if names else "these rules have no gates")

    def check_facts(self) -> None:
        """Refuse unknown facts, wrong places and units: the last check of rules built in Python."""
        for rule in self.rules:
            if rule.when is not None:
                check_condition(rule.when, "select")
            check_expression(rule.ranking, "select")
        if isinstance(self.otherwise, Fallback):
            check_expression(self.otherwise.ranking, "select")
        for gate in self.gates:
            for place, conditions in (("require", gate.require), ("quarantine", gate.quarantine)):
                for condition in conditions:
                    check_condition(condition, place)

    def text(self) -> str:
        """The RuleLang program; `parse_rules(rules.text()) == rules`."""
        blocks = [_block(f"GATE {gate.name}", gate.lines()) for gate in self.gates]
        if self.name:
            lines = [line for rule in self.rules for line in rule.lines()]
            blocks.insert(0, _block(f"RULES {self.name}", [*lines, f"OTHERWISE {self.otherwise.text()}"]))
        return "\n".join(blocks)


def _block(head: str, lines: list[str]) -> str:
    return "\n".join([head, "BEGIN", *(f"  {line}" for line in lines), "END", ""])

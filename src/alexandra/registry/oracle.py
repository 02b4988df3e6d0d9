"""The oracle: which registered specialists answer a task, by the rules, and why. It runs nothing (serve does).

Candidates are the task's versions in production; a rule whose WHEN reads `stage` decides about stages itself and
sees experiments and archived versions, too. A caller who names a stage vouches for it: its versions are judged
as if they were in production. Quarantined versions answer only when that stage is named. All candidates' facts
are read as columns by two indexed queries, and kept until the registry changes.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from alexandra.errors import AbstainError, RegistryError
from alexandra.lang.conditions import Decision, evaluate, figure
from alexandra.lang.expr import Condition, Fact, Has, facts_of, text, walk
from alexandra.lang.ranking import Ranking, compile_rule
from alexandra.lang.rules import default_rules
from alexandra.lang.rules_spec import Abstain, Fallback, Pipeline, Rule, Rules
from alexandra.registry.artifact import ModelVersion, check_stage
from alexandra.registry.candidates import MODEL_TAGS, Candidates, read_candidates
from alexandra.registry.facts import facts_of as facts_of_version
from alexandra.registry.serving import Serving
from alexandra.registry.store import Registry

PRODUCTION = "production"


@dataclass(frozen=True)
class Choice:
    """Who answers: `members` best first (in the order of a pipeline), how they are combined, by which rule, and why.

    combine "best": the first answers, the others stand in for it; "vote", "average", "pipeline" as in rules_spec.
    """

    members: tuple[ModelVersion, ...]
    combine: str
    rule: str
    explanation: tuple[str, ...]


class Oracle:
    """Chooses among the models of one registry by one set of rules (default: the shipped ones)."""

    def __init__(self, registry: Registry, rules: Rules | None = None) -> None:
        self.registry = registry
        self.rules = rules or default_rules()
        self.rules.check_facts()
        asked: list[Rule | Fallback] = list(self.rules.rules)
        if isinstance(self.rules.otherwise, Fallback):
            asked.append(self.rules.otherwise)
        self._compiled = {id(rule): compile_rule(rule) for rule in asked}
        self._facts = tuple(dict.fromkeys(name for rule in asked for name in _reads(rule)))
        self._kept: dict[str, Candidates] = {}

    def choose(self, task: str, tags: Collection[str] | None = None, stage: str | None = None) -> Choice:
        """The models that answer `task`; AbstainError with the words of OTHERWISE when no rule finds one.

        `tags` are the task's (default: those of its newest version); `stage` names another stage than production.
        """
        if stage:
            check_stage(stage)
        with _no_collection():
            return self._choose(task, tags, stage, ())

    def _choose(self, task: str, tags: Collection[str] | None, stage: str | None, within: tuple[str, ...]) -> Choice:
        with self.registry.database.read() as connection:
            known = read_candidates(connection, task, self._facts, self._kept.get(task))
        self._kept[task] = known
        asked = _Question(known, frozenset(known.tags if tags is None else tags), stage, (*within, task))
        for rule in self.rules.rules:
            choice = self._try(rule, asked)
            if choice is not None:
                return choice
        return self._otherwise(asked)

    def _otherwise(self, asked: _Question) -> Choice:
        otherwise = self.rules.otherwise
        reason = "OTHERWISE found no candidate either"
        if isinstance(otherwise, Abstain):
            reason = otherwise.reason
        else:
            choice = self._try(otherwise, asked)
            if choice is not None:
                return choice
        with self.registry.database.read() as connection:
            hint = self.registry.way_out(connection, asked.task)
        raise AbstainError(f"{asked.task}: {reason}", hint="\n".join([*asked.tried, hint]))

    # ------------------------------------------------------------ one rule

    def _try(self, rule: Rule | Fallback, asked: _Question) -> Choice | None:
        """The rule's choice, or None with a line about why not in `asked.tried`."""
        title = f"rule {rule.name}" if isinstance(rule, Rule) else "otherwise"
        rows = asked.known.in_stages(_stages(rule, asked.stage))
        columns = asked.known.columns(rows, judged_as=PRODUCTION if asked.stage else None)
        ranking = self._compiled[id(rule)](columns, asked.tags)
        if isinstance(rule.select, Pipeline):
            if not (ranking.fits.any() or (not len(rows) and self._fits_nobody(rule, asked.tags))):
                asked.tried.append(f"{title}: its WHEN does not hold for {asked.task}")
                return None
            return self._pipeline(rule.select, title, asked)
        order = ranking.order(rule.select.count)
        if not len(order):
            asked.tried.append(f"{title}: {self._nobody(rule, asked, rows, ranking)}")
            return None
        members = self._checked(asked.known, rows[order])
        lines = [*asked.tried, f"{title}: {int(ranking.fits.sum())} of {len(rows)} candidates fit{_when_text(rule)}"]
        for member, position in zip(members, order, strict=True):
            lines.append(f"  {member}: {text(rule.ranking)} = {figure(float(ranking.score[position]))}")
            lines += [f"    {one}" for one in self._decided(rule, member, asked).reasons if one.passed]
        return Choice(members, rule.select.combine, title.removeprefix("rule "), tuple(lines))

    def _fits_nobody(self, rule: Rule | Fallback, tags: frozenset[str]) -> bool:
        """Whether WHEN holds for a task without models: by its tags alone."""
        unknown = self._compiled[id(rule)]({"": np.zeros(1)}, tags)
        return bool(unknown.fits[0])

    def _pipeline(self, select: Pipeline, title: str, asked: _Question) -> Choice:
        members: list[ModelVersion] = []
        lines = [*asked.tried, f"{title}: the pipeline {', '.join(select.stages)}"]
        for name in select.stages:
            if any(mark in name for mark in "@:/"):
                members.append(self.registry.get(name))
                lines.append(f"  {name} is {members[-1]}")
                continue
            if name in asked.within:
                hint = f"name one version instead: {name}@production"
                raise RegistryError(f"{title}: the pipeline comes back to {name!r}", hint=hint)
            inner = self._choose(name, None, None, asked.within)
            members.append(inner.members[0])
            lines += [f"  {name} is {inner.members[0]}", *(f"    {line}" for line in inner.explanation)]
        return Choice(tuple(members), "pipeline", title.removeprefix("rule "), tuple(lines))

    def _checked(self, known: Candidates, chosen: np.ndarray) -> tuple[ModelVersion, ...]:
        """The chosen versions, read whole; what the rules saw of them must be what their documents say."""
        with self.registry.database.read() as connection:
            return known.versions(connection, chosen)

    # ------------------------------------------------------------ words

    def _nobody(self, rule: Rule | Fallback, asked: _Question, rows: np.ndarray, ranking: Ranking) -> str:
        """Why no candidate fits, by the example of the one that ranks highest."""
        if not len(rows):
            return f"{asked.task} has no version in stage {' or '.join(_stages(rule, asked.stage))}"
        if ranking.fits.any():
            return f"{int(ranking.fits.sum())} candidates fit, but SCORE {text(rule.ranking)} has no value for any"
        best = int(np.argmax(np.where(np.isfinite(ranking.score), ranking.score, -np.inf)))
        member = self._checked(asked.known, rows[[best]])[0]
        missed = "; ".join(map(str, self._decided(rule, member, asked).failed))
        return f"none of {len(rows)} candidates fits{_when_text(rule)}; {member}: {missed}"

    def _decided(self, rule: Rule | Fallback, member: ModelVersion, asked: _Question) -> Decision:
        """WHEN decided for one version, with its reasons in words."""
        when = _when(rule)
        if when is None:
            return Decision(True, ())
        facts = facts_of_version(member, Serving(), "select") | {"tags": asked.tags}
        if asked.stage:
            facts["stage"] = PRODUCTION
        return evaluate(when, facts)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the cycle collector: rows by the ten thousand make it walk the whole heap, and none of them is a cycle.

    It took up to 70 of 110 ms for 10,000 models.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@dataclass(frozen=True)
class _Question:
    """What is asked: the task's candidates, its tags, the stage named, the tasks of the pipelines around it.

    `tried` collects a line for every rule that found nobody.
    """

    known: Candidates
    tags: frozenset[str]
    stage: str | None
    within: tuple[str, ...]
    tried: list[str] = field(default_factory=list)

    @property
    def task(self) -> str:
        return self.known.task


def _when(rule: Rule | Fallback) -> Condition | None:
    return rule.when if isinstance(rule, Rule) else None


def _reads(rule: Rule | Fallback) -> list[str]:
    """The names of the facts that a rule needs of every candidate."""
    when = _when(rule)
    asks_tags = any(isinstance(node, Has) and node.subject == "model" for node in (walk(when) if when else ()))
    return [fact.key for fact in facts_of(rule.ranking) + facts_of(when)] + [MODEL_TAGS] * asks_tags


def _when_text(rule: Rule | Fallback) -> str:
    when = _when(rule)
    return f" WHEN {text(when)}" if when is not None else ""


def _reads_stage(rule: Rule | Fallback) -> bool:
    return any(isinstance(fact, Fact) and fact.name == "stage" for fact in facts_of(_when(rule)))


def _stages(rule: Rule | Fallback, stage: str | None) -> tuple[str, ...]:
    """The stages whose versions a rule sees."""
    if stage:
        return (stage,)
    return (PRODUCTION, "experiment", "archived") if _reads_stage(rule) else (PRODUCTION,)

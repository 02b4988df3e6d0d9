"""The task's check: ACCEPT decided on measured facts, comparisons made item by item, vetoes of hard verifiers.

Nothing is measured here; scorecards come in, a Decision with reasons in words goes out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alexandra.errors import AbstainError, NotFoundError, TaskError
from alexandra.lang.conditions import Comparison, Comparisons, Decision, Facts, Missing, Reason, evaluate, impossible
from alexandra.lang.expr import Fact, Gap
from alexandra.metrics import METRICS, metric
from alexandra.records import Interval, Scorecard
from alexandra.registry.store import Registry
from alexandra.statistics import best_possible, paired
from alexandra.train.prepare import Prepared


def comparisons(data: Prepared, card: Scorecard, baseline: Scorecard, registry: Registry) -> Comparisons:
    """Answers `no_worse` and `better` for one scorecard: against the baseline, or this task's production model."""

    def find(reference: str, test: str) -> Sequence[Comparison] | None:
        other: Scorecard | None = None
        if reference == "baseline":
            other, against = baseline, f"baseline {baseline.model}"
        elif reference == "production":
            try:
                version = registry.get(f"{data.task.name}@production")
            except (NotFoundError, AbstainError):
                return []
            other, against = registry.scorecard(version), f"production v{version.version}"
        if other is None:
            return None
        return [
            Comparison(against, paired(data.metric, card.outcomes, other.outcomes, data.task.split.seed, method=test))
        ]

    return find


def facts_of_card(data: Prepared, card: Scorecard) -> Facts:
    """Canonical fact name -> what was measured, or why it was not."""
    facts: dict[str, Interval | float | str | tuple[str, ...] | Missing] = dict(card.metrics)
    abstained = [verdict for verdict in card.verdicts if verdict.abstained]
    for gap in data.task.gaps():
        reason = next((verdict.reason for verdict in abstained if verdict.verifier == "power_dynamics"), "")
        facts.setdefault(gap.key, Missing(reason or "no verifier measured it"))
    facts.update(samples=float(card.n), parameters=float(card.parameters), tags=data.task.tags)
    if card.latency_p95_seconds:
        facts["latency_p95"] = card.latency_p95_seconds
    return facts


def check(data: Prepared, card: Scorecard, baseline: Scorecard, registry: Registry) -> Decision:
    """ACCEPT on this scorecard, and no hard verifier may veto it."""
    accept = data.task.accept
    assert accept is not None, "resolved() fills in ACCEPT"
    decision = evaluate(accept, facts_of_card(data, card), comparisons(data, card, baseline, registry))
    vetoes = [
        Reason(f"verifier {verdict.verifier}", False, verdict.reason or "vetoed")
        for verdict in card.verdicts
        if verdict.vetoes
    ]
    failed = [
        Reason(f"verifier {verdict.verifier}", False, verdict.reason or f"score {verdict.score:.2f}")
        for verdict in card.verdicts
        if verdict.verifier.rpartition(":")[1]
        and verdict.score is not None
        and verdict.score < 0.5
        and not verdict.vetoes
    ]
    refused = [*vetoes, *failed]
    return Decision(decision.passed and not refused, (*decision.reasons, *refused))


def refuse_impossible(data: Prepared) -> None:
    """TaskError for an ACCEPT that even a perfect score could not meet with this many distinct test items."""
    keys = np.unique(data.keys[data.test_rows], return_index=True)[1]
    n = len(keys)
    counts: list[int] = []
    if data.classification:
        counts = np.bincount(data.y[data.test_rows][keys], minlength=len(data.target.classes)).tolist()
    positive = data.target.positive if data.classification else -1

    def best(fact: Fact | Gap) -> Interval | float | None:
        if isinstance(fact, Gap):
            return None
        if fact.name == "samples":
            return float(n)
        if fact.name not in METRICS:
            return None
        found = metric(fact.name, **fact.kwargs)
        bound = best_possible(found, n, counts, positive)
        return Interval(found.perfect, bound, bound, n)

    accept = data.task.accept
    assert accept is not None
    reasons = impossible(accept, best)
    if reasons:
        words = "; ".join(f"{reason.text}: {reason.words}" for reason in reasons)
        raise TaskError(
            f"no model could meet this check: {words}",
            hint="a check compares the bound of the 95 % interval: lower the limit, or bring more data",
        )

"""Promotion needs evidence, every move is allowed by one table and audited, and one command goes back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from alexandra.errors import AbstainError, NotFoundError, RegistryError
from alexandra.lang.conditions import Comparison, evaluate
from alexandra.lang.rules import default_rules, parse_rules
from alexandra.records import Interval
from alexandra.registry import lifecycle
from alexandra.registry.artifact import STAGES, AuditEntry
from alexandra.registry.facts import facts_of
from alexandra.registry.lifecycle import TRANSITIONS, production_line
from alexandra.rng import derive
from alexandra.statistics import paired


def gate(text):
    return parse_rules(f"GATE production BEGIN {text} END").gate("production")


def in_stage(registry, stage):
    return [version.ref for version in registry.search(stage=stage)]


# ---------------------------------------------------------------- the gate


def test_the_first_good_model_is_promoted_and_the_decision_says_why(registry, register):
    version = register("mlp")
    decision = lifecycle.try_promote(registry, version)
    assert decision.passed
    assert decision.version.stage == "production"
    assert "production is empty" in decision.words()
    assert [reason.text for reason in decision.reasons] == [
        "samples >= 200",
        "latency_p95 <= 3s",
        "better(production, paired=bootstrap, alpha=1%)",
        "no_worse(protected, margin=1%)",
    ]
    entry = registry.history("churn")[-1]
    assert (entry.action, entry.decision) == ("promote", decision.to_dict())


def test_a_better_challenger_replaces_production_and_an_equal_one_does_not(registry, register):
    lifecycle.promote(registry, register("old", 1.0))
    equal = lifecycle.try_promote(registry, register("equal", 1.0, seed=1))
    assert not equal.passed
    assert equal.version.stage == "experiment"
    assert "p = " in equal.words()
    assert in_stage(registry, "production") == ["churn:1"]
    better = lifecycle.try_promote(registry, register("better", 2.5, seed=2))
    assert better.passed
    assert better.rival == 1
    assert in_stage(registry, "production") == ["churn:3"]
    assert in_stage(registry, "archived") == ["churn:1"]
    moves = [
        (e.version, e.action, e.origin, e.target, e.reason) for e in registry.history("churn") if e.action != "register"
    ]
    assert moves[1:] == [
        (2, "refuse", "experiment", "experiment", ""),
        (1, "archive", "production", "archived", "replaced by version 3"),
        (3, "promote", "experiment", "production", ""),
    ]


def test_shuffled_answers_are_refused(registry, register, card, outcomes):
    lifecycle.promote(registry, register("honest"))
    true = outcomes(2.0)
    shuffled = dataclasses.replace(true, predictions=true.predictions[::-1])
    version = registry.register("churn", "shuffled", {"w": b"s"}, card(shuffled))
    with pytest.raises(RegistryError, match=r"the gate 'production' refuses churn:2:\n  better\(production.*worse"):
        lifecycle.promote(registry, version)
    assert in_stage(registry, "production") == ["churn:1"]


def test_a_loss_is_compared_the_right_way_round(registry, register):
    lifecycle.promote(registry, register("old", 1.0, metric="log_loss"))
    assert not lifecycle.try_promote(registry, register("worse", 0.2, seed=1, metric="log_loss")).passed
    assert lifecycle.try_promote(registry, register("better", 2.5, seed=2, metric="log_loss")).passed


def test_too_few_samples_and_an_untimed_model_are_refused(registry, register, card, outcomes):
    assert "samples >= 200: 100" in lifecycle.try_promote(registry, register("few", n=100)).words()
    untimed = dataclasses.replace(card(outcomes(2.0)), latency_p95_seconds=0.0)
    decision = lifecycle.try_promote(registry, registry.register("churn", "untimed", {"w": b"1"}, untimed))
    assert not decision.passed
    assert "latency_p95 was not measured: no answer was timed" in decision.words()


def test_what_has_no_items_in_common_says_so(registry, register, card, outcomes):
    lifecycle.promote(registry, register("old"))
    other = registry.register("churn", "new", {"w": b"1"}, card(outcomes(3.0, data_seed=5)))
    decision = lifecycle.try_promote(registry, other)
    assert not decision.passed
    assert "no comparison with production was made: a paired comparison needs items that both" in decision.words()


def test_a_test_that_does_not_suit_the_metric_says_so(registry, register):
    lifecycle.promote(registry, register("old"))
    decision = lifecycle.try_promote(
        registry, register("new", 3.0), gate("REQUIRE better(production, paired=mcnemar, alpha=1%)")
    )
    assert not decision.passed
    assert "the paired test 'mcnemar' does not apply to 'roc_auc'" in decision.words()


def test_a_protected_task_must_not_get_worse(registry, register, outcomes):
    lifecycle.promote(registry, register("retention", task="retention"))
    challenger = register("new", 3.0)
    before, worse = outcomes(2.0), outcomes(0.5, seed=4)
    decision = lifecycle.try_promote(registry, challenger, protected={"retention": (before, worse)})
    assert not decision.passed
    missed = [reason for reason in decision.reasons if not reason.passed]
    assert [reason.text for reason in missed] == ["no_worse(protected, margin=1%)"]
    assert "retention" in missed[0].words
    assert lifecycle.try_promote(registry, challenger, protected={"retention": (before, before)}).passed


def test_gates_read_metrics_gaps_and_names(registry, register):
    version = register("mlp")
    held = gate(
        "REQUIRE roc_auc >= 0.85 AND gap(gender, of=tpr) <= 0.1 AND parameters <= 1000 AND size <= 1MB "
        "AND metric >= 0.85 AND accepted >= 0.85 AND age <= 1d"
    )
    decision = lifecycle.evaluate_gate(registry, version, held)
    assert decision.passed, decision.words()
    assert registry.get("churn:1").stage == "experiment"
    assert not lifecycle.evaluate_gate(registry, version, gate("REQUIRE roc_auc >= 0.95")).passed
    assert "was not measured" in lifecycle.evaluate_gate(registry, version, gate("REQUIRE f1 >= 0.1")).words()


def test_trying_again_changes_nothing(registry, register):
    version = register("mlp")
    lifecycle.try_promote(registry, version)
    before = registry.history()
    again = lifecycle.try_promote(registry, version)
    assert again.passed
    assert again.reasons[0].words == "churn:1 is in production"
    assert registry.history() == before


def test_force_needs_a_reason_and_keeps_the_decision(registry, register):
    register("few", n=100)
    for reason in ("", "  \n"):
        with pytest.raises(RegistryError, match="a forced promotion needs a reason"):
            lifecycle.promote(registry, "churn:1", force=True, reason=reason)
    decision = lifecycle.promote(registry, "churn:1", force=True, reason="the old one is down")
    assert decision.forced
    assert not decision.passed
    assert decision.version.stage == "production"
    entry = registry.history("churn")[-1]
    assert entry.reason == "the old one is down"
    assert (entry.decision["forced"], entry.decision["passed"]) == (True, False)


# ---------------------------------------------------------------- the table of moves


ACTIONS = {
    "production": lambda registry, ref: lifecycle.promote(registry, ref, force=True, reason="test"),
    "quarantine": lambda registry, ref: lifecycle.quarantine(registry, ref, "test"),
    "archived": lambda registry, ref: lifecycle.archive(registry, ref, "test"),
    "experiment": lambda registry, ref: lifecycle.reinstate(registry, ref, "test"),
}
WAY_TO = {"experiment": [], "production": ["production"], "quarantine": ["quarantine"], "archived": ["archived"]}


@pytest.mark.parametrize("origin", STAGES)
def test_exactly_the_moves_of_the_table_are_possible(registry, register, origin):
    for number, target in enumerate(STAGES, 1):
        ref = register(f"m{number}", task=f"task{number}").ref
        for step in WAY_TO[origin]:
            ACTIONS[step](registry, ref)
        if target in TRANSITIONS[origin]:
            ACTIONS[target](registry, ref)
            assert registry.get(ref).stage == target
        else:
            words = "already" if origin == target else f"cannot go from '{origin}' to '{target}'; allowed from there: "
            with pytest.raises(RegistryError, match=words):
                ACTIONS[target](registry, ref)
            assert registry.get(ref).stage == origin


def test_a_quarantined_version_cannot_be_promoted_by_the_gate(registry, register):
    lifecycle.quarantine(registry, register("mlp"), "bad prices")
    decision = lifecycle.try_promote(registry, "churn:1")
    assert not decision.passed
    assert decision.reasons[0].words == (
        "churn:1 cannot go from 'quarantine' to 'production'; allowed from there: experiment, archived"
    )
    with pytest.raises(RegistryError, match="a quarantine needs a reason"):
        lifecycle.quarantine(registry, "churn:1", "")


# ---------------------------------------------------------------- rollback


def test_rollback_goes_back_one_promotion_at_a_time(registry, register):
    for number, quality in enumerate((1.0, 2.0, 3.0), 1):
        lifecycle.promote(registry, register(f"m{number}", quality), force=True, reason="test")
    assert lifecycle.rollback(registry, "churn", "worse in May").version == 2
    assert registry.get("churn").version == 2
    assert registry.get("churn:3").stage == "archived"
    assert lifecycle.rollback(registry, "churn").version == 1
    with pytest.raises(RegistryError, match="no earlier production to go back to: version 1 is its first"):
        lifecycle.rollback(registry, "churn")
    assert registry.get("churn").version == 1
    moves = [(e.version, e.action, e.reason) for e in registry.history("churn")][-4:-2]
    assert moves == [(3, "archive", "rolled back to version 2"), (2, "rollback", "worse in May")]
    lifecycle.promote(registry, "churn:3", force=True, reason="again")
    assert lifecycle.rollback(registry, "churn").version == 1


def test_rollback_after_quarantine_and_past_withdrawn_versions(registry, register):
    for number in (1, 2, 3):
        lifecycle.promote(registry, register(f"m{number}"), force=True, reason="test")
    lifecycle.quarantine(registry, "churn:2", "leak")
    lifecycle.quarantine(registry, "churn", "errors")
    with pytest.raises(AbstainError, match="no model of task 'churn' is in production"):
        registry.get("churn")
    assert lifecycle.rollback(registry, "churn").version == 1


def test_rollback_without_a_past_is_an_error(registry, register):
    with pytest.raises(NotFoundError, match="unknown task 'churn'"):
        lifecycle.rollback(registry, "churn")
    register("mlp")
    with pytest.raises(RegistryError, match="no earlier production to go back to: it never had one"):
        lifecycle.rollback(registry, "churn")


@pytest.mark.parametrize(
    ("moves", "line"),
    [
        ("", []),
        ("p1 p2 p3", [1, 2, 3]),
        ("p1 p2 b1", [1]),
        ("p1 p2 b1 p3", [1, 3]),
        ("p1 p2 p1", [2, 1]),
        ("p1 p2 q2", [1]),
        ("p1 p2 q1", [2]),
        ("p1 p2 q1 e1 p1", [2, 1]),
        ("p1 r2 a1", [1]),
    ],
)
def test_the_line_of_productions(moves, line):
    names = {"p": "promote", "b": "rollback", "q": "quarantine", "e": "reinstate", "r": "register", "a": "archive"}
    entries = [AuditEntry(i, "", "", names[m[0]], "t", int(m[1]), "", "", "", {}) for i, m in enumerate(moves.split())]
    assert production_line(entries) == line


# ---------------------------------------------------------------- serving


def test_a_failing_production_is_quarantined_by_its_rule(registry, register):
    lifecycle.promote(registry, register("mlp"))
    registry.record("churn", 999, 999)
    assert lifecycle.review(registry, "churn") is None
    registry.record("churn", 1, 1)
    decision = lifecycle.review(registry, "churn")
    assert decision is not None
    assert registry.get("churn:1").stage == "quarantine"
    entry = registry.history("churn")[-1]
    assert "failed > 20%" in entry.reason
    assert "100.0%" in entry.reason
    assert entry.decision["gate"] == "production"


def test_a_production_whose_metric_falls_is_quarantined(registry, register):
    accepted = lifecycle.promote(registry, register("mlp")).version.headline
    registry.record("churn", 5000, 10, metric=accepted)
    assert lifecycle.review(registry, "churn") is None
    registry.record("churn", 5000, 10, metric=Interval(0.6, 0.55, 0.65, 900))
    assert lifecycle.review(registry, "churn") is not None
    assert registry.get("churn:1").stage == "quarantine"


def test_counters_start_anew_with_a_promotion(registry, register):
    for name in ("a", "b"):
        lifecycle.promote(registry, register(name), force=True, reason="test")
    registry.record("churn:1", 50, 50)
    lifecycle.rollback(registry, "churn")
    assert registry.served("churn:1").requests == 0


def test_every_default_gate_fact_is_provided(registry, register):
    """A condition must not abstain because the registry forgot a fact; the gate's own text decides which those are."""
    version = register("mlp")
    facts = facts_of(version, registry.served(version), "quarantine")
    assert {"served", "failed", "metric", "accepted", "samples", "latency_p95"} <= set(facts)
    assert default_rules().gate("production").quarantine


# ---------------------------------------------------------------- how often the gate errs


def right_answers(trial, n, gain):
    """Per item whether production (80 % right) and a challenger answer right; 30 % of the items are drawn anew."""
    draw = derive(trial, "challenger").uniform(3 * n).reshape(3, n)
    old = draw[0] < 0.80
    return old, np.where(draw[1] < 0.30, draw[2] < 0.80 + gain / 0.30, old)


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "trials", "least", "most"), [(0.0, 1000, 0.0, 0.015), (0.03, 200, 0.90, 1.0)])
def test_the_gate_promotes_gains_and_not_luck(outcomes, gain, trials, least, most):
    condition = default_rules().gate("production").require[1]
    base, promoted = outcomes(1.0, n=2000), 0
    for trial in range(trials):
        old, new = right_answers(trial, 2000, gain)
        sides = [
            dataclasses.replace(base, predictions=np.eye(2)[np.where(right, base.targets, 1 - base.targets)])
            for right in (new, old)
        ]
        found = [Comparison("production v1", paired("accuracy", *sides, method="bootstrap"))]
        promoted += evaluate(condition, {}, lambda reference, test, found=found: found).passed
    print(f"gain {gain:.0%} at n = 2,000: {promoted} of {trials} challengers promoted")
    assert least <= promoted / trials <= most

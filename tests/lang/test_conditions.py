"""Conditions: evidence decides, what is unknown abstains, and a reason says what was measured and what it lacks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alexandra.errors import LanguageError, TaskError, UsageError
from alexandra.lang import expr
from alexandra.lang.checks import canonical, check_condition
from alexandra.lang.clauses import parse_condition
from alexandra.lang.conditions import Comparison, FactValue, Missing, evaluate, figure, impossible
from alexandra.lang.expr import And, Compare, Condition, Expr, Fact, Gap, Not, NoWorse, Number, Or, text
from alexandra.lang.facts import FACTS, PLACES
from alexandra.lang.rules import parse_rules
from alexandra.lang.task import parse_task
from alexandra.metrics import METRICS
from alexandra.records import Interval, Outcomes
from alexandra.statistics import best_possible, interval, paired

accept = parse_condition


def require(condition: str) -> Condition:
    return parse_condition(condition, "require")


def quarantine(condition: str) -> Condition:
    return parse_condition(condition, "quarantine")


ROC = Interval(0.795, 0.771, 0.818, 569)
FACTS_MEASURED: dict[str, FactValue] = {
    "roc_auc": ROC,
    "latency_p95": 0.025,
    "size": 3_000_000,
    "samples": 569,
    "rmse": Interval(50.0, 45.0, 56.0),
    "recall_at(10%)": Interval(0.4, 0.3, 0.5),
    "gap(gender, of=auc)": Missing("41 rows per group and class, 100 are needed"),
    'gap("marital status", of=auc)': Interval(0.05, 0.0, 0.12),
}
WORDS = [
    # condition, holds, words
    ("roc_auc >= 0.80", False, "0.795 [0.771, 0.818], lower bound misses by 0.029"),
    ("roc_auc >= 0.77", True, "0.795 [0.771, 0.818], lower bound clears it by 0.001"),
    ("roc_auc <= 0.80", False, "0.795 [0.771, 0.818], upper bound misses by 0.018"),
    ("roc_auc <= 82%", True, "79.5% [77.1%, 81.8%], upper bound clears it by 0.2%"),
    ("0.8 <= roc_auc", False, "0.795 [0.771, 0.818], lower bound misses by 0.029"),
    ("roc_auc > 0.771", False, "0.795 [0.771, 0.818], lower bound misses by 0 (it must not be equal)"),
    ("NOT roc_auc < 0.80", False, "0.795 [0.771, 0.818], lower bound misses by 0.029"),
    ("latency_p95 <= 20ms", False, "25ms, misses by 5ms"),
    ("latency_p95 <= 1m", True, "25ms, clears it by 60s"),
    ("size <= 2MB", False, "3MB, misses by 1MB"),
    ("samples >= 1000", False, "569, misses by 431"),
    ("samples == 569", True, "569"),
    ("recall_at(10%) >= 25%", True, "40.0% [30.0%, 50.0%], lower bound clears it by 5.0%"),
    ("gap(gender, of=auc) <= 0.1", None, "was not measured: 41 rows per group and class, 100 are needed"),
    ('gap("marital status", of=auc) <= 0.15', True, "0.050 [0, 0.120], upper bound clears it by 0.030"),
    ("f1 >= 0.5", None, "f1 was not measured"),
    ("roc_auc - f1 >= 0.5", None, "f1 was not measured"),
    ("roc_auc / (samples - 569) >= 0.5", None, "roc_auc / (samples - 569) has no finite value here"),
    (
        "roc_auc >= 2 * roc_auc - 0.9",
        True,
        "0.795 [0.771, 0.818] against 0.690 [0.642, 0.736], lower bound clears it by",
    ),
    ("no_worse(baseline)", None, "no comparison with baseline was made"),
]


@pytest.mark.parametrize(("condition", "holds", "words"), WORDS, ids=[row[0] for row in WORDS])
def test_one_comparison_in_words(condition: str, holds: bool | None, words: str) -> None:
    decision = evaluate(accept(condition), FACTS_MEASURED)
    assert decision.passed is (holds is True)
    (reason,) = decision.reasons
    assert reason.passed is holds
    assert words in reason.words


def test_a_reason_names_the_turned_comparison_of_a_not() -> None:
    (reason,) = evaluate(accept("NOT roc_auc < 0.80"), FACTS_MEASURED).reasons
    assert str(reason) == "roc_auc >= 0.8: 0.795 [0.771, 0.818], lower bound misses by 0.029"


def test_all_parts_are_reported_in_order_and_the_failed_ones_listed() -> None:
    condition = accept("roc_auc >= 0.80 AND samples >= 200 AND (size <= 1MB OR gap(gender, of=auc) <= 0.1)")
    decision = evaluate(condition, FACTS_MEASURED)
    assert not decision.passed
    assert [reason.passed for reason in decision.reasons] == [False, True, False, None]
    assert [reason.text for reason in decision.failed] == [
        "roc_auc >= 0.8",
        "size <= 1MB",
        "gap(gender, of=auc) <= 0.1",
    ]
    assert decision.words().splitlines()[1] == "met     samples >= 200: 569, clears it by 369"


# ---------------------------------------------------------------- logic

LEAVES = [Compare(Fact(name), ">=", Number(0.5)) for name in ("roc_auc", "f1", "r2")]


def grow(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(inner.map(Not), several.map(And), several.map(Or))


logic = st.recursive(st.sampled_from(LEAVES), grow, max_leaves=8)
measured = st.dictionaries(st.sampled_from(["roc_auc", "f1", "r2"]), st.sampled_from([0.2, 0.5, 0.8]))


def kleene(node: Condition, facts: dict[str, float]) -> bool | None:
    """Three-valued logic by the book, over point values."""
    match node:
        case Compare(Fact(name), _, Number(limit)):
            return facts[name] >= limit if name in facts else None
        case Not(operand):
            inner = kleene(operand, facts)
            return None if inner is None else not inner
        case And(items) | Or(items):
            ranks = {False: 0, None: 1, True: 2}
            order = [ranks[kleene(item, facts)] for item in items]
            chosen = min(order) if isinstance(node, And) else max(order)
            return {rank: truth for truth, rank in ranks.items()}[chosen]
    raise AssertionError(node)


@given(logic, measured)
def test_on_point_values_logic_is_kleenes(node: Condition, facts: dict[str, float]) -> None:
    assert evaluate(node, facts).passed is (kleene(node, facts) is True)


intervals = st.tuples(*[st.floats(0.01, 1)] * 3).map(lambda ends: Interval(sorted(ends)[1], min(ends), max(ends)))


@given(logic, st.dictionaries(st.sampled_from(["roc_auc", "f1", "r2"]), intervals))
def test_a_condition_and_its_opposite_are_never_both_proven(node: Condition, facts: dict[str, Interval]) -> None:
    assert not (evaluate(node, facts).passed and evaluate(Not(node), facts).passed)


EXPRESSIONS = [
    "roc_auc - 0.5 * f1",
    "f1 / roc_auc",
    "-(roc_auc - f1) * f1",
    "log10(roc_auc) + log(f1) - sqrt(roc_auc)",
    "max(roc_auc, f1, 0.3) - min(roc_auc, f1)",
    "abs(roc_auc - f1)",
    "roc_auc / (f1 + 1) - roc_auc + 10%",
]


def oracle(node: Expr, facts: dict[str, float]) -> float:
    """The value of an expression by Python's own arithmetic."""
    functions = {"log10": math.log10, "log": math.log, "sqrt": math.sqrt, "abs": abs, "min": min, "max": max}
    match node:
        case Number(value):
            return value
        case Fact(name):
            return facts[name]
        case expr.Neg(operand):
            return -oracle(operand, facts)
        case expr.Arith(left, op, right):
            a, b = oracle(left, facts), oracle(right, facts)
            return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if op == "/" else 0.0}[op]
        case expr.Function(name, args):
            return float(functions[name](*(oracle(arg, facts) for arg in args)))
    raise AssertionError(node)


@given(st.sampled_from(EXPRESSIONS), intervals, intervals, st.floats(0, 1), st.floats(0, 1), st.floats(-2, 2))
def test_what_is_proven_on_intervals_holds_for_every_value_inside_them(
    expression: str, roc_auc: Interval, f1: Interval, at: float, also: float, limit: float
) -> None:
    inside = {
        "roc_auc": roc_auc.low + at * (roc_auc.high - roc_auc.low),
        "f1": f1.low + also * (f1.high - f1.low),
    }
    node = accept(f"{expression} >= {limit:.3f}" if limit >= 0 else f"{expression} >= -{-limit:.3f}")
    assert isinstance(node, Compare)
    value = oracle(node.left, inside)
    assume(abs(value - limit) > 0.001 + 1e-9)
    facts = {"roc_auc": roc_auc, "f1": f1}
    if evaluate(node, facts).passed:
        assert value > limit
    if evaluate(Not(node), facts).passed:
        assert value < limit
    assert evaluate(node, inside).passed is (value > limit)


# ---------------------------------------------------------------- two models


def outcomes(seed: int, shift: float, n: int = 400) -> Outcomes:
    """Answers to n items of two classes; a larger shift separates them better."""
    rng = np.random.default_rng(0)
    targets = np.arange(n) % 2
    noise = rng.normal(size=n) + 0.3 * np.random.default_rng(seed).normal(size=n)
    positive = 1 / (1 + np.exp(-(noise + shift * (2 * targets - 1))))
    keys = np.array([f"{i:032x}" for i in range(n)])
    return Outcomes(keys, targets.astype(np.int64), np.stack([1 - positive, positive], axis=1), ("n", "y"), positive=1)


def against(shift: float, other: float) -> list[Comparison]:
    ours, theirs = outcomes(1, shift), outcomes(1 if shift == other else 2, other)
    return [Comparison("production v3", paired("roc_auc", ours, theirs, method="bootstrap"))]


def test_better_is_true_while_production_is_empty() -> None:
    decision = evaluate(require("better(production, paired=bootstrap, alpha=1%)"), {}, lambda reference, test: ())
    assert decision.passed
    assert decision.reasons[0].words == "production is empty"
    assert evaluate(require("no_worse(protected)"), {}, lambda reference, test: ()).passed
    assert not evaluate(accept("no_worse(baseline)"), {}, lambda reference, test: ()).passed


def test_better_asks_for_the_test_it_names_and_believes_only_a_shown_gain() -> None:
    asked = []

    def compare(reference: str, test: str) -> list[Comparison]:
        asked.append((reference, test))
        return against(1.5, 0.5)

    decision = evaluate(require("better(production, paired=bootstrap)"), {}, compare)
    assert decision.passed
    assert asked == [("production", "bootstrap")]
    assert "against production v3 better by 0." in decision.reasons[0].words
    assert "at most alpha = 1%" in decision.reasons[0].words
    same = evaluate(require("better(production)"), {}, lambda reference, test: against(0.5, 0.5))
    assert not same.passed
    assert "not distinguishable" in same.reasons[0].words and "above alpha = 1%" in same.reasons[0].words
    assert not evaluate(require("better(production)"), {}, lambda reference, test: against(0.2, 1.0)).passed


def test_no_worse_keeps_a_margin_that_excludes_a_loss() -> None:
    near = lambda reference, test: against(1.0, 1.0)  # noqa: E731
    assert evaluate(accept("no_worse(baseline, margin=10%)"), {}, near).passed
    tight = evaluate(accept("no_worse(baseline, margin=0%)"), {}, near)
    assert not tight.passed
    assert "the lower bound misses by" in tight.reasons[0].words
    worse = evaluate(accept("no_worse(baseline, margin=1%)"), {}, lambda reference, test: against(0.3, 1.0))
    assert not worse.passed and "worse by" in worse.reasons[0].words


def test_every_protected_task_counts_and_one_that_cannot_be_compared_abstains() -> None:
    good, bad = against(1.5, 0.5)[0], against(0.5, 1.5)[0]
    both = evaluate(require("no_worse(protected)"), {}, lambda reference, test: [good, bad])
    assert not both.passed and both.reasons[0].words.count("against production v3") == 2
    missing = evaluate(require("no_worse(protected)"), {}, lambda reference, test: Missing("no common items"))
    assert missing.reasons[0].passed is None
    assert missing.reasons[0].words == "no comparison with protected: no common items"


def regression(scale: float, seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    targets = np.random.default_rng(5).normal(100, 30, 300)
    keys = np.array([f"{i:032x}" for i in range(300)])
    return Outcomes(keys, targets, targets + scale * rng.normal(size=300))


def test_a_percentage_margin_is_relative_for_an_error_and_a_plain_one_is_in_its_unit() -> None:
    a, b = regression(10.5, 1), regression(10.0, 2)
    result = paired("rmse", a, b)
    assert result.relative
    lost = -result.low  # in the target's unit
    share = lost / result.b
    for margin, holds in (
        (f"{100 * share + 1:.3f}%", True),
        (f"{100 * share - 1:.3f}%", False),
        (f"{lost + 0.1:.3f}", True),
        (f"{lost - 0.1:.3f}", False),
    ):
        found = evaluate(
            accept(f"no_worse(baseline, margin={margin})"), {}, lambda reference, test: [Comparison("ridge", result)]
        )
        assert found.passed is holds, margin


# ---------------------------------------------------------------- while serving


@pytest.mark.parametrize(
    ("metric", "served", "accepted", "withdrawn"),
    [
        ("roc_auc", Interval(0.60, 0.55, 0.64), 0.80, True),
        ("roc_auc", Interval(0.60, 0.55, 0.66), 0.80, False),  # the upper bound does not prove the loss
        ("rmse", Interval(-12.0, -12.5, -11.6), -10.0, True),  # 15 % of the accepted error is 1.5
        ("rmse", Interval(-11.0, -11.2, -10.9), -10.0, False),
    ],
)
def test_the_shipped_gate_withdraws_on_a_proven_loss(
    metric: str, served: Interval, accepted: float, withdrawn: bool
) -> None:
    condition = quarantine("served >= 1000 AND (failed > 20% OR metric < accepted - 15%)")
    facts: dict[str, FactValue] = {"served": 5000, "failed": 0.01, "metric": served, "accepted": accepted}
    assert evaluate(condition, {**facts, "metric_name": metric}).passed is withdrawn
    assert not evaluate(condition, {**facts, "metric_name": metric, "served": 10}).passed
    failing = evaluate(condition, {**facts, "failed": 0.3, "metric": Missing("no answer was compared")})
    assert failing.passed
    assert [reason.passed for reason in failing.reasons] == [True, True, None]


# ---------------------------------------------------------------- out of reach


def best(fact: Fact | Gap) -> Interval | float | None:
    """What a perfect model shows on 60 items, half of each class."""
    if isinstance(fact, Gap):
        return Interval(0.0, 0.0, 0.2, 60)
    if fact.name == "samples":
        return 60.0
    if fact.name not in METRICS:
        return None
    reached = best_possible(str(fact.key), 60, [30, 30], 1)
    return Interval(METRICS[fact.name].perfect, reached, reached, 60)


@pytest.mark.parametrize(
    ("condition", "parts"),
    [
        ("roc_auc >= 0.80", []),
        ("accuracy >= 99%", ["accuracy >= 99%"]),
        ("99% <= accuracy AND roc_auc >= 0.8", ["99% <= accuracy"]),
        ("accuracy >= 99% OR roc_auc >= 0.8", []),
        ("accuracy >= 99% OR f1 >= 99.9%", ["accuracy >= 99%", "f1 >= 99.9%"]),
        ("NOT (accuracy < 99% OR roc_auc < 0.8)", ["accuracy >= 99%"]),
        ("gap(a, of=tpr) <= 0.1", ["gap(a, of=tpr) <= 0.1"]),
        ("gap(a, of=tpr) <= 0.3 AND roc_auc <= 0.9 AND latency_p95 <= 1us", []),
        ("log_loss <= 0.1", []),
        ("samples >= 200", ["samples >= 200"]),
        ("no_worse(baseline) AND NOT better(baseline)", []),
    ],
)
def test_what_a_perfect_score_could_not_meet_is_named(condition: str, parts: list[str]) -> None:
    found = impossible(accept(condition), best)
    assert [reason.text for reason in found] == parts


def test_the_reason_says_how_far_a_perfect_score_reaches() -> None:
    (reason,) = impossible(accept("accuracy >= 99%"), best)
    assert reason.words == "even a perfect score reaches only 94.0% at n=60"
    (reason,) = impossible(accept("samples >= 200"), best)
    assert reason.words == "it is 60 here"


def test_a_perfect_model_meets_whatever_is_not_called_impossible() -> None:
    keys = np.array([f"{i:032x}" for i in range(60)])
    targets = np.arange(60, dtype=np.int64) % 2
    perfect = Outcomes(keys, targets, np.eye(2)[targets], ("n", "y"), positive=1)
    facts = {name: interval(name, perfect) for name in ("accuracy", "roc_auc", "balanced_accuracy")}
    for name in facts:
        for limit in np.arange(0.80, 1.0, 0.005):
            condition = accept(f"{name} >= {limit:.3f}")
            if not impossible(condition, best):
                assert evaluate(condition, facts).passed, (name, limit)


# ---------------------------------------------------------------- the table


def test_every_fact_is_documented_and_known_somewhere() -> None:
    for name, row in FACTS.items():
        assert row.doc and not row.doc.endswith("."), name
        assert row.places and set(row.places) <= set(PLACES), name
    assert set(METRICS) <= set(FACTS)
    documented = {"tags", *FACTS} >= {
        *("latency_p95", "size", "parameters", "stage", "role", "cost", "age"),
        *("samples", "served", "failed", "accepted", "metric"),
    }
    assert documented


def test_the_key_of_a_metric_does_not_depend_on_how_it_is_written() -> None:
    assert canonical("accuracy", {"threshold": 0.5}) == Fact("accuracy")
    assert canonical("profit", {"fp": -10.0, "tp": 100.0}).key == "profit(tp=100, fp=-10)"
    assert text(accept("recall_at(0.1) >= 25%")) == text(accept("recall_at(share = 10 %) >= 25%"))


def test_one_condition_alone_means_what_it_means_in_its_place() -> None:
    words = "NOT (roc_auc >= 0.8 OR f1 < 3%) // why\n AND latency_p95 <= 20ms"
    assert parse_condition(words) == parse_task(f"TASK t BEGIN DATA frame TARGET y ACCEPT {words} END").accept
    assert parse_condition(words, "require") == parse_rules(f"GATE g BEGIN REQUIRE {words} END").gates[0].require[0]
    with pytest.raises(LanguageError, match=r"c:2:1: 'failed' is not known in ACCEPT"):
        parse_condition("roc_auc > 0.5 AND\nfailed < 0.5", file="c")
    with pytest.raises(LanguageError, match="unexpected 'METRIC'"):
        parse_condition("f1 > 0.5 METRIC f1")
    with pytest.raises(UsageError, match="unknown place 'acept' of a condition"):
        parse_condition("f1 > 0.5", "acept")


def test_a_condition_built_in_python_is_checked_as_its_text_would_be() -> None:
    for condition, place, message in (
        (Compare(Fact("roc_auc"), ">=", Number(80)), "accept", "80 lies outside"),
        (Compare(Fact("failed"), ">=", Number(0.5)), "accept", "'failed' is not known in ACCEPT"),
        (Compare(Fact("recall_at"), ">=", Number(0.5)), "accept", "metric 'recall_at' needs share"),
        (Compare(Fact("age"), ">=", Number(3)), "require", "'3' is a number, not a duration"),
        (NoWorse("baseline"), "select", "known in ACCEPT and REQUIRE only"),
    ):
        with pytest.raises(TaskError, match=message):
            check_condition(condition, place)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Number(math.inf), "a number must be finite"),
        (lambda: Number(1, "kg"), "unknown unit 'kg'"),
        (lambda: NoWorse("baselin"), "unknown reference 'baselin'; known: baseline, production, protected"),
        (lambda: NoWorse("baseline", Number(1, "s")), "a margin is a number or a percentage from 0 up, got 1s"),
        (lambda: Compare(Fact("f1"), "=", Number(1)), "unknown comparison '='; known: < <= > >= == !="),
        (lambda: And((LEAVES[0],)), "AND joins two or more conditions, got 1"),
        (lambda: expr.Function("exp", (Fact("f1"),)), "unknown function 'exp'"),
        (lambda: expr.Neg(Number(1)), "write a negative literal as"),
    ],
)
def test_malformed_nodes_cannot_be_built(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.79512, "", "0.795"),
        (569, "", "569"),
        (0.00042, "", "0.00042"),
        (123456.7, "", "1.235e+05"),
        (0.795, "%", "79.5%"),
        (0.0002, "%", "0.02%"),
        (0.025, "s", "25ms"),
        (0.0, "s", "0s"),
        (7200.0, "s", "2h"),
        (3e6, "B", "3MB"),
    ],
)
def test_figures_are_short_and_keep_what_matters(value: float, unit: str, shown: str) -> None:
    assert figure(value, unit) == shown

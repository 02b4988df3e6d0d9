"""The oracle takes whom the rules name, says why, abstains with a way out, and ranks thousands at once."""

from __future__ import annotations

import time

import numpy as np
import pytest

from alexandra.errors import AbstainError, NotFoundError, RegistryError, StorageError
from alexandra.lang.conditions import evaluate
from alexandra.lang.rules import parse_rules
from alexandra.records import Interval, Outcomes, Scorecard
from alexandra.registry import lifecycle
from alexandra.registry.facts import facts_of
from alexandra.registry.oracle import Oracle
from alexandra.registry.schema import DOCUMENTS, LABELS, METRICS, SERVING, VERSIONS, insert, insert_index
from alexandra.registry.serving import Serving
from alexandra.registry.store import Registry
from alexandra.rng import derive


def rules(text, otherwise='ABSTAIN "nobody qualifies"'):
    return parse_rules(f"RULES test BEGIN {text} OTHERWISE {otherwise} END")


def chosen(choice):
    return [member.ref for member in choice.members]


# ---------------------------------------------------------------- the default rules


def test_production_answers_and_the_explanation_says_by_which_rule_and_facts(stocked):
    choice = Oracle(stocked).choose("churn")
    assert chosen(choice) == ["churn:2"]
    assert (choice.combine, choice.rule) == ("best", "production")
    text = "\n".join(choice.explanation)
    assert "rule production: 1 of 2 candidates fit WHEN stage == production" in text
    assert "churn:2 b (production): metric = 0.9" in text
    assert "stage == production: stage is production" in text


def test_nothing_in_production_abstains_with_the_rules_words_and_a_way_out(stocked):
    with pytest.raises(AbstainError) as caught:
        Oracle(stocked).choose("spam")
    assert caught.value.message == "spam: no specialist has passed this task's check"
    assert "rule production: none of 2 candidates fits" in caught.value.hint
    assert "stage == production: stage is experiment" in caught.value.hint
    assert "best experiment: spam:" in caught.value.hint


def test_a_named_stage_is_vouched_for(stocked):
    assert chosen(Oracle(stocked).choose("churn", stage="experiment")) == ["churn:1"]
    assert chosen(Oracle(stocked).choose("spam", stage="experiment")) == ["spam:2"]
    with pytest.raises(AbstainError, match="churn has no version in stage quarantine"):
        Oracle(stocked).choose("churn", stage="quarantine")
    with pytest.raises(RegistryError, match="unknown stage 'prod'"):
        Oracle(stocked).choose("churn", stage="prod")


def test_an_unknown_task_gets_a_suggestion(stocked):
    with pytest.raises(NotFoundError, match="unknown task 'chrun'\nknown: churn, spam. Did you mean 'churn'?"):
        Oracle(stocked).choose("chrun")


# ---------------------------------------------------------------- rules of one's own


@pytest.fixture(scope="module")
def team(tmp_path_factory, registering):
    """Five models of one task: 1 in production, 5 in quarantine, 4 archived, the others experiments. Read only."""
    registry = Registry(tmp_path_factory.mktemp("team"))
    register = registering(registry)
    for number, quality in enumerate((1.0, 2.0, 3.0, 2.5, 3.5), 1):
        register(f"m{number}", quality, seed=number, tags=("CLASSIFY", "TABULAR"))
    lifecycle.promote(registry, "churn:1", force=True, reason="test")
    lifecycle.archive(registry, "churn:4")
    lifecycle.quarantine(registry, "churn:5", "leak")
    return registry


@pytest.mark.parametrize(
    ("text", "expected", "combine"),
    [
        ("RULE r SELECT 3", ["churn:1"], "best"),
        ("RULE r WHEN stage != production SELECT 3 COMBINE vote", ["churn:3", "churn:4", "churn:2"], "vote"),
        ("RULE r WHEN stage == experiment SCORE accuracy SELECT 2 COMBINE average", ["churn:3", "churn:2"], "average"),
        ("RULE r WHEN stage == experiment SCORE 0 - metric SELECT 1", ["churn:2"], "best"),
        ("RULE r WHEN task HAS CLASSIFY AND stage == archived SELECT 1", ["churn:4"], "best"),
        ("RULE r WHEN task HAS TEXT SELECT 1 RULE s WHEN model HAS TABULAR SELECT 1", ["churn:1"], "best"),
        ("RULE r WHEN roc_auc >= 0.95 SELECT 1 RULE s WHEN stage == experiment SELECT 1", ["churn:3"], "best"),
    ],
)
def test_rules_choose_rank_and_combine(team, text, expected, combine):
    choice = Oracle(team, rules(text)).choose("churn")
    assert (chosen(choice), choice.combine) == (expected, combine)


def test_the_sample_of_the_language_builds_an_ensemble_of_experiments(team):
    text = """RULE quick WHEN task HAS CLASSIFY AND roc_auc >= 0.80 AND latency_p95 <= 20ms
              SCORE roc_auc - 0.01 * log10(parameters) SELECT 3 COMBINE vote"""
    choice = Oracle(team, rules(text)).choose("churn", stage="experiment")
    assert (chosen(choice), choice.combine) == (["churn:3", "churn:2"], "vote")
    assert "latency_p95 <= 20ms: 2ms" in "\n".join(choice.explanation)


def test_quarantined_versions_answer_only_when_asked_for(team):
    every = rules("RULE r WHEN stage == quarantine SELECT 9")
    with pytest.raises(AbstainError, match="churn: nobody qualifies\nrule r: none of 4 candidates fits"):
        Oracle(team, every).choose("churn")
    assert chosen(Oracle(team).choose("churn", stage="quarantine")) == ["churn:5"]


def test_otherwise_can_select(team):
    text = "RULE strict WHEN roc_auc >= 0.9999 SELECT 1"
    choice = Oracle(team, rules(text, "SCORE metric SELECT 1")).choose("churn")
    assert (chosen(choice), choice.rule) == (["churn:1"], "otherwise")
    assert choice.explanation[0].startswith("rule strict: none of 1 candidates fits WHEN roc_auc >= 0.9999; churn:1 m1")
    assert "misses by" in choice.explanation[0]


def test_a_score_without_a_value_is_said(team):
    with pytest.raises(AbstainError, match="1 candidates fit, but SCORE r2 has no value for any"):
        Oracle(team, rules("RULE r SCORE r2 SELECT 1")).choose("churn")


def test_tags_of_the_request_replace_the_tasks_own(team):
    asks = Oracle(team, rules("RULE r WHEN task HAS IMAGE SELECT 1"))
    assert chosen(asks.choose("churn", tags=("IMAGE",))) == ["churn:1"]
    with pytest.raises(AbstainError):
        asks.choose("churn")


def test_a_pipeline_takes_the_best_of_each_task_in_order(registry, register):
    for task in ("retrieve", "answer"):
        for number in (1, 2):
            lifecycle.promote(registry, register(f"m{number}", float(number), task=task), force=True, reason="test")
    register("m", task="check")
    text = "RULE r WHEN task HAS TEXT SELECT PIPELINE retrieve, answer, check@experiment RULE production SELECT 1"
    asks = Oracle(registry, rules(text.replace("check@experiment", '"check@experiment"')))
    choice = asks.choose("dialogue", tags=("TEXT",))
    assert (chosen(choice), choice.combine) == (["retrieve:2", "answer:2", "check:1"], "pipeline")
    assert "  answer is answer:2 m2 (production)" in choice.explanation
    with pytest.raises(NotFoundError, match="unknown task 'dialogue'"):
        asks.choose("dialogue", tags=("IMAGE",))


def test_a_pipeline_that_comes_back_to_itself_is_refused(team):
    asks = Oracle(team, rules("RULE r WHEN task HAS CLASSIFY SELECT PIPELINE churn, churn"))
    with pytest.raises(
        RegistryError, match="the pipeline comes back to 'churn'\nname one version instead: churn@production"
    ):
        asks.choose("churn")


def test_versions_measured_in_another_metric_are_not_ranked_by_it(registry, register):
    register("old", 3.0, metric="log_loss")
    register("new", 1.0)
    choice = Oracle(registry, rules("RULE r WHEN stage == experiment SELECT 2")).choose("churn")
    assert chosen(choice) == ["churn:2"]


def test_a_loss_ranks_the_lowest_first(registry, register):
    for number, quality in enumerate((1.0, 3.0, 2.0), 1):
        register(f"m{number}", quality, metric="log_loss")
    choice = Oracle(registry, rules("RULE r WHEN stage == experiment SELECT 3")).choose("churn")
    assert chosen(choice) == ["churn:2", "churn:3", "churn:1"]


def test_what_was_kept_is_not_used_after_a_change(registry, register):
    lifecycle.promote(registry, register("a"))
    asks = Oracle(registry)
    assert chosen(asks.choose("churn")) == ["churn:1"]
    lifecycle.promote(registry, register("b"), force=True, reason="test")
    assert chosen(asks.choose("churn")) == ["churn:2"]


def test_an_index_that_lies_is_an_error_and_not_an_answer(registry, register):
    lifecycle.promote(registry, register("a"))
    with registry.database.write() as connection:
        connection.exec_driver_sql("UPDATE metrics SET value = 0.999 WHERE name = 'roc_auc'")
    with pytest.raises(StorageError, match="the index of 'roc_auc' does not match the document of churn:1"):
        Oracle(registry).choose("churn")


CONDITIONS = [
    "roc_auc >= 0.9",
    "NOT roc_auc >= 0.9",
    "roc_auc > 0.8 AND (log_loss <= 0.6 OR parameters < 500)",
    "metric >= accepted",
    "latency_p95 <= 5ms",
    "f1 >= 0.1 OR roc_auc >= 0.9",
    "NOT (f1 >= 0.1)",
    "model HAS FAST AND NOT stage == archived",
    "roc_auc - 5% >= 0.8",
    "size <= 1kB AND age < 1d AND samples >= 400",
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_columns_decide_as_facts_one_by_one(registry, register, condition):
    """The oracle's fast path agrees with conditions.evaluate on every version."""
    for number, quality in enumerate((0.5, 1.5, 3.0), 1):
        register(f"m{number}", quality, tags=("FAST",) * (number % 2))
    lifecycle.promote(registry, "churn:3", force=True, reason="test")
    asked = rules(f"RULE r WHEN {condition} AND stage != quarantine SELECT 9")
    expected = {
        version.ref
        for version in registry.versions("churn")
        if evaluate(asked.rules[0].when, facts_of(version, Serving(), "select")).passed
    }
    try:
        got = set(chosen(Oracle(registry, asked).choose("churn")))
    except AbstainError:
        got = set()
    assert got == expected


# ---------------------------------------------------------------- ten thousand


def stock_with(registry, count):
    """Register `count` versions in one transaction, with the rows that `register` would write."""
    blank = Outcomes(np.array(["k"]), np.array([0]), np.array([[0.5, 0.5]]), ("a", "b"))
    first = registry.register(
        "big",
        "m",
        {"w": b"1"},
        Scorecard("big", "m", {"roc_auc": Interval(0.5, 0.4, 0.6, 1)}, blank, 0, "", "", 1, 0.001),
    )
    values = derive(3, "ten thousand").uniform(count).tolist()
    with registry.database.write() as connection:
        row = dict(connection.execute(VERSIONS.select()).mappings().one())
        body = connection.execute(DOCUMENTS.select()).mappings().one()["body"]
        old = '["roc_auc", 0.5, 0.4, 0.6, 1]'
        assert old in body
        for i, value in enumerate(values[1:], 2):
            bounds = [value, value - 0.02, value + 0.02]
            new = {**row, "id": i, "version": i, "content": str(i), "parameters": i, "tags": '["CLASSIFY"]'}
            insert(connection, VERSIONS, new)
            insert(
                connection,
                DOCUMENTS,
                {"id": i, "body": body.replace(old, f'["roc_auc", {bounds[0]!r}, {bounds[1]!r}, {bounds[2]!r}, 1]')},
            )
            insert(connection, SERVING, {"id": i, "requests": 0, "failures": 0, "metric": ""})
            names = ("roc_auc", "accuracy", "f1", "log_loss", "brier", "ece")
            rows = [
                dict(zip(("name", "id", "value", "low", "high", "n"), (name, i, *bounds, 1), strict=True))
                for name in names
            ]
            insert_index(connection, METRICS, rows)
            insert_index(connection, LABELS, [{"tag": "CLASSIFY", "id": i}])
    return first


def test_ten_thousand_models_are_ranked_at_once(registry, capsys):
    stock_with(registry, 10_000)
    text = """RULE quick WHEN stage == experiment AND roc_auc >= 0.80 AND latency_p95 <= 20ms
              SCORE roc_auc - 0.01 * log10(parameters) SELECT 3"""
    asked = rules(text)
    times = []
    for asks in [Oracle(registry, asked), second := Oracle(registry, asked), second]:
        began = time.perf_counter()
        choice = asks.choose("big")
        times.append(1e3 * (time.perf_counter() - began))
    with capsys.disabled():
        print(f"\noracle, 10,000 models: first {times[0]:.0f} ms, new oracle {times[1]:.0f} ms, warm {times[2]:.0f} ms")
    versions = registry.search(metrics={"roc_auc": (0.9, None)})
    best = sorted(versions, key=lambda v: -(v.metrics["roc_auc"].value - 0.01 * np.log10(v.parameters)))[:3]
    assert chosen(choice) == [version.ref for version in best]

"""RuleLang: what rules and gates mean, how refusals read, and that a rule over columns decides as for each model."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.errors import LanguageError, NotFoundError, TaskError
from alexandra.lang.conditions import FactValue, evaluate
from alexandra.lang.expr import Arith, Better, Compare, Condition, Fact, Function, Has, Not, NoWorse, Number, Or, Word
from alexandra.lang.fmt import format_text, kind_of_program
from alexandra.lang.ranking import columns_of, compile_rule, select
from alexandra.lang.rules import default_rules, default_text, load_rules, parse_rules
from alexandra.lang.rules_spec import Abstain, Fallback, Gate, Pipeline, Rule, Rules, Select
from alexandra.records import Interval

DESIGN = """
RULES default
BEGIN
  RULE quick
    WHEN task HAS CLASSIFY AND roc_auc >= 0.80 AND latency_p95 <= 20ms
    SCORE roc_auc - 0.01 * log10(parameters)
    SELECT 3 COMBINE vote
  RULE staged
    WHEN task HAS TEXT SELECT PIPELINE retrieve, answer, check
  OTHERWISE ABSTAIN "no specialist has passed this task's check"
END

GATE production
BEGIN
  REQUIRE samples >= 200 AND latency_p95 <= 3s                // offline evidence
  REQUIRE better(production, paired=bootstrap, alpha=1%)       // true while production is empty
  REQUIRE no_worse(protected, margin=1%)
  QUARANTINE WHEN served >= 1000 AND (failed > 20% OR metric < accepted - 15%)
END
"""


def test_the_program_of_the_design_means_these_rules() -> None:
    rules = parse_rules(DESIGN)
    quick, staged = rules.rules
    roc_auc = Fact("roc_auc")
    assert quick.name == "quick"
    assert quick.select == Select(3, "vote")
    assert quick.score == Arith(roc_auc, "-", Arith(Number(0.01), "*", Function("log10", (Fact("parameters"),))))
    assert quick.when is not None
    assert quick.when.items == (  # type: ignore[union-attr]
        Has("task", "CLASSIFY"),
        Compare(roc_auc, ">=", Number(0.8)),
        Compare(Fact("latency_p95"), "<=", Number(0.02, "s")),
    )
    assert staged == Rule("staged", Pipeline(("retrieve", "answer", "check")), Has("task", "TEXT"))
    assert rules.otherwise == Abstain("no specialist has passed this task's check")
    gate = rules.gate("production")
    assert gate.require[1:] == (Better("production"), NoWorse("protected"))
    drop = Compare(Fact("metric"), "<", Arith(Fact("accepted"), "-", Number(0.15, "%")))
    assert gate.quarantine[0].items[1] == Or(  # type: ignore[union-attr]
        (Compare(Fact("failed"), ">", Number(0.2, "%")), drop)
    )


def test_the_shipped_rules_are_well_formed_formatted_and_hold_the_production_gate() -> None:
    rules = default_rules()
    rules.check_facts()
    assert parse_rules(rules.text()) == rules
    assert format_text(default_text(), "rules") == default_text()
    assert rules.gate("production") == parse_rules(DESIGN).gate("production")
    assert rules.rules == (
        Rule("production", Select(1), Compare(Fact("stage"), "==", Word("production")), Fact("metric")),
    )


def test_a_gate_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(NotFoundError, match="no gate 'prodution'\nknown: production. Did you mean 'production'?"):
        default_rules().gate("prodution")


def test_gates_may_stand_alone_and_a_fallback_may_select() -> None:
    assert parse_rules("GATE g BEGIN END") == Rules(gates=(Gate("g"),))
    rules = parse_rules("RULES r BEGIN OTHERWISE SCORE metric SELECT 2 COMBINE average END")
    assert rules.otherwise == Fallback(Select(2, "average"), Fact("metric"))


def test_a_file_of_rules_is_read_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.rules").write_text(DESIGN, encoding="utf-8")
    assert load_rules(tmp_path / "a.rules") == parse_rules(DESIGN)


def test_the_examples_parse_and_are_laid_out_as_the_formatter_lays_them_out(repository: Path) -> None:
    paths = sorted((repository / "examples/rules").glob("*.rules"))
    assert paths
    for path in paths:
        rules = load_rules(path)
        rules.check_facts()
        assert parse_rules(rules.text()) == rules
        assert format_text(path.read_text(encoding="utf-8"), file=str(path)) == path.read_text(encoding="utf-8")


def test_the_language_of_a_program_is_known_by_its_suffix_or_its_first_word() -> None:
    assert kind_of_program("", "x/a.TASK") == "task"
    assert kind_of_program("// note\n/* GATE */ rules r BEGIN END") == "rules"
    assert kind_of_program("\ufeff task t BEGIN END") == "task"
    assert kind_of_program("BEGIN LAYER INPUT name=x END") == "nureon"
    with pytest.raises(LanguageError):
        format_text("RULES r BEGIN RULE END", "rules")


RULE = "RULES x BEGIN RULE a {} END"
REFUSALS = [
    # text, column, message, hint
    ("", 1, "the text ends too early", "expected: GATE, RULES."),
    (RULE.format("WHEN roc_auc >= 0.5"), 20, "rule 'a' selects nothing", "end it with SELECT 1"),
    (RULE.format("SELECT 0"), 29, "SELECT takes 1 to 1000 models, got 0", ""),
    (RULE.format("SELECT 3 COMBINE votes"), 29, "unknown way to COMBINE 'votes'", "Did you mean 'vote'?"),
    (RULE.format("SELECT PIPELINE b"), 29, "a pipeline has two stages or more, got b", ""),
    (RULE.format("SCORE roc_auc SELECT PIPELINE b, c"), 22, "a named pipeline is not ranked", "leave out SCORE"),
    (RULE.format("SCORE stage SELECT 1"), 28, "'stage' is a name: nothing can be computed with it", ""),
    (RULE.format("SCORE metrik SELECT 1"), 28, "unknown fact 'metrik'", "Did you mean 'metric'?"),
    (RULE.format("SCORE 5ms + 3 SELECT 1"), 28, "'3' is a number, not a duration", ""),
    (RULE.format("SELECT 1 SELECT 2"), 31, "a second SELECT in rule 'a'", ""),
    (RULE.format("SELECT 1 RULE a SELECT 1"), 36, "a second rule 'a'", "give it another name"),
    (RULE.format("WHEN stage == prod SELECT 1"), 27, "unknown stage 'prod'", "known: archived, experiment"),
    (RULE.format("WHEN stage >= production SELECT 1"), 27, "stage is a name and has no order", "by == or !="),
    (RULE.format("WHEN better(production) SELECT 1"), 27, "better is not known here", "ACCEPT and REQUIRE"),
    (RULE.format("WHEN failed > 3% SELECT 1"), 27, "'failed' is not known in WHEN and SCORE", "QUARANTINE WHEN"),
    (
        RULE.format("WHEN gap(a, of=auc) < 1% SELECT 1"),
        27,
        "'gap' is not known in WHEN and SCORE",
        "ACCEPT and REQUIRE",
    ),
    (RULE.format("WHEN tsk HAS x SELECT 1"), 27, "unknown subject 'tsk' of HAS", "Did you mean 'task'?"),
    (RULE.format("WHEN roc_auc >= 95 SELECT 1"), 27, "95 lies outside", "write 95%"),
    ("RULES x BEGIN OTHERWISE SELECT 1 RULE a SELECT 1 END", 34, "OTHERWISE is the last of the rules", ""),
    ("RULES a BEGIN END RULES b BEGIN END", 25, "a second RULES block", "one file holds one"),
    ("GATE x BEGIN END GATE x BEGIN END", 23, "a second gate 'x'", ""),
    ("GATE x BEGIN REQUIRE failed > 3% END", 22, "'failed' is not known in REQUIRE", ""),
    ("GATE x BEGIN REQUIRE model HAS X END", 22, "HAS belongs to the WHEN of a rule", ""),
    ("GATE x BEGIN QUARANTINE WHEN roc_auc < 3% END", 30, "'roc_auc' is not known in QUARANTINE WHEN", "metric"),
    ("GATE x BEGIN QUARANTINE failed > 3% END", 25, "unexpected 'failed'", "expected: WHEN."),
]


@pytest.mark.parametrize(("text", "column", "message", "hint"), REFUSALS, ids=[row[2] for row in REFUSALS])
def test_refusals(text: str, column: int, message: str, hint: str) -> None:
    with pytest.raises(LanguageError) as caught:
        parse_rules(text, "f.rules")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert (caught.value.file, caught.value.line, caught.value.column) == ("f.rules", 1, column)


def test_rules_built_in_python_are_refused_where_they_cannot_be_written() -> None:
    with pytest.raises(TaskError, match="a named pipeline is not ranked"):
        Rule("a", Pipeline(("b", "c")), score=Fact("metric"))
    with pytest.raises(TaskError, match="two rules are called 'a'"):
        Rules("r", (Rule("a"), Rule("a")))
    with pytest.raises(TaskError, match="rules need a name"):
        Rules(rules=(Rule("a"),))
    with pytest.raises(TaskError, match="neither RULES nor GATE"):
        Rules()
    with pytest.raises(TaskError, match="'served' is not known in WHEN and SCORE"):
        Rules("r", (Rule("a", when=Compare(Fact("served"), ">", Number(3))),)).check_facts()


# ---------------------------------------------------------------- many models at once

bounds = st.tuples(st.floats(0, 1), st.floats(0, 0.2), st.floats(0, 0.2)).map(
    lambda found: Interval(found[0], found[0] - found[1], found[0] + found[2])
)
model_facts = st.fixed_dictionaries(
    {"stage": st.sampled_from(["experiment", "production"]), "parameters": st.integers(0, 10**6)},
    optional={
        "roc_auc": bounds,
        "rmse": bounds,
        "metric": bounds,
        "latency_p95": st.floats(0, 0.1),
        "samples": st.integers(0, 1000),
        "model_tags": st.sets(st.sampled_from(["SMALL", "FAST"])),
    },
)
CONDITIONS = [
    "roc_auc >= 0.5 AND latency_p95 <= 20ms",
    "NOT (roc_auc >= 0.5 AND latency_p95 <= 20ms)",
    "roc_auc > 0.3 OR NOT samples >= 500",
    "NOT NOT rmse < 0.5 + 10% AND (metric - roc_auc) / 2 <= 0.2",
    "stage == production AND NOT stage != production OR log10(parameters) > 3",
    "task HAS TEXT OR model HAS SMALL AND NOT model HAS FAST",
    "min(roc_auc, metric) >= 0.4 OR abs(roc_auc - metric) > 0.1 * rmse",
    "1 / (roc_auc - 0.5) > 1 AND sqrt(metric) != 0.5",
]


@given(st.lists(model_facts, min_size=1, max_size=8), st.sampled_from(CONDITIONS), st.booleans())
def test_a_rule_over_columns_decides_as_evaluate_does_for_each_model(
    models: list[dict[str, FactValue]], condition: str, tagged: bool
) -> None:
    tags = {"TEXT"} if tagged else {"TABULAR"}
    rule = parse_rules(f"RULES r BEGIN RULE a WHEN {condition} SELECT 1 END").rules[0]
    ranking = compile_rule(rule)(columns_of(models), tags)
    assert rule.when is not None
    one_by_one = [evaluate(rule.when, {"model_tags": (), **facts, "tags": tags}).passed for facts in models]
    assert ranking.fits.tolist() == one_by_one


def test_scores_use_point_values_and_leave_out_what_has_none() -> None:
    rule = parse_rules("RULES r BEGIN RULE a SCORE roc_auc - 0.01 * log10(parameters) SELECT 3 END").rules[0]
    columns = {
        "roc_auc": np.array([[0.9, 0.1, 1.0], [0.91, 0.9, 0.92], [0.99, 0.9, 1.0], [np.nan] * 3, [0.89, 0.8, 0.9]]),
        "parameters": np.array([10.0, 1000.0, 0.0, 10.0, 1.0]),  # log10(0) has no value
    }
    ranking = compile_rule(rule)(columns, ())
    np.testing.assert_allclose(ranking.score, [0.89, 0.88, np.nan, np.nan, 0.89])
    assert ranking.order().tolist() == [0, 4, 1]  # equal scores stay in the given order
    assert select(rule, columns).tolist() == [0, 4, 1]
    assert ranking.order(1).tolist() == [0]


def test_without_when_all_models_fit_and_the_tasks_metric_ranks_them() -> None:
    ranking = compile_rule(Rule("a"))({"metric": np.array([0.1, 0.3, 0.2])}, ())
    assert ranking.fits.all()
    assert ranking.order().tolist() == [1, 2, 0]
    assert compile_rule(Rule("a"))({}, ()).order().tolist() == []


def test_a_percentage_is_relative_for_an_error_and_points_for_a_score() -> None:
    rule = Rule("a", when=Compare(Fact("metric"), ">=", Arith(Fact("accepted"), "-", Number(0.1, "%"))))
    columns = {"metric": np.array([-21.0, -23.0]), "accepted": np.array([-20.0, -20.0])}
    assert compile_rule(rule)({**columns, "metric_name": "rmse"}, ()).fits.tolist() == [True, False]
    columns = {"metric": np.array([0.75, 0.65]), "accepted": np.array([0.8, 0.8])}
    assert compile_rule(rule)({**columns, "metric_name": "roc_auc"}, ()).fits.tolist() == [True, False]


def test_ten_thousand_models_are_ranked_by_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    n = 10_000
    value = np.linspace(0.5, 0.99, n)
    columns = {
        "roc_auc": np.stack([value, value - 0.01, value + 0.01], axis=1),
        "parameters": np.full(n, 1000.0),
        "latency_p95": np.tile([0.01, 0.03], n // 2),
        "stage": np.tile(["production", "experiment"], n // 2),
    }
    text = DESIGN.replace("roc_auc >= 0.80", "stage == production AND NOT roc_auc < 0.80")
    rule = parse_rules(text).rules[0]
    run = compile_rule(rule)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        order = run(columns, {"CLASSIFY"}).order(3)
        seconds.append(time.perf_counter() - began)
    assert order.tolist() == [9998, 9996, 9994]
    with capsys.disabled():
        print(f"\n10,000 models ranked in {1000 * min(seconds):.2f} ms")


def test_a_condition_that_compares_models_never_fits_in_a_rule() -> None:
    condition: Condition = Not(Better("production"))
    assert not compile_rule(Rule("a", when=condition))({"metric": np.zeros(3)}, ()).fits.any()

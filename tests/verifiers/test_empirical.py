"""`empirical`: the verdict follows the outcomes, chance is vetoed, and stated numbers are not believed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from alexandra.errors import VerifierError
from alexandra.metrics import METRICS, metric
from alexandra.records import Claim, Outcomes
from alexandra.statistics import interval
from alexandra.verifiers.base import claim_hash, run
from alexandra.verifiers.empirical import against_chance, empirical

BOUND = {"recall_at": "recall_at(10%)", "lift_at": "lift_at(10%)", "profit": "profit(tp=100, fp=-10)"}
TWO_CLASS = [BOUND.get(name, name) for name, row in METRICS.items() if row.kind != "regression"]


@pytest.mark.parametrize("text", TWO_CLASS)
def test_shuffled_answers_score_at_chance_and_are_vetoed(text: str, good, shuffled) -> None:
    claim = good(metric=text)
    honest, broken = run(empirical(), [claim, shuffled(claim)])
    assert honest.score > 0 and not honest.vetoes
    assert broken.score == 0.0 and broken.vetoes
    assert "not better than chance" in broken.reason
    chance = json.loads(broken.evidence[0].output)["chance"]
    measured = broken.facts[text]
    assert measured.low - 0.05 * abs(chance) <= chance <= measured.high + 0.05 * abs(chance)


@pytest.mark.parametrize("text", ["rmse", "mae", "r2"])
def test_shuffled_numbers_are_vetoed_too(text: str, numbers, shuffled) -> None:
    claim = replace(numbers(), context={"metric": text})
    honest, broken = run(empirical(), [claim, shuffled(claim)])
    assert honest.score > 0.5 and broken.vetoes


@pytest.mark.parametrize("text", TWO_CLASS)
def test_a_worse_model_scores_lower(text: str, good) -> None:
    weak, strong = run(empirical(), [good(sep=1.0, metric=text), good(sep=3.0, metric=text)])
    if text != "ece":  # the calibration of these scores does not follow their separation
        assert weak.score < strong.score


def test_the_fact_is_the_interval_of_the_outcomes(good) -> None:
    claim = good(metric="recall_at(10%)", seed=3)
    (verdict,) = run(empirical(), [replace(claim, context={"metric": "recall_at(10%)", "seed": 3})])
    assert dict(verdict.facts) == {"recall_at(10%)": interval("recall_at(10%)", claim.content, seed=3)}


def test_a_stated_number_is_refuted_by_the_outcomes_never_copied(good) -> None:
    measured = interval("roc_auc", good().content)
    modest, bold = run(empirical(), [good(metric="roc_auc", claimed=c) for c in (measured.value, measured.high + 0.01)])
    assert modest.score == pytest.approx(measured.value)
    assert bold.vetoes and f"claimed {measured.high + 0.01:g}, measured roc_auc" in bold.reason
    low_loss, fair = run(empirical(), [good(metric="log_loss", claimed=c) for c in (0.01, 5.0)])
    assert low_loss.vetoes and not fair.vetoes


def test_evidence_can_be_replayed(good) -> None:
    claim = good(metric="f1")
    first, second = run(empirical(), [claim]), run(empirical(), [claim])
    assert first[0].evidence == second[0].evidence
    (evidence,) = first[0].evidence
    assert evidence.tool == "empirical" and evidence.version.startswith("1, numpy ")
    assert evidence.input_hash == claim_hash(claim)
    output = json.loads(evidence.output)
    assert output["n"] == 1500 and output["p_value"] == pytest.approx(1 / 200)
    assert output["value"] == metric("f1").fn(claim.content)


def test_it_abstains_where_there_is_too_little_and_says_so(good, numbers) -> None:
    claim = good(n=29)
    few = replace(good(n=200), content=replace(good(n=200).content, targets=np.r_[1, 1, np.zeros(198, dtype=np.int64)]))
    other = Claim("text", "the moon is round")
    small, lopsided, foreign = run(empirical(), [claim, few, other])
    assert (small.score, small.reason) == (None, "29 rows, it needs 30")
    assert lopsided.score is None and "two classes with 5 rows each, rows per class: no 198, yes 2" in lopsided.reason
    assert foreign.score is None and "this claim is of kind 'text'" in foreign.reason
    assert not any(verdict.vetoes for verdict in (small, lopsided, foreign))
    assert run(empirical(min_rows=10), [good(n=29)])[0].score is not None


def test_without_a_metric_the_target_decides(good, numbers) -> None:
    assert set(run(empirical(), [good()])[0].facts) == {"roc_auc"}
    assert set(run(empirical(), [numbers()])[0].facts) == {"rmse"}
    assert set(run(empirical(metric="f1"), [good()])[0].facts) == {"f1"}


def test_more_rows_give_more_confidence(good) -> None:
    few, many = run(empirical(), [good(n=60, metric="accuracy"), good(n=3000, metric="accuracy")])
    assert few.confidence < many.confidence < 1


def test_a_perfect_model_scores_one_on_any_scale(good, numbers) -> None:
    content = good().content
    perfect = replace(content, predictions=np.eye(2)[content.targets])
    for text in TWO_CLASS:
        (verdict,) = run(empirical(), [Claim("outcomes", perfect, {"metric": text})])
        expected = 100 / 350 if text.startswith("recall_at") else 1.0
        assert verdict.score == pytest.approx(expected, abs=0.03), text


def test_the_two_class_null_is_mann_whitneys() -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random(300) < 0.3).astype(np.int64)
    score = np.round(rng.random(300) + 0.05 * targets, 1) / 2
    outcomes = Outcomes(np.arange(300).astype(str), targets, np.stack([1 - score, score], axis=1), ("a", "b"))
    _, p_value = against_chance(metric("roc_auc"), outcomes)
    expected = scipy.stats.mannwhitneyu(
        score[targets == 1], score[targets == 0], alternative="greater", use_continuity=False, method="asymptotic"
    )
    assert p_value == pytest.approx(expected.pvalue)


def test_models_that_know_nothing_are_let_through_no_more_often_than_stated(good, shuffled) -> None:
    rng = np.random.default_rng(0)
    for text, runs in (("roc_auc", 400), ("accuracy", 150)):
        passed = 0
        for seed in range(runs):
            content = good(n=200, seed=seed).content
            broken = replace(content, predictions=content.predictions[rng.permutation(200)])
            passed += against_chance(metric(text), broken, seed)[1] <= 0.01
        assert passed / runs <= 0.025


def test_wrong_settings_are_refused(good) -> None:
    with pytest.raises(VerifierError, match="min_rows=1 must be at least 2"):
        empirical(min_rows=1)
    with pytest.raises(VerifierError, match="alpha=0.001 must lie from 0.005 to below 1"):
        empirical(alpha=0.001)
    with pytest.raises(VerifierError, match="'empirical' failed on claim 0: TaskError: metric 'rmse' needs a target"):
        run(empirical(), [good(metric="rmse")])

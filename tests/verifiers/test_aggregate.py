"""Aggregation: those that apply decide, a hard zero vetoes, disagreement costs, leniency does not win."""

from __future__ import annotations

import numpy as np
import pytest

from alexandra.errors import VerifierError
from alexandra.records import Claim, Interval, Verdict
from alexandra.verifiers.aggregate import aggregate, band, verify
from alexandra.verifiers.base import verifier


def scored(name: str, score: float | None, confidence: float = 1.0, hard: bool = False) -> Verdict:
    return Verdict(name, score, confidence, reason=f"{name} says so", hard=hard)


def test_the_score_is_the_mean_minus_a_fifth_of_the_spread() -> None:
    verdict = aggregate([scored("a", 0.9), scored("b", 0.5)])
    assert verdict.score == pytest.approx(0.7 - 0.2 * np.std([0.9, 0.5]))
    assert verdict.facts["disagreement"].value == pytest.approx(0.2)
    assert verdict.parts == (scored("a", 0.9), scored("b", 0.5))


def test_an_abstention_neither_helps_nor_harms() -> None:
    alone, joined = aggregate([scored("a", 0.7)]), aggregate([scored("a", 0.7), scored("b", None)])
    assert joined.score == alone.score == 0.7
    assert "abstained: b" in joined.reason


def test_when_nobody_applies_the_whole_abstains() -> None:
    verdict = aggregate([scored("a", None), scored("b", None)])
    assert verdict.score is None and "no verifier applies (a: a says so; b: b says so)" in verdict.reason
    assert aggregate([]).score is None
    assert aggregate([scored("a", 0.7, confidence=0.0)]).score is None


def test_a_hard_zero_vetoes_whatever_the_others_say() -> None:
    verdict = aggregate([scored("a", 1.0), scored("b", 1.0), scored("proof", 0.0, 0.4, hard=True)])
    assert verdict.vetoes and verdict.score == 0.0 and verdict.confidence == 0.4
    assert verdict.reason == "vetoed by proof: proof says so"
    assert not aggregate([scored("a", 1.0), scored("soft", 0.0)]).vetoes
    assert not aggregate([scored("a", 1.0), scored("proof", 0.1, hard=True)]).vetoes


def test_a_hard_zero_vetoes_even_without_confidence() -> None:
    assert aggregate([scored("proof", 0.0, 0.0, hard=True)]).vetoes


def test_weights_and_confidence_move_the_mean() -> None:
    parts = [scored("a", 1.0), scored("b", 0.0)]
    spread = 0.2 * 0.5
    assert aggregate(parts, {"a": 3.0}).score == pytest.approx(0.75 - spread)
    assert aggregate([scored("a", 1.0, 0.25), scored("b", 0.0, 0.75)]).score == pytest.approx(0.25 - spread)
    assert aggregate(parts, {"a": 0.0}).score == 0.0


def test_the_most_lenient_judge_does_not_decide() -> None:
    strict = [scored(f"v{i}", 0.3) for i in range(4)]
    assert aggregate([*strict, scored("lenient", 1.0)]).score < 0.5


@pytest.mark.parametrize(
    ("score", "name"),
    [(0.8, "approve"), (0.79, "conditional"), (0.6, "conditional"), (0.59, "reject"), (None, "abstain")],
)
def test_bands(score: float | None, name: str) -> None:
    assert band(scored("a", score)) == name
    assert band(aggregate([scored("a", score)])) == name


def test_facts_of_the_parts_are_kept_and_a_taken_name_is_prefixed() -> None:
    one, two = Interval(0.9, 0.8, 1.0, 10), Interval(0.5, 0.4, 0.6, 10)
    verdict = aggregate([Verdict("a", 0.9, facts={"roc_auc": one}), Verdict("b", 0.5, facts={"roc_auc": two})])
    assert verdict.facts["roc_auc"] == one and verdict.facts["b.roc_auc"] == two


def test_a_weight_for_nobody_or_below_zero_is_refused() -> None:
    with pytest.raises(VerifierError, match="given for 'empircal', which gave no verdict\n.*Did you mean 'empirical'"):
        aggregate([scored("empirical", 1.0)], {"empircal": 1.0})
    with pytest.raises(VerifierError, match="the weight of 'a' is -1"):
        aggregate([scored("a", 1.0)], {"a": -1})


def test_several_verifiers_on_several_claims_give_one_verdict_each() -> None:
    @verifier
    def long_enough(claim):
        return len(claim.content) >= 3

    @verifier(hard=True)
    def no_digits(claim):
        return not any(letter.isdigit() for letter in claim.content)

    verdicts = verify([Claim("text", text) for text in ("hello", "hi", "r2d2")], [long_enough, no_digits])
    assert [verdict.score for verdict in verdicts] == [1.0, pytest.approx(0.4), 0.0]
    assert [verdict.vetoes for verdict in verdicts] == [False, False, True]
    assert [part.verifier for part in verdicts[0].parts] == ["long_enough", "no_digits"]

"""Weights: the domain's stance decides who counts, and an approving minority cannot decide."""

from __future__ import annotations

import pytest

from alexandra.errors import VerifierError
from alexandra.records import Claim, Verdict
from alexandra.verifiers.aggregate import aggregate, band, verify
from alexandra.verifiers.base import verifier
from alexandra.verifiers.weights import BASE, STANCES, framework_weights, weights_for


def test_all_six_frameworks_have_a_weight_and_a_stance_of_their_own() -> None:
    assert set(BASE) == set(STANCES) and len(set(STANCES.values())) == 6
    assert sum(BASE.values()) == pytest.approx(1)


def test_facts_count_most_in_empirical_matters_and_context_in_aesthetic_ones() -> None:
    facts, taste = framework_weights("empirical"), framework_weights("aesthetic")
    assert max(facts, key=facts.__getitem__) == "empirical"
    assert taste["contextual"] > taste["empirical"]
    assert framework_weights("logical")["consistency"] == pytest.approx(0.2)


def test_a_named_stance_doubles_its_framework() -> None:
    plain, named = framework_weights("social"), framework_weights("social", "pragmatist")
    assert named["utility"] == 2 * plain["utility"]
    assert {k: v for k, v in named.items() if k != "utility"} == {k: v for k, v in plain.items() if k != "utility"}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(VerifierError, match="unknown domain 'logic'\n.*Did you mean 'logical'"):
        framework_weights("logic")
    with pytest.raises(VerifierError, match="unknown stance 'pragmatic'\n.*'pragmatist'"):
        framework_weights("social", "pragmatic")


def test_the_domain_of_the_claim_moves_the_verdict() -> None:
    @verifier
    def empirical(claim):
        return 1.0

    @verifier
    def contextual(claim):
        return 0.0

    def weigh(claim):
        return weights_for(claim, ("empirical", "contextual"))

    claims = [Claim("text", "a", {"domain": domain}) for domain in ("empirical", "aesthetic")]
    facts, taste = verify(claims, [empirical, contextual], weigh)
    assert facts.score > 0.7 > 0.3 > taste.score
    assert "have a person look" in facts.reason


@pytest.mark.parametrize(
    ("score", "confidence", "stakes", "name"),
    [
        (1.0, 0.69, "normal", "conditional"),
        (1.0, 0.49, "normal", "reject"),
        (0.85, 1.0, "critical", "conditional"),
        (0.9, 0.8, "critical", "approve"),
    ],
)
def test_bands_want_confidence_and_stakes_raise_them(score: float, confidence: float, stakes: str, name: str) -> None:
    assert band(aggregate([Verdict("a", score, confidence)]), stakes) == name


def test_unknown_stakes_are_refused() -> None:
    with pytest.raises(VerifierError, match="unknown stakes 'high'"):
        band(Verdict("a", 1.0), "high")

"""Calibration mends scores that lie, leaves vetoes alone, and its measures agree with the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from alexandra.errors import VerifierError
from alexandra.records import Claim, Verdict
from alexandra.verifiers.base import run, verifier
from alexandra.verifiers.calibration import KINDS, Calibrated, fit, quality


def overconfident(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose logit is three times too large."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=n)
    labels = rng.random(n) < 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-3 * logit)), labels


@pytest.mark.parametrize("kind", KINDS)
def test_an_overconfident_verifier_is_mended_on_rows_that_it_was_not_fitted_on(kind: str) -> None:
    calibrator = fit(*overconfident(4000, 0), kind)
    scores, labels = overconfident(4000, 1)
    before, after = quality(scores, labels), quality(calibrator(scores), labels)
    assert before.ece > 0.15 > 0.04 > after.ece
    assert after.brier < before.brier
    assert (np.diff(calibrator(np.linspace(0, 1, 101))) >= -1e-12).all()


def test_platt_recovers_the_factor() -> None:
    calibrator = fit(*overconfident(20000, 2), "platt")
    assert calibrator.x[0] == pytest.approx(1 / 3, abs=0.03) and calibrator.x[1] == pytest.approx(0, abs=0.05)


def test_ece_and_brier_are_what_they_say() -> None:
    found = quality([0.9, 0.9, 0.1, 0.1], [True, False, False, False])
    assert found.ece == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)
    assert found.n == 4 and found.base_rate == 0.25


def test_vetoes_and_abstentions_pass_unchanged() -> None:
    @verifier(hard=True)
    def judge(claim):
        return {"veto": 0.0, "none": None}.get(claim.content, 0.99)

    mended = Calibrated(judge, fit(*overconfident(4000, 0)))
    veto, none, sure = run(mended, [Claim("text", text) for text in ("veto", "none", "sure")])
    assert veto.vetoes and none.score is None and 0.6 < sure.score < 0.95
    assert sure.confidence < 1 and "isotonic 0.990 ->" in sure.reason


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(VerifierError, match="all 2 labels are True"):
        fit([0.1, 0.2], [True, True])
    with pytest.raises(VerifierError, match="as many labels as scores"):
        fit([0.1], [True, False])
    with pytest.raises(VerifierError, match=r"scores lie in 0..1, the range given is 0.5 to 2"):
        quality([0.5, 2.0], [True, False])
    with pytest.raises(VerifierError, match="unknown calibration 'plat'\n.*'platt'"):
        fit([0.1, 0.2], [True, False], "plat")


def test_the_judgement_record_is_a_plain_verdict() -> None:
    assert Calibrated(verifier(lambda claim: 1.0), fit([0.0, 1.0], [False, True]))._one(Verdict("a", 1.0)).score == 1.0

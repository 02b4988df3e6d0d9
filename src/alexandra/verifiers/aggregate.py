"""One verdict from several: a weighted mean over those that apply, minus a penalty for disagreement, under vetoes.

A verifier that abstained does not count (as 0 it would pull the mean down, as 1 up). A hard verifier with score 0
vetoes whatever the others say. score = mean - 0.2 * standard deviation, weights times confidence: opinions that
differ are worth less than the same mean agreed upon, and the deviation is reported for review. The most lenient
judge never decides. Bands want confidence too: soft evidence alone does not approve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from alexandra.errors import VerifierError, suggest
from alexandra.records import EMPTY, Claim, Interval, Verdict
from alexandra.verifiers.base import Verifier, run

DISAGREEMENT_PENALTY = 0.2
REVIEW = 0.3  # from this disagreement on, a verdict asks for a person
# stakes -> band, least score, least confidence
BANDS: dict[str, tuple[tuple[str, float, float], ...]] = {
    "normal": (("approve", 0.8, 0.7), ("conditional", 0.6, 0.5), ("reject", 0.0, 0.0)),
    "critical": (("approve", 0.9, 0.8), ("conditional", 0.8, 0.7), ("reject", 0.0, 0.0)),
}
Weights = Mapping[str, float] | Callable[[Claim], Mapping[str, float]]


def aggregate(verdicts: Sequence[Verdict], weights: Mapping[str, float] = EMPTY) -> Verdict:
    """The verdict of verdicts on one claim; `weights` by verifier name, 1 where none is given.

    Facts: those of the parts (a name that is taken gets its verifier in front), and `disagreement`.
    """
    _check_weights(verdicts, weights)
    parts = tuple(verdicts)
    facts = _facts(parts)
    seconds = sum(part.seconds for part in parts)
    apply = [part for part in parts if part.score is not None]
    strength = np.array([weights.get(part.verifier, 1.0) * part.confidence for part in apply])
    vetoes = [part for part in parts if part.vetoes]
    if not vetoes and (not apply or strength.sum() == 0):
        why = "; ".join(f"{part.verifier}: {part.reason}" for part in parts if part.abstained)
        reason = f"no verifier applies ({why or 'none was asked, or none has any confidence'})"
        return Verdict("aggregate", None, reason=reason, facts=facts, seconds=seconds, parts=parts)
    scores = np.array([part.score for part in apply], dtype=np.float64)
    shares = strength / strength.sum() if strength.sum() > 0 else np.full(len(apply), 1 / len(apply))
    spread = float(scores.std())
    mean = round(float(shares @ scores), 12)
    facts["disagreement"] = Interval(spread, spread, spread, len(apply))
    confidence = round(float(shares @ [part.confidence for part in apply]), 12)
    if vetoes:
        reason = "vetoed by " + "; ".join(f"{part.verifier}: {part.reason}" for part in vetoes)
        confidence = max(part.confidence for part in vetoes)
        return Verdict("aggregate", 0.0, confidence, reason, True, (), facts, seconds, parts)
    score = max(0.0, mean - DISAGREEMENT_PENALTY * spread)
    reason = f"mean {mean:.3f} of {len(apply)} verifiers, disagreement {spread:.3f}, {_band(score, confidence)}"
    if spread >= REVIEW:
        reason += "; they disagree: have a person look"
    if len(apply) < len(parts):
        reason += "; abstained: " + ", ".join(part.verifier for part in parts if part.abstained)
    return Verdict("aggregate", score, confidence, reason, False, (), facts, seconds, parts)


def band(verdict: Verdict, stakes: str = "normal") -> str:
    """ "approve", "conditional" or "reject" by score and confidence, "reject" when vetoed, "abstain" without a score.

    Nothing is approved on a confidence below 0.7, and where stakes are "critical" below 0.8.
    """
    if stakes not in BANDS:
        raise VerifierError(f"unknown stakes {stakes!r}", hint=suggest(stakes, BANDS))
    return "abstain" if verdict.score is None else _band(verdict.score, verdict.confidence, stakes)


def _band(score: float, confidence: float, stakes: str = "normal") -> str:
    return next(name for name, least, sure in BANDS[stakes] if score >= least and confidence >= sure)


def verify(claims: Sequence[Claim], verifiers: Sequence[Verifier], weights: Weights = EMPTY) -> list[Verdict]:
    """Ask every verifier about every claim; one aggregated verdict per claim, the verdicts in `.parts`.

    `weights` by verifier name, or a function that gives them for a claim.
    """
    answers = [run(verifier, claims) for verifier in verifiers]
    weigh = weights if callable(weights) else None
    return [
        aggregate([answer[index] for answer in answers], weigh(claim) if weigh else weights)  # type: ignore[arg-type]
        for index, claim in enumerate(claims)
    ]


def _check_weights(verdicts: Sequence[Verdict], weights: Mapping[str, float]) -> None:
    names = {verdict.verifier for verdict in verdicts}
    for name, weight in weights.items():
        if name not in names:
            raise VerifierError(f"a weight is given for {name!r}, which gave no verdict", hint=suggest(name, names))
        if not 0 <= weight < float("inf"):
            raise VerifierError(f"the weight of {name!r} is {weight!r}; weights are 0 or more")


def _facts(parts: Sequence[Verdict]) -> dict[str, Interval]:
    facts: dict[str, Interval] = {}
    for part in parts:
        for name, fact in part.facts.items():
            facts[name if name not in facts else f"{part.verifier}.{name}"] = fact
    return facts

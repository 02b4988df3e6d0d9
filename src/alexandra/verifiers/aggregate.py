"""One verdict from several: a weighted mean over those that apply, minus a penalty for disagreement, under vetoes.

A verifier that abstained does not count (as 0 it would pull the mean down, as 1 up). A hard verifier with score 0
vetoes whatever the others say. score = mean - 0.2 * standard deviation, weights times confidence: opinions that
differ are worth less than the same mean agreed upon, and the deviation is reported for review. The most lenient
judge never decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from alexandra.errors import VerifierError, suggest
from alexandra.records import EMPTY, Claim, Interval, Verdict
from alexandra.verifiers.base import Verifier, run

DISAGREEMENT_PENALTY = 0.2
BANDS = (("approve", 0.8), ("conditional", 0.6), ("reject", 0.0))


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
    mean = float(shares @ scores)
    facts["disagreement"] = Interval(spread, spread, spread, len(apply))
    confidence = float(shares @ [part.confidence for part in apply])
    if vetoes:
        reason = "vetoed by " + "; ".join(f"{part.verifier}: {part.reason}" for part in vetoes)
        confidence = max(part.confidence for part in vetoes)
        return Verdict("aggregate", 0.0, confidence, reason, True, (), facts, seconds, parts)
    score = max(0.0, mean - DISAGREEMENT_PENALTY * spread)
    reason = f"mean {mean:.3f} of {len(apply)} verifiers, disagreement {spread:.3f}, {_band(score)}"
    if len(apply) < len(parts):
        reason += "; abstained: " + ", ".join(part.verifier for part in parts if part.abstained)
    return Verdict("aggregate", score, confidence, reason, False, (), facts, seconds, parts)


def band(verdict: Verdict) -> str:
    """ "approve" from 0.8, "conditional" from 0.6, "reject" below or when vetoed, "abstain" without a score."""
    return "abstain" if verdict.score is None else _band(verdict.score)


def _band(score: float) -> str:
    return next(name for name, least in BANDS if score >= least)


def verify(
    claims: Sequence[Claim], verifiers: Sequence[Verifier], weights: Mapping[str, float] = EMPTY
) -> list[Verdict]:
    """Ask every verifier about every claim; one aggregated verdict per claim, the verdicts in `.parts`."""
    answers = [run(verifier, claims) for verifier in verifiers]
    return [aggregate([answer[index] for answer in answers], weights) for index in range(len(claims))]


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

"""How much each framework's opinion counts: a base weight, times what the claim's domain makes of its stance.

The base weights and the domain x stance table are those of BrahminyKite. Each of the six frameworks speaks for one
epistemic stance (STANCES); a claim that names a stance doubles that framework's weight. The weighted mean of all that
apply is the verdict, never the largest.
"""

from __future__ import annotations

from collections.abc import Iterable

from alexandra.errors import VerifierError, suggest
from alexandra.records import Claim
from alexandra.verifiers.claims import domain_of

BASE = {
    "empirical": 0.25,
    "contextual": 0.15,
    "consistency": 0.20,
    "power_dynamics": 0.15,
    "utility": 0.15,
    "evolution": 0.10,
}
STANCES = {
    "empirical": "positivist",
    "contextual": "interpretivist",
    "utility": "pragmatist",
    "evolution": "correspondence",
    "consistency": "coherence",
    "power_dynamics": "constructivist",
}
_COLUMNS = ("positivist", "interpretivist", "pragmatist", "correspondence", "coherence", "constructivist")
DOMAINS = {
    "empirical": (1.0, 0.3, 0.7, 0.9, 0.6, 0.2),
    "aesthetic": (0.2, 1.0, 0.6, 0.3, 0.7, 0.9),
    "ethical": (0.4, 0.6, 0.8, 0.5, 1.0, 0.7),
    "logical": (0.9, 0.4, 0.6, 0.8, 1.0, 0.3),
    "social": (0.5, 1.0, 0.8, 0.4, 0.6, 0.9),
    "creative": (0.2, 1.0, 0.8, 0.3, 0.5, 0.7),
}
NAMED_STANCE = 2.0


def framework_weights(domain: str, stance: str = "") -> dict[str, float]:
    """Framework -> weight for claims of `domain`."""
    if domain not in DOMAINS:
        raise VerifierError(f"unknown domain {domain!r}", hint=suggest(domain, DOMAINS))
    if stance and stance not in _COLUMNS:
        raise VerifierError(f"unknown stance {stance!r}", hint=suggest(stance, _COLUMNS))
    preference = dict(zip(_COLUMNS, DOMAINS[domain], strict=True))
    return {
        name: BASE[name] * preference[own] * (NAMED_STANCE if own == stance else 1.0) for name, own in STANCES.items()
    }


def weights_for(claim: Claim, verifiers: Iterable[str]) -> dict[str, float]:
    """The weights of those of the named verifiers that are frameworks; others count 1 among themselves."""
    weights = framework_weights(domain_of(claim), str(claim.context.get("stance", "")))
    return {name: weights[name] for name in verifiers if name in weights}

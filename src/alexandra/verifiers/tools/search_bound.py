"""What the adversarial searches share: a bound claim as a loss over a box, and a point that breaks it, verified.

A counterexample counts when the bound is broken by more than rounding could; it refutes. Not finding one in the budget
proves nothing: the score stays below certainty and the confidence is that of soft evidence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from alexandra.errors import VerifierError
from alexandra.records import Claim, Verdict
from alexandra.verifiers.claims import Bound
from alexandra.verifiers.notations import arithmetic
from alexandra.verifiers.tool import SOFT, Tool

MAX_DIMENSIONS, NOT_FOUND = 16, 0.85
Excess = Callable[[np.ndarray], np.ndarray]


def prepared(claim: Claim) -> tuple[list[str], np.ndarray, np.ndarray, Excess]:
    """Names, lower and upper ends, and how far points [n, d] break the bound (positive: broken)."""
    content: Bound = claim.content
    tree = arithmetic.parse(content.expression)
    names = sorted(content.box)
    unknown = [name for name in arithmetic.symbols(tree) if name not in names]
    if unknown or not 1 <= len(names) <= MAX_DIMENSIONS:
        raise VerifierError(f"the box has {len(names)} variables and lacks {', '.join(unknown) or 'none'}")
    if content.relation not in ("<=", ">="):
        raise VerifierError(f"unknown relation {content.relation!r}", hint="one of: <=, >=")
    low, high = (np.array([float(content.box[name][side]) for name in names]) for side in (0, 1))
    if not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
        raise VerifierError("every variable has a finite interval (low, high)")
    sign = 1.0 if content.relation == "<=" else -1.0

    def excess(points: np.ndarray) -> np.ndarray:
        at = {name: points[:, i] for i, name in enumerate(names)}
        found = sign * (np.broadcast_to(arithmetic.values(tree, at), len(points)) - content.limit)
        return np.where(np.isfinite(found), found, -np.inf)

    return names, low, high, excess


def verdict(tool: Tool, claim: Claim, point: np.ndarray, evaluations: int) -> Verdict:
    """What the most harmful point found says of the claim."""
    names, _, _, excess = prepared(claim)
    worst = float(excess(point[None])[0])
    at = ", ".join(f"{name} = {value:.6g}" for name, value in zip(names, point, strict=True))
    if worst > 1e-9 * (1 + abs(claim.content.limit)):
        return tool.holds(claim, False, f"broken by {worst:.3g} at {at}")
    words = f"not broken in {evaluations:,} trials; nearest at {at}"
    soft = tool.says(claim, NOT_FOUND, words, confidence=SOFT)
    return soft

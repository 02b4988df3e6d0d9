"""The alarm for reward hacking: the reward rises while an independent held-out check falls.

Two Mann-Kendall trend tests (Mann 1945; ties corrected) over the last `window` measurements, one sided each at
`alpha`: no assumption on the shape or noise of either curve. A rising reward with a level check raises nothing; the
first measurement at which both trends hold is named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from alexandra.errors import VerifierError

FEWEST = 5


@dataclass(frozen=True)
class Alarm:
    """`ringing`, since measurement `since` (-1: never), with both p-values at the last measurement."""

    ringing: bool
    since: int
    p_reward_rises: float
    p_check_falls: float
    reason: str


def trend(values: Sequence[float] | np.ndarray) -> float:
    """P(a rise at least as steady as this one, were there no trend), Mann and Kendall."""
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    pairs = np.sign(x[None, :] - x[:, None])[np.triu_indices(n, 1)]
    s = float(pairs.sum())
    _, counts = np.unique(x, return_counts=True)
    spread = (n * (n - 1) * (2 * n + 5) - float((counts * (counts - 1) * (2 * counts + 5)).sum())) / 18
    if spread <= 0:
        return 1.0
    z = (s - np.sign(s)) / math.sqrt(spread)
    return float(ndtr(-z))


def reward_hacking(rewards: Sequence[float], held_out: Sequence[float], window: int = 20, alpha: float = 0.01) -> Alarm:
    """Compare a reward's course with that of a check that the training never sees, measured at the same steps."""
    if len(rewards) != len(held_out):
        raise VerifierError(f"{len(rewards)} rewards and {len(held_out)} held-out checks: measure both at each step")
    if window < FEWEST:
        raise VerifierError(f"window={window} is too short to see a trend", hint=f"give {FEWEST} or more")
    up, down, since = 1.0, 1.0, -1
    for end in range(FEWEST, len(rewards) + 1):
        start = max(0, end - window)
        up, down = trend(rewards[start:end]), trend([-value for value in held_out[start:end]])
        both = up <= alpha and down <= alpha
        since = (since if since >= 0 else end - 1) if both else -1
    if since >= 0:
        words = f"since measurement {since} the reward rises (p={up:.2g}) while the held-out check falls (p={down:.2g})"
    elif len(rewards) < FEWEST:
        words = f"{len(rewards)} measurements, it needs {FEWEST}"
    else:
        words = f"no: reward rises p={up:.2g}, held-out check falls p={down:.2g}"
    return Alarm(since >= 0, since, up, down, words)

"""Tool `drift`: has a series changed its mean (ADWIN's cut test, Bifet and Gavalda 2007), or does it rise or fall
(Mann and Kendall)? No change found is not a proof that there is none, so "stable" only ever becomes likely.
"""

from __future__ import annotations

import math

import numpy as np

from alexandra.errors import VerifierError
from alexandra.records import Claim, Verdict
from alexandra.verifiers.alarm import trend
from alexandra.verifiers.tool import SOFT, Tool, own_version

DELTA, ALPHA, FEWEST, MAX_VALUES = 0.002, 0.01, 10, 5_000
STATEMENTS = ("stable", "drifting", "rising", "falling")


def cut(values: np.ndarray) -> tuple[int, float]:
    """Where the window splits into the two that differ most, and by how many times ADWIN's bound (under 1: no cut)."""
    n = len(values)
    low, high = float(values.min()), float(values.max())
    if high == low:
        return 0, 0.0
    x = (values - low) / (high - low)
    sums, sizes = np.cumsum(x)[:-1], np.arange(1, n)
    gaps = np.abs(sums / sizes - (x.sum() - sums) / (n - sizes))
    m = 1 / (1 / sizes + 1 / (n - sizes))
    log = math.log(2 * n / DELTA)
    bound = np.sqrt(2 / m * x.var() * log) + 2 / (3 * m) * log
    ratio = gaps / bound
    place = int(ratio.argmax())
    return place + 1, float(ratio[place])


def _judge(tool: Tool, claim: Claim) -> Verdict:
    values, statement = np.array(claim.content.values, dtype=np.float64), claim.content.statement
    if statement not in STATEMENTS:
        raise VerifierError(f"unknown statement {statement!r}", hint="one of: " + ", ".join(STATEMENTS))
    if not FEWEST <= len(values) <= MAX_VALUES or not np.isfinite(values).all():
        return tool.abstains(f"it reads {FEWEST} to {MAX_VALUES:,} finite values, given {len(values):,}")
    place, ratio = cut(values)
    up, down = trend(values[:: max(1, len(values) // 500)]), trend(-values[:: max(1, len(values) // 500)])
    moved = ratio > 1 or min(up, down) < ALPHA
    words = f"largest cut at {place}: {ratio:.2f} of the bound; p(rise) {up:.2g}, p(fall) {down:.2g}"
    true = {"stable": not moved, "drifting": moved, "rising": up < ALPHA, "falling": down < ALPHA}[statement]
    sure = statement != "stable" or moved
    return tool.says(claim, 0.95 if true else 0.05, words, confidence=0.9 if sure and true else SOFT)


TOOL = Tool("drift", "evolution", ("series",), own_version("adwin 1"), one=_judge)

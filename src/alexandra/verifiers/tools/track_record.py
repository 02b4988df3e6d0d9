"""Tool `track_record`: how often was this producer right before? The share, from the context's `history`.

history: true or false per past claim, the newest last. The score is the mean of the Beta posterior under a flat prior;
few past claims leave it near a half and the confidence low. A record says nothing of the claim itself.
"""

from __future__ import annotations

from alexandra.records import Claim, Verdict
from alexandra.verifiers.claims import KINDS
from alexandra.verifiers.tool import SOFT, Tool, own_version

MAX_HISTORY = 100_000


def _applies(claim: Claim) -> str:
    history = claim.context.get("history")
    return "" if isinstance(history, (tuple, list)) and history else "the context has no history of its producer"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    history = [bool(one) for one in claim.context["history"]][-MAX_HISTORY:]
    n, right = len(history), sum(history)
    mean = (right + 1) / (n + 2)
    spread = (mean * (1 - mean) / (n + 3)) ** 0.5
    return tool.says(claim, mean, f"right {right} times of {n}", confidence=SOFT * max(0.0, 1 - 4 * spread) / 2)


TOOL = Tool("track_record", "evolution", tuple(KINDS), own_version("record 1"), one=_judge, applies=_applies)

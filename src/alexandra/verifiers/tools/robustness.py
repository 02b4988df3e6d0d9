"""Tool `robustness`: does an answer survive rewordings of its question that mean the same? The share that does."""

from __future__ import annotations

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, own_version
from alexandra.verifiers.tools.answers import alike


def _judge(tool: Tool, claim: Claim) -> Verdict:
    variants = [alike(one) for one in claim.content.variants]
    if not variants:
        return tool.abstains("there are no variants")
    same = sum(one == alike(claim.content.answer) for one in variants)
    words = f"{same} of {len(variants)} rewordings get the same answer"
    return tool.says(claim, same / len(variants), words, confidence=SOFT * len(variants) / (len(variants) + 2))


TOOL = Tool("robustness", "evolution", ("perturbed",), own_version("robustness 1"), one=_judge)

"""Tool `derivation_steps`: a derivation, checked one step at a time: each line must equal the line before exactly."""

from __future__ import annotations

from alexandra.maths.equality import equal
from alexandra.maths.reader import read
from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import Tool, own_version

MAX_STEPS = 200


def _judge(tool: Tool, claim: Claim) -> Verdict:
    steps = claim.content.steps
    if not 2 <= len(steps) <= MAX_STEPS:
        return tool.abstains(f"a derivation has 2 to {MAX_STEPS} steps, this one {len(steps)}")
    lines = [read(step) for step in steps]
    for number, (before, after) in enumerate(zip(lines, lines[1:], strict=False), 1):
        found = equal(before, after)
        if found.kind == "unknown":
            return tool.abstains(f"step {number} is undecided: {found.reason}")
        if not found:
            words = f"step {number}, {steps[number - 1]!r} = {steps[number]!r}, is wrong: {found.reason}"
            return tool.holds(claim, False, words)
    return tool.holds(claim, True, f"all {len(lines) - 1} steps are equalities")


TOOL = Tool("derivation_steps", "consistency", ("derivation",), own_version("maths 1"), one=_judge, hard=True)

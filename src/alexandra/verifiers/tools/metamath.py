"""Tool `metamath`: a proof in the database language of Metamath, checked by the metamath program in the sandbox.

The claim's context brings `axioms`, a database to prove from; statement and proof become the theorem `claim` in it.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import Tool, needs_program
from alexandra.verifiers.tools import proofs


@cache
def _version() -> str:
    try:
        said = subprocess.run(["metamath", "exit"], capture_output=True, text=True, timeout=60, check=False).stdout
        return "metamath " + str((re.findall(r"Version (\d+\.\d+)", said) or ["unknown"])[0])
    except (OSError, subprocess.TimeoutExpired):
        return "metamath not installed"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    axioms, content = str(claim.context.get("axioms", "")), claim.content
    if not axioms:
        return tool.abstains("the context has no axioms to prove from")
    if "$" in content.statement or "$" in content.proof:
        return tool.holds(claim, False, "refused: statement and proof hold no Metamath keywords")
    source = f"{axioms}\nclaim $p {content.statement} $= {content.proof} $.\n"
    ran = proofs.check("metamath", ("read claim.mm", "verify proof claim", "exit"), {"claim.mm": source})
    if why := proofs.unanswered(ran):
        return tool.abstains(why)
    said = ran.stdout.decode("utf-8", "replace")
    clean = not re.search(r"\?(Error|Warning)|incomplete|not found", said, re.IGNORECASE)
    if ran.ok and clean and re.search(r"verify proof claim\W+claim\b|proof.* verified|100%", said, re.IGNORECASE):
        return tool.holds(claim, True, "proved from the axioms given", source[-1000:])
    return tool.holds(claim, False, f"not proved: {proofs.words(ran)}", proofs.words(ran))


TOOL = Tool(
    "metamath", "empirical", ("proof",), _version, one=_judge, applies=proofs.written_for("metamath"),
    missing=needs_program("metamath", "apt-get install metamath (or: make system-tools)"), hard=True, seconds=25.0,
)  # fmt: skip

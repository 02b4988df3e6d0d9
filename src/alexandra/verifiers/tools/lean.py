"""Tool `lean`: a theorem and its proof in Lean 4, checked by a `lean` binary on PATH, in the sandbox.

Lean has no package in pip or Debian; without a binary this tool says so. `sorry`, commands and axioms beyond Lean's own
three are refused, and the axioms used are printed by Lean itself.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import Tool, needs_program
from alexandra.verifiers.tools import proofs

_COMMAND = re.compile(r"(?m)^\S|\b(sorry|axiom|unsafe|macro|elab|notation|instance|set_option|native_decide)\b|#")
_OWN_AXIOMS = {"propext", "Classical.choice", "Quot.sound"}


@cache
def _version() -> str:
    try:
        said = subprocess.run(["lean", "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
        return "lean " + str((re.findall(r"\d+\.\d+\.\d+", said) or ["unknown"])[0])
    except (OSError, subprocess.TimeoutExpired):
        return "lean not installed"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    content = claim.content
    proof = "\n".join("  " + line for line in content.proof.strip().splitlines())
    if _COMMAND.search(proof) or ":=" in content.statement or "\n" in content.statement:
        return tool.holds(claim, False, "refused: the proof consists of tactics, the statement is one proposition")
    source = f"theorem claim : {content.statement} := by\n{proof}\n#print axioms claim\n"
    ran = proofs.check("lean", ("claim.lean",), {"claim.lean": source})
    if why := proofs.unanswered(ran):
        return tool.abstains(why)
    said = ran.stdout.decode("utf-8", "replace")
    used = re.findall(r"depends on axioms: \[([^\]]*)\]", said)
    axioms = {name.strip() for name in used[0].split(",")} if used else set()
    if ran.ok and (used or "does not depend on any axioms" in said) and axioms <= _OWN_AXIOMS:
        return tool.holds(claim, True, "proved" + (f" with {', '.join(sorted(axioms))}" if axioms else ""), source)
    return tool.holds(claim, False, f"not proved: {proofs.words(ran)}", proofs.words(ran))


TOOL = Tool(
    "lean", "empirical", ("proof",), _version, one=_judge, applies=proofs.written_for("lean"),
    missing=needs_program("lean", "install Lean 4 with elan (https://lean-lang.org) and put lean on PATH"),
    hard=True, seconds=25.0,
)  # fmt: skip

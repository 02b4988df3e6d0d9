"""Tool `coq`: a theorem and its proof script, checked by coqc in the sandbox.

The proof is tactics only: a sentence that starts with a capital (a command such as Axiom, Admitted or Notation) is
refused, and after Qed the theorem must have the claimed type and rest on no axiom.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import Tool, needs_program
from alexandra.verifiers.tools import proofs

PREAMBLE = "Require Import Arith Lia List Bool.\nImport ListNotations.\n"
_SENTENCE_END = re.compile(r"\.(?=\s|$)")
_COMMENT = re.compile(r"\(\*.*?\*\)", re.DOTALL)
_STATEMENT_WORDS = re.compile(r"\b(Axiom|Definition|Notation|Theorem|Qed|Proof)\b")


@cache
def _version() -> str:
    try:
        said = subprocess.run(["coqc", "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
        return "coq " + str((re.findall(r"\d+\.\d+[.\d]*", said) or ["unknown"])[0])
    except (OSError, subprocess.TimeoutExpired):
        return "coq not installed"


def problem(statement: str, proof: str) -> str:
    """Why statement and proof are refused before Coq sees them, or ""."""
    if _SENTENCE_END.search(statement) or "(*" in statement or "*)" in statement or _STATEMENT_WORDS.search(statement):
        return "the statement is one proposition, without comments or commands"
    bare = _COMMENT.sub(" ", proof)
    if "(*" in bare or "*)" in bare or '"' in bare:
        return "the proof has an open comment or a string"
    for sentence in _SENTENCE_END.split(bare):
        text = sentence.strip().lstrip("-+*{} \n\t0123456789:")
        if text[:1].isupper() or text.startswith(("#", "admit", "give_up", "abstract", "Local")):
            return f"the proof consists of tactics; {text.split()[0]!r} is none"
    return ""


def _judge(tool: Tool, claim: Claim) -> Verdict:
    content = claim.content
    statement = content.statement.strip().rstrip(".")
    refused = problem(statement, content.proof)
    if refused:
        return tool.holds(claim, False, f"refused: {refused}")
    proof = re.sub(r"^\s*Proof\.|\bQed\.\s*$", "", content.proof.strip())
    source = (
        f"{PREAMBLE}Theorem claim : ({statement}).\nProof.\n{proof}\nQed.\n"
        f"Definition claimed : ({statement}) := claim.\nPrint Assumptions claimed.\n"
    )
    ran = proofs.check("coqc", ("-q", "-w", "none", "claim.v"), {"claim.v": source})
    if why := proofs.unanswered(ran):
        return tool.abstains(why)
    if ran.ok and b"Closed under the global context" in ran.stdout:
        return tool.holds(claim, True, "proved, without axioms", source)
    return tool.holds(claim, False, f"not proved: {proofs.words(ran)}", proofs.words(ran))


TOOL = Tool(
    "coq", "empirical", ("proof",), _version, one=_judge, applies=proofs.written_for("coq"),
    missing=needs_program("coqc", "apt-get install coq (or: make system-tools)"), hard=True, seconds=25.0,
)  # fmt: skip

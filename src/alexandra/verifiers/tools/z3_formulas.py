"""Tool `z3_formulas`: does a first-order formula follow from premises, is it refuted, or neither? Z3, classical logic.

Premises that contradict each other prove everything, so they are refuted first. Quantifiers make this undecidable: what
is not settled in time is an abstention. answer "consistent" claims no more than that the premises have a model.
"""

from __future__ import annotations

from alexandra.errors import VerifierError
from alexandra.records import Claim, Verdict
from alexandra.verifiers.notations.first_order import Vocabulary, to_smt
from alexandra.verifiers.tool import Tool, needs_package, package_version
from alexandra.verifiers.tools import z3_warm

MILLISECONDS = 1000
ANSWERS = ("true", "false", "unknown", "consistent")


def _judge(tool: Tool, claim: Claim) -> Verdict:
    content = claim.content
    if content.answer not in ANSWERS:
        raise VerifierError(f"unknown answer {content.answer!r}", hint="one of: " + ", ".join(ANSWERS))
    words = Vocabulary()
    premises = [to_smt(one, words) for one in content.premises]
    conclusion = to_smt(content.conclusion, words) if content.conclusion else "true"
    head = words.declarations() + "".join(f"(assert {one})" for one in premises)

    def check(extra: str) -> str:
        solver = z3_warm.solver(MILLISECONDS)
        solver.from_string(head + extra)
        return str(solver.check())

    alone = check("")
    if alone == "unsat":
        return tool.holds(claim, False, "the premises contradict each other")
    if content.answer == "consistent":
        return tool.holds(claim, True, "the premises have a model") if alone == "sat" else tool.abstains("undecided")
    against, for_it = check(f"(assert (not {conclusion}))"), check(f"(assert {conclusion})")
    if "unknown" in (against, for_it) and "unsat" not in (against, for_it):
        return tool.abstains("undecided within its time")
    found = "true" if against == "unsat" else "false" if for_it == "unsat" else "unknown"
    return tool.holds(claim, found == content.answer, f"it is {found}, claimed {content.answer}")


TOOL = Tool(
    "z3_formulas", "consistency", ("formulas",), package_version("z3-solver"), one=_judge,
    missing=needs_package("z3", "z3-solver"), hard=True, seconds=5.0, isolated=True,
)  # fmt: skip

"""Tool `z3_arithmetic`: does a relation hold for all whole or real numbers? Z3 (de Moura and Bjorner 2008) looks for a
counterexample; none found by a complete search is a proof, and time running out is an abstention.
"""

from __future__ import annotations

from alexandra.records import Claim, Verdict
from alexandra.verifiers.notations.arithmetic import refutation
from alexandra.verifiers.tool import Tool, needs_package, package_version
from alexandra.verifiers.tools import z3_warm

MILLISECONDS = 1000


def _judge(tool: Tool, claim: Claim) -> Verdict:
    import z3

    content = claim.content
    domain, against = refutation(content.left, content.relation, content.right, content.where)
    solver = z3_warm.solver(MILLISECONDS)
    if domain:
        solver.from_string(domain)
        if solver.check() != z3.sat:
            return tool.abstains("it is not known to have a value anywhere")
    script = domain + against
    solver = z3_warm.solver(MILLISECONDS)
    solver.from_string(script)
    answer = solver.check()
    if answer == z3.unsat:
        return tool.holds(claim, True, "no counterexample exists", f"unsat\n{script}")
    if answer == z3.sat:
        model = solver.model()
        at = ", ".join(sorted(f"{one.name()} = {model[one]}" for one in model.decls()))
        return tool.holds(claim, False, f"counterexample: {at or 'none needed'}", f"sat {at}\n{script}")
    return tool.abstains(f"undecided: {solver.reason_unknown()}")


TOOL = Tool(
    "z3_arithmetic", "empirical", ("expression",), package_version("z3-solver"), one=_judge,
    missing=needs_package("z3", "z3-solver"), hard=True, seconds=3.0, isolated=True,
)  # fmt: skip

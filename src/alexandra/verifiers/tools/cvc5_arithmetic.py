"""Tool `cvc5_arithmetic`: the same question as z3_arithmetic to another solver, cvc5 (Barbosa et al. 2022): two
independent programs that agree are worth more than one, and a disagreement shows.
"""

from __future__ import annotations

from alexandra.records import Claim, Verdict
from alexandra.verifiers.notations.arithmetic import refutation
from alexandra.verifiers.tool import Tool, needs_package, package_version

MILLISECONDS = 1000


def _judge(tool: Tool, claim: Claim) -> Verdict:
    content = claim.content
    domain, against = refutation(content.left, content.relation, content.right, content.where)
    if domain and _asked(domain)[0] != "sat":
        return tool.abstains("it is not known to have a value anywhere")
    script = domain + against
    answer, at = _asked(script)
    if answer == "unsat":
        return tool.holds(claim, True, "no counterexample exists", f"unsat\n{script}")
    if answer == "sat":
        return tool.holds(claim, False, f"counterexample: {at or 'none needed'}", f"sat {at}\n{script}")
    return tool.abstains(f"undecided: {at}")


def _asked(script: str) -> tuple[str, str]:
    """ "sat" with a model, "unsat", or "unknown" with the reason."""
    import cvc5

    terms = cvc5.TermManager()
    solver = cvc5.Solver(terms)
    solver.setOption("tlimit-per", str(MILLISECONDS))
    solver.setOption("produce-models", "true")
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, f"(set-logic ALL)\n{script}", "claim")
    names = parser.getSymbolManager()
    while not (command := parser.nextCommand()).isNull():
        command.invoke(solver, names)
    answer = solver.checkSat()
    if answer.isSat():
        return "sat", ", ".join(f"{one} = {solver.getValue(one)}" for one in names.getDeclaredTerms())
    return ("unsat", "") if answer.isUnsat() else ("unknown", str(answer.getUnknownExplanation()))


TOOL = Tool(
    "cvc5_arithmetic", "empirical", ("expression",), package_version("cvc5"), one=_judge,
    missing=needs_package("cvc5", "cvc5"), hard=True, seconds=3.0, isolated=True,
)  # fmt: skip

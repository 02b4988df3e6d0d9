"""Tool `z3_logic`: a logic program's answer by Z3: its ground instances as propositions, the query refuted or not.

A negation is a proposition of its own (notations/horn.py), so entailment is the least model and agrees with Prolog's.
"""

from __future__ import annotations

from alexandra.records import Claim, Verdict
from alexandra.verifiers.notations import horn
from alexandra.verifiers.tool import Tool, needs_package, package_version
from alexandra.verifiers.tools import z3_warm

MILLISECONDS = 1000


def _judge(tool: Tool, claim: Claim) -> Verdict:
    import z3

    program = horn.parse(claim.content.program, claim.content.query)
    solver = z3_warm.solver(MILLISECONDS)
    names: dict[horn.Atom, str] = {}

    def name(atom: horn.Atom) -> str:
        return names.setdefault(atom, f"a{len(names)}")

    clauses = []
    for rule in horn.ground(program):
        body = " ".join(name(atom) for atom in rule.body)
        clauses.append(f"(assert (=> (and {body}) {name(rule.head)}))" if body else f"(assert {name(rule.head)})")
    asked, opposite = name(program.query), name(program.query.opposite)
    declared = "".join(f"(declare-const {one} Bool)" for one in names.values())
    solver.from_string(declared + "".join(clauses))
    derived = []
    for one in (asked, opposite):
        answer = solver.check(z3.Not(z3.Bool(one, solver.ctx)))
        if answer == z3.unknown:
            return tool.abstains(f"undecided: {solver.reason_unknown()}")
        derived.append(answer == z3.unsat)
    found = horn.answer(*derived)
    words = f"{program.query.text()} is {found}, claimed {claim.content.answer}"
    return tool.holds(claim, horn.judge(found, claim.content.answer), words)


TOOL = Tool(
    "z3_logic", "consistency", ("logic",), package_version("z3-solver"), one=_judge,
    missing=needs_package("z3", "z3-solver"), hard=True, seconds=3.0, isolated=True,
)  # fmt: skip

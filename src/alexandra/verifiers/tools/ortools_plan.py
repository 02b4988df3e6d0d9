"""Tool `ortools_plan`: is a plan feasible, and how far from the best? OR-Tools solves the same program (SCIP, GLOP).

Feasibility is checked exactly on the claim's own numbers, up to their rounding; the optimum is the solver's.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from alexandra.errors import VerifierError
from alexandra.records import Claim, Verdict
from alexandra.verifiers.claims import Plan
from alexandra.verifiers.tool import Tool, needs_package, package_version

MAX_VARIABLES, MILLISECONDS, EXACT = 1_000, 2_000, 1e-6
ROUNDING = Fraction(1, 10**9)  # of the numbers' own size: 0.7 is no binary number


def broken(plan: Plan) -> str:
    """The first constraint that the values break, in words, or ""."""
    for name, value in plan.values.items():
        if value < 0:
            return f"{name} = {value:g} is negative"
        if plan.whole and value != int(value):
            return f"{name} = {value:g} is not whole"
    for coefficients, relation, limit in plan.constraints:
        terms = [Fraction(c) * Fraction(plan.values.get(name, 0)) for name, c in coefficients.items()]
        total = sum(terms, Fraction(0))
        slack = ROUNDING * (1 + abs(Fraction(limit)) + sum(map(abs, terms), Fraction(0)))
        gap = total - Fraction(limit)
        if relation not in ("<=", ">=", "="):
            raise VerifierError(f"unknown relation {relation!r}", hint="one of: <=, >=, =")
        if (relation != ">=" and gap > slack) or (relation != "<=" and gap < -slack):
            shown = " + ".join(f"{c:g} {n}" for n, c in coefficients.items())
            return f"{shown} = {float(total):g}, which is not {relation} {limit:g}"
    return ""


def optimum(plan: Plan) -> tuple[str, float]:
    """ "optimal" and its value, or "infeasible", "unbounded" or "undecided"."""
    from ortools.linear_solver import pywraplp

    solver: Any = pywraplp.Solver.CreateSolver("SCIP" if plan.whole else "GLOP")
    solver.SetTimeLimit(MILLISECONDS)
    names = sorted({*plan.objective, *(name for row in plan.constraints for name in row[0])})
    make = solver.IntVar if plan.whole else solver.NumVar
    variables = {name: make(0, solver.infinity(), name) for name in names}
    for coefficients, relation, limit in plan.constraints:
        low = limit if relation in (">=", "=") else -solver.infinity()
        high = limit if relation in ("<=", "=") else solver.infinity()
        row = solver.Constraint(low, high)
        for name, c in coefficients.items():
            row.SetCoefficient(variables[name], c)
    target = solver.Objective()
    for name, c in plan.objective.items():
        target.SetCoefficient(variables[name], c)
    target.SetOptimizationDirection(plan.maximise)
    states = {pywraplp.Solver.OPTIMAL: "optimal", pywraplp.Solver.INFEASIBLE: "infeasible"}
    states[pywraplp.Solver.UNBOUNDED] = "unbounded"
    state = states.get(solver.Solve(), "undecided")
    return state, float(target.Value()) if state == "optimal" else math.nan


def _judge(tool: Tool, claim: Claim) -> Verdict:
    plan: Plan = claim.content
    numbers = [*plan.objective.values(), *plan.values.values(), plan.gap]
    numbers += [value for row in plan.constraints for value in (*row[0].values(), row[2])]
    if not all(isinstance(one, (int, float)) and math.isfinite(one) and abs(one) < 1e12 for one in numbers):
        return tool.abstains("the numbers are finite and below 1e12")
    if not 0 < len(plan.objective) <= MAX_VARIABLES:
        return tool.abstains(f"it reads plans of 1 to {MAX_VARIABLES:,} variables")
    why = broken(plan)
    if why:
        return tool.holds(claim, False, f"not feasible: {why}")
    state, best = optimum(plan)
    if state != "optimal":
        return tool.abstains(f"the solver says {state}, so no gap is known")
    value = sum(c * plan.values.get(name, 0) for name, c in plan.objective.items())
    gap = (best - value if plan.maximise else value - best) / max(1.0, abs(best))
    words = f"feasible with {value:g}, the optimum is {best:g}: a gap of {max(gap, 0.0):.3g}, claimed {plan.gap:g}"
    return tool.holds(claim, gap <= plan.gap + EXACT, words)


TOOL = Tool(
    "ortools_plan", "utility", ("plan",), package_version("ortools"), one=_judge,
    missing=needs_package("ortools", "ortools"), hard=True, seconds=4.0, isolated=True,
)  # fmt: skip

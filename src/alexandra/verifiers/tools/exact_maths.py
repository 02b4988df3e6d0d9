"""Tool `exact_maths`: equations and ground comparisons by the exact engine (alexandra.maths), no floating point.

Both sides may be prefix, infix or LaTeX, as people and models write answers. "equal" and "different" are proofs (a
counterexample comes along); where the engine says unknown, so does this tool.
"""

from __future__ import annotations

from fractions import Fraction

from alexandra.maths.equality import equal
from alexandra.maths.expr import symbols
from alexandra.maths.interval import enclose
from alexandra.maths.reader import read
from alexandra.records import Claim, Verdict
from alexandra.verifiers.claims import Expression
from alexandra.verifiers.tool import Tool, own_version


def _judge(tool: Tool, claim: Claim) -> Verdict:
    content: Expression = claim.content
    left, right = read(content.left), read(content.right)
    if content.relation in ("=", "!="):
        found = equal(left, right)
        if found.kind == "unknown":
            return tool.abstains(f"undecided: {found.reason}")
        whole = [name for name, sort in content.where.items() if sort == "int"]
        if found.counterexample and any(Fraction(found.counterexample.get(name, 0)).denominator > 1 for name in whole):
            return tool.abstains("they differ between whole numbers; whether at them is for a solver")
        names = {*symbols(left), *symbols(right)}
        if content.relation == "!=" and not found and names:
            return tool.abstains("they differ somewhere; whether everywhere is for a solver")
        true = bool(found) == (content.relation == "=")
        return tool.holds(claim, true, f"{found.kind}: {found.reason}" if found.reason else found.kind)
    if content.relation not in ("<", "<=", ">", ">="):
        return tool.abstains(f"unknown relation {content.relation!r}: it reads = != < <= > >=")
    names = {*symbols(left), *symbols(right)}
    if names:
        return tool.abstains(f"an inequality in {', '.join(sorted(map(str, names)))} is for a solver")
    same = equal(left, right)
    a, b = enclose(left), enclose(right)
    if not same and not (a[1] < b[0] or b[1] < a[0]):
        return tool.abstains("the two are too close to tell apart")
    less = not same and a[1] < b[0]
    true = {"<": less, "<=": less or bool(same), ">": not less and not same, ">=": not less}[content.relation]
    return tool.holds(
        claim, true, f"{str(a[0])[:40]}... {'is' if true else 'is not'} {content.relation} {str(b[0])[:40]}..."
    )


TOOL = Tool("exact_maths", "empirical", ("expression",), own_version("maths 2"), one=_judge, hard=True)

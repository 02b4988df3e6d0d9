"""Tool `exact_maths`: equations and ground comparisons by the exact engine (alexandra.maths), no floating point.

Both sides may be prefix, infix or LaTeX, as people and models write answers. "equal" and "different" are proofs (a
counterexample comes along); where the engine says unknown, so does this tool.
"""

from __future__ import annotations

import re
from fractions import Fraction

from alexandra.maths.equality import equal
from alexandra.maths.expr import Expr, symbols
from alexandra.maths.interval import enclose
from alexandra.maths.reader import read
from alexandra.records import Claim, Verdict
from alexandra.verifiers.claims import Expression
from alexandra.verifiers.tool import Tool, own_version

_CHOICE = re.compile(r"\(?([A-Z])\)?\.?")
_INTERVAL = re.compile(r"(\(|\[)(.+),(.+)(\)|\])", re.DOTALL)
_MIXED = re.compile(r"(-?\d+) (\d+/\d+)")
_ASSIGNED = re.compile(r"[A-Za-z]\w?\s*=([^=]+)")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}")


def _plain(text: str) -> str:
    """Without currency, spacing commands and text around a lone letter."""
    bare = text.replace("\\$", "").replace("\\left", "").replace("\\right", "").strip()
    lone = _TEXT.fullmatch(bare)
    bare = lone[1].strip() if lone else bare
    mixed = _MIXED.fullmatch(bare)
    return f"{mixed[1]}{'-' if bare[0] == '-' else '+'}{mixed[2]}" if mixed else bare


def _by_form(left: str, right: str) -> bool | None:
    """Are two letters of a choice, or two half-open intervals, the same? None when they are neither."""
    letters = _CHOICE.fullmatch(left), _CHOICE.fullmatch(right)
    if letters[0] and letters[1]:
        return letters[0][1] == letters[1][1]
    ends = _INTERVAL.fullmatch(left), _INTERVAL.fullmatch(right)
    if ends[0] and ends[1] and any("[" in one[1] or "]" in one[4] for one in ends if one):
        same = [equal(read(ends[0][i]), read(ends[1][i])).kind for i in (2, 3)]
        brackets = (ends[0][1], ends[0][4]) == (ends[1][1], ends[1][4])
        return None if "unknown" in same else brackets and same == ["equal", "equal"]
    return None


def _paired(left: str, right: str) -> tuple[Expr, Expr]:
    """Both read; "x = 5" answers what "5" does when only one of them names the symbol."""
    named = [_ASSIGNED.fullmatch(one) for one in (left, right)]
    if (named[0] is None) != (named[1] is None):
        left, right = (one[1] if one else text for one, text in zip(named, (left, right), strict=True))
    return read(left), read(right)


def _judge(tool: Tool, claim: Claim) -> Verdict:
    content: Expression = claim.content
    first, second = _plain(content.left), _plain(content.right)
    if content.relation == "=" and (decided := _by_form(first, second)) is not None:
        return tool.holds(claim, decided, "the same answer" if decided else "different answers")
    left, right = _paired(first, second)
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

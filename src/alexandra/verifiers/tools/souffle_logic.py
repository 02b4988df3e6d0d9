"""Tool `souffle_logic`: a logic program's answer by a `souffle` binary on PATH (Jordan et al. 2016), in the sandbox.

Souffle has no package in pip or Debian; clingo answers the same Datalog where there is none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

from alexandra.records import Claim, Verdict
from alexandra.verifiers.notations import horn
from alexandra.verifiers.sandbox.host import Job, Limits, shared
from alexandra.verifiers.tool import Tool, needs_program

LIMITS = Limits(seconds=5.0, memory_bytes=1 << 30)


@cache
def _version() -> str:
    try:
        said = subprocess.run(["souffle", "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
        return "souffle " + str((re.findall(r"\d+\.\d+[.\d]*", said) or ["unknown"])[0])
    except (OSError, subprocess.TimeoutExpired):
        return "souffle not installed"


def written(program: horn.Program) -> str:
    """The program in Souffle's language; asked and refuted are empty or hold one row."""
    atoms = {atom for rule in program.rules for atom in (rule.head, *rule.body)} | {
        program.query,
        program.query.opposite,
    }
    kinds = sorted({(atom.named(), max(1, len(atom.terms))) for atom in atoms})
    lines = [f".decl {name}({', '.join(f'x{i}:symbol' for i in range(width))})" for name, width in kinds]
    lines += [
        ".decl asked(x:symbol)",
        ".decl refuted(x:symbol)",
        ".output asked(IO=stdout)",
        ".output refuted(IO=stdout)",
    ]
    for rule in program.rules:
        body = ", ".join(map(_atom, rule.body))
        lines.append(f"{_atom(rule.head)}{' :- ' + body if body else ''}.")
    lines.append(f'asked("ASKED") :- {_atom(program.query)}.')
    lines.append(f'refuted("REFUTED") :- {_atom(program.query.opposite)}.')
    return "\n".join(lines) + "\n"


def _atom(atom: horn.Atom) -> str:
    terms = [f"V{term}" if horn.is_variable(term) else f'"{term}"' for term in atom.terms] or ['""']
    return f"{atom.named()}({', '.join(terms)})"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    program = horn.parse(claim.content.program, claim.content.query)
    path = shutil.which("souffle")
    assert path is not None, "the capability check comes first"
    ran = shared().run_many([Job(files={"claim.dl": written(program)}, program=(path, "claim.dl"), limits=LIMITS)])[0]
    if not ran.ok:
        return tool.abstains(f"souffle ended with {ran.why or ran.code}")
    found = horn.answer(b"\nASKED\n" in ran.stdout, b"\nREFUTED\n" in ran.stdout)
    words = f"{program.query.text()} is {found}, claimed {claim.content.answer}"
    return tool.holds(claim, horn.judge(found, claim.content.answer), words)


TOOL = Tool(
    "souffle_logic", "consistency", ("logic",), _version, one=_judge,
    missing=needs_program("souffle", "install it from https://souffle-lang.github.io and put souffle on PATH"),
    hard=True, seconds=8.0,
)  # fmt: skip

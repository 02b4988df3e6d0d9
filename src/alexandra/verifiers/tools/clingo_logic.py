"""Tool `clingo_logic`: a logic program's answer by Datalog: clingo (Gebser et al. 2014) computes the least model."""

from __future__ import annotations

from alexandra.records import Claim, Verdict
from alexandra.verifiers.notations import horn
from alexandra.verifiers.tool import Tool, needs_package, package_version

SECONDS = 1.0


def datalog(program: horn.Program) -> str:
    """The program in the syntax that clingo and Souffle's users know, a negation being a predicate of its own."""
    return "\n".join(
        f"{_atom(rule.head)}{' :- ' + ', '.join(map(_atom, rule.body)) if rule.body else ''}." for rule in program.rules
    )


def _atom(atom: horn.Atom) -> str:
    terms = ",".join(f"V{term}" if horn.is_variable(term) else f"c_{term}" for term in atom.terms)
    return atom.named() + (f"({terms})" if terms else "")


def _judge(tool: Tool, claim: Claim) -> Verdict:
    import clingo

    program = horn.parse(claim.content.program, claim.content.query)
    horn.ground(program)  # bounds the number of instances
    control = clingo.Control(["--warn=none"], message_limit=0)
    control.add("base", [], datalog(program))
    control.ground([("base", [])])
    model: set[str] = set()

    def keep(found: clingo.Model) -> None:
        model.update(str(symbol) for symbol in found.symbols(atoms=True))

    with control.solve(on_model=keep, async_=True) as handle:
        if not handle.wait(SECONDS):
            handle.cancel()
            return tool.abstains(f"no model within {SECONDS:g} s")
        handle.get()
    found = horn.answer(_atom(program.query) in model, _atom(program.query.opposite) in model)
    words = f"{program.query.text()} is {found}, claimed {claim.content.answer}"
    return tool.holds(claim, horn.judge(found, claim.content.answer), words)


TOOL = Tool(
    "clingo_logic", "consistency", ("logic",), package_version("clingo"), one=_judge,
    missing=needs_package("clingo", "clingo"), hard=True, seconds=3.0, isolated=True,
)  # fmt: skip

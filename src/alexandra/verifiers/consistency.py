"""The framework `consistency`: does it contradict itself or what is known?

Three logic tools that must agree,
first-order entailment, derivations step by step, passages that contradict, agreement among samples.
"""

from __future__ import annotations

from alexandra.verifiers.framework import Framework
from alexandra.verifiers.tool import Tool

QUESTION = "does it contradict itself or what is known?"


def tools() -> tuple[Tool, ...]:
    """The framework's tools, by what they read."""
    from alexandra.verifiers.tools import (
        agreement,
        clingo_logic,
        derivation_steps,
        passages_fts,
        prolog_logic,
        souffle_logic,
        z3_formulas,
        z3_logic,
    )

    modules = (
        z3_logic,
        prolog_logic,
        clingo_logic,
        souffle_logic,
        z3_formulas,
        derivation_steps,
        passages_fts,
        agreement,
    )
    return tuple(module.TOOL for module in modules)


def consistency() -> Framework:
    """Every kind of claim that one of its tools reads."""
    return Framework("consistency", QUESTION, tools)

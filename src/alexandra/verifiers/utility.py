"""The framework `utility`: is it worth acting on?

Plans against the solver's optimum, choices against expected utility,
strategies against their best responses, outcomes against past cases.
"""

from __future__ import annotations

from alexandra.verifiers.framework import Framework
from alexandra.verifiers.tool import Tool

QUESTION = "is it worth acting on?"


def tools() -> tuple[Tool, ...]:
    """The framework's tools, by what they read."""
    from alexandra.verifiers.tools import expected_utility, lightgbm_outcome, nash_equilibrium, ortools_plan

    modules = (ortools_plan, expected_utility, nash_equilibrium, lightgbm_outcome)
    return tuple(module.TOOL for module in modules)


def utility() -> Framework:
    """Every kind of claim that one of its tools reads."""
    return Framework("utility", QUESTION, tools)

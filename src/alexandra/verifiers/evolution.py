"""The framework `evolution`: does it hold up over time and under attack, and is it new?

Track record, drift, the time in which an answer is valid, novelty, robustness to rewording, and three adversarial
searches for a counterexample.
"""

from __future__ import annotations

from alexandra.verifiers.framework import Framework
from alexandra.verifiers.tool import Tool

QUESTION = "does it hold up over time and under attack, and is it new?"


def tools() -> tuple[Tool, ...]:
    """The framework's tools, by what they read."""
    from alexandra.verifiers.tools import (
        deap_search,
        drift,
        jax_search,
        novelty,
        rllib_search,
        robustness,
        track_record,
        valid_time,
    )

    modules = (track_record, drift, valid_time, novelty, robustness, deap_search, jax_search, rllib_search)
    return tuple(module.TOOL for module in modules)


def evolution() -> Framework:
    """Every kind of claim that one of its tools reads."""
    return Framework("evolution", QUESTION, tools)

"""Tool `jax_search`: the same adversarial search by an evolution strategy in JAX (evosax's SimpleES: a Gaussian drawn
to its better half; Rechenberg 1978).

The strategy runs on JAX; the bound itself is evaluated in float64 by NumPy, so that a counterexample is not rounding.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from alexandra.records import Claim, Verdict
from alexandra.rng import derive
from alexandra.verifiers.base import claim_hash
from alexandra.verifiers.tool import Tool, needs_package, package_version
from alexandra.verifiers.tools.search_bound import prepared, verdict

POPULATION, GENERATIONS = 32, 40


@cache
def _strategy(width: int) -> tuple[Any, Any, Any]:
    """start(key), ask(key, state) and tell(key, points, harm, state), compiled for one number of variables."""
    import jax
    from evosax.algorithms import SimpleES

    strategy = SimpleES(population_size=POPULATION, solution=jax.numpy.zeros(width))
    settings = strategy.default_params.replace(std_init=0.4)
    middle = jax.numpy.full(width, 0.5)
    start = jax.jit(lambda key: strategy.init(key, middle, settings))
    ask = jax.jit(lambda key, state: strategy.ask(key, state, settings))
    tell = jax.jit(lambda key, points, harm, state: strategy.tell(key, points, harm, state, settings)[0])
    return start, ask, tell


def _judge(tool: Tool, claim: Claim) -> Verdict:
    import jax

    names, low, high, excess = prepared(claim)
    width = len(names)
    key = jax.random.key(int(derive(int(claim_hash(claim)[:12], 16), "verifiers", "jax").words(1)[0]))
    start, ask, tell = _strategy(width)
    key, sub = jax.random.split(key)
    state = start(sub)
    span = np.where(high > low, high - low, 1.0)
    best, worst = (low + high) / 2, -np.inf
    for _ in range(GENERATIONS):
        key, first, second = jax.random.split(key, 3)
        placed, state = ask(first, state)
        inside = np.abs(np.mod(np.asarray(placed, dtype=np.float64) + 1, 2) - 1)  # reflected at the box
        points = np.clip(low + span * inside, low, high)
        found = excess(points)
        if found.max() > worst:
            best, worst = points[int(found.argmax())], float(found.max())
        if worst > 0:
            break
        floor = np.min(found[np.isfinite(found)], initial=0.0) - 1
        harm = jax.numpy.asarray(-np.where(np.isfinite(found), found, floor), dtype="float32")
        state = tell(second, placed, harm, state)
    return verdict(tool, claim, best, POPULATION * GENERATIONS)


TOOL = Tool(
    "jax_search", "evolution", ("bound",), package_version("evosax"), one=_judge,
    missing=lambda: needs_package("jax", "jax")() or needs_package("evosax", "evosax")(), hard=True, seconds=60.0,
    isolated=True,
)  # fmt: skip

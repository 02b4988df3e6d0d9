"""Tool `deap_search`: an adversarial search for a point that breaks a bound, by a genetic algorithm (DEAP; Fortin et
al. 2012): blend crossover, Gaussian mutation, tournaments, elitism. Random numbers come from the claim's own hash.
"""

from __future__ import annotations

import numpy as np

from alexandra.records import Claim, Verdict
from alexandra.rng import derive
from alexandra.verifiers.base import claim_hash
from alexandra.verifiers.tool import Tool, needs_package, package_version
from alexandra.verifiers.tools.search_bound import prepared, verdict

POPULATION, GENERATIONS = 60, 40


def _judge(tool: Tool, claim: Claim) -> Verdict:
    from deap import base, tools

    names, low, high, excess = prepared(claim)
    stream = derive(int(claim_hash(claim)[:12], 16), "verifiers", "deap")
    source = np.random.Generator(np.random.Philox(key=stream.key + (stream.nonce << 64)))

    class Harm(base.Fitness):  # type: ignore[misc, unused-ignore]
        weights = (1.0,)

    class Point(list):  # type: ignore[type-arg]
        def __init__(self, values: np.ndarray) -> None:
            super().__init__(float(value) for value in values)
            self.fitness = Harm()

    def measure(points: list[Point]) -> None:
        for point, value in zip(points, excess(np.array(points)), strict=True):
            point.fitness.values = (float(value),)

    start = low + (high - low) * source.random((POPULATION, len(names)))
    start[0], start[1] = low, high
    population = [Point(row) for row in start]
    measure(population)
    best = tools.HallOfFame(1)
    best.update(population)
    for generation in range(GENERATIONS):
        if best[0].fitness.values[0] > 0:
            break
        ranks = np.sort(source.integers(0, POPULATION, (POPULATION, 3)), axis=1)[:, 0]
        ordered = sorted(population, key=lambda point: -point.fitness.values[0])
        parents = np.array([ordered[rank] for rank in ranks])
        mates = parents[source.permutation(POPULATION)]
        blend = source.uniform(-0.3, 1.3, parents.shape)
        width = (high - low) * 0.3 * 0.9**generation
        children = blend * parents + (1 - blend) * mates + width * source.normal(size=parents.shape)
        population = [Point(row) for row in np.clip(children, low, high)]
        population[0] = Point(np.array(best[0]))
        measure(population)
        best.update(population)
    return verdict(tool, claim, np.array(best[0]), POPULATION * (GENERATIONS + 1))


TOOL = Tool(
    "deap_search", "evolution", ("bound",), package_version("deap"), one=_judge,
    missing=needs_package("deap", "deap"), hard=True, seconds=5.0,
)  # fmt: skip

"""What every stage of training is: a numbered step, a measure, and the arrays that decide its future.

A step is a pure function of its number and of those arrays: which rows it takes, which words it draws. So a run that
was killed and resumed is the run that was not. The loop (train/loop.py) knows stages only through this Protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from alexandra.rng import derive

Metrics = dict[str, float]


class Stage(Protocol):
    """One recipe of training. `evaluate` measures on held-out rows; an empty result says there are none."""

    name: str

    def step(self, number: int) -> Metrics: ...

    def evaluate(self) -> Metrics: ...

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        """What step `number` reads, to be looked at when it fails."""
        ...

    def arrays(self) -> dict[str, np.ndarray]: ...

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None: ...


def rows_of_step(seed: int, count: int, batch: int, number: int) -> list[int]:
    """The rows of step `number`: `batch` after `batch` of one endless order, reshuffled every `count` rows."""
    found: list[int] = []
    place = number * batch
    orders: dict[int, np.ndarray] = {}
    while len(found) < batch:
        epoch, at = divmod(place, count)
        if epoch not in orders:
            orders[epoch] = derive(seed, "rows").at(epoch).permutation(count)
        take = min(batch - len(found), count - at)
        found += orders[epoch][at : at + take].tolist()
        place += take
    return found


def means(stats: Mapping[str, float], per: str) -> Metrics:
    """Sums over tokens, pairs or rows as means: everything in `stats` over stats[per]."""
    total = max(stats.get(per, 0.0), 1.0)
    return {name: value / total for name, value in stats.items() if name != per}

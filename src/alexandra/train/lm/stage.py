"""Which rows a step takes, sums as means, a policy as state: what stages of language models share (stages.Stage)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

import numpy as np

from alexandra.rng import derive
from alexandra.train.lm.policy import Policy
from alexandra.train.stages import Metrics, Stage

__all__ = ["Metrics", "OfPolicy", "Stage", "means", "rows_of_step"]


class OfPolicy(Protocol):
    """A stage whose state is its policy's."""

    policy: Policy

    def arrays(self) -> dict[str, np.ndarray]:
        return self.policy.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.policy.restore(arrays)


def rows_of_step(seed: int, count: int, batch: int, number: int) -> list[int]:
    """The rows of step `number`: `batch` after `batch` of one endless order, reshuffled every `count` rows."""
    found: list[int] = []
    place = number * batch
    while len(found) < batch:
        epoch, at = divmod(place, count)
        take = min(batch - len(found), count - at)
        found += _order(seed, count, epoch)[at : at + take].tolist()
        place += take
    return found


@lru_cache(maxsize=4)  # a step takes a few rows of it, and a shuffle reads every one
def _order(seed: int, count: int, epoch: int) -> np.ndarray:
    return derive(seed, "rows").at(epoch).permutation(count)


def means(stats: Mapping[str, float], per: str) -> Metrics:
    """Sums over tokens, pairs or rows as means: everything in `stats` over stats[per]."""
    total = max(stats.get(per, 0.0), 1.0)
    return {name: value / total for name, value in stats.items() if name != per}

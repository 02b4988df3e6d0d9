"""Which rows a step takes, and sums as means: what the stages of language models share. A stage is stages.Stage."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from alexandra.rng import derive
from alexandra.train.stages import Metrics, Stage

__all__ = ["Metrics", "Stage", "means", "rows_of_step"]


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

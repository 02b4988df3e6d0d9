"""A batch in an order of its own: documents one a row, by what they say, whatever rows and padding they came in.

A sum of floating-point numbers depends on its order, so two cuts of one batch give steps that agree to rounding. In
fixed order the network reads one document at a time, without padding before it or neighbours beside it, sorted by its
tokens, mask and weights: then every cut gives the same bits, on a backend whose rows do not depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alexandra.objectives.tokens import F64
from alexandra.train.lm.batch import TokenBatch


@dataclass(frozen=True)
class Ordered:
    """The documents of a batch [documents, longest], and where each of them stood: (row, first, last + 1)."""

    batch: TokenBatch
    sources: tuple[tuple[int, int, int], ...]
    shape: tuple[int, ...]

    def gathered(self, values_BT: np.ndarray) -> np.ndarray:
        """Values of the batch as it came, in this order."""
        found = np.zeros(self.batch.tokens_BT.shape, values_BT.dtype)
        for row, (source, first, last) in enumerate(self.sources):
            found[row, : last - first] = values_BT[source, first:last]
        return found

    def scattered(self, values: F64) -> F64:
        """Values in this order, where they stood in the batch as it came."""
        found = np.zeros(self.shape)
        for row, (source, first, last) in enumerate(self.sources):
            found[source, first:last] = values[row, : last - first]
        return found


def in_order(batch: TokenBatch, *weights_BT: np.ndarray) -> Ordered:
    """Documents sorted by length, tokens, targets, mask, and (of equal ones) by their weights."""
    arrays: list[np.ndarray] = [batch.tokens_BT, batch.targets_BT, batch.mask_BT, *weights_BT]

    def key(place: tuple[int, int, int]) -> tuple[int, bytes]:
        row, first, last = place
        return last - first, b"".join(np.ascontiguousarray(array[row, first:last]).tobytes() for array in arrays)

    sources = tuple(sorted(batch.places, key=key))
    width = max(last - first for _, first, last in sources)
    shape = len(sources), width
    empty = TokenBatch(
        np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape, np.int32), ()
    )
    plan = Ordered(empty, sources, batch.tokens_BT.shape)
    places = tuple((row, 0, last - first) for row, (_, first, last) in enumerate(sources))
    inside = plan.gathered(np.ones(batch.tokens_BT.shape, np.int32))
    tokens, targets, mask = (plan.gathered(array) for array in arrays[:3])
    ordered = TokenBatch(tokens, targets, mask, inside, places)
    return Ordered(ordered, sources, batch.tokens_BT.shape)

"""What a pass over a graph knows beside its values: training or not, noise, a cache, and what it leaves behind.

A Cache holds keys and values of the positions that were read before, so that a network of positions can be run a few
positions at a time; graph_module.py says which ops such a network may consist of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Masks = Mapping[str, Tensor]  # node -> what it multiplies by: a dropout's mask, a gate's jitter


@dataclass
class Cache:
    """Keys and values by sdpa node, [rows, positions, width], of the `length` positions that were read so far.

    `fixed` holds values that do not change from call to call (an encoder's, by node); `skipped` are the nodes that
    need no value any more, because only fixed ones read them.
    """

    length: int = 0
    held: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    fixed: dict[str, Tensor] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()

    def append(self, node: str, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of `node`, the new ones last."""
        if node in self.held:
            keys, values = (torch.cat(pair, dim=1) for pair in zip(self.held[node], (keys, values), strict=True))
        self.held[node] = keys, values
        return keys, values


@dataclass
class Pass:
    """One evaluation. `losses` and `moved` (new values of untrained parameters) are filled in where `training`.

    `share` is how much of the gates' losses these rows bear: less than 1 for a part of an update.
    Without `masks` noise is torch's own, and only where `noisy`.
    """

    training: bool = False
    noisy: bool = False
    masks: Masks | None = None
    cache: Cache | None = None
    share: float = 1.0
    losses: list[Tensor] = field(default_factory=list)
    moved: dict[str, Tensor] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The number of the first position of this pass."""
        return self.cache.length if self.cache is not None else 0

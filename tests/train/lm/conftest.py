"""A language model whose every number can be checked by hand: the next token depends on the last one, by a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from alexandra.objectives.tokens import F64, TokenLoss
from alexandra.rng import derive
from alexandra.train.lm.batch import TokenBatch
from alexandra.train.lm.policy import LossOf


class TablePolicy:
    """Logits [V, V] in float64, updated by plain gradient descent."""

    def __init__(self, vocab: int, seed: int = 0, lr: float = 0.5) -> None:
        self.vocab, self.lr = vocab, lr
        self.table = derive(seed, "table").normal(vocab * vocab).reshape(vocab, vocab)

    def _logp_BTV(self, batch: TokenBatch) -> F64:
        logits = self.table[batch.tokens_BT]
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    def logprobs(self, batch: TokenBatch) -> F64:
        found = np.take_along_axis(self._logp_BTV(batch), batch.targets_BT[..., None].astype(int), -1)[..., 0]
        return np.where(batch.mask_BT > 0, found, 0.0)

    def update(
        self, batch: TokenBatch, loss: LossOf, *, constant: bool = False, known_BT: F64 | None = None
    ) -> TokenLoss:
        found = loss(self.logprobs(batch) if known_BT is None else known_BT)
        p_BTV = np.exp(self._logp_BTV(batch))
        by_logits = found.grad_BT[..., None] * (np.eye(self.vocab)[batch.targets_BT] - p_BTV)
        gradient = np.zeros_like(self.table)
        np.add.at(gradient, batch.tokens_BT, by_logits)
        self.table = self.table - self.lr * gradient
        return found

    def next_logits(self, tokens: Sequence[Sequence[int]]) -> F64:
        return self.table[[row[-1] for row in tokens]]

    def arrays(self) -> dict[str, np.ndarray]:
        return {"table": self.table}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.table = np.array(arrays["table"])


def slope(loss: Callable[[F64], float], table: F64) -> F64:
    """The gradient of a loss by every number of a table, by central differences."""
    found = np.zeros_like(table)
    for place in np.ndindex(*table.shape):
        step = np.zeros_like(table)
        step[place] = 1e-5
        found[place] = (loss(table + step) - loss(table - step)) / 2e-5
    return found


@pytest.fixture(scope="session")
def table_policy() -> type[TablePolicy]:
    """The class: table_policy(vocab, seed)."""
    return TablePolicy


@pytest.fixture(scope="session")
def gradient() -> Callable[[Callable[[F64], float], F64], F64]:
    """Central differences: gradient(loss, table)."""
    return slope

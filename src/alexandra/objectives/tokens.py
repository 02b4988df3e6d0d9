"""Losses as functions of token log-probabilities: what they share, and supervised fine-tuning.

Every objective of a language model here is a pure function of the log-probabilities that the policy gives to the tokens
of its answers: it returns the loss of each row and its derivative by every log-probability, in float64. A backend needs
nothing else: d loss / d weights = sum of derivative * d logp / d weights is a weighted cross-entropy. Normalisers
belong to the whole batch and are passed in, so a loss never depends on how a batch is cut (TRL PR 6024, verl 7200).

Suffixes: B rows (sequences), T positions, P prompts, G answers of a prompt. `mask_BT` is 1 where a token counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from alexandra.errors import UsageError

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TokenLoss:
    """The share of each row in a loss, and d loss / d logp of each token. `stats` are sums over rows, for metrics.

    Shares of micro-batches add up: `value` is their exactly rounded sum, whatever their order.
    """

    rows_B: F64
    grad_BT: F64
    stats: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return math.fsum(self.rows_B)


def checked(mask: npt.ArrayLike, *arrays: npt.ArrayLike) -> tuple[F64, ...]:
    """The mask and the arrays as float64 [B, T]; what the mask leaves out counts as 0, whatever stands there.

    UsageError for shapes that differ, a mask that is not 0 and 1, and a log-probability that is not a number.
    """
    mask_BT = np.asarray(mask, np.float64)
    if mask_BT.ndim != 2 or not np.isin(mask_BT, (0.0, 1.0)).all():
        raise UsageError(f"a mask is [rows, positions] of 0 and 1, got shape {list(mask_BT.shape)}")
    found = [mask_BT]
    for array in arrays:
        array_BT = np.asarray(array, np.float64)
        if array_BT.shape != mask_BT.shape:
            raise UsageError(f"log-probabilities have shape {list(array_BT.shape)}, the mask {list(mask_BT.shape)}")
        array_BT = np.where(mask_BT > 0, array_BT, 0.0)
        if not np.isfinite(array_BT).all():
            row = int(np.argwhere(~np.isfinite(array_BT))[0][0])
            raise UsageError(f"row {row} has a token whose log-probability is not a number")
        found.append(array_BT)
    return tuple(found)


def positive(normalizer: float) -> float:
    """`normalizer` where a loss may be divided by it; UsageError for nothing to learn from."""
    if not (math.isfinite(normalizer) and normalizer > 0):
        raise UsageError(
            f"no token of this batch counts (normaliser {normalizer!r})",
            hint="look at the loss mask: every label is masked, or every answer is empty",
        )
    return float(normalizer)


def count(mask: npt.ArrayLike) -> float:
    """How many tokens count: the normaliser of a token mean, over the whole batch."""
    return float(np.asarray(mask, np.float64).sum())


def rows_with_tokens(mask: npt.ArrayLike) -> float:
    """How many rows have a token that counts: the normaliser of a mean over sequences."""
    return float((np.asarray(mask).sum(1) > 0).sum())


def sft(logp: npt.ArrayLike, mask: npt.ArrayLike, normalizer: float, *, per_sequence: bool = False) -> TokenLoss:
    """Negative log-likelihood of the tokens that count: - sum logp / normaliser.

    `normalizer` is `count(mask)` of the whole batch (a mean over tokens), or with `per_sequence`, where every sequence
    counts alike by its own mean, `rows_with_tokens(mask)`.
    """
    mask_BT, logp_BT = checked(mask, logp)
    weight_BT = mask_BT / positive(normalizer)
    if per_sequence:
        weight_BT = weight_BT / np.maximum(mask_BT.sum(1, keepdims=True), 1.0)
    return TokenLoss(-(weight_BT * logp_BT).sum(1), -weight_BT, {"tokens": float(mask_BT.sum())})


def log_sigmoid(x: npt.ArrayLike) -> F64:
    """ln sigmoid(x) without overflow."""
    return -np.logaddexp(0.0, -np.asarray(x, np.float64))


def sigmoid(x: npt.ArrayLike) -> F64:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(np.exp(log_sigmoid(x)))


def merged(parts: list[TokenLoss]) -> TokenLoss:
    """The loss of a batch from those of its parts, in their order. All must have one number of positions."""
    stats: dict[str, float] = {}
    for part in parts:
        for name, value in part.stats.items():
            stats[name] = stats.get(name, 0.0) + value
    return TokenLoss(
        np.concatenate([part.rows_B for part in parts]), np.concatenate([part.grad_BT for part in parts]), stats
    )

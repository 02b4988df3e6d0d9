"""Losses as functions of whole next-token distributions: distillation to a teacher, and the entropy of a policy.

Like tokens.py these are pure functions in float64, but they need every logit, not only the one of the token that
stands there: the derivative is by the logits. Normalisers belong to the whole batch and are passed in.

Sources: forward KL, Hinton, Vinyals and Dean 2015 (with the factor temperature^2); reverse KL, Gu et al. 2024
(MiniLLM); generalised Jensen-Shannon divergence and training on the student's own answers, Agarwal et al. 2024 (GKD),
eq. 1. Suffixes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from alexandra.errors import UsageError, suggest
from alexandra.objectives.tokens import F64, positive

DIVERGENCES = ("forward", "reverse", "jsd")


@dataclass(frozen=True)
class LogitLoss:
    """The share of each row in a loss, and d loss / d logit. `stats` are sums over counted tokens."""

    rows_B: F64
    grad_BTV: F64
    stats: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return math.fsum(self.rows_B)


@dataclass(frozen=True)
class Distillation:
    """forward: KL(teacher || student); reverse: KL(student || teacher); jsd: mix KL(teacher || m) + (1 - mix)
    KL(student || m) with m = mix teacher + (1 - mix) student. Both distributions are softened by `temperature`."""

    divergence: str = "forward"
    temperature: float = 1.0
    mix: float = 0.5

    def __post_init__(self) -> None:
        if self.divergence not in DIVERGENCES:
            raise UsageError(f"no divergence {self.divergence!r}", hint=suggest(self.divergence, DIVERGENCES))
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"temperature must be a number above 0, got {self.temperature!r}")
        if not 0 < self.mix < 1:
            raise UsageError(f"mix must be inside (0, 1), got {self.mix!r}", hint="forward and reverse are its ends")


def log_softmax(logits: npt.ArrayLike) -> F64:
    """ln softmax over the last axis."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def distillation(
    student: npt.ArrayLike, teacher: npt.ArrayLike, mask: npt.ArrayLike, settings: Distillation, normalizer: float
) -> LogitLoss:
    """temperature^2 * sum of the divergence over counted positions / normaliser; logits are [B, T, V].

    Stats: tokens, and agreed, the positions where both have one likeliest token.
    """
    mask_BT = np.asarray(mask, np.float64)
    student_BTV, teacher_BTV = np.asarray(student, np.float64), np.asarray(teacher, np.float64)
    if student_BTV.shape != teacher_BTV.shape or student_BTV.shape[:-1] != mask_BT.shape:
        shapes = [list(a.shape) for a in (student_BTV, teacher_BTV, mask_BT)]
        raise UsageError(f"student, teacher and mask have shapes {shapes[0]}, {shapes[1]} and {shapes[2]}")
    log_q = log_softmax(student_BTV / settings.temperature)
    log_p = log_softmax(teacher_BTV / settings.temperature)
    value_BT, slope_BTV = _DIVERGENCES[settings.divergence](log_p, log_q, settings.mix)
    weight_BT = mask_BT * settings.temperature**2 / positive(normalizer)
    agreed = (student_BTV.argmax(-1) == teacher_BTV.argmax(-1)) * mask_BT
    stats = {"tokens": float(mask_BT.sum()), "agreed": float(agreed.sum())}
    grad_BTV = (weight_BT / settings.temperature)[..., None] * slope_BTV
    return LogitLoss((weight_BT * value_BT).sum(1), grad_BTV, stats)


def entropy(logits: npt.ArrayLike, mask: npt.ArrayLike, normalizer: float) -> LogitLoss:
    """The mean entropy of counted positions (nats) as a share of the batch's, and its derivative: -p (ln p + H)."""
    log_p, mask_BT = log_softmax(logits), np.asarray(mask, np.float64)
    p = np.exp(log_p)
    entropy_BT = -(p * log_p).sum(-1)
    weight_BT = mask_BT / positive(normalizer)
    grad_BTV = -weight_BT[..., None] * p * (log_p + entropy_BT[..., None])
    return LogitLoss((weight_BT * entropy_BT).sum(1), grad_BTV, {"entropy": float((entropy_BT * mask_BT).sum())})


def _forward(log_p: F64, log_q: F64, mix: float) -> tuple[F64, F64]:
    p = np.exp(log_p)
    return (p * (log_p - log_q)).sum(-1), np.exp(log_q) - p


def _reverse(log_p: F64, log_q: F64, mix: float) -> tuple[F64, F64]:
    q, ratio = np.exp(log_q), log_q - log_p
    value = (q * ratio).sum(-1)
    return value, q * (ratio - value[..., None])


def _jensen_shannon(log_p: F64, log_q: F64, mix: float) -> tuple[F64, F64]:
    p, q = np.exp(log_p), np.exp(log_q)
    log_m = np.logaddexp(math.log(mix) + log_p, math.log1p(-mix) + log_q)
    value = (mix * p * (log_p - log_m)).sum(-1) + ((1.0 - mix) * q * (log_q - log_m)).sum(-1)
    slope = (1.0 - mix) * (log_q - log_m)  # by q: what mix and q contribute through m cancels
    return value, q * (slope - (q * slope).sum(-1, keepdims=True))


_DIVERGENCES = {"forward": _forward, "reverse": _reverse, "jsd": _jensen_shannon}

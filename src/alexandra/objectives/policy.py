"""Policy gradients on token log-probabilities: PPO's clipped objective, GRPO and its named variants, the value loss.

Pure functions (tokens.py); advantages come from advantages.py and are constants here. VARIANTS is the table of what the
papers call by name; a variant is a row of settings, not a class.

Sources: PPO, Schulman et al. 2017, eq. 7 and 9; dual clip, Ye et al. 2020; GRPO, Shao et al. 2024, eq. 3 and 4 (k3
estimator of the KL); Dr. GRPO, Liu et al. 2025; DAPO, Yu et al. 2025, eq. 8; GSPO, Zheng et al. 2025, eq. 5; CISPO,
MiniMax 2025, eq. 4; RLOO, Ahmadian et al. 2024; REINFORCE++, Hu 2025.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alexandra.errors import UsageError, suggest
from alexandra.objectives import advantages as advantage_kinds
from alexandra.objectives.tokens import F64, TokenLoss, checked, count, positive, rows_with_tokens

RATIOS = ("token", "sequence", "clipped_weight", "none")
MEANS = ("sequence", "token", "constant")


@dataclass(frozen=True)
class GRPO:
    """Settings of a policy-gradient loss.

    `ratio`: token (PPO's per-token ratio, clipped), sequence (GSPO's length-normalised ratio of the answer, clipped),
    clipped_weight (CISPO: the clipped ratio is a constant weight of the log-probability, no token loses its gradient),
    none (REINFORCE: weight 1). The ratio is clipped to 1 - clip_low .. 1 + clip_high. `mean`: sequence (each answer's
    own mean, then over answers), token (over all tokens of the batch), constant (sum / (answers * max_tokens)).
    `beta` weighs the k3 estimate of KL(policy || reference); `dual_clip` above 1 bounds the loss of bad answers.
    `advantage` is a kind of advantages.KINDS.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    ratio: str = "token"
    mean: str = "sequence"
    max_tokens: int = 0
    beta: float = 0.0
    dual_clip: float = 0.0
    advantage: str = "group"

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("ratio", self.ratio, RATIOS),
            ("mean", self.mean, MEANS),
            ("advantage", self.advantage, advantage_kinds.KINDS),
        ):
            if value not in allowed:
                raise UsageError(f"GRPO has no {what} {value!r}", hint=suggest(value, allowed))
        if self.clip_low < 0 or self.clip_high < 0 or self.beta < 0:
            raise UsageError(f"clip_low, clip_high and beta must be at least 0, got {self}")
        if self.mean == "constant" and self.max_tokens < 1:
            raise UsageError("mean='constant' needs max_tokens, the longest answer that may be sampled")
        if self.dual_clip and self.dual_clip <= 1:
            raise UsageError(f"dual_clip must be above 1 (or 0 for none), got {self.dual_clip!r}")


def variant(name: str, max_tokens: int) -> GRPO:
    """A named variant; `max_tokens` is the longest answer that may be sampled (Dr. GRPO divides by it)."""
    key = name.lower().replace("-", "_").replace(" ", "_").replace(".", "").replace("++", "_pp")
    if key not in VARIANTS:
        raise UsageError(f"no variant {name!r} of GRPO", hint=suggest(key, VARIANTS))
    settings = VARIANTS[key]
    constant = settings.get("mean") == "constant"
    return GRPO(**settings, max_tokens=max_tokens if constant else 0)  # type: ignore[arg-type]


VARIANTS: dict[str, dict[str, float | str]] = {
    "grpo": {},
    "dr_grpo": {"mean": "constant", "advantage": "centered"},
    "dapo": {"mean": "token", "clip_high": 0.28},
    "gspo": {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    "cispo": {"ratio": "clipped_weight", "mean": "token", "clip_low": 1.0, "clip_high": 5.0},
    "rloo": {"ratio": "none", "advantage": "leave_one_out"},
    "reinforce_pp": {"mean": "token", "advantage": "batch"},
    "ppo": {"mean": "token"},
}


def normalizer(mask: npt.ArrayLike, settings: GRPO) -> float:
    """What the loss of the whole batch is divided by; compute it once, from the mask of all its rows."""
    if settings.mean == "token":
        return count(mask)
    return rows_with_tokens(mask) * (settings.max_tokens if settings.mean == "constant" else 1)


@dataclass(frozen=True)
class Sampled:
    """Answers with what is constant about them: log-probabilities when sampled, of the reference, advantages, mask.

    All are [B, T]; `advantage` may be one number a row, [B]. Without a reference the KL term must be off.
    """

    old_BT: npt.ArrayLike
    advantage: npt.ArrayLike
    mask_BT: npt.ArrayLike
    reference_BT: npt.ArrayLike | None = None


def policy_loss(logp: npt.ArrayLike, sampled: Sampled, settings: GRPO, normalizer: float) -> TokenLoss:
    """The loss of these rows as a share of the batch's: - sum w min(ratio A, clip(ratio) A) / N + beta * KL.

    Stats are sums over counted tokens: tokens, clipped, ratio, kl (k3 to the reference) and approx_kl (k1 to the
    sampling policy).
    """
    mask_BT, logp_BT, old_BT = checked(sampled.mask_BT, logp, sampled.old_BT)
    advantage = np.asarray(sampled.advantage, np.float64)
    advantage_BT = np.where(mask_BT > 0, advantage[:, None] if advantage.ndim == 1 else advantage, 0.0)
    if not np.isfinite(advantage_BT).all():
        raise UsageError("an advantage is not a number", hint="advantages() gives 0 to answers without a verdict")
    log_ratio_BT = logp_BT - old_BT
    weight_BT = mask_BT / positive(normalizer)
    lengths_B1 = np.maximum(mask_BT.sum(1, keepdims=True), 1.0)
    if settings.mean == "sequence" and settings.ratio != "none":
        weight_BT = weight_BT / lengths_B1
    loss_BT, slope_BT, clipped_BT = _SURROGATES[settings.ratio](logp_BT, log_ratio_BT, advantage_BT, mask_BT, settings)
    rows_B, grad_BT = (weight_BT * loss_BT).sum(1), weight_BT * slope_BT
    stats = {
        "tokens": float(mask_BT.sum()),
        "clipped": float((clipped_BT * mask_BT).sum()),
        "ratio": float((np.exp(log_ratio_BT) * mask_BT).sum()),
        "approx_kl": float(-log_ratio_BT.sum()),
    }
    if sampled.reference_BT is not None:
        _, reference_BT = checked(mask_BT, sampled.reference_BT)
        kl_BT, kl_slope_BT = k3(logp_BT, reference_BT)
        kl_weight_BT = weight_BT / lengths_B1 if settings.ratio == "none" and settings.mean == "sequence" else weight_BT
        rows_B = rows_B + settings.beta * (kl_weight_BT * kl_BT).sum(1)
        grad_BT = grad_BT + settings.beta * kl_weight_BT * kl_slope_BT
        stats["kl"] = float((kl_BT * mask_BT).sum())
    elif settings.beta:
        raise UsageError(f"beta={settings.beta:g} needs the reference's log-probabilities")
    return TokenLoss(rows_B, grad_BT, stats)


def k3(logp_BT: F64, reference_BT: F64) -> tuple[F64, F64]:
    """Schulman's k3 estimate of KL(policy || reference) per token, e^d - d - 1 with d = reference - logp; its slope."""
    difference_BT = reference_BT - logp_BT
    return np.expm1(difference_BT) - difference_BT, -np.expm1(difference_BT)


Surrogate = tuple[F64, F64, F64]  # loss per token, its derivative by logp, where it is clipped


def _token(logp_BT: F64, log_ratio_BT: F64, advantage_BT: F64, mask_BT: F64, settings: GRPO) -> Surrogate:
    ratio_BT = np.exp(log_ratio_BT)
    bounded_BT = np.clip(ratio_BT, 1.0 - settings.clip_low, 1.0 + settings.clip_high)
    loss_BT = np.maximum(-ratio_BT * advantage_BT, -bounded_BT * advantage_BT)
    live_BT = -ratio_BT * advantage_BT >= -bounded_BT * advantage_BT
    if settings.dual_clip:
        ceiling_BT = -settings.dual_clip * advantage_BT
        over_BT = (advantage_BT < 0) & (loss_BT > ceiling_BT)
        loss_BT, live_BT = np.where(over_BT, ceiling_BT, loss_BT), live_BT & ~over_BT
    return loss_BT, np.where(live_BT, -ratio_BT * advantage_BT, 0.0), (~live_BT).astype(np.float64)


def _sequence(logp_BT: F64, log_ratio_BT: F64, advantage_BT: F64, mask_BT: F64, settings: GRPO) -> Surrogate:
    """One ratio an answer, exp(mean of the tokens' log-ratios); its gradient is spread over the tokens."""
    lengths_B1 = np.maximum(mask_BT.sum(1, keepdims=True), 1.0)
    mean_B1 = log_ratio_BT.sum(1, keepdims=True) / lengths_B1
    loss_BT, slope_BT, clipped_BT = _token(logp_BT, mean_B1 * mask_BT, advantage_BT, mask_BT, settings)
    total_B1 = (slope_BT * mask_BT).sum(1, keepdims=True)
    return loss_BT, total_B1 / lengths_B1 * mask_BT, clipped_BT


def _clipped_weight(logp_BT: F64, log_ratio_BT: F64, advantage_BT: F64, mask_BT: F64, settings: GRPO) -> Surrogate:
    ratio_BT = np.exp(log_ratio_BT)
    bounded_BT = np.clip(ratio_BT, 1.0 - settings.clip_low, 1.0 + settings.clip_high)
    weight_BT = bounded_BT * advantage_BT
    return -weight_BT * logp_BT, -weight_BT, (bounded_BT != ratio_BT).astype(np.float64)


def _none(logp_BT: F64, log_ratio_BT: F64, advantage_BT: F64, mask_BT: F64, settings: GRPO) -> Surrogate:
    return -advantage_BT * logp_BT, -advantage_BT, np.zeros_like(logp_BT)


_SURROGATES = {"token": _token, "sequence": _sequence, "clipped_weight": _clipped_weight, "none": _none}


@dataclass(frozen=True)
class ValueLoss:
    """The critic's share of each row, and its derivative by every value."""

    rows_B: F64
    grad_BT: F64
    clipped: float


def value_loss(values: F64, old: F64, returns: F64, mask: F64, normalizer: float, *, clip: float = 0.2) -> ValueLoss:
    """PPO's critic: 1/2 max((v - R)^2, (clip(v, old - clip, old + clip) - R)^2), a token mean; clip 0 leaves it out."""
    weight_BT = mask / positive(normalizer)
    error_BT = values - returns
    loss_BT, slope_BT = 0.5 * error_BT**2, error_BT
    clipped = 0.0
    if clip:
        bounded_BT = np.clip(values, old - clip, old + clip)
        other_BT = 0.5 * (bounded_BT - returns) ** 2
        over_BT = other_BT > loss_BT
        free_BT = bounded_BT == values
        slope_BT = np.where(over_BT, np.where(free_BT, bounded_BT - returns, 0.0), slope_BT)
        loss_BT = np.maximum(loss_BT, other_BT)
        clipped = float((over_BT * mask).sum())
    return ValueLoss((weight_BT * loss_BT).sum(1), weight_BT * slope_BT, clipped)

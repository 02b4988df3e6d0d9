"""Learning from preferences: DPO and its variants, KTO, ORPO, and the reward model of Bradley and Terry.

Pure functions of token log-probabilities (tokens.py). A pair is two rows with one index: `chosen` and `rejected`. The
reference's log-probabilities are constants. Log-probabilities of an answer are summed over its own tokens, never over
its prompt or padding, and never averaged unless the variant says so.

Sources: DPO, Rafailov et al. 2023, eq. 7; IPO, Azar et al. 2023, eq. 17; conservative DPO, Mitchell 2023; robust DPO,
Chowdhury et al. 2024, eq. 10; hinge, SLiC, Zhao et al. 2023; length-normalised DPO and SimPO, Meng et al. 2024, eq. 6;
KTO, Ethayarajh et al. 2024, eq. 8; ORPO, Hong et al. 2024, eq. 7; reward model, Ouyang et al. 2022, eq. 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alexandra.errors import UsageError, suggest
from alexandra.objectives.tokens import F64, TokenLoss, checked, log_sigmoid, positive, sigmoid

DPO_LOSSES = ("sigmoid", "hinge", "ipo", "robust")


@dataclass(frozen=True)
class DPO:
    """`loss`: a word of DPO_LOSSES. `label_smoothing` is the share of flipped labels (cDPO with sigmoid; robust).

    `length_normalized` divides an answer's log-ratio by its length; `simpo_margin` is the target margin of SimPO, which
    has no reference (pass zeros).
    """

    beta: float = 0.1
    loss: str = "sigmoid"
    label_smoothing: float = 0.0
    length_normalized: bool = False
    simpo_margin: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in DPO_LOSSES:
            raise UsageError(f"DPO has no loss {self.loss!r}", hint=suggest(self.loss, DPO_LOSSES))
        if not self.beta > 0:
            raise UsageError(f"DPO's beta must be above 0, got {self.beta!r}")
        if not 0.0 <= self.label_smoothing < 0.5:
            raise UsageError(f"label_smoothing must be in [0, 0.5), got {self.label_smoothing!r}")


@dataclass(frozen=True)
class Answers:
    """One side of preference pairs: log-probabilities under the policy and the reference, and the mask, all [B, T]."""

    logp_BT: F64
    reference_BT: F64
    mask_BT: F64

    @staticmethod
    def of(logp: npt.ArrayLike, reference: npt.ArrayLike, mask: npt.ArrayLike) -> Answers:
        """Checked arrays; an answer without a token that counts is an error that names its row."""
        mask_BT, logp_BT, reference_BT = checked(mask, logp, reference)
        if empty := np.flatnonzero(mask_BT.sum(1) == 0).tolist():
            raise UsageError(f"answer {empty[0]} has no token that counts", hint="drop empty answers from the data")
        return Answers(logp_BT, reference_BT, mask_BT)

    @property
    def lengths_B(self) -> F64:
        return np.asarray(self.mask_BT.sum(1))

    def log_ratio_B(self, per_token: bool) -> F64:
        """Sum (or mean) over the answer of ln policy - ln reference."""
        total = (self.logp_BT - self.reference_BT).sum(1)
        return np.asarray(total / self.lengths_B if per_token else total)


def dpo(chosen: Answers, rejected: Answers, settings: DPO, pairs: float) -> tuple[TokenLoss, TokenLoss]:
    """The DPO loss; `pairs` is the number of pairs of the whole batch. The loss stands in the first result's rows.

    With h = log-ratio of chosen minus that of rejected: sigmoid -ln s(beta h - margin), with label smoothing e
    -(1-e) ln s(beta h) - e ln s(-beta h); hinge max(0, 1 - beta h); ipo (h - 1/(2 beta))^2 on means per token;
    robust (-(1-e) ln s(beta h) + e ln s(-beta h)) / (1 - 2e).
    """
    per_token = settings.length_normalized or settings.loss == "ipo"
    h_B = chosen.log_ratio_B(per_token) - rejected.log_ratio_B(per_token)
    loss_B, slope_B = _dpo_terms(h_B, settings)
    share = 1.0 / positive(pairs)
    stats = {
        "pairs": float(len(h_B)),
        "accuracy": float((h_B > 0).sum()),
        "margin": float(settings.beta * h_B.sum()),
        "chosen_reward": float(settings.beta * chosen.log_ratio_B(False).sum()),
        "rejected_reward": float(settings.beta * rejected.log_ratio_B(False).sum()),
    }
    return (
        TokenLoss(loss_B * share, _spread(chosen, slope_B * share, per_token), stats),
        TokenLoss(np.zeros_like(loss_B), _spread(rejected, -slope_B * share, per_token)),
    )


def _dpo_terms(h_B: F64, settings: DPO) -> tuple[F64, F64]:
    """Loss of each pair and its derivative by h."""
    beta, smooth = settings.beta, settings.label_smoothing
    if settings.loss == "ipo":
        difference = h_B - 1.0 / (2.0 * beta)
        return difference**2, 2.0 * difference
    x_B = beta * h_B - settings.simpo_margin
    if settings.loss == "hinge":
        return np.maximum(0.0, 1.0 - x_B), np.where(x_B < 1.0, -beta, 0.0)
    right, wrong = 1.0 - smooth, smooth if settings.loss == "sigmoid" else -smooth
    scale = 1.0 if settings.loss == "sigmoid" else 1.0 / (1.0 - 2.0 * smooth)
    loss_B = -right * log_sigmoid(x_B) - wrong * log_sigmoid(-x_B)
    slope_B = beta * (-right * sigmoid(-x_B) + wrong * sigmoid(x_B))
    return loss_B * scale, slope_B * scale


def _spread(side: Answers, slope_B: F64, per_token: bool) -> F64:
    """A derivative by an answer's log-probability as derivatives by its tokens'."""
    each_B = slope_B / side.lengths_B if per_token else slope_B
    return np.asarray(each_B[:, None] * side.mask_BT)


@dataclass(frozen=True)
class KTO:
    """Weights of good (d) and bad (u) answers; with n_d and n_u of them, w_d n_d / (w_u n_u) should be 1 .. 4/3."""

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


def kto(answers: Answers, desirable: npt.ArrayLike, kl: float, settings: KTO, rows: float) -> TokenLoss:
    """KTO: mean over `rows` answers of w (1 - v), v = s(beta (r - z)) if desirable else s(beta (z - r)).

    r is the answer's log-ratio, z = max(0, `kl`) the batch's estimate of KL(policy || reference) from mismatched
    answers (`kto_kl`), a constant without a gradient.
    """
    good_B = np.asarray(desirable, bool)
    r_B, z = answers.log_ratio_B(False), max(0.0, kl)
    sign_B = np.where(good_B, 1.0, -1.0)
    weight_B = np.where(good_B, settings.desirable_weight, settings.undesirable_weight) / positive(rows)
    value_B = sigmoid(settings.beta * sign_B * (r_B - z))
    slope_B = -weight_B * settings.beta * sign_B * value_B * (1.0 - value_B)
    stats = {"rows": float(len(r_B)), "desirable_reward": float(settings.beta * r_B[good_B].sum())}
    stats["undesirable_reward"] = float(settings.beta * r_B[~good_B].sum())
    return TokenLoss(weight_B * (1.0 - value_B), _spread(answers, slope_B, False), stats)


def kto_kl(mismatched: Answers) -> float:
    """The mean log-ratio of answers under prompts that are not theirs (the next row's), over the whole batch."""
    return math.fsum(mismatched.log_ratio_B(False)) / len(mismatched.lengths_B)


def orpo(chosen: Answers, rejected: Answers, weight: float, tokens: float, pairs: float) -> tuple[TokenLoss, TokenLoss]:
    """ORPO: the chosen answers' token mean of -logp (over `tokens` of the batch), plus weight * -ln s(ln odds ratio).

    odds(y) = p / (1 - p) with p = exp(mean log-probability of y's tokens); the reference is not used.
    """
    means = [np.minimum(side.logp_BT.sum(1) / side.lengths_B, -1e-12) for side in (chosen, rejected)]
    odds_B = _log_odds(means[0]) - _log_odds(means[1])
    share = weight / positive(pairs)
    slope_B = -share * sigmoid(-odds_B)
    likelihood_BT = chosen.mask_BT / positive(tokens)
    rows_B = -(likelihood_BT * chosen.logp_BT).sum(1) - share * log_sigmoid(odds_B)
    stats = {"pairs": float(len(odds_B)), "accuracy": float((odds_B > 0).sum()), "log_odds": float(odds_B.sum())}
    by_mean = [slope_B / -np.expm1(means[0]), -slope_B / -np.expm1(means[1])]  # d ln odds / d mean = 1 / (1 - p)
    return (
        TokenLoss(rows_B, _spread(chosen, by_mean[0], True) - likelihood_BT, stats),
        TokenLoss(np.zeros_like(rows_B), _spread(rejected, by_mean[1], True)),
    )


def _log_odds(mean_B: F64) -> F64:
    """m - ln(1 - exp(m)) of a mean log-probability below 0 (callers cap certainty, whose odds are infinite)."""
    return np.asarray(mean_B - np.log(-np.expm1(mean_B)))


def bradley_terry(
    chosen: npt.ArrayLike, rejected: npt.ArrayLike, pairs: float, *, margin: npt.ArrayLike = 0.0, center: float = 0.0
) -> tuple[F64, F64, F64]:
    """A reward model's loss: mean of -ln s(chosen - rejected - margin) + center * (chosen + rejected)^2.

    Scores are [B]. Returns each pair's share and the derivatives by both scores. `center` keeps scores near 0
    (Eisenstein et al. 2023).
    """
    c_B, r_B = np.asarray(chosen, np.float64), np.asarray(rejected, np.float64)
    if c_B.shape != r_B.shape or c_B.ndim != 1:
        raise UsageError(f"a pair has two scores, got shapes {list(c_B.shape)} and {list(r_B.shape)}")
    x_B, share = c_B - r_B - np.asarray(margin, np.float64), 1.0 / positive(pairs)
    slope_B = -share * sigmoid(-x_B)
    pull_B = 2.0 * share * center * (c_B + r_B)
    return share * (-log_sigmoid(x_B) + center * (c_B + r_B) ** 2), slope_B + pull_B, -slope_B + pull_B

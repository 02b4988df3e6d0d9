"""How much better an answer was than expected: group-relative, leave-one-out, batch-wise, and GAE.

Rewards are [P, G]: G answers of each of P prompts. NaN marks an answer whose verifier abstained: it counts in no mean
and gets advantage 0. Sources: GRPO, Shao et al. 2024, section 4.1.2; Dr. GRPO, Liu et al. 2025; RLOO, Ahmadian et al.
2024, eq. 6; REINFORCE++, Hu 2025; GAE, Schulman et al. 2016, eq. 16.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alexandra.errors import UsageError, suggest
from alexandra.objectives.tokens import F64

KINDS = ("group", "centered", "leave_one_out", "batch")


def advantages(rewards: npt.ArrayLike, kind: str = "group", eps: float = 1e-4) -> F64:
    """The advantage of each answer, [P, G].

    group: (r - mean) / (std + eps) within the prompt's answers, std with n - 1 as TRL; centered: r - mean (Dr. GRPO);
    leave_one_out: r minus the mean of the others (RLOO); batch: (r - group mean) / (std of the whole batch + eps).
    A prompt with fewer than two judged answers has advantages 0.
    """
    if kind not in KINDS:
        raise UsageError(f"no kind of advantage {kind!r}", hint=suggest(kind, KINDS))
    rewards_PG = np.asarray(rewards, np.float64)
    if rewards_PG.ndim != 2 or np.isinf(rewards_PG).any():
        raise UsageError(f"rewards are finite numbers (or NaN) [prompts, answers], got shape {list(rewards_PG.shape)}")
    judged_PG = ~np.isnan(rewards_PG)
    n_P1 = judged_PG.sum(1, keepdims=True)
    mean_P1 = np.where(judged_PG, rewards_PG, 0.0).sum(1, keepdims=True) / np.maximum(n_P1, 1)
    centered_PG = np.where(judged_PG & (n_P1 > 1), rewards_PG - mean_P1, 0.0)
    if kind == "centered":
        return centered_PG
    if kind == "leave_one_out":
        return np.asarray(centered_PG * n_P1 / np.maximum(n_P1 - 1, 1))
    if kind == "batch":
        judged = centered_PG[judged_PG]
        return centered_PG / ((judged.std(ddof=1) if judged.size > 1 else 0.0) + eps)
    std_P1 = np.sqrt((centered_PG**2).sum(1, keepdims=True) / np.maximum(n_P1 - 1, 1))
    return np.asarray(centered_PG / (std_P1 + eps))


def informative(rewards: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Prompts [P] whose judged answers differ in reward: the others carry no gradient (DAPO's dynamic sampling)."""
    rewards_PG = np.asarray(rewards, np.float64)
    low = np.where(np.isnan(rewards_PG), np.inf, rewards_PG).min(1)
    high = np.where(np.isnan(rewards_PG), -np.inf, rewards_PG).max(1)
    return np.asarray(high > low)


def penalized(rewards: npt.ArrayLike, logp: F64, reference: F64, mask: F64, beta: float) -> F64:
    """Token advantages [B, T] before whitening: the answer's reward minus beta times the KL estimate from t onwards."""
    kl_BT = (logp - reference) * mask
    ahead_BT = np.cumsum(kl_BT[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((np.asarray(rewards, np.float64)[:, None] - beta * ahead_BT) * mask)


def whitened(values: F64, mask: F64, eps: float = 1e-8) -> F64:
    """`values` with mean 0 and standard deviation 1 over the tokens of the whole batch that count, 0 elsewhere."""
    inside = values[mask > 0]
    if not inside.size:
        return np.zeros_like(values)
    return np.where(mask > 0, (values - inside.mean()) / (inside.std() + eps), 0.0)


def gae(rewards: F64, values: F64, mask: F64, *, discount: float = 1.0, decay: float = 0.95) -> tuple[F64, F64]:
    """Generalised advantage estimates and returns, both [B, T].

    `rewards` and `values` stand at each answer token; an answer ends at its last counted token, beyond which the value
    is 0. delta_t = r_t + discount V_{t+1} - V_t; A_t = delta_t + discount decay A_{t+1}; return = A + V. Positions
    between counted tokens (a tool's output) are skipped, not treated as an end.
    """
    advantage_BT = np.zeros_like(values)
    next_value_B, next_advantage_B = np.zeros(len(values)), np.zeros(len(values))
    for t in range(values.shape[1] - 1, -1, -1):
        here_B = mask[:, t] > 0
        delta_B = rewards[:, t] + discount * next_value_B - values[:, t]
        found_B = delta_B + discount * decay * next_advantage_B
        advantage_BT[:, t] = np.where(here_B, found_B, 0.0)
        next_advantage_B = np.where(here_B, found_B, next_advantage_B)
        next_value_B = np.where(here_B, values[:, t], next_value_B)
    return advantage_BT, np.where(mask > 0, advantage_BT + values, 0.0)

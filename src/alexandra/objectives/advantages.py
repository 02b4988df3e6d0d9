"""How much better an answer was than expected: group-relative, leave-one-out, batch-wise, and GAE.

Rewards are [P, G]: G answers of each of P prompts. NaN marks an answer whose verifier abstained: it counts in no mean
and gets advantage 0. Sources: GRPO, Shao et al. 2024, section 4.1.2; Dr. GRPO, Liu et al. 2025; RLOO, Ahmadian et al.
2024, eq. 6; REINFORCE++, Hu 2025; GAE, Schulman et al. 2016, eq. 16; process supervision, Shao et al. 2024, section
4.1.3; unlikelihood, Welleck et al. 2020, eq. 4.
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


def process(worth: npt.ArrayLike, group: int, eps: float = 1e-4) -> F64:
    """Token advantages [B, T] of process supervision; the rows are `group` answers of each prompt.

    `worth` is what a step is worth at its last token, NaN elsewhere. It is normalised over all steps of the prompt's
    answers, (w - mean) / (std + eps), and a token has the sum of those of its own step and the ones after it.
    """
    worth_BT = _worth(worth)
    if group < 1 or len(worth_BT) % group:
        raise UsageError(f"{len(worth_BT)} rows are no groups of {group} answers")
    worth_PN = worth_BT.reshape(len(worth_BT) // group, -1)
    judged_PN = ~np.isnan(worth_PN)
    n_P1 = np.maximum(judged_PN.sum(1, keepdims=True), 1)
    mean_P1 = np.where(judged_PN, worth_PN, 0.0).sum(1, keepdims=True) / n_P1
    centered_PN = np.where(judged_PN, worth_PN - mean_P1, 0.0)
    std_P1 = np.sqrt((centered_PN**2).sum(1, keepdims=True) / np.maximum(n_P1 - 1, 1))
    normal_BT = (centered_PN / (std_P1 + eps)).reshape(worth_BT.shape)
    return np.asarray(np.cumsum(normal_BT[:, ::-1], axis=1)[:, ::-1])


def verdicts(worth: npt.ArrayLike, logp: npt.ArrayLike, cap: float = 1000.0) -> F64:
    """Token advantages [B, T] with which a policy-gradient step climbs the likelihood of the verdicts.

    With p the probability that the policy gave a whole step, the likelihood of "right" is p and of "wrong" 1 - p
    (unlikelihood), so every token of a step has w - (1 - w) min(p / (1 - p), cap). Where the policy is sure and wrong
    that keeps its full slope, where a reward's p (1 - p) vanishes. `worth` as in `process`; tokens behind the last step
    of a row have 0. `logp` is [B, T].
    """
    worth_BT, logp_BT = _worth(worth), np.asarray(logp, np.float64)
    if cap <= 0 or logp_BT.shape != worth_BT.shape:
        raise UsageError(f"cap={cap:g} must be above 0, log-probabilities of shape {list(worth_BT.shape)}")
    found_BT = np.zeros_like(worth_BT)
    for row, judged in enumerate(~np.isnan(worth_BT)):
        ends = np.flatnonzero(judged)
        if not len(ends):
            continue
        starts = np.concatenate([[0], ends[:-1] + 1])
        p = np.exp(np.minimum(np.add.reduceat(logp_BT[row, : ends[-1] + 1], starts), 0.0))
        right = worth_BT[row, ends]
        advantage = right - (1 - right) * np.minimum(p / np.maximum(1 - p, 1e-12), cap)
        found_BT[row, : ends[-1] + 1] = np.repeat(advantage, ends + 1 - starts)
    return found_BT


def _worth(worth: npt.ArrayLike) -> F64:
    worth_BT = np.asarray(worth, np.float64)
    judged = worth_BT[~np.isnan(worth_BT)]
    if worth_BT.ndim != 2 or ((judged < 0) | (judged > 1)).any():
        raise UsageError(f"steps are worth 0 to 1 (NaN: none ends there) [rows, positions], got {list(worth_BT.shape)}")
    return worth_BT


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

"""Losses, schedules, clipping and update rules of the reference backend, each a pure float64 function.

They follow objectives/spec.py to the letter. A loss is a list of terms (one per row and position, and component for
sigmoid and MSE) with the gradient of each; `reduced` weights them, sums them and divides by the update's normaliser.
"""

from __future__ import annotations

from collections.abc import Collection
from math import cos, nan, pi, sqrt

import numpy as np

from alexandra.backends.reference_ops import sigmoid
from alexandra.objectives.spec import (
    KL,
    MSE,
    NEWTON_SCHULZ,
    SGD,
    Adam,
    AdamW,
    Muon,
    Objective,
    Optimizer,
    Schedule,
    WeightedCrossEntropy,
)

Tensors = dict[str, np.ndarray]
Terms = tuple[np.ndarray, np.ndarray]  # losses, and their gradients at the logits or outputs
MUON_EPS = 1e-7
CLIP_EPS = 1e-6  # keeps the clipping factor finite, as in torch.nn.utils.clip_grad_norm_


def terms_of(values: np.ndarray, target: np.ndarray, objective: Objective, kind: str | None) -> Terms:
    """The terms of one output: of logits [..., K], or of values for MSE. `kind` "sigmoid" has one per component."""
    if isinstance(objective, MSE):
        difference = values - target
        return difference**2, 2.0 * difference
    if isinstance(objective, KL):
        return (_sigmoid_divergence if kind == "sigmoid" else _divergence)(values, target, objective.temperature)
    entropy = _sigmoid_cross_entropy if kind == "sigmoid" else _cross_entropy
    return entropy(values, target, objective.label_smoothing)


def reduced(terms: Terms, weights: np.ndarray | None, norm: float) -> tuple[float, np.ndarray]:
    """The sum of the weighted terms over `norm`, and its gradient. All weights 0: 0."""
    losses, grads = terms
    if weights is None:
        return float(losses.sum() / norm), grads / norm
    if not weights.any():
        return 0.0, np.zeros_like(grads)
    spread = weights if grads.ndim == weights.ndim else weights[..., None]
    return float((losses * weights).sum() / norm), grads * spread / norm


def norm_of(target: np.ndarray, weights: np.ndarray | None, objective: Objective, kind: str | None) -> float:
    """What the summed terms of a whole update's targets are divided by; NaN for weights that sum to 0 or less."""
    count = target.size // (target.shape[-1] if isinstance(objective, KL) and kind != "sigmoid" else 1)
    if not isinstance(objective, WeightedCrossEntropy) or objective.normalizer == "count":
        return float(count)
    if not isinstance(objective.normalizer, str):
        return float(objective.normalizer)
    assert weights is not None
    total = float(weights.astype(np.float64).sum())
    return total if total > 0.0 else nan


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _cross_entropy(logits: np.ndarray, classes: np.ndarray, smoothing: float) -> Terms:
    """Of logits [..., K] against class indices [...]."""
    log_probabilities = _log_softmax(logits)
    num_classes = logits.shape[-1]
    wanted = np.eye(num_classes)[classes] * (1.0 - smoothing) + smoothing / num_classes
    return -(wanted * log_probabilities).sum(-1), np.exp(log_probabilities) - wanted


def _sigmoid_cross_entropy(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> Terms:
    """Against 0/1 targets, one term per component."""
    wanted = targets * (1.0 - smoothing) + smoothing / 2.0
    return np.logaddexp(0.0, logits) - logits * wanted, sigmoid(logits) - wanted


def _divergence(logits: np.ndarray, teacher: np.ndarray, temperature: float) -> Terms:
    p = teacher.astype(np.float64)
    log_q = _log_softmax(logits / temperature)
    losses = temperature**2 * (_times_log(p) - p * log_q).sum(-1)
    return losses, temperature * (np.exp(log_q) * p.sum(-1, keepdims=True) - p)


def _sigmoid_divergence(logits: np.ndarray, teacher: np.ndarray, temperature: float) -> Terms:
    p, z = teacher.astype(np.float64), logits / temperature
    losses = _times_log(p) + _times_log(1.0 - p) + np.logaddexp(0.0, z) - p * z
    return temperature**2 * losses, temperature * (sigmoid(z) - p)


def _times_log(p: np.ndarray) -> np.ndarray:
    """p ln p, 0 for p <= 0."""
    return np.asarray(p * np.log(np.where(p > 0.0, p, 1.0)))


def schedule_factor(schedule: Schedule, t: int) -> float:
    """The factor on the learning rate at step t (0-based)."""
    if t < schedule.warmup_steps:
        return (t + 1) / schedule.warmup_steps
    after = t - schedule.warmup_steps
    if schedule.kind == "cosine":
        u = min(1.0, after / max(1, schedule.total_steps - schedule.warmup_steps))
        return schedule.final + (1.0 - schedule.final) * (1.0 + cos(pi * u)) / 2.0
    if schedule.kind in ("linear", "wsd"):
        length = schedule.every if schedule.kind == "wsd" else schedule.total_steps - schedule.warmup_steps
        u = (t - (schedule.total_steps - length)) / max(1, length)
        return 1.0 - (1.0 - schedule.final) * min(1.0, max(0.0, u))
    if schedule.kind == "step":
        return float(schedule.decay ** (after // schedule.every))
    return 1.0


def norm_of_all(grads: Tensors) -> float:
    """The global norm of gradients."""
    return sqrt(sum(float((g**2).sum()) for g in grads.values()))


def clipped(grads: Tensors, clip_norm: float) -> Tensors:
    """`grads` scaled so that their global norm is at most `clip_norm`; 0 leaves them alone."""
    if clip_norm == 0.0:
        return grads
    scale = min(1.0, clip_norm / (norm_of_all(grads) + CLIP_EPS))
    return {name: g * scale for name, g in grads.items()}


def rules_of(optimizer: Optimizer, names: Collection[str], hidden: Collection[str]) -> dict[str, Optimizer]:
    """What steps each parameter; `hidden` are those that Muon takes."""
    if not isinstance(optimizer, Muon):
        return dict.fromkeys(names, optimizer)
    return {name: optimizer if name in hidden else optimizer.rest for name in names}


def kinds_of(rule: Optimizer) -> tuple[str, ...]:
    """The arrays of a parameter's size that its rule keeps."""
    return ("m",) if isinstance(rule, SGD | Muon) else ("m", "v")


def num_moments(optimizer: Optimizer) -> int:
    """How many arrays of the weights' size the optimiser keeps at most."""
    return 1 if isinstance(optimizer, SGD) else 2


def update(rule: Optimizer, lr: float, t: int, w: np.ndarray, g: np.ndarray, moments: tuple[np.ndarray, ...]) -> None:
    """One parameter's step in place, at step t (0-based); `moments` are those of `kinds_of`."""
    if isinstance(rule, SGD):
        (m,) = moments
        m[...] = rule.momentum * m + g + rule.weight_decay * w
        w -= lr * m
    elif isinstance(rule, Muon):
        (m,) = moments
        m[...] = rule.momentum * m + (1.0 - rule.momentum) * g
        turned = orthogonalised((1.0 - rule.momentum) * g + rule.momentum * m, rule.iterations)
        w *= 1.0 - lr * rule.weight_decay
        w -= lr * sqrt(max(1.0, w.shape[0] / w.shape[1])) * turned
    else:
        _adam(rule, lr, t, w, g, (moments[0], moments[1]))


def orthogonalised(matrix: np.ndarray, iterations: int) -> np.ndarray:
    """Newton-Schulz towards the nearest matrix of orthonormal rows or columns; a zero matrix stays zero."""
    a, b, c = NEWTON_SCHULZ
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / max(float(np.linalg.norm(x)), MUON_EPS)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return np.asarray(x.T if matrix.shape[0] > matrix.shape[1] else x)


def _adam(
    rule: Adam | AdamW, lr: float, t: int, w: np.ndarray, g: np.ndarray, moments: tuple[np.ndarray, np.ndarray]
) -> None:
    m, v = moments
    if isinstance(rule, Adam):
        g = g + rule.weight_decay * w
    elif w.ndim >= 2:
        w -= lr * rule.weight_decay * w + lr * rule.l1 * np.sign(w)
    m[...] = rule.beta1 * m + (1.0 - rule.beta1) * g
    v[...] = rule.beta2 * v + (1.0 - rule.beta2) * g**2
    m_hat, v_hat = m / (1.0 - rule.beta1 ** (t + 1)), v / (1.0 - rule.beta2 ** (t + 1))
    w -= lr * m_hat / (np.sqrt(v_hat) + rule.eps)

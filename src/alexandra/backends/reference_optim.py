"""Losses, schedules, clipping and update rules of the reference backend, each a pure float64 function.

They follow objectives/spec.py to the letter. A loss is a list of terms (one per row and position, and component for
sigmoid and MSE) with the gradient of each; `reduced` weights them, sums them and divides by the update's normaliser.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, nan, pi, sqrt

import numpy as np

from alexandra.backends.reference_ops import sigmoid
from alexandra.objectives.spec import (
    KL,
    MSE,
    SGD,
    Adam,
    AdamW,
    Objective,
    Optimizer,
    Schedule,
    WeightedCrossEntropy,
)

Tensors = dict[str, np.ndarray]
Terms = tuple[np.ndarray, np.ndarray]  # losses, and their gradients at the logits or outputs
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
    if schedule.kind == "step":
        return float(schedule.decay ** (after // schedule.every))
    return 1.0


def clipped(grads: Tensors, clip_norm: float) -> Tensors:
    """`grads` scaled so that their global norm is at most `clip_norm`; 0 leaves them alone."""
    if clip_norm == 0.0:
        return grads
    norm = sqrt(sum(float((g**2).sum()) for g in grads.values()))
    scale = min(1.0, clip_norm / (norm + CLIP_EPS))
    return {name: g * scale for name, g in grads.items()}


def num_moments(optimizer: Optimizer) -> int:
    """How many arrays of the weights' size the optimiser keeps."""
    return 1 if isinstance(optimizer, SGD) else 2


def update(
    optimizer: Optimizer, lr: float, t: int, weights: Tensors, grads: Tensors, moments: Mapping[str, Tensors]
) -> None:
    """One step in place: weights and `moments` ("m" and, for Adam and AdamW, "v") at step t (0-based)."""
    for name, g in grads.items():
        w, m = weights[name], moments["m"][name]
        if isinstance(optimizer, SGD):
            m[...] = optimizer.momentum * m + g + optimizer.weight_decay * w
            w -= lr * m
        else:
            _adam(optimizer, lr, t, w, g, (m, moments["v"][name]))


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

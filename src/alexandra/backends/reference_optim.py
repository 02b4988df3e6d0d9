"""Losses, schedules, clipping and update rules of the reference backend, each a pure float64 function.

They follow objectives/spec.py to the letter. A loss is a mean over all rows and positions (and components, for
sigmoid and MSE), so that its value does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi, sqrt

import numpy as np

from alexandra.backends.reference_ops import sigmoid
from alexandra.objectives.spec import SGD, Adam, AdamW, Optimizer, Schedule

Tensors = dict[str, np.ndarray]
CLIP_EPS = 1e-6  # keeps the clipping factor finite, as in torch.nn.utils.clip_grad_norm_


def softmax_cross_entropy(logits: np.ndarray, classes: np.ndarray, smoothing: float) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of logits [..., K] against class indices [...], and its gradient."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    num_classes = logits.shape[-1]
    wanted = np.eye(num_classes)[classes] * (1.0 - smoothing) + smoothing / num_classes
    return float(-(wanted * log_probabilities).sum(-1).mean()), (np.exp(log_probabilities) - wanted) / classes.size


def sigmoid_cross_entropy(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> tuple[float, np.ndarray]:
    """Mean over rows and components of the binary cross-entropy against 0/1 targets, and its gradient."""
    wanted = targets * (1.0 - smoothing) + smoothing / 2.0
    losses = np.maximum(logits, 0.0) - logits * wanted + np.log1p(np.exp(-np.abs(logits)))
    return float(losses.mean()), (sigmoid(logits) - wanted) / logits.size


def squared_error(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over rows and components of (output - target)^2, and its gradient."""
    difference = outputs - targets
    return float((difference**2).mean()), 2.0 * difference / difference.size


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
        w -= lr * rule.weight_decay * w
    m[...] = rule.beta1 * m + (1.0 - rule.beta1) * g
    v[...] = rule.beta2 * v + (1.0 - rule.beta2) * g**2
    m_hat, v_hat = m / (1.0 - rule.beta1 ** (t + 1)), v / (1.0 - rule.beta2 ** (t + 1))
    w -= lr * m_hat / (np.sqrt(v_hat) + rule.eps)

"""What a backend is asked for, torch-free and frozen: objectives, optimisers, schedules, and the Program.

A backend says which of these it supports and refuses the others by name. A Program is everything that
decides a run of n steps; the same Program, weights and data give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross-entropy over rows, on the logits before the output's final softmax or sigmoid.

    Targets: int class index [rows] for softmax; 0/1 float [rows, size] (or [rows] when size is 1) for
    sigmoid. With several outputs the losses add up. `label_smoothing` mixes the target with the uniform.
    """

    label_smoothing: float = 0.0


@dataclass(frozen=True)
class MSE:
    """Mean over rows and components of (output - target)^2; targets float [rows, size] or [rows]."""


Objective = CrossEntropy | MSE


@dataclass(frozen=True)
class SGD:
    """w -= lr * (m = momentum * m + g + weight_decay * w)."""

    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba, 2015, with bias correction; `weight_decay` is added to the gradient (L2)."""

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True)
class AdamW:
    """Loshchilov and Hutter, 2019: decay is decoupled, w -= lr * weight_decay * w before the Adam step.

    Decay applies to parameters of two or more dimensions only (not to biases and norm gains).
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01


Optimizer = SGD | Adam | AdamW


@dataclass(frozen=True)
class Schedule:
    """Factor on the learning rate at step t (0-based), linear warm-up, then `kind`.

    factor = (t + 1) / warmup_steps while t < warmup_steps; then constant: 1; cosine: from 1 to `final` over
    the remaining steps, final + (1 - final) * (1 + cos(pi * u)) / 2 with
    u = (t - warmup_steps) / max(1, total_steps - warmup_steps), clamped to 1; step: `decay` ** (number of full
    `every` steps after warm-up).
    """

    kind: str = "constant"
    warmup_steps: int = 0
    total_steps: int = 0
    final: float = 0.0
    every: int = 0
    decay: float = 1.0


@dataclass(frozen=True)
class Program:
    """Everything that decides training: n rows are reshuffled every epoch by derive(seed, "shuffle").at(epoch).

    Step s of an epoch takes rows order[s*batch_size : (s+1)*batch_size]; a shorter last batch is used as it is
    (its loss is the mean over its own rows). steps_per_epoch = ceil(rows / batch_size). Dropout masks come from
    derive(seed, "dropout", node_name).at(global_step), word index = row_in_batch * width + column.
    """

    objective: Objective
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Schedule()
    batch_size: int = 32
    clip_norm: float = 0.0
    seed: int = 0
    shuffle: bool = True

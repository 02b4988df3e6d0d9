"""What a backend is asked for, torch-free and frozen: objectives, optimisers, schedules, and the Program.

A backend says which of these it supports and refuses the others by name. A Program is everything that
decides a run of n steps; the same Program, weights and data give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class WeightedCrossEntropy:
    """Sum of weight * cross-entropy over rows and positions, divided by N: policy gradients, masks, class weights.

    Targets {"classes": as for CrossEntropy, "weights": float of the same shape}; with several outputs a dict of
    those by output, whose losses add up. Weights may be 0 or negative. `normalizer` says what N is: "weights" their
    sum, "count" the number of positions, or a positive number. N is taken over all rows of an update. Under
    "weights" an update whose weights are all 0 has the loss 0; one whose weights sum to 0 or less has no loss (NaN).
    """

    normalizer: str | float = "weights"
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class KL:
    """Distillation: temperature^2 * mean over rows and positions of sum p (ln p - ln softmax(logits / temperature)).

    Targets p: a teacher's probabilities, float [rows, .., size] (Hinton, Vinyals and Dean, 2015). An output that ends
    in a sigmoid is compared component by component, with p and 1 - p, and the mean is over components too.
    """

    temperature: float = 1.0


Objective = CrossEntropy | MSE | WeightedCrossEntropy | KL
OBJECTIVES: tuple[type, ...] = (CrossEntropy, MSE, WeightedCrossEntropy, KL)


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

    Decay applies to parameters of two or more dimensions only (not to biases and norm gains). So does `l1`, decoupled
    as well: w -= lr * l1 * sign(w), with the w before the step.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    l1: float = 0.0


@dataclass(frozen=True)
class Muon:
    """Jordan et al., 2024: momentum, orthogonalised, for the matrices of hidden layers; `rest` steps all else.

    Hidden matrices are parameters [out, in] of layers that are neither an embedding nor the output. With gradient g:
    m = momentum * m + (1 - momentum) * g, u = (1 - momentum) * g + momentum * m (Nesterov), U = `iterations` steps of
    Newton-Schulz on u / |u|: X <- a X + (b A + c A A) X with A = X X^T and (a, b, c) = NEWTON_SCHULZ;
    w <- (1 - lr * weight_decay) w - lr * sqrt(max(1, out / in)) U. The schedule scales both learning rates.
    """

    lr: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.0
    iterations: int = 5
    rest: AdamW = field(default_factory=lambda: AdamW(lr=3e-4))


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
Optimizer = SGD | Adam | AdamW | Muon


@dataclass(frozen=True)
class Schedule:
    """Factor on the learning rate at step t (0-based), linear warm-up, then `kind`.

    factor = (t + 1) / warmup_steps while t < warmup_steps; then constant: 1; cosine: from 1 to `final` over
    the remaining steps, final + (1 - final) * (1 + cos(pi * u)) / 2 with
    u = (t - warmup_steps) / max(1, total_steps - warmup_steps), clamped to 1; linear: 1 - (1 - final) * u;
    wsd (warm-up, stable, decay; Hu et al., 2024): 1 until `every` steps before the end, then linear to `final`;
    step: `decay` ** (number of full `every` steps after warm-up).
    """

    kind: str = "constant"
    warmup_steps: int = 0
    total_steps: int = 0
    final: float = 0.0
    every: int = 0
    decay: float = 1.0


@dataclass(frozen=True)
class EarlyStop:
    """Look at the validation loss after every `every` steps (0: every epoch), dropout off.

    A loss below the best one by more than `min_delta` is the new best; `patience` looks in a row without one end the
    run, 0 never does. With `restore_best` a run that ends so leaves the weights of its best look in the model.
    """

    every: int = 0
    patience: int = 10
    min_delta: float = 0.0
    restore_best: bool = True


@dataclass(frozen=True)
class Program:
    """Everything that decides training: n rows are reshuffled every epoch by derive(seed, "shuffle").at(epoch).

    An update takes u = batch_size * accumulate rows. Step s of an epoch takes rows order[s*u : (s+1)*u]; a shorter
    last batch is used as it is (its loss is the mean over its own rows). steps_per_epoch = ceil(rows / u). The rows
    of an update go through the network batch_size at a time; loss and gradient are those of one batch of u rows.
    Dropout masks come from derive(seed, "dropout", node_name).at(global_step), word index = row_in_update * width +
    column. `frozen` names parameters, or all below a prefix that ends in "."; they keep their values and cost no
    gradient. `stop` needs validation data, given to `start`.
    """

    objective: Objective
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Schedule()
    batch_size: int = 32
    clip_norm: float = 0.0
    seed: int = 0
    shuffle: bool = True
    accumulate: int = 1
    frozen: tuple[str, ...] = ()
    stop: EarlyStop | None = None

    @property
    def update_rows(self) -> int:
        """Rows of one update: batch_size * accumulate."""
        return self.batch_size * self.accumulate

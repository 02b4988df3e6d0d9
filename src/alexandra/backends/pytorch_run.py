"""Training on torch, step by step as objectives/spec.py says: batches, losses, clipping, updates, resume.

A TorchRun knows parameters, data and a loss; whose parameters they are (a Graph's or a foreign module's) is its
caller's business. Losses stay on the device until a call of `run` ends. Moments and updates are float32 (the
parameter's own type in a foreign module).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, nan, sqrt
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alexandra.backends.admit import WEIGHTS, check_fed, check_state
from alexandra.backends.base import Progress
from alexandra.backends.pytorch_precision import LossScale
from alexandra.backends.reference_optim import CLIP_EPS, MUON_EPS, kinds_of, rules_of, schedule_factor
from alexandra.backends.stopping import Watch, Watched
from alexandra.errors import BackendError
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
    Program,
    WeightedCrossEntropy,
)
from alexandra.rng import derive

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Place:
    """Where a micro-batch stands: its step, its first row within the update, and all targets of that update."""

    step: int
    first: int
    targets: Tensors


LossOf = Callable[[Tensors, Tensors, Place], Tensor]  # (inputs, targets, place of a batch) -> its part


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """`count` threads inside torch's operations while this lasts, then as many as there were.

    The number belongs to the calling thread; a thread that uses torch for the first time meanwhile starts with it.
    """
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tensors_of(arrays: Mapping[str, np.ndarray], device: torch.device) -> Tensors:
    """Copies on `device`."""
    return {name: torch.tensor(array, device=device) for name, array in arrays.items()}


def array_of(tensor: Tensor) -> np.ndarray:
    """A copy as a NumPy array, in C order."""
    return np.array(tensor.detach().cpu().numpy(), order="C")


def losses_of(
    values: Tensors, targets: Tensors, whole: Tensors, objective: Objective, kinds: Mapping[str, str | None]
) -> Tensor:
    """The losses of all outputs added: the terms of `targets` over the normalisers of `whole`, an update's targets.

    `values` by output are logits for cross-entropy and distillation (`kinds` "sigmoid", else softmax), and the
    output itself for MSE.
    """
    losses = []
    for name, kind in kinds.items():
        terms, weights = _terms(values[name], targets[name], objective, kind), targets.get(name + WEIGHTS)
        norm = _norm(whole[name], whole.get(name + WEIGHTS), objective, kind)
        if weights is not None:
            idle = ~whole[name + WEIGHTS].any()
            losses.append(torch.where(idle, 0.0, (terms * weights).sum() / torch.where(idle, 1.0, norm)))
        else:
            losses.append(terms.sum() / norm)
    return torch.stack(losses).sum()


def _terms(values: Tensor, target: Tensor, objective: Objective, kind: str | None) -> Tensor:
    """One per row and position, and per component for sigmoid and MSE."""
    if isinstance(objective, MSE):
        return (values - target) ** 2
    if isinstance(objective, KL):
        z, p = values / objective.temperature, target.to(values.dtype)
        if kind == "sigmoid":
            known = torch.special.xlogy(p, p) + torch.special.xlogy(1.0 - p, 1.0 - p)
            each = known + F.binary_cross_entropy_with_logits(z, p, reduction="none")
        else:
            each = (torch.special.xlogy(p, p) - p * F.log_softmax(z, -1)).sum(-1)
        return torch.mul(each, objective.temperature**2)
    smoothing = objective.label_smoothing
    if kind == "sigmoid":
        wanted = target * (1.0 - smoothing) + smoothing / 2.0
        return F.binary_cross_entropy_with_logits(values, wanted, reduction="none")
    flat = values.reshape(-1, values.shape[-1])
    return F.cross_entropy(flat, target.reshape(-1), reduction="none", label_smoothing=smoothing).reshape(target.shape)


def _norm(target: Tensor, weights: Tensor | None, objective: Objective, kind: str | None) -> Tensor:
    """As `reference_optim.norm_of`."""
    if isinstance(objective, WeightedCrossEntropy) and objective.normalizer == "weights":
        assert weights is not None
        total = weights.sum(dtype=torch.float64).to(weights.dtype)
        return total.masked_fill(total <= 0.0, torch.nan)
    if isinstance(objective, WeightedCrossEntropy) and not isinstance(objective.normalizer, str):
        return torch.tensor(objective.normalizer, device=target.device)
    count = target.numel() // (target.shape[-1] if isinstance(objective, KL) and kind != "sigmoid" else 1)
    return torch.tensor(float(count), device=target.device)


def global_norm(grads: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, float64."""
    norms = torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in grads])
    return torch.sqrt(torch.square(norms).sum())


def clipped(grads: Sequence[Tensor], clip_norm: float, norm: Tensor) -> Sequence[Tensor]:
    """`grads` scaled so that their global norm is at most `clip_norm`; 0 leaves them alone."""
    if clip_norm == 0.0 or not grads:
        return grads
    scale = torch.clamp(clip_norm / (norm + CLIP_EPS), max=1.0)
    return [g * scale.to(g.dtype) for g in grads]


def orthogonalised(matrix: Tensor, iterations: int) -> Tensor:
    """As `reference_optim.orthogonalised`."""
    a, b, c = NEWTON_SCHULZ
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / torch.linalg.vector_norm(x).clamp(min=MUON_EPS)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    turned: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return turned


def update(rule: Optimizer, lr: float, t: int, w: Tensor, g: Tensor, moments: Sequence[Tensor]) -> None:
    """One parameter's step in place, at step t (0-based); moments are (m) for SGD and Muon, else (m, v)."""
    if isinstance(rule, SGD):
        m = moments[0].mul_(rule.momentum).add_(g).add_(w, alpha=rule.weight_decay)
        w.sub_(m, alpha=lr)
        return
    if isinstance(rule, Muon):
        m = moments[0].lerp_(g, 1.0 - rule.momentum)
        turned = orthogonalised(g.lerp(m, rule.momentum), rule.iterations)
        w.mul_(1.0 - lr * rule.weight_decay).sub_(turned, alpha=lr * sqrt(max(1.0, w.shape[0] / w.shape[1])))
        return
    m, v = moments
    if isinstance(rule, Adam):
        g = g.add(w, alpha=rule.weight_decay)
    elif isinstance(rule, AdamW) and w.ndim >= 2:
        pull = torch.sign(w) if rule.l1 else None
        w.mul_(1.0 - lr * rule.weight_decay)
        if pull is not None:
            w.sub_(pull, alpha=lr * rule.l1)
    m.lerp_(g, 1.0 - rule.beta1)
    v.mul_(rule.beta2).addcmul_(g, g, value=1.0 - rule.beta2)
    deviation = (v / (1.0 - rule.beta2 ** (t + 1))).sqrt_().add_(rule.eps)
    w.addcdiv_(m, deviation, value=-lr / (1.0 - rule.beta1 ** (t + 1)))


class TorchRun(Watched):
    """A run in progress: program, data, moments and the step counter. It trains `parameters` in place.

    `buffers` are what else training changes (running means of a foreign module); they are part of the state.
    `valid` gives the validation loss when the program's early stop wants one; the third of `tensors` names the
    parameters that Muon takes. `grad_norm` is that of the last step, before clipping.
    """

    def __init__(
        self,
        model: object,
        program: Program,
        tensors: tuple[Mapping[str, Tensor], Mapping[str, Tensor], Collection[str]],
        data: tuple[Tensors, Tensors],
        loss: LossOf,
        valid: Callable[[], float] | None = None,
    ) -> None:
        parameters, buffers, hidden = tensors
        self.model, self.program, self._parameters, self._loss = model, program, dict(parameters), loss
        self._inputs, self._targets = data
        first = next(iter(self._inputs.values()))
        self._rows, self._device = len(first), first.device
        self._step = 0
        self._order = (-1, torch.arange(self._rows, device=self._device))
        self._rules = rules_of(program.optimizer, self._parameters, hidden)
        self._state = {
            f"{kind}/{name}": torch.zeros_like(tensor, requires_grad=False)
            for kind in ("m", "v")
            for name, tensor in self._parameters.items()
            if kind in kinds_of(self._rules[name])
        }
        self._norm = torch.tensor(nan)
        self._scale: LossScale | None = None
        self._buffers = {f"buffers/{name}": tensor for name, tensor in buffers.items()}
        self._state |= self._buffers
        self._valid = valid
        self.watch = Watch(program.stop, ceil(self._rows / program.update_rows)) if program.stop else None

    def scaled(self) -> Self:
        """This run with loss scaling, for gradients in fp16; a step whose gradients overflow changes nothing."""
        self._scale = LossScale()
        return self

    def replace_data(self, inputs: Tensors, targets: Tensors) -> None:
        """What a model's `feed` does with admitted tensors."""
        now, given = {**self._inputs, **self._targets}, {**inputs, **targets}
        check_fed({n: array_of(t) for n, t in now.items()}, {n: array_of(t) for n, t in given.items()})
        self._inputs, self._targets = inputs, targets

    @property
    def step(self) -> int:
        return self._step

    @property
    def grad_norm(self) -> float:
        """The global norm of the last step's gradients, before clipping; NaN before a step."""
        return float(self._norm)

    def arrays(self) -> dict[str, np.ndarray]:
        """Step, moments, buffers and early stopping's, as copies: "step", "m/<parameter>", "buffers/<name>", .."""
        watched = self.watch.arrays(self.now()) if self.watch else {}
        watched |= self._scale.arrays() if self._scale else {}
        return {"step": np.array(self._step, np.int64), **{k: array_of(v) for k, v in self._state.items()}, **watched}

    @torch.no_grad()
    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken; the weights of that moment are the model's business (`load`)."""
        check_state(arrays, {name: array.shape for name, array in self.arrays().items()})
        for name, tensor in self._state.items():
            tensor.copy_(torch.tensor(np.asarray(arrays[name])))
        self._step = int(arrays["step"])
        if self._scale:
            self._scale.restore(arrays)
        if self.watch:
            self.watch.restore(arrays)

    def advance(self, steps: int, progress: Progress | None = None) -> np.ndarray:
        """At most `steps` steps (fewer when it stops early); the float64 loss of each, taken before its update."""
        losses: list[Tensor] = []
        while len(losses) < steps and not self.stopped:
            losses.append(self._one())
            if progress is not None:
                progress(self._step, float(losses[-1]))
            if self.watch and self._valid and self.watch.due(self._step):
                self.watch.look(self._step, self._valid(), self.now)
                if self.watch.stopped and self.watch.stop.restore_best:
                    self._take(self.watch.best)
        return array_of(torch.stack(losses).double()) if losses else np.zeros(0)

    def _one(self) -> Tensor:
        program, t = self.program, self._step
        loss, grads = self._gradients(self._batch(t))
        factor = schedule_factor(program.schedule, t)
        with torch.no_grad():
            self._norm = global_norm(grads)
            if self._scale is None or self._scale.keeps(self._norm):
                for name, g in zip(self._parameters, clipped(grads, program.clip_norm, self._norm), strict=True):
                    rule = self._rules[name]
                    moments = [self._state[f"{kind}/{name}"] for kind in kinds_of(rule)]
                    update(rule, rule.lr * factor, t, self._parameters[name], g, moments)
            else:
                self._norm = torch.tensor(nan)
        self._step += 1
        return loss

    def _gradients(self, index: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Loss and gradients of these rows, batch_size at a time."""
        parameters = list(self._parameters.values())
        whole = {name: tensor.index_select(0, index) for name, tensor in self._targets.items()}
        total, sums = torch.zeros((), device=self._device), None
        factor = self._scale.factor if self._scale else 1.0
        for first in range(0, len(index), self.program.batch_size):
            part = index[first : first + self.program.batch_size]
            inputs = {name: tensor.index_select(0, part) for name, tensor in self._inputs.items()}
            targets = {name: tensor[first : first + len(part)] for name, tensor in whole.items()}
            loss = self._loss(inputs, targets, Place(self._step, first, whole))
            grads = torch.autograd.grad(loss * factor, parameters, allow_unused=True, materialize_grads=True)
            total = total + loss.detach()
            sums = grads if sums is None else tuple(a + b for a, b in zip(sums, grads, strict=True))
        assert sums is not None
        return total, sums if factor == 1.0 else tuple(g / factor for g in sums)

    def now(self) -> dict[str, np.ndarray]:
        """Copies of what training changes: parameters and buffers."""
        return {name: array_of(tensor) for name, tensor in (self._parameters | self._buffers).items()}

    @torch.no_grad()
    def _take(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, tensor in (self._parameters | self._buffers).items():
            tensor.copy_(torch.tensor(arrays[name]))

    def _batch(self, t: int) -> Tensor:
        """The row numbers of step t."""
        size = self.program.update_rows
        epoch, s = divmod(t, ceil(self._rows / size))
        if self.program.shuffle and self._order[0] != epoch:
            order = derive(self.program.seed, "shuffle").at(epoch).permutation(self._rows)
            self._order = epoch, torch.tensor(order, device=self._device)
        return self._order[1][s * size : (s + 1) * size]


def check_owner(run: TorchRun, model: object) -> None:
    """BackendError unless `model` started this run."""
    if run.model is not model:
        raise BackendError("this run was started by another model", hint="start it with model.start(...)")

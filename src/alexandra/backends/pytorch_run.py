"""Training on torch, step by step as objectives/spec.py says: batches, losses, clipping, updates, resume.

A TorchRun knows parameters, data and a loss; whose parameters they are (a Graph's or a foreign module's) is its
caller's business. Losses stay on the device until a call of `run` ends. Moments and updates are float32 (the
parameter's own type in a foreign module).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alexandra.backends.admit import check_state
from alexandra.backends.reference_optim import CLIP_EPS, num_moments, schedule_factor
from alexandra.errors import BackendError
from alexandra.objectives.spec import SGD, Adam, AdamW, CrossEntropy, Objective, Optimizer, Program
from alexandra.rng import derive

Tensors = dict[str, Tensor]
LossOf = Callable[[Tensors, Tensors, int], Tensor]  # (inputs, targets of a batch, step) -> the loss


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


def loss_of(values: Tensor, target: Tensor, objective: Objective, kind: str | None) -> Tensor:
    """The mean loss of one output: of logits for cross-entropy (`kind` "sigmoid", else softmax), of values for MSE."""
    if not isinstance(objective, CrossEntropy):
        return F.mse_loss(values, target)
    smoothing = objective.label_smoothing
    if kind == "sigmoid":
        return F.binary_cross_entropy_with_logits(values, target * (1.0 - smoothing) + smoothing / 2.0)
    return F.cross_entropy(values.reshape(-1, values.shape[-1]), target.reshape(-1), label_smoothing=smoothing)


def clipped(grads: Sequence[Tensor], clip_norm: float) -> Sequence[Tensor]:
    """`grads` scaled so that their global norm is at most `clip_norm`; 0 leaves them alone."""
    if clip_norm == 0.0 or not grads:
        return grads
    norms = torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in grads])
    scale = torch.clamp(clip_norm / (torch.linalg.vector_norm(norms) + CLIP_EPS), max=1.0)
    return [g * scale.to(g.dtype) for g in grads]


def update(rule: Optimizer, lr: float, t: int, w: Tensor, g: Tensor, moments: Sequence[Tensor]) -> None:
    """One parameter's step in place, at step t (0-based); moments are (m) for SGD, (m, v) for the others."""
    if isinstance(rule, SGD):
        m = moments[0].mul_(rule.momentum).add_(g).add_(w, alpha=rule.weight_decay)
        w.sub_(m, alpha=lr)
        return
    m, v = moments
    if isinstance(rule, Adam):
        g = g.add(w, alpha=rule.weight_decay)
    elif isinstance(rule, AdamW) and w.ndim >= 2:
        w.mul_(1.0 - lr * rule.weight_decay)
    m.lerp_(g, 1.0 - rule.beta1)
    v.mul_(rule.beta2).addcmul_(g, g, value=1.0 - rule.beta2)
    deviation = (v / (1.0 - rule.beta2 ** (t + 1))).sqrt_().add_(rule.eps)
    w.addcdiv_(m, deviation, value=-lr / (1.0 - rule.beta1 ** (t + 1)))


class TorchRun:
    """A run in progress: program, data, moments and the step counter. It trains `parameters` in place.

    `buffers` are what else training changes (running means of a foreign module); they are part of the state.
    """

    def __init__(
        self,
        model: object,
        program: Program,
        parameters: Mapping[str, Tensor],
        data: tuple[Tensors, Tensors],
        loss: LossOf,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model, self.program, self._parameters, self._loss = model, program, dict(parameters), loss
        self._inputs, self._targets = data
        first = next(iter(self._inputs.values()))
        self._rows, self._device = len(first), first.device
        self._step = 0
        self._order = (-1, torch.arange(self._rows, device=self._device))
        kinds = ("m", "v")[: num_moments(program.optimizer)]
        self._state = {
            f"{kind}/{name}": torch.zeros_like(tensor, requires_grad=False)
            for kind in kinds
            for name, tensor in self._parameters.items()
        }
        self._kinds = kinds
        self._state |= {f"buffers/{name}": tensor for name, tensor in (buffers or {}).items()}

    @property
    def step(self) -> int:
        return self._step

    def arrays(self) -> dict[str, np.ndarray]:
        """Step, moments and buffers, as copies: "step", "m/<parameter>", "v/<parameter>", "buffers/<name>"."""
        return {"step": np.array(self._step, np.int64), **{k: array_of(v) for k, v in self._state.items()}}

    @torch.no_grad()
    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken; the weights of that moment are the model's business (`load`)."""
        check_state(arrays, {"step": (), **{name: tuple(tensor.shape) for name, tensor in self._state.items()}})
        for name, tensor in self._state.items():
            tensor.copy_(torch.tensor(np.asarray(arrays[name])))
        self._step = int(arrays["step"])

    def advance(self, steps: int) -> np.ndarray:
        """`steps` steps; the float64 loss of each, taken before its update."""
        losses = [self._one() for _ in range(steps)]
        return array_of(torch.stack(losses).double()) if losses else np.zeros(0)

    def _one(self) -> Tensor:
        program, t = self.program, self._step
        index = self._batch(t)
        inputs = {name: tensor.index_select(0, index) for name, tensor in self._inputs.items()}
        targets = {name: tensor.index_select(0, index) for name, tensor in self._targets.items()}
        loss = self._loss(inputs, targets, t)
        parameters = list(self._parameters.values())
        grads = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        lr = program.optimizer.lr * schedule_factor(program.schedule, t)
        with torch.no_grad():
            for name, g in zip(self._parameters, clipped(grads, program.clip_norm), strict=True):
                moments = [self._state[f"{kind}/{name}"] for kind in self._kinds]
                update(program.optimizer, lr, t, self._parameters[name], g, moments)
        self._step += 1
        return loss.detach()

    def _batch(self, t: int) -> Tensor:
        """The row numbers of step t."""
        size = self.program.batch_size
        epoch, s = divmod(t, ceil(self._rows / size))
        if self.program.shuffle and self._order[0] != epoch:
            order = derive(self.program.seed, "shuffle").at(epoch).permutation(self._rows)
            self._order = epoch, torch.tensor(order, device=self._device)
        return self._order[1][s * size : (s + 1) * size]


def check_owner(run: TorchRun, model: object) -> None:
    """BackendError unless `model` started this run."""
    if run.model is not model:
        raise BackendError("this run was started by another model", hint="start it with model.start(...)")

"""The reference backend: an interpreter of primitives in float64 NumPy, forward, backward and training.

It is the oracle of parity and the fallback where the native engine is not built; it aims at being right and
readable, not fast. Weights live in float64 here and show as float32 in `weights`; `TrainState.arrays` carries
them in full, so that a resumed run is the same run to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod
from typing import Any

import numpy as np

from alexandra.backends.admit import Admission, check_program, check_state
from alexandra.backends.noise import noise, noisy
from alexandra.backends.reference_elementwise import running_statistics
from alexandra.backends.reference_experts import gate_loss, selection_bias
from alexandra.backends.reference_ops import KERNELS, Call
from alexandra.backends.reference_optim import (
    Tensors,
    clipped,
    num_moments,
    schedule_factor,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
    update,
)
from alexandra.errors import BackendError
from alexandra.ir.check import infer
from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.ir.ops.experts import SELECTION_RATE
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import MSE, CrossEntropy, Objective, Program
from alexandra.rng import derive

# The parameters of each op by suffix, and the attribute (or its value) without which it has that one not.
_SUFFIXES: dict[str, dict[str, str]] = {
    "dense": {"weight": "", "bias": "bias"},
    "embedding": {"weight": ""},
    "layernorm": {"weight": "", "bias": ""},
    "rmsnorm": {"weight": ""},
    "batchnorm": {"weight": "", "bias": "", "mean": "", "variance": ""},
    "position": {"weight": "kind=learned"},
    "sdpa": {"relative": "relative_buckets"},
    "top_k_gate": {"bias": "selection_bias"},
    "experts": {"up": "", "down": "", "gate": "gated"},
    "conv2d": {"weight": "", "bias": "bias"},
    "rnn": {"input": "", "hidden": "", "bias": ""},
    "lstm": {"input": "", "hidden": "", "bias": ""},
    "gru": {"input": "", "hidden": "", "bias": "", "hidden_bias": ""},
}


def evaluate(
    graph: Graph,
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    masks: Tensors,
    training: bool = False,
) -> Tensors:
    """The value of every node of a primitive graph, in float64; `masks` by the node whose noise they are."""
    values: Tensors = {}
    for node in graph.nodes:
        if node.op == "input":
            given = inputs[node.name]
            values[node.name] = given if given.dtype == np.int32 else given.astype(np.float64)
        else:
            values[node.name] = KERNELS[node.op][0](_call(node, weights, values, masks, training))
    return values


def backpropagate(
    graph: Graph, weights: Mapping[str, np.ndarray], values: Tensors, seeds: Tensors, masks: Tensors
) -> Tensors:
    """The gradient of every parameter, given the gradients `seeds` of some nodes' values in training (reverse mode)."""
    grads = {name: np.zeros(array.shape) for name, array in weights.items()}
    pending = dict(seeds)
    for node in reversed(graph.nodes):
        if node.op == "input" or node.name not in pending:
            continue
        call = _call(node, weights, values, masks, True)
        d_inputs, d_params = KERNELS[node.op][1](call, values[node.name], pending.pop(node.name))
        for source, gradient in zip(node.inputs, d_inputs, strict=True):
            pending[source] = pending[source] + gradient if source in pending else gradient
        for suffix, gradient in d_params.items():
            grads[f"{node.owner}.{suffix}"] += gradient
    return grads


def gate_losses(
    graph: Graph, weights: Mapping[str, np.ndarray], values: Tensors, masks: Tensors
) -> tuple[float, Tensors]:
    """What the gates of a graph add to its training loss, and the gradient by the node of their logits."""
    total = 0.0
    seeds: Tensors = {}
    for node in graph.nodes:
        if node.op == "top_k_gate" and (node.attrs["balance"] or node.attrs["z_loss"]):
            loss, gradient = gate_loss(_call(node, weights, values, masks, True))
            total, place = total + loss, node.inputs[0]
            seeds[place] = seeds[place] + gradient if place in seeds else gradient
    return total, seeds


def move_untrained(graph: Graph, weights: Tensors, values: Tensors, masks: Tensors) -> None:
    """In place, what a training step changes without a gradient: running statistics and selection biases."""
    for node in graph.nodes:
        if node.op == "batchnorm":
            for suffix, array in running_statistics(_call(node, weights, values, masks, True)).items():
                weights[f"{node.owner}.{suffix}"] = array
        elif node.op == "top_k_gate" and node.attrs["selection_bias"]:
            weights[f"{node.owner}.bias"] = selection_bias(_call(node, weights, values, masks, True), SELECTION_RATE)


def _call(node: Node, weights: Mapping[str, np.ndarray], values: Tensors, masks: Tensors, training: bool) -> Call:
    needed = [suffix for suffix, condition in _SUFFIXES.get(node.op, {}).items() if _holds(node, condition)]
    params = {suffix: weights[f"{node.owner}.{suffix}"] for suffix in needed}
    given = tuple(values[name] for name in node.inputs)
    return Call(node.attrs, given, params, masks.get(node.name), training)


def _holds(node: Node, condition: str) -> bool:
    attr, _, value = condition.partition("=")
    return not attr or (node.attrs[attr] == value if value else bool(node.attrs[attr]))


# A diverging run must end in an infinite loss that the loop sees, not in NumPy warnings.
_QUIET = np.errstate(over="ignore", invalid="ignore", divide="ignore")


class ReferenceModel:
    """A graph and its weights, runnable. `threads` is accepted for the protocol; NumPy decides its own."""

    backend = "reference"

    def __init__(self, graph: Graph, weights: WeightSet, *, threads: int = 1) -> None:
        self.graph = graph
        self.admission = Admission(graph)
        self.load(weights)
        self._max_rows = 0
        self._moments = 0

    @property
    def weights(self) -> WeightSet:
        return WeightSet(self.master)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by tier; the arena is for the most rows seen so far."""
        weights = sum(array.nbytes for array in self.master.values())
        training = self._moments > 0
        return {
            "weights": weights,
            "arena": 8 * self._max_rows * _values_per_row(self.admission) * (2 if training else 1),
            "gradients": weights if training else 0,
            "optimizer": weights * self._moments,
        }

    def load(self, weights: WeightSet) -> None:
        """Take `weights`, which must be exactly this graph's (WeightsError)."""
        weights.exact(self.graph)
        self.master: Tensors = {name: array.astype(np.float64) for name, array in weights.items()}

    @_QUIET
    def forward(self, inputs: Mapping[str, Any]) -> Tensors:
        """The outputs by name, float64 [rows, *shape]; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        self._max_rows = max(self._max_rows, rows)
        graph, _ = self.admission.plan(arrays)
        values = evaluate(graph, self.master, arrays, {})
        return {node.name: values[node.name] for node in self.graph.outputs}

    def loss_and_grads(self, inputs: Mapping[str, Any], targets: Any, objective: Objective) -> tuple[float, Tensors]:
        """The loss, and its gradient by full parameter name (float64); dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, objective, arrays, rows)
        self._max_rows = max(self._max_rows, rows)
        return self.loss_and_grads_of(self.master, arrays, wanted, objective, {})

    @_QUIET
    def loss_and_grads_of(
        self, weights: Tensors, arrays: Tensors, targets: Tensors, objective: Objective, masks: Tensors
    ) -> tuple[float, Tensors]:
        """The same for admitted arrays and any float64 weights: what finite differences call."""
        loss, grads, _ = self.training_pass(weights, arrays, targets, objective, masks)
        return loss, grads

    def training_pass(
        self, weights: Tensors, arrays: Tensors, targets: Tensors, objective: Objective, masks: Tensors
    ) -> tuple[float, Tensors, Tensors]:
        """Loss, gradients and the value of every node, as training sees them."""
        graph, _ = self.admission.plan(arrays)
        values = evaluate(graph, weights, arrays, masks, training=True)
        total, seeds = gate_losses(graph, weights, values, masks)
        for name, target in targets.items():
            place, loss, gradient = self._loss(name, target, objective, values)
            total += loss
            seeds[place] = seeds[place] + gradient if place in seeds else gradient
        return total, backpropagate(graph, weights, values, seeds, masks), values

    def _loss(
        self, name: str, target: np.ndarray, objective: Objective, values: Tensors
    ) -> tuple[str, float, np.ndarray]:
        """(the node where the loss reads, the loss of output `name`, its gradient at that node)."""
        if isinstance(objective, MSE):
            return name, *squared_error(values[name], target)
        assert isinstance(objective, CrossEntropy)
        kind, place = self.admission.heads[name]
        loss = sigmoid_cross_entropy if kind == "sigmoid" else softmax_cross_entropy
        return place, *loss(values[place], target, objective.label_smoothing)

    def start(self, program: Program, inputs: Mapping[str, Any], targets: Any) -> ReferenceState:
        """A run at step 0 over these rows."""
        check_program(program)
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, program.objective, arrays, rows)
        self._moments = num_moments(program.optimizer)
        self._max_rows = max(self._max_rows, min(rows, program.batch_size))
        return ReferenceState(self, program, arrays, wanted)

    @_QUIET
    def run(self, state: ReferenceState, steps: int) -> np.ndarray:
        """`steps` steps of the run; the float64 loss of each step, taken before its update."""
        if state.model is not self:
            raise BackendError("this run was started by another model", hint="start it with model.start(...)")
        return np.array([state.advance() for _ in range(steps)], dtype=np.float64)


class ReferenceState:
    """A run in progress: program, data, moments and the step counter. It trains the weights of `model`."""

    def __init__(self, model: ReferenceModel, program: Program, inputs: Tensors, targets: Tensors) -> None:
        self.model, self.program = model, program
        self._inputs, self._targets = inputs, targets
        self._rows = len(next(iter(inputs.values())))
        self._types = model.admission.plan(inputs)[1]
        self._noisy = noisy(model.admission.primitive)
        self._step = 0
        self._order: tuple[int, np.ndarray] = (-1, np.arange(self._rows))
        self._moments = {
            kind: {name: np.zeros(array.shape) for name, array in model.master.items()}
            for kind in ("m", "v")[: num_moments(program.optimizer)]
        }

    @property
    def step(self) -> int:
        return self._step

    def arrays(self) -> Tensors:
        """Step, moments and the float64 weights, as copies: "step", "m/<parameter>", "weights/<parameter>"."""
        groups = {"weights": self.model.master, **self._moments}
        flat = {f"{kind}/{name}": array.copy() for kind, group in groups.items() for name, array in group.items()}
        return {"step": np.array(self._step, dtype=np.int64), **flat}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken; the model's weights become those of that moment."""
        check_state(arrays, {name: array.shape for name, array in self.arrays().items()})
        self._step = int(arrays["step"])
        for kind, group in {"weights": self.model.master, **self._moments}.items():
            for name in group:
                group[name] = np.array(arrays[f"{kind}/{name}"], dtype=np.float64)

    def advance(self) -> float:
        """One step: batch, loss, gradients, clipping, update."""
        program, t = self.program, self._step
        index = self._batch(t)
        inputs = {name: array[index] for name, array in self._inputs.items()}
        targets = {name: array[index] for name, array in self._targets.items()}
        masks = {node.name: self._mask(node, self._types[node.name], t, len(index)) for node in self._noisy}
        weights = self.model.master
        loss, grads, values = self.model.training_pass(weights, inputs, targets, program.objective, masks)
        move_untrained(self.model.admission.plan(inputs)[0], weights, values, masks)
        grads = {name: gradient for name, gradient in grads.items() if name not in self.model.admission.untrained}
        lr = program.optimizer.lr * schedule_factor(program.schedule, t)
        update(program.optimizer, lr, t, weights, clipped(grads, program.clip_norm), self._moments)
        self._step += 1
        return loss

    def _batch(self, t: int) -> np.ndarray:
        """The row numbers of step t."""
        steps_per_epoch = ceil(self._rows / self.program.batch_size)
        epoch, s = divmod(t, steps_per_epoch)
        if self.program.shuffle and self._order[0] != epoch:
            self._order = epoch, derive(self.program.seed, "shuffle").at(epoch).permutation(self._rows)
        return self._order[1][s * self.program.batch_size : (s + 1) * self.program.batch_size]

    def _mask(self, node: Node, given: TensorType, t: int, rows: int) -> np.ndarray:
        """The noise of a node at step t; a gate's is of its logits' shape, which is its own."""
        return noise(self.program.seed, node, t, (rows, *(int(dim) for dim in given.shape)))


def _values_per_row(admission: Admission) -> int:
    """Values of all nodes for one row; symbolic axes count as 1."""
    types = infer(admission.primitive)
    return sum(prod(dim if isinstance(dim, int) else 1 for dim in given.shape) for given in types.values())

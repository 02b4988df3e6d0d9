"""The reference backend: an interpreter of primitives in float64 NumPy, forward, backward and training.

It is the oracle of parity and the fallback where the native engine is not built; it aims at being right and
readable, not fast. Weights live in float64 here and show as float32 in `weights`; `TrainState.arrays` carries
them in full, so that a resumed run is the same run to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, nan, prod
from typing import Any

import numpy as np

from alexandra.backends.admit import WEIGHTS, Admission, check_fed, check_program, check_state, trained_names
from alexandra.backends.base import Progress
from alexandra.backends.noise import noise, noisy
from alexandra.backends.reference_elementwise import running_statistics
from alexandra.backends.reference_experts import gate_loss, selection_bias
from alexandra.backends.reference_ops import KERNELS, Call
from alexandra.backends.reference_optim import (
    Tensors,
    clipped,
    kinds_of,
    norm_of,
    norm_of_all,
    num_moments,
    reduced,
    rules_of,
    schedule_factor,
    terms_of,
    update,
)
from alexandra.backends.stopping import Watch, Watched
from alexandra.errors import BackendError
from alexandra.ir.check import hidden_matrices, infer
from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.ir.ops.experts import SELECTION_RATE
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import MSE, Objective, Program
from alexandra.rng import derive

Data = tuple[Tensors, Tensors]  # admitted inputs and targets
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
) -> tuple[Tensors, Tensors]:
    """The gradients of every parameter and of the inputs that have one, given those of some nodes' values (`seeds`).

    Reverse mode, as training sees the values.
    """
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
    return grads, pending


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

    def loss_and_grads(
        self, inputs: Mapping[str, Any], targets: Any, objective: Objective, frozen: Sequence[str] = ()
    ) -> tuple[float, Tensors]:
        """The loss, and its gradient by full parameter name but for the frozen ones (float64); dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        trained = trained_names(frozen, self.master)
        wanted = self.admission.targets(targets, objective, arrays, rows)
        self._max_rows = max(self._max_rows, rows)
        loss, grads = self.loss_and_grads_of(self.master, arrays, wanted, objective, {})
        return loss, {name: grads[name] for name in trained}

    def loss(self, inputs: Mapping[str, Any], targets: Any, objective: Objective) -> float:
        """The loss alone; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        return self.loss_of(arrays, self.admission.targets(targets, objective, arrays, rows), objective)

    @_QUIET
    def loss_of(self, arrays: Tensors, targets: Tensors, objective: Objective) -> float:
        """The loss of admitted arrays."""
        graph, _ = self.admission.plan(arrays)
        values = evaluate(graph, self.master, arrays, {})
        return self.losses(values, targets, objective, self.norms(targets, objective))[0]

    @_QUIET
    def backward(
        self, inputs: Mapping[str, Any], gradients: Mapping[str, Any], frozen: Sequence[str] = ()
    ) -> tuple[Tensors, Tensors]:
        """(gradients of the float inputs, of the parameters) of sum(gradient * value) over the named nodes.

        `gradients` gives [rows, *shape] for outputs or for any layers: the ones above them cost nothing.
        """
        arrays, rows = self.admission.inputs(inputs)
        trained = trained_names(frozen, self.master)
        graph, _ = self.admission.plan(arrays)
        seeds = self.admission.seeds(gradients, arrays, rows)
        values = evaluate(graph, self.master, arrays, {}, training=True)
        given = {name: seed.astype(np.float64) for name, seed in seeds.items()}
        grads, pending = backpropagate(graph, self.master, values, given, {})
        floats = {name: array for name, array in arrays.items() if array.dtype != np.int32}
        d_inputs = {name: pending.get(name, np.zeros(array.shape)) for name, array in floats.items()}
        return d_inputs, {name: grads[name] for name in trained}

    @_QUIET
    def loss_and_grads_of(
        self, weights: Tensors, arrays: Tensors, targets: Tensors, objective: Objective, masks: Tensors
    ) -> tuple[float, Tensors]:
        """The same for admitted arrays and any float64 weights: what finite differences call."""
        loss, grads, _ = self.training_pass(weights, (arrays, targets), objective, masks)
        return loss, grads

    def training_pass(
        self,
        weights: Tensors,
        data: Data,
        objective: Objective,
        masks: Tensors,
        norms: Mapping[str, float] | None = None,
        share: float = 1.0,
    ) -> tuple[float, Tensors, Tensors]:
        """Loss, gradients and the value of every node, as training sees them.

        Of rows that are a part of an update, `norms` are the update's and `share` is theirs of what gates add.
        """
        arrays, targets = data
        graph, _ = self.admission.plan(arrays)
        values = evaluate(graph, weights, arrays, masks, training=True)
        norms = norms if norms is not None else self.norms(targets, objective)
        total, seeds = self.losses(values, targets, objective, norms)
        added, gates = gate_losses(graph, weights, values, masks)
        for place, gradient in gates.items():
            seeds[place] = seeds[place] + share * gradient if place in seeds else share * gradient
        return total + share * added, backpropagate(graph, weights, values, seeds, masks)[0], values

    def norms(self, targets: Tensors, objective: Objective) -> dict[str, float]:
        """What the terms of each output are divided by, from the targets of a whole update."""
        heads = self.admission.heads
        return {n: norm_of(targets[n], targets.get(n + WEIGHTS), objective, heads[n][0]) for n in heads}

    def losses(
        self, values: Tensors, targets: Tensors, objective: Objective, norms: Mapping[str, float]
    ) -> tuple[float, Tensors]:
        """The loss of all outputs, and its gradients by the nodes where they read."""
        total = 0.0
        seeds: Tensors = {}
        for name, (kind, place) in self.admission.heads.items():
            place = name if isinstance(objective, MSE) else place
            terms = terms_of(values[place], targets[name], objective, kind)
            loss, gradient = reduced(terms, targets.get(name + WEIGHTS), norms[name])
            total += loss
            seeds[place] = seeds[place] + gradient if place in seeds else gradient
        return total, seeds

    def start(
        self, program: Program, inputs: Mapping[str, Any], targets: Any, validation: Any = None
    ) -> ReferenceState:
        """A run at step 0 over these rows; `validation` is (inputs, targets) for `program.stop`."""
        check_program(program)
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, program.objective, arrays, rows)
        valid = self.admission.validation(program, validation)
        self._moments = num_moments(program.optimizer)
        self._max_rows = max(self._max_rows, min(rows, program.batch_size))
        return ReferenceState(self, program, (arrays, wanted), valid)

    def feed(self, state: ReferenceState, inputs: Mapping[str, Any], targets: Any) -> None:
        """Other rows for a run, as many and of the same shapes; moments and step go on."""
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, state.program.objective, arrays, rows)
        state.replace_data((arrays, wanted))

    @_QUIET
    def run(self, state: ReferenceState, steps: int, progress: Progress | None = None) -> np.ndarray:
        """At most `steps` steps of the run (fewer when it stops early); the float64 loss of each before its update."""
        if state.model is not self:
            raise BackendError("this run was started by another model", hint="start it with model.start(...)")
        losses: list[float] = []
        while len(losses) < steps and not state.stopped:
            losses.append(state.advance())
            if progress is not None:
                progress(state.step, losses[-1])
        return np.array(losses, dtype=np.float64)


class ReferenceState(Watched):
    """A run in progress: program, data, moments and the step counter. It trains the weights of `model`."""

    def __init__(self, model: ReferenceModel, program: Program, data: Data, valid: Data | None) -> None:
        self.model, self.program = model, program
        self._inputs, self._targets = data
        self._rows = len(next(iter(self._inputs.values())))
        self._types = model.admission.plan(self._inputs)[1]
        self._noisy = noisy(model.admission.primitive)
        self._step = 0
        self.grad_norm = nan
        self._order: tuple[int, np.ndarray] = (-1, np.arange(self._rows))
        kept = trained_names(program.frozen, model.master)
        self._trained = [name for name in kept if name not in model.admission.untrained]
        self._held = set(model.master) - set(kept)
        self._rules = rules_of(program.optimizer, self._trained, hidden_matrices(model.graph))
        self._moments = {
            kind: {n: np.zeros(model.master[n].shape) for n in self._trained if kind in kinds_of(self._rules[n])}
            for kind in ("m", "v")[: num_moments(program.optimizer)]
        }
        self._valid = valid
        self.watch = Watch(program.stop, ceil(self._rows / program.update_rows)) if program.stop else None

    def replace_data(self, data: Data) -> None:
        """What `ReferenceModel.feed` does with admitted arrays."""
        check_fed({**self._inputs, **self._targets}, {**data[0], **data[1]})
        self._inputs, self._targets = data

    @property
    def step(self) -> int:
        return self._step

    def now(self) -> Tensors:
        """The float64 weights."""
        return self.model.master

    def arrays(self) -> Tensors:
        """Step, moments, the float64 weights and early stopping's, as copies: "step", "m/<parameter>", "weights/.."."""
        groups = {"weights": self.model.master, **self._moments}
        flat = {f"{kind}/{name}": array.copy() for kind, group in groups.items() for name, array in group.items()}
        watched = self.watch.arrays(self.model.master) if self.watch else {}
        return {"step": np.array(self._step, dtype=np.int64), **flat, **watched}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken; the model's weights become those of that moment."""
        check_state(arrays, {name: array.shape for name, array in self.arrays().items()})
        self._step = int(arrays["step"])
        for kind, group in {"weights": self.model.master, **self._moments}.items():
            for name in group:
                group[name] = np.array(arrays[f"{kind}/{name}"], dtype=np.float64)
        if self.watch:
            self.watch.restore(arrays)

    def advance(self) -> float:
        """One step: batch, loss, gradients, clipping, update; then a look at the validation rows, if one is due."""
        program, t = self.program, self._step
        weights = self.model.master
        loss, grads = self._gradients(self._batch(t))
        factor = schedule_factor(program.schedule, t)
        trained = {name: grads[name] for name in self._trained}
        self.grad_norm = norm_of_all(trained)
        for name, g in clipped(trained, program.clip_norm).items():
            rule = self._rules[name]
            moments = tuple(self._moments[kind][name] for kind in kinds_of(rule))
            update(rule, rule.lr * factor, t, weights[name], g, moments)
        self._step += 1
        if self.watch and self._valid and self.watch.due(self._step):
            seen = self.model.loss_of(*self._valid, program.objective)
            self.watch.look(self._step, seen, lambda: {name: array.copy() for name, array in weights.items()})
            if self.watch.stopped and self.watch.stop.restore_best:
                weights.update({name: array.copy() for name, array in self.watch.best.items()})
        return loss

    def _gradients(self, index: np.ndarray) -> tuple[float, Tensors]:
        """Loss and gradients of these rows, batch_size at a time."""
        model, objective, weights = self.model, self.program.objective, self.model.master
        norms = model.norms({name: array[index] for name, array in self._targets.items()}, objective)
        graph = model.admission.plan(self._inputs)[0]
        total, sums = 0.0, {name: np.zeros(array.shape) for name, array in weights.items()}
        for first in range(0, len(index), self.program.batch_size):
            part = index[first : first + self.program.batch_size]
            masks = {n.name: self._mask(n, self._types[n.name], first, len(part)) for n in self._noisy}
            data = tuple({name: a[part] for name, a in group.items()} for group in (self._inputs, self._targets))
            share = len(part) / len(index)
            loss, grads, values = model.training_pass(weights, (data[0], data[1]), objective, masks, norms, share)
            held = {name: weights[name] for name in self._held}
            move_untrained(graph, weights, values, masks)
            weights.update(held)
            total += loss
            for name, gradient in grads.items():
                sums[name] += gradient
        return total, sums

    def _batch(self, t: int) -> np.ndarray:
        """The row numbers of step t."""
        size = self.program.update_rows
        epoch, s = divmod(t, ceil(self._rows / size))
        if self.program.shuffle and self._order[0] != epoch:
            self._order = epoch, derive(self.program.seed, "shuffle").at(epoch).permutation(self._rows)
        return self._order[1][s * size : (s + 1) * size]

    def _mask(self, node: Node, given: TensorType, first: int, rows: int) -> np.ndarray:
        """The noise of a node for rows of this step's update; a gate's is of its logits' shape, which is its own."""
        shape = rows, *(int(dim) for dim in given.shape)
        return noise(self.program.seed, node, (self._step, first), shape)


def _values_per_row(admission: Admission) -> int:
    """Values of all nodes for one row; symbolic axes count as 1."""
    types = infer(admission.primitive)
    return sum(prod(dim if isinstance(dim, int) else 1 for dim in given.shape) for given in types.values())

"""The native backend: a Graph planned into the C++ engine (csrc/), which then runs without Python.

This module translates: primitives to node tuples, programs to numbers, arrays to memory that the engine reads.
What is computed, and the arithmetic contract that makes it reproducible, is in csrc/kernels.h. Results are the
same bytes for any number of threads and for a row alone; they belong to an instruction set (`model.isa`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from alexandra import _native
from alexandra.backends.admit import Admission, check_program, check_state, refuse_ops
from alexandra.backends.native_unsupported import UNSUPPORTED
from alexandra.errors import BackendError
from alexandra.ir.check import infer, param_specs
from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.ir.ops import COMPARISONS, OPS
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import MSE, SGD, AdamW, CrossEntropy, Objective, Program
from alexandra.rng import derive

Arrays = dict[str, np.ndarray]
NodeTuple = tuple[str, str, list[int], list[int], list[int], list[float]]

PLANNED_ROWS = 128  # of inference: more rows run in chunks
_KINDS = {"softmax": 0, "sigmoid": 1, "mse": 2}
_DECAYS = {"constant": 0, "cosine": 1, "step": 2}
_MOMENTS = ("m", "v")


class NativeModel:
    """A graph and its weights in the engine. `isa` forces an instruction set; "" takes the best of this processor,
    or what the environment variable ALEXANDRA_ISA names. `max_rows` is what inference plans memory for.
    `checkpoint` trains in less memory: values are forgotten inside segments and computed again, to the same bytes."""

    backend = "native"

    def __init__(
        self,
        graph: Graph,
        weights: WeightSet,
        *,
        threads: int = 1,
        isa: str = "",
        max_rows: int = PLANNED_ROWS,
        checkpoint: bool = False,
    ) -> None:
        self.graph = graph
        self.admission = Admission(graph)
        refuse_ops(self.admission.primitive, UNSUPPORTED, self.backend)
        self._shapes = {name: spec.shape for name, spec in param_specs(graph).items()}
        with _engine_errors():
            self._engine = _native.Engine([(n, list(s), True) for n, s in self._shapes.items()], threads, isa)
        self._max_rows, self._checkpoint = max_rows, checkpoint
        self._networks: dict[str, Any] = {}
        self._training = {"arena": 0, "gradients": 0, "optimizer": 0}
        types = infer(self.admission.primitive)
        if all(isinstance(dim, int) for given in types.values() for dim in given.shape):
            self._network(self.admission.primitive, types)  # symbolic axes wait for the first call
        self.load(weights)

    @property
    def isa(self) -> str:
        """The instruction set whose kernels run: avx512, avx2 or portable."""
        return str(self._engine.isa)

    @property
    def weights(self) -> WeightSet:
        return WeightSet(self._read(self._engine.read))

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by tier. The arena is inference's for `max_rows` rows plus that of the latest run or gradient."""
        inference = sum(4 * network.arena_floats for network in self._networks.values())
        return {
            "weights": 4 * self._engine.floats,
            "arena": inference + self._training["arena"],
            "gradients": self._training["gradients"],
            "optimizer": self._training["optimizer"],
        }

    def load(self, weights: WeightSet) -> None:
        """Take `weights`, which must be exactly this graph's (WeightsError)."""
        weights.exact(self.graph)
        self._write(self._engine.write, weights)

    def forward(self, inputs: Mapping[str, Any]) -> Arrays:
        """The outputs by name, float32 [rows, *shape]; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        graph, types = self.admission.plan(arrays)
        outputs = {
            node.name: np.empty((rows, *_numbers(types[node.name])), np.float32)
            for node in graph.nodes
            if node.op == "output"
        }
        if rows:
            with _engine_errors():
                self._network(graph, types).forward(_inputs(graph, arrays), list(outputs.values()))
        return {node.name: outputs[node.name] for node in self.graph.outputs}

    def loss_and_grads(self, inputs: Mapping[str, Any], targets: Any, objective: Objective) -> tuple[float, Arrays]:
        """The loss and its gradient by full parameter name; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        program = Program(objective, SGD(), batch_size=max(1, rows), shuffle=False)
        trainer, _ = self._trainer(program, arrays, self.admission.targets(targets, objective, arrays, rows), False)
        grads = self._empty()
        with _engine_errors():
            loss = trainer.gradients(list(grads.values()))
        return float(loss), grads

    def start(self, program: Program, inputs: Mapping[str, Any], targets: Any) -> NativeState:
        """A run at step 0. The engine reads the admitted arrays in place: do not change them while it lasts."""
        check_program(program)
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, program.objective, arrays, rows)
        trainer, kept = self._trainer(program, arrays, wanted, True)
        self._training["optimizer"] = 4 * self._engine.floats * trainer.num_moments
        return NativeState(self, trainer, kept)

    def run(self, state: NativeState, steps: int) -> np.ndarray:
        """`steps` steps without Python; the float64 loss of each, taken before its update.

        BackendError names the step whose loss is not finite; that step changes nothing.
        """
        if state.model is not self:
            raise BackendError("this run was started by another model", hint="start it with model.start(...)")
        losses = np.zeros(steps, np.float64)
        with _engine_errors("lower the learning rate, clip the gradient (clip_norm=1.0) or look for huge values"):
            state.trainer.run(losses)
        return losses

    def _trainer(
        self, program: Program, arrays: Arrays, targets: Arrays, dropout: bool
    ) -> tuple[Any, list[np.ndarray]]:
        """An engine's trainer over these arrays, and the arrays that must live as long as it."""
        graph, types = self.admission.plan(arrays)
        index = {node.name: i for i, node in enumerate(graph.nodes)}
        inputs = _inputs(graph, arrays)
        losses = []
        for name, target in targets.items():
            kind, place = self.admission.heads[name]
            kind, place = ("mse", name) if isinstance(program.objective, MSE) else (kind or "softmax", place)
            kept = np.ascontiguousarray(target, np.int32 if kind == "softmax" else np.float32)
            smoothing = program.objective.label_smoothing if isinstance(program.objective, CrossEntropy) else 0.0
            losses.append((_KINDS[kind], index[place], smoothing, kept))
        settings = _program(program)
        settings.checkpoint = self._checkpoint
        if dropout and any(node.op == "dropout" for node in graph.nodes):
            for node in graph.nodes:
                stream = derive(program.seed, "dropout", node.name)
                settings.add_dropout(stream.key, stream.nonce)
        with _engine_errors():
            trainer = _native.Trainer(self._engine, self._nodes(graph, types), settings, inputs, losses)
        self._training |= {"arena": 4 * trainer.arena_floats, "gradients": 4 * self._engine.floats}
        return trainer, [*inputs, *(loss[3] for loss in losses)]

    def _network(self, graph: Graph, types: Mapping[str, TensorType]) -> Any:
        """The planned inference network of these shapes."""
        if graph.spec_hash not in self._networks:
            nodes = self._nodes(graph, types)
            with _engine_errors():
                self._networks[graph.spec_hash] = _native.Network(self._engine, nodes, self._max_rows)
        return self._networks[graph.spec_hash]

    def _nodes(self, graph: Graph, types: Mapping[str, TensorType]) -> list[NodeTuple]:
        index = {node.name: i for i, node in enumerate(graph.nodes)}
        params = {name: i for i, name in enumerate(self._shapes)}
        return [_node(node, types, index, params) for node in graph.nodes]

    def _empty(self) -> Arrays:
        return {name: np.empty(shape, np.float32) for name, shape in self._shapes.items()}

    def _read(self, read: Any) -> Arrays:
        arrays = self._empty()
        read(list(arrays.values()))
        return arrays

    def _write(self, write: Any, arrays: Mapping[str, np.ndarray]) -> None:
        write([np.array(arrays[name], np.float32, order="C") for name in self._shapes])


class NativeState:
    """A run in progress: the engine's trainer, and the data that it reads. It trains the weights of `model`."""

    def __init__(self, model: NativeModel, trainer: Any, kept: list[np.ndarray]) -> None:
        self.model, self.trainer, self._kept = model, trainer, kept

    @property
    def step(self) -> int:
        return int(self.trainer.step)

    def arrays(self) -> Arrays:
        """Step and moments, as copies: "step", "m/<parameter>", "v/<parameter>"."""
        result = {"step": np.array(self.step, np.int64)}
        for which, kind in enumerate(_MOMENTS[: self.trainer.num_moments]):
            moment = self.model._read(lambda arrays, which=which: self.trainer.read_moment(which, arrays))
            result |= {f"{kind}/{name}": array for name, array in moment.items()}
        return result

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken; the weights of that moment are the model's business (`load`)."""
        check_state(arrays, {name: array.shape for name, array in self.arrays().items()})
        for which, kind in enumerate(_MOMENTS[: self.trainer.num_moments]):
            moment = {name: arrays[f"{kind}/{name}"] for name in self.model.weights}
            self.model._write(lambda values, which=which: self.trainer.write_moment(which, values), moment)
        self.trainer.step = int(arrays["step"])


@contextmanager
def _engine_errors(hint: str = "") -> Iterator[None]:
    """The engine's errors as ours."""
    try:
        yield
    except _native.EngineError as error:
        raise BackendError(str(error), hint=hint) from None


def _inputs(graph: Graph, arrays: Arrays) -> list[np.ndarray]:
    """The inputs in the order of the plan."""
    return [arrays[node.name] for node in graph.nodes if node.op == "input"]


def _node(
    node: Node, types: Mapping[str, TensorType], index: Mapping[str, int], params: Mapping[str, int]
) -> NodeTuple:
    """What the engine knows of a primitive: name, op, inputs, shape, parameters, numbers (see csrc/ops.cpp)."""
    own = OPS[node.op].params(node.attrs, [types[name] for name in node.inputs]) if node.op != "output" else {}
    return (
        node.name,
        node.op,
        [index[name] for name in node.inputs],
        list(_numbers(types[node.name])),
        [params[f"{node.owner}.{suffix}"] for suffix in own],
        _attributes(node),
    )


def _attributes(node: Node) -> list[float]:
    if node.op == "input":
        return [float(node.attrs["dtype"] == "int32")]
    if node.op == "select":
        return [float(COMPARISONS.index(str(node.attrs["cmp"]))), _number(node, "value")]
    names = {"leaky_relu": ["slope"], "elu": ["alpha"], "slice": ["start", "stop"], "dropout": ["rate"]}
    names |= {"layernorm": ["eps"], "rmsnorm": ["eps"]}
    return [_number(node, name) for name in names.get(node.op, [])]


def _number(node: Node, name: str) -> float:
    value = node.attrs[name]
    assert isinstance(value, int | float)
    return float(value)


def _numbers(given: TensorType) -> tuple[int, ...]:
    assert all(isinstance(dim, int) for dim in given.shape) and prod(map(int, given.shape)) > 0
    return tuple(int(dim) for dim in given.shape)


def _program(program: Program) -> Any:
    """`program` in numbers."""
    settings, rule, schedule = _native.Program(), program.optimizer, program.schedule
    settings.set_optimizer(0 if isinstance(rule, SGD) else 2 if isinstance(rule, AdamW) else 1)
    settings.lr, settings.weight_decay = rule.lr, rule.weight_decay
    if isinstance(rule, SGD):
        settings.momentum = rule.momentum
    else:
        settings.beta1, settings.beta2, settings.eps = rule.beta1, rule.beta2, rule.eps
    settings.set_decay(_DECAYS[schedule.kind])
    settings.warmup_steps, settings.total_steps = schedule.warmup_steps, schedule.total_steps
    settings.every, settings.final_factor, settings.decay_factor = (
        max(1, schedule.every),
        schedule.final,
        schedule.decay,
    )
    settings.batch_size, settings.clip_norm, settings.shuffle = program.batch_size, program.clip_norm, program.shuffle
    order = derive(program.seed, "shuffle")
    settings.set_order(order.key, order.nonce)
    return settings

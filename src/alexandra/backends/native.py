"""The native backend: a Graph planned into the C++ engine (csrc/), which then runs without Python.

This module translates: primitives to node tuples, programs to numbers, arrays to memory that the engine reads.
What is computed, and the arithmetic contract that makes it reproducible, is in csrc/kernels.h. Results are the
same bytes for any number of threads and for a row alone; they belong to an instruction set (`model.isa`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import alexandra._native as _native
from alexandra.backends.admit import Admission, check_fed, check_program, check_state, trained_names
from alexandra.backends.base import Progress
from alexandra.backends.native_nodes import NodeTuple, axes, node_tuples
from alexandra.backends.native_program import LossTuple, given_gradients, kept_by, losses_of, settings_of
from alexandra.backends.reference_optim import kinds_of, rules_of
from alexandra.backends.stopping import BEST, STATE
from alexandra.errors import BackendError
from alexandra.ir.check import hidden_matrices, infer, param_specs
from alexandra.ir.graph import Graph, TensorType
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import MSE, SGD, Objective, Optimizer, Program

Arrays = dict[str, np.ndarray]

PLANNED_ROWS = 128  # of inference: more rows run in chunks
_MOMENTS = ("m", "v")


@dataclass(frozen=True)
class _Planned:
    """A network planned for the shapes of a graph without symbolic axes."""

    network: Any
    graph: Graph
    types: Mapping[str, TensorType]


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
        self.graph, self.threads = graph, threads
        self.admission = Admission(graph)
        self._shapes = {name: spec.shape for name, spec in param_specs(graph).items()}
        self._hidden = hidden_matrices(graph)
        with engine_errors():
            specs = [(n, list(s), n not in self.admission.untrained) for n, s in self._shapes.items()]
            self._engine = _native.Engine(specs, threads, isa, *_places(weights, self._shapes))
        self._max_rows, self._checkpoint = max_rows, checkpoint
        self._networks: dict[str, _Planned] = {}
        self._training = {"arena": 0, "gradients": 0, "optimizer": 0}
        types = infer(self.admission.primitive)
        if all(isinstance(dim, int) for given in types.values() for dim in given.shape):
            self._network(self.admission.primitive, types)  # symbolic axes wait for the first call
        weights.exact(graph)
        if not self._engine.mapped:
            self.load(weights)

    @property
    def isa(self) -> str:
        """The instruction set whose kernels run: amx, avx512, avx2 or portable."""
        return str(self._engine.isa)

    @property
    def mapped(self) -> bool:
        """Whether the weights are the pages of a file (WeightSet.open); training and `load` take a copy."""
        return bool(self._engine.mapped)

    @property
    def weights(self) -> WeightSet:
        return WeightSet(self._read(self._engine.read))

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by tier. The arena is inference's for `max_rows` rows plus that of the latest run or gradient."""
        inference = sum(4 * planned.network.arena_floats for planned in self._networks.values())
        return {
            "weights": 4 * self._engine.floats,
            "arena": inference + self._training["arena"],
            "gradients": self._training["gradients"],
            "optimizer": self._training["optimizer"],
        }

    def read(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the weights of now into these arrays, float32 in C order, one per parameter."""
        with engine_errors():
            self._engine.read([arrays[name] for name in self._shapes])

    def load(self, weights: WeightSet) -> None:
        """Take `weights`, which must be exactly this graph's (WeightsError)."""
        weights.exact(self.graph)
        self._own()
        self._write(self._engine.write, weights)

    def forward(self, inputs: Mapping[str, Any]) -> Arrays:
        """The outputs by name, float32 [rows, *shape]; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        graph, types = self.admission.plan(arrays)
        outputs = {
            node.name: np.empty((rows, *axes(types[node.name])), np.float32)
            for node in graph.nodes
            if node.op == "output"
        }
        if rows:
            with engine_errors():
                self._network(graph, types).forward(_inputs(graph, arrays), list(outputs.values()))
        return {node.name: outputs[node.name] for node in self.graph.outputs}

    def loss(self, inputs: Mapping[str, Any], targets: Any, objective: Objective) -> float:
        """The loss alone, in chunks of `max_rows`; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, objective, arrays, rows)
        evaluator, _ = self._evaluator(objective, arrays, wanted)
        return float(evaluator.loss())

    def loss_and_grads(
        self, inputs: Mapping[str, Any], targets: Any, objective: Objective, frozen: Sequence[str] = ()
    ) -> tuple[float, Arrays]:
        """The loss and its gradient by full parameter name but for the frozen ones; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, objective, arrays, rows)
        graph, types = self.admission.plan(arrays)
        losses = losses_of(wanted, objective, self.admission.heads, _index(graph))
        trainer, learned = self._gradients_only(graph, types, arrays, losses, frozen)
        grads = self._empty(learned)
        with engine_errors():
            loss = trainer.gradients(list(grads.values()))
        return float(loss), self.admission.with_untrained(grads, frozen)

    def backward(
        self, inputs: Mapping[str, Any], gradients: Mapping[str, Any], frozen: Sequence[str] = ()
    ) -> tuple[Arrays, Arrays]:
        """(gradients of the float inputs, of the parameters) of sum(gradient * value) over the named nodes.

        `gradients` gives [rows, *shape] for outputs or for any layers: the ones above them cost nothing.
        """
        arrays, rows = self.admission.inputs(inputs)
        graph, types = self.admission.plan(arrays)
        losses = given_gradients(self.admission.seeds(gradients, arrays, rows), _index(graph))
        trainer, learned = self._gradients_only(graph, types, arrays, losses, frozen, through=True)
        grads = self._empty(learned)
        names = [node.name for node in graph.nodes if node.op == "input"]
        d_inputs = {}
        with engine_errors():
            trainer.gradients(list(grads.values()))
            for number, name in enumerate(names):
                if arrays[name].dtype == np.float32:
                    d_inputs[name] = np.empty(arrays[name].shape, np.float32)
                    trainer.input_gradient(number, d_inputs[name])
        return d_inputs, self.admission.with_untrained(grads, frozen)

    def start(self, program: Program, inputs: Mapping[str, Any], targets: Any, validation: Any = None) -> NativeState:
        """A run at step 0; `validation` is (inputs, targets) for `program.stop`.

        The engine reads the admitted arrays in place: do not change them while the run lasts.
        """
        return self.started(program, inputs, targets, validation)

    def started(
        self,
        program: Program,
        inputs: Mapping[str, Any],
        targets: Any,
        validation: Any = None,
        *,
        varies: bool = False,
        part: bool = False,
    ) -> NativeState:
        """`start`; a run that `varies` is fed with any number of rows, a `part` belongs to the steps of another."""
        check_program(program)
        self._must_train()
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, program.objective, arrays, rows)
        held = self.admission.validation(program, validation)
        evaluator, kept = self._evaluator(program.objective, *held) if held else (None, [])
        graph, types = self.admission.plan(arrays)
        losses = losses_of(wanted, program.objective, self.admission.heads, _index(graph))
        settings = settings_of(program, graph, [i for i, name in enumerate(self._shapes) if name in self._hidden])
        settings.checkpoint, settings.varies, settings.part = self._checkpoint, varies, part
        learned = self._learned(program.frozen)
        settings.set_wishes(self._held(program.frozen), [], False)
        data = _inputs(graph, arrays)
        with engine_errors():
            trainer = _native.Trainer(self._engine, self._nodes(graph, types), settings, data, losses, evaluator)
        if not part:
            self.count(trainer)
            self._training["optimizer"] = 4 * trainer.learned_floats * trainer.num_moments
        rules = rules_of(program.optimizer, learned, self._hidden)
        state = NativeState(self, trainer, rules, [*data, *kept_by(losses), *kept])
        state.feed_of, state.varies = (program.objective, [*data, *kept_by(losses)]), varies
        return state

    def feed(self, state: NativeState, inputs: Mapping[str, Any], targets: Any) -> None:
        """Other rows for a run, as many and of the same shapes; moments and step go on."""
        if state.model is not self:
            raise BackendError("this run was started by another model", hint="start it with model.start(...)")
        objective, before = state.feed_of
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, objective, arrays, rows)
        graph, _ = self.admission.plan(arrays)
        data, losses = _inputs(graph, arrays), losses_of(wanted, objective, self.admission.heads, _index(graph))
        given = [*data, *kept_by(losses)]
        if not state.varies:
            check_fed(*({str(i): array for i, array in enumerate(arrays)} for arrays in (before, given)))
        with engine_errors():
            state.trainer.feed(data, losses)
        state.feed_of = (objective, given)

    def run(self, state: NativeState, steps: int, progress: Progress | None = None) -> np.ndarray:
        """At most `steps` steps without Python; the float64 loss of each, taken before its update.

        Fewer when the program's early stop ends the run (`state.stopped`). Some twenty times a second Ctrl-C is
        heard and `progress(step, loss)` is called; an exception of either ends the run after a whole step, and
        another call goes on from there. BackendError names the step whose loss is not finite; it changes nothing.
        """
        if state.model is not self:
            raise BackendError("this run was started by another model", hint="start it with model.start(...)")
        return state.advance(steps, progress)

    def _gradients_only(
        self,
        graph: Graph,
        types: Mapping[str, TensorType],
        arrays: Arrays,
        losses: list[LossTuple],
        frozen: Sequence[str],
        *,
        through: bool = False,
    ) -> tuple[Any, list[str]]:
        """A trainer of one batch without dropout, and what learns; `through`: with the gradients of the inputs."""
        self._must_train()
        learned = self._learned(frozen)
        rows = len(next(iter(arrays.values())))
        settings = settings_of(Program(MSE(), SGD(), batch_size=max(1, rows), shuffle=False), None)
        settings.checkpoint = self._checkpoint
        settings.set_wishes(self._held(frozen), [loss[1] for loss in losses] if through else [], through)
        data = _inputs(graph, arrays)
        with engine_errors():
            trainer = _native.Trainer(self._engine, self._nodes(graph, types), settings, data, losses)
        self.count(trainer)
        return trainer, learned

    def _evaluator(self, objective: Objective, arrays: Arrays, targets: Arrays) -> tuple[Any, list[np.ndarray]]:
        """The loss of these rows as the engine computes it, and the arrays that must live as long."""
        refuse_without_training()
        graph, types = self.admission.plan(arrays)
        losses, data = losses_of(targets, objective, self.admission.heads, _index(graph)), _inputs(graph, arrays)
        with engine_errors():
            nodes = self._nodes(graph, types)
            evaluator = _native.Evaluator(self._engine, nodes, data, losses, min(self._max_rows, len(data[0])))
        return evaluator, [*data, *kept_by(losses)]

    def _own(self) -> None:
        """Weights in memory of the engine's own, to be changed."""
        if not self._engine.mapped:
            return
        self._engine.own()
        planned, self._networks = self._networks, {}  # their plans knew where the weights lay
        for one in planned.values():
            self._network(one.graph, one.types)

    def _must_train(self) -> None:
        """Own weights, to be trained; BackendError where training was left out of the build."""
        refuse_without_training()
        self._own()

    def _learned(self, frozen: Sequence[str]) -> list[str]:
        """The parameters that have a gradient, in the graph's order."""
        return [name for name in trained_names(frozen, self._shapes) if name not in self.admission.untrained]

    def _held(self, frozen: Sequence[str]) -> list[int]:
        """The numbers of what keeps its values; running statistics and the like follow the batches unless frozen."""
        moving = set(trained_names(frozen, self._shapes))
        return [i for i, name in enumerate(self._shapes) if name not in moving]

    def count(self, trainer: Any) -> None:
        """Let `memory` tell of this run."""
        self._training |= {"arena": 4 * trainer.arena_floats, "gradients": 4 * trainer.gradient_floats}

    def _network(self, graph: Graph, types: Mapping[str, TensorType]) -> Any:
        """The planned inference network of these shapes."""
        if graph.spec_hash not in self._networks:
            nodes = self._nodes(graph, types)
            with engine_errors():
                network = _native.Network(self._engine, nodes, self._max_rows)
            self._networks[graph.spec_hash] = _Planned(network, graph, dict(types))
        return self._networks[graph.spec_hash].network

    def _nodes(self, graph: Graph, types: Mapping[str, TensorType]) -> list[NodeTuple]:
        return node_tuples(graph, types, {name: i for i, name in enumerate(self._shapes)})

    def _empty(self, names: Iterable[str] | None = None) -> Arrays:
        return {name: np.empty(self._shapes[name], np.float32) for name in (self._shapes if names is None else names)}

    def _read(self, read: Any) -> Arrays:
        arrays = self._empty()
        read(list(arrays.values()))
        return arrays

    def _write(self, write: Any, arrays: Mapping[str, np.ndarray]) -> None:
        write([np.array(arrays[name], np.float32, order="C") for name in self._shapes])


class NativeState:
    """A run in progress: the engine's trainer, and the data that it reads. It trains the weights of `model`.

    `looks` are (step, validation loss) of early stopping since the run was made or restored.
    """

    def __init__(
        self, model: NativeModel, trainer: Any, rules: Mapping[str, Optimizer], kept: list[np.ndarray]
    ) -> None:
        self.model, self.trainer, self._rules, self._kept = model, trainer, rules, kept
        self._watches = trainer.look_every > 0
        self.feed_of: tuple[Objective, list[np.ndarray]]  # what the run learns from, kept while the engine reads it
        self.varies = False
        self.looks: list[tuple[int, float]] = []

    @property
    def step(self) -> int:
        return int(self.trainer.step)

    @property
    def grad_norm(self) -> float:
        """The global norm of the last step's gradient before clipping; NaN without clipping, which alone asks it."""
        return float(self.trainer.norm)

    @property
    def stopped(self) -> bool:
        """Whether the program's early stop has ended the run."""
        return bool(self.trainer.watch[3])

    @property
    def best(self) -> Arrays:
        """The weights of early stopping's best look; those of now before the first one."""
        if self._watches and self.trainer.watch[1]:
            return self.model._read(self.trainer.read_best)
        return dict(self.model.weights)

    @property
    def best_step(self) -> int:
        """After how many steps the best look was, 0 before one."""
        return int(self.trainer.watch[1])

    def advance(self, steps: int, progress: Progress | None) -> np.ndarray:
        """What `NativeModel.run` does."""
        losses = np.zeros(steps, np.float64)
        looks = np.zeros(2 * (steps // self.trainer.look_every + 1) if self._watches else 0, np.float64)
        with engine_errors("lower the learning rate, clip the gradient (clip_norm=1.0) or look for huge values"):
            done, seen = self.trainer.run(losses, looks, progress)
        self.looks += [(int(step), float(loss)) for step, loss in looks[: 2 * seen].reshape(-1, 2)]
        return losses[:done]

    def arrays(self) -> Arrays:
        """Step, moments and early stopping's, as copies: "step", "m/<parameter>", "v/<parameter>", "best/<..>"."""
        result = {"step": np.array(self.step, np.int64)}
        for which, kind in enumerate(_MOMENTS[: self.trainer.num_moments]):
            moment = self.model._empty(self._rules)
            self.trainer.read_moment(which, list(moment.values()))
            result |= {f"{kind}/{name}": array for name, array in moment.items() if self._keeps(kind, name)}
        if self._watches:
            result[STATE] = np.array(self.trainer.watch, np.float64)
            result |= {f"{BEST}{name}": array for name, array in self.best.items()}
        return result

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken; the weights of that moment are the model's business (`load`)."""
        check_state(arrays, {name: array.shape for name, array in self.arrays().items()})
        for which, kind in enumerate(_MOMENTS[: self.trainer.num_moments]):
            moment = self.model._empty(self._rules)
            for name, array in moment.items():
                array[...] = arrays[f"{kind}/{name}"] if self._keeps(kind, name) else 0.0
            self.trainer.write_moment(which, list(moment.values()))
        if self._watches:
            loss, step, waited, stopped = (float(value) for value in arrays[STATE])
            self.trainer.set_watch(loss, int(step), int(waited), bool(stopped))
            best = {name: arrays[BEST + name] for name in self.model.weights}
            self.model._write(self.trainer.write_best, best)
            self.looks = []
        self.trainer.step = int(arrays["step"])

    def _keeps(self, kind: str, name: str) -> bool:
        """Whether the rule of this parameter has such a moment."""
        return kind in kinds_of(self._rules[name])


@contextmanager
def engine_errors(hint: str = "") -> Iterator[None]:
    """The engine's errors as ours."""
    try:
        yield
    except _native.EngineError as error:
        raise BackendError(str(error), hint=hint) from None


def refuse_without_training() -> None:
    """BackendError where training was left out of the build."""
    if not _native.trains:
        hint = "build it without ALEXANDRA_INFERENCE_ONLY, or bind with backend='reference'"
        raise BackendError("this native engine was built for inference alone", hint=hint)


def _places(weights: WeightSet, shapes: Mapping[str, tuple[int, ...]]) -> tuple[np.ndarray | None, list[int]]:
    """The file that `weights` are views of, and where in it each parameter begins; (None, []) where there is none."""
    if weights.source is None or set(weights) != set(shapes):
        return None, []
    start = weights.source.ctypes.data
    offsets = [weights[name].ctypes.data - start for name in shapes]
    aligned = all(offset % 4 == 0 for offset in offsets)
    fits = all(weights[name].shape == shape for name, shape in shapes.items())
    return (weights.source, offsets) if aligned and fits else (None, [])


def _index(graph: Graph) -> dict[str, int]:
    """The number of each node in the plan."""
    return {node.name: i for i, node in enumerate(graph.nodes)}


def _inputs(graph: Graph, arrays: Arrays) -> list[np.ndarray]:
    """The inputs in the order of the plan."""
    return [arrays[node.name] for node in graph.nodes if node.op == "input"]

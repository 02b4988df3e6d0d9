"""Many small networks of one shape side by side in the native engine (csrc/population.h).

A Shape is what its networks share: the admitted graph, the objective and the engine's plans. A Seat is one network
of a population, with its data and its stop rule; `train` runs populations and tells what became of each network.
Results are bit for bit those of NativeModel with each network alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import alexandra._native as _native
from alexandra.backends.admit import Admission
from alexandra.backends.native_nodes import NodeTuple, axes, node_tuples
from alexandra.backends.native_program import LossTuple, losses_of, settings_of
from alexandra.errors import BackendError
from alexandra.ir.check import infer, param_specs
from alexandra.ir.graph import Graph
from alexandra.ir.weights import INITS, WeightSet, Words
from alexandra.objectives.spec import MSE, SGD, AdamW, CrossEntropy, Muon, Objective, Program
from alexandra.rng import Stream, derive

SLICE_SECONDS = 0.2  # the engine comes back to Python after about this long, for progress and interrupts
CACHED_VALUES = 2**18  # fewer, so that no product is large enough for matrix tiles (csrc/ops_dense.cpp: kLargeProduct)
ENDINGS = ("", "epochs", "patience", "target", "failed")  # csrc/population.h: Ending


@dataclass(frozen=True)
class Seat:
    """One network: its program and admitted arrays in the order of the plan; `program.stop` needs validation rows.

    `weights` [values] holds the first weights, parameters one after the other, and at last those that stay.
    """

    program: Program
    epochs: int
    target_loss: float
    inputs: list[np.ndarray]
    targets: list[np.ndarray]
    validation: list[np.ndarray]
    validation_targets: list[np.ndarray]
    weights: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """How a network ended (ENDINGS), the mean loss of every epoch, and the loss on validation rows after it.

    A network that failed met the loss `failed_with` at step `steps`.
    """

    ending: str
    steps: int
    best_step: int
    failed_with: float
    means: np.ndarray
    looks: np.ndarray


class Shape:
    """The networks of a graph under an objective. `side_by_side` says whether they can share vectors at all."""

    def __init__(self, graph: Graph, objective: Objective) -> None:
        self.graph, self.objective = graph, objective
        self.admission = Admission(graph)
        self.params = param_specs(graph)
        self.primitive = self.admission.primitive
        self.types = infer(self.primitive)
        self._plans: dict[tuple[int, str], Any] = {}
        fixed = all(isinstance(dim, int) for given in self.types.values() for dim in given.shape)
        plain = isinstance(objective, CrossEntropy | MSE) and not self.admission.untrained
        self.side_by_side = fixed and plain and self._has_lanes()

    def _has_lanes(self) -> bool:
        try:
            found: bool = _native.runs_side_by_side(self._nodes())
            return found
        except (_native.EngineError, BackendError, KeyError):
            return False  # an op that the engine refuses: whoever trains it alone says so

    def _nodes(self) -> list[NodeTuple]:
        return node_tuples(self.primitive, self.types, {name: i for i, name in enumerate(self.params)})

    def _losses(self, targets: dict[str, np.ndarray]) -> list[LossTuple]:
        index = {node.name: i for i, node in enumerate(self.primitive.nodes)}
        return losses_of(targets, self.objective, self.admission.heads, index)

    def plan(self, batch: int, isa: str = "") -> Any:
        """The engine's plan for batches of at most `batch` rows."""
        if (batch, isa) not in self._plans:
            rows = {name: np.zeros(0, np.float32) for name in self.admission.heads}
            losses = self._losses(rows)
            params = [(name, list(spec.shape)) for name, spec in self.params.items()]
            kinds = [(kind, node, numbers[0]) for kind, node, numbers, *_ in losses]
            self._plans[batch, isa] = _native.LanePlan(self._nodes(), params, kinds, batch, isa)
        return self._plans[batch, isa]

    def pays(self, networks: int, batch: int) -> bool:
        """Whether so many networks are faster side by side than one after the other.

        Microseconds a step, measured: a crew takes 0.35 and its multiply-adds at 90 GFLOP/s, a network alone 0.5 and
        70 GFLOP/s; beyond the second-level cache a crew loses.
        """
        values = sum(spec.size for spec in self.params.values())
        width = sum(prod(axes(given)) for given in self.types.values())
        lanes = int(self.plan(batch).lanes)
        if lanes * max(values, batch * width) >= CACHED_VALUES:
            return False
        kiloflops = 6e-3 * values * batch
        crews = -(-networks // lanes)
        return crews * (0.35 + lanes * kiloflops / 90.0) <= networks * (0.5 + kiloflops / 70.0)

    def inputs(self, given: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int]:
        """Admitted inputs in the order of the plan, and their rows."""
        arrays, rows = self.admission.inputs(given)
        return {node.name: arrays[node.name] for node in self.primitive.nodes if node.op == "input"}, rows

    def targets(self, targets: Any, arrays: Mapping[str, np.ndarray], rows: int) -> list[np.ndarray]:
        """Admitted targets in the order of the losses, as the engine reads them."""
        admitted = self.admission.targets(targets, self.objective, arrays, rows)
        return [loss[4] for loss in self._losses(admitted)]

    def population(self, batch: int, seats: Sequence[Seat]) -> Any:
        """The engine's population of these networks; it reads their arrays in place."""
        tuples = []
        for seat in seats:
            arrays = (seat.inputs, seat.targets, seat.validation, seat.validation_targets, seat.weights)
            tuples.append((settings_of(seat.program, self.primitive), seat.epochs, seat.target_loss, *arrays))
        return _native.Population(self.plan(batch), tuples)

    def first_weights(self, seeds: Sequence[int]) -> np.ndarray:
        """Row i is what `initialise(graph, seeds[i])` gives, parameters one after the other."""
        rows = []
        for name, spec in self.params.items():
            drawn = INITS[spec.init](_words_of([derive(seed, "init", name) for seed in seeds]), spec)
            rows.append(np.broadcast_to(drawn.astype(np.float32), (len(seeds), spec.size)))
        return np.concatenate(rows, axis=1)

    def row_of(self, weights: WeightSet) -> np.ndarray:
        """These weights, parameters one after the other; WeightsError unless they are this graph's."""
        weights.exact(self.graph)
        return np.concatenate([weights[name].reshape(-1) for name in self.params])

    def weights_of(self, row: np.ndarray) -> WeightSet:
        """The inverse of `row_of`."""
        ends = np.cumsum([spec.size for spec in self.params.values()])
        pieces = np.split(row, ends[:-1])
        specs = self.params.items()
        return WeightSet({name: piece.reshape(spec.shape) for (name, spec), piece in zip(specs, pieces, strict=True)})


def runs_in_lanes(program: Program) -> bool:
    """Whether a run of this program is among those that lanes know; others train alone."""
    looks = program.stop is None or program.stop.every == 0
    known = not isinstance(program.optimizer, Muon)
    return looks and known and program.accumulate == 1 and not program.frozen


def kind_of(program: Program) -> tuple[Any, ...]:
    """What the programs of a population must have in common, besides the shape."""
    rule = program.optimizer
    momentum, shrinks = isinstance(rule, SGD) and rule.momentum != 0, isinstance(rule, AdamW) and rule.l1 > 0
    return (isinstance(rule, SGD), momentum, shrinks, program.clip_norm > 0, program.batch_size)


def _words_of(streams: Sequence[Stream]) -> Words:
    """`Stream.words` of each, a row for each."""
    keys = np.array([stream.key for stream in streams], np.uint64)
    nonces = np.array([stream.nonce for stream in streams], np.uint64)

    def words(count: int) -> np.ndarray:
        out = np.empty((len(keys), count), np.uint32)
        _native.random_words(keys, nonces, out)
        return out

    return words


def train(populations: Sequence[Any], threads: int, progress: Callable[[int], None]) -> None:
    """Train these populations to the end; `progress(networks that have ended)` is called now and then.

    Ctrl-C is heard in between; the networks that have not ended are lost then.
    """
    fleet = _native.Fleet(list(populations), threads)
    done = False
    while not done:
        done = fleet.run(SLICE_SECONDS)
        progress(fleet.ended)


def outcomes(population: Any, count: int) -> Iterator[Outcome]:
    """What became of each network of a population that is done."""
    for number in range(count):
        ending, steps, best_step, failed_with, means, looks = population.outcome(number)
        yield Outcome(ENDINGS[ending], steps, best_step, failed_with, np.array(means), np.array(looks))

"""What a backend lets in: inputs, targets and programs are checked once, here, and trusted inside.

Every backend asks the same Admission, so that all of them refuse the same things in the same words. What
comes out is contiguous: float32 or int32 inputs, int64 class indices, float32 regression and 0/1 targets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from alexandra.errors import BackendError, suggest
from alexandra.ir.check import bind_sizes, final_activation, infer, param_specs
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.objectives.spec import (
    KL,
    OBJECTIVES,
    SGD,
    AdamW,
    CrossEntropy,
    EarlyStop,
    Muon,
    Objective,
    Program,
    WeightedCrossEntropy,
)

SCHEDULES = ("constant", "cosine", "linear", "wsd", "step")
NORMALIZERS = ("weights", "count")
WEIGHTS = "/weights"  # admitted weights of output y's targets are the array "y/weights" (no name contains a slash)


class Admission:
    """The checks at the boundary of one bound graph. `primitive` is its expansion, made once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.primitive = primitives(graph)
        self.heads = {node.name: final_activation(self.primitive, node.name) for node in graph.outputs}
        self._params = param_specs(graph)
        self.untrained = frozenset(name for name, spec in self._params.items() if not spec.trained)
        self._vocabularies = [(node.inputs[0], node) for node in self.primitive.nodes if node.op == "embedding"]
        self._plans: dict[tuple[tuple[str, int], ...], tuple[Graph, dict[str, TensorType]]] = {}

    def inputs(self, inputs: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int]:
        """The arrays of a forward call and their number of rows."""
        arrays, rows = admit_inputs(self.graph.inputs, inputs)
        for source, node in self._vocabularies:
            array, vocab = arrays[source], node.attrs["vocab"]
            assert isinstance(vocab, int)
            if array.size and (array.min() < 0 or array.max() >= vocab):
                bad = int(array[(array < 0) | (array >= vocab)].flat[0])
                raise BackendError(f"input {source!r} holds {bad}, but embedding {node.name!r} knows 0 .. {vocab - 1}")
        return arrays, rows

    def plan(self, arrays: Mapping[str, np.ndarray]) -> tuple[Graph, dict[str, TensorType]]:
        """The primitives with symbolic axes replaced by their sizes in these admitted inputs, and their types."""
        key = tuple(sorted(_sizes(self.graph.inputs, arrays).items()))
        if key not in self._plans:
            graph = bind_sizes(self.primitive, dict(key)) if key else self.primitive
            self._plans[key] = graph, infer(graph)
        return self._plans[key]

    def targets(
        self, targets: Any, objective: Objective, arrays: Mapping[str, np.ndarray], rows: int
    ) -> dict[str, np.ndarray]:
        """The targets of every output by its name, for admitted inputs `arrays` of `rows` rows."""
        _, types = self.plan(arrays)
        shapes = {name: (rows, *_numbers(types[name])) for name in self.heads}
        return admit_targets(targets, objective, {name: kind for name, (kind, _) in self.heads.items()}, shapes)

    def with_untrained(self, grads: Mapping[str, np.ndarray], frozen: Sequence[str]) -> dict[str, np.ndarray]:
        """Gradients of all parameters that are not frozen, in the graph's order: 0 for those that never train."""
        zeros = {name: np.zeros(self._params[name].shape, np.float32) for name in self.untrained}
        return {name: {**zeros, **grads}[name] for name in trained_names(frozen, self._params)}

    def seeds(self, gradients: Mapping[str, Any], arrays: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        """The given gradients of some layers' values, float32 [rows, *shape], by the primitives that carry them."""
        graph, types = self.plan(arrays)
        names = [node.name for node in graph.nodes if node.op != "input" and types[node.name].dtype == "float32"]
        if not isinstance(gradients, Mapping) or not gradients:
            raise BackendError(f"gradients must be a dict of arrays by layer, got {gradients!r}")
        found = {}
        for name, value in gradients.items():
            if name not in names:
                raise BackendError(f"no layer {name!r} has a gradient", hint=suggest(str(name), names))
            array, shape = np.asarray(value), (rows, *_numbers(types[name]))
            if array.shape != shape or array.dtype.kind not in "fiub":
                given = f"{array.dtype} {list(array.shape)}"
                raise BackendError(f"the gradient of {name!r} needs numbers of shape {list(shape)}, got {given}")
            found[name] = np.ascontiguousarray(array, np.float32)
        return found

    def validation(
        self, program: Program, given: tuple[Mapping[str, Any], Any] | None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None:
        """The admitted (inputs, targets) that `program.stop` looks at, None without a stop."""
        check_validation(program, given)
        if given is None:
            return None
        arrays, rows = self.inputs(given[0])
        return arrays, self.targets(given[1], program.objective, arrays, rows)


def refuse_ops(primitive: Graph, unsupported: Collection[str], backend: str) -> None:
    """BackendError naming the first layer of `primitive` whose op `backend` does not have."""
    for node in primitive.nodes:
        if node.op in unsupported:
            raise BackendError(
                f"backend {backend!r} has no {node.op} yet (layer {node.name!r})",
                hint="bind the network with backend='torch', or 'reference' without PyTorch",
            )


def admit_inputs(nodes: Sequence[Node], inputs: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int]:
    """The arrays for these input nodes, typed and checked, and their number of rows."""
    given = _named(inputs, [node.name for node in nodes], "input")
    arrays = {node.name: _typed(node, given[node.name]) for node in nodes}
    _sizes(nodes, arrays)
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise BackendError(f"inputs have different numbers of rows: {rows}")
    return arrays, next(iter(rows.values()))


def admit_targets(
    targets: Any, objective: Objective, kinds: Mapping[str, str | None], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """The targets of every output by its name; `kinds` are the outputs' final activations, `shapes` with rows.

    Of WeightedCrossEntropy also the weights of output `y`, as "y/weights".
    """
    check_objective(objective)
    if any(shape[0] == 0 for shape in shapes.values()):
        raise BackendError("a loss needs at least one row, got 0")
    names = list(kinds)
    weighted = isinstance(objective, WeightedCrossEntropy)
    if not isinstance(targets, Mapping) or (weighted and _is_pair(targets)):
        if len(names) > 1:
            raise BackendError(f"the network has outputs {', '.join(names)}: give targets as a dict by output")
        targets = {names[0]: targets}
    given = _named(targets, names, "target")
    admitted = {}
    for name in names:
        value = _named(given[name], ["classes", "weights"], "target") if weighted else {"classes": given[name]}
        admitted[name] = _target(name, value["classes"], objective, kinds[name], shapes[name])
        if weighted:
            admitted[name + WEIGHTS] = _weights(name, value["weights"], admitted[name].shape)
    return admitted


def _is_pair(targets: Mapping[str, Any]) -> bool:
    """Whether these are classes and weights, not targets by output."""
    return set(targets) == {"classes", "weights"} and not all(isinstance(v, Mapping) for v in targets.values())


def _target(name: str, value: Any, objective: Objective, kind: str | None, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value)
    hard = isinstance(objective, CrossEntropy | WeightedCrossEntropy)
    if hard and kind != "sigmoid":
        return _classes(name, array, shape)
    if array.shape == shape[:-1] and shape[-1] == 1:
        array = array.reshape(shape)
    if array.shape != shape:
        raise BackendError(f"target {name!r} has shape {list(array.shape)}, the output {list(shape)}")
    if array.dtype.kind not in "fiub":
        raise BackendError(f"target {name!r} must hold numbers, got dtype {array.dtype}")
    if hard and not np.isin(array, (0, 1)).all():
        raise BackendError(f"target {name!r} must hold 0 and 1 only, because the output ends in a sigmoid")
    if isinstance(objective, KL):
        _check_probabilities(name, array, kind)
    return np.ascontiguousarray(array, dtype=np.float32)


def _weights(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise BackendError(f"weights of target {name!r} must be numbers, got dtype {array.dtype}")
    if array.shape == shape[:-1] and shape[-1] == 1:
        array = array.reshape(shape)
    if array.shape != shape:
        raise BackendError(f"weights of target {name!r} have shape {list(array.shape)}, its classes {list(shape)}")
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].flat[0]
        raise BackendError(f"weights of target {name!r} must be finite, got {bad!r}")
    return np.ascontiguousarray(array, dtype=np.float32)


def _check_probabilities(name: str, array: np.ndarray, kind: str | None) -> None:
    if not ((array >= 0) & (array <= 1 + 1e-3)).all():
        bad = array[~((array >= 0) & (array <= 1 + 1e-3))].flat[0]
        raise BackendError(f"target {name!r} must hold a teacher's probabilities, got {bad!r}")
    if kind == "sigmoid":
        return
    if array.shape[-1] < 2:
        raise BackendError(
            f"output {name!r} has one value: its softmax is always 1 and cannot be trained",
            hint="use activation=sigmoid for two classes",
        )
    sums = array.sum(-1, dtype=np.float64)
    if not (np.abs(sums - 1.0) <= 1e-3).all():
        bad = sums.flat[int(np.abs(sums - 1.0).argmax())]
        raise BackendError(f"target {name!r} must hold probabilities that sum to 1, one sums to {bad:.6g}")


def _sizes(nodes: Sequence[Node], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """What the symbolic axes are in these arrays; BackendError for a shape that does not fit."""
    sizes: dict[str, int] = {}
    for node in nodes:
        shape, array = node.attrs["shape"], arrays[node.name]
        assert isinstance(shape, tuple)
        fits = array.ndim == len(shape) + 1
        for dim, size in zip(shape, array.shape[1:], strict=False):
            fits = fits and (sizes.setdefault(dim, size) if isinstance(dim, str) else dim) == size
        if not fits:
            wanted = ", ".join(["rows", *map(str, shape)])
            raise BackendError(f"input {node.name!r} needs shape [{wanted}], got {list(array.shape)}")
    return sizes


def check_objective(objective: Objective) -> None:
    """BackendError for an objective that is not one of the known ones, or has settings out of range."""
    if not isinstance(objective, OBJECTIVES):
        known = ", ".join(kind.__name__ for kind in OBJECTIVES)
        raise BackendError(f"objective {objective!r} is not supported; known: {known}")
    if isinstance(objective, CrossEntropy | WeightedCrossEntropy) and not 0.0 <= objective.label_smoothing < 1.0:
        raise BackendError(f"label_smoothing must be in [0, 1), got {objective.label_smoothing!r}")
    if isinstance(objective, KL) and not (isfinite(objective.temperature) and objective.temperature > 0.0):
        raise BackendError(f"temperature must be a number above 0, got {objective.temperature!r}")
    if isinstance(objective, WeightedCrossEntropy):
        given = objective.normalizer
        if isinstance(given, str) and given not in NORMALIZERS:
            raise BackendError(f"unknown normalizer {given!r}; a number is one too", hint=suggest(given, NORMALIZERS))
        if not isinstance(given, str) and not (isfinite(given) and given > 0.0):
            raise BackendError(f"a normalizer must be a number above 0, got {given!r}")


def check_program(program: Program) -> None:
    """BackendError for settings of a run that are out of range."""
    check_objective(program.objective)
    for name, count in (("batch_size", program.batch_size), ("accumulate", program.accumulate)):
        if count < 1:
            raise BackendError(f"{name} must be at least 1, got {count!r}")
    schedule, optimizer = program.schedule, program.optimizer
    if schedule.kind not in SCHEDULES:
        raise BackendError(f"unknown schedule {schedule.kind!r}", hint=suggest(schedule.kind, SCHEDULES))
    if schedule.kind in ("step", "wsd") and schedule.every < 1:
        raise BackendError(f"schedule {schedule.kind!r} needs every >= 1, got {schedule.every!r}")
    ranges = {
        "clip_norm": (program.clip_norm, 0.0, False),
        "warmup_steps": (schedule.warmup_steps, 0.0, False),
        "lr": (optimizer.lr, 0.0, False),
        "weight_decay": (optimizer.weight_decay, 0.0, False),
    }
    if isinstance(optimizer, SGD | Muon):
        ranges["momentum"] = (optimizer.momentum, 0.0, True)
    if isinstance(optimizer, Muon):
        check_program(replace(program, optimizer=optimizer.rest))
        ranges["iterations"] = (optimizer.iterations, 1.0, False)
    elif not isinstance(optimizer, SGD):
        ranges |= {"beta1": (optimizer.beta1, 0.0, True), "beta2": (optimizer.beta2, 0.0, True)}
        ranges["eps"] = (optimizer.eps, 0.0, False)
    if isinstance(optimizer, AdamW):
        ranges["l1"] = (optimizer.l1, 0.0, False)
    if program.stop is not None:
        ranges |= _stop_ranges(program.stop)
    for name, (value, low, below_one) in ranges.items():
        if not (isfinite(value) and value >= low and (not below_one or value < 1.0)):
            wanted = "in [0, 1)" if below_one else f"a number >= {low:g}"
            raise BackendError(f"{name} must be {wanted}, got {value!r}")


def check_validation(program: Program, given: object) -> None:
    """BackendError for an early stop without validation data, or the other way round."""
    if (program.stop is None) != (given is None):
        have, lack = ("validation", "program.stop") if program.stop is None else ("program.stop", "validation")
        hint = "start(Program(.., stop=EarlyStop()), inputs, targets, validation=(inputs, targets))"
        raise BackendError(f"{have} was given without {lack}", hint=hint)


def _stop_ranges(stop: EarlyStop) -> dict[str, tuple[float, float, bool]]:
    return {
        "stop.every": (stop.every, 0.0, False),
        "stop.patience": (stop.patience, 0.0, False),
        "stop.min_delta": (stop.min_delta, 0.0, False),
    }


def trained_names(frozen: Sequence[str], names: Iterable[str]) -> list[str]:
    """The parameters that training changes: `names` without the frozen ones, in order.

    An entry of `frozen` is a name, or a prefix that ends in ".". BackendError for one that fits nothing, and when
    nothing is left to train.
    """
    every = list(names)
    held: set[str] = set()
    for entry in frozen:
        found = [name for name in every if name == entry or (entry.endswith(".") and name.startswith(entry))]
        if not found:
            owners = [f"{name.rpartition('.')[0]}." for name in every]
            raise BackendError(f"frozen {entry!r} fits no parameter", hint=suggest(entry, [*every, *owners]))
        held.update(found)
    left = [name for name in every if name not in held]
    if held and not left:
        raise BackendError(f"frozen={tuple(frozen)!r} leaves no parameter to train")
    return left


def check_fed(now: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> None:
    """BackendError unless `given` could stand where a run reads `now`: the same names, shapes and kinds of numbers."""
    for name, array in now.items():
        if name not in given or given[name].shape != array.shape:
            shape = list(given[name].shape) if name in given else "nothing"
            raise BackendError(
                f"a run over {name!r} of shape {list(array.shape)} cannot go on with {shape}",
                hint="start another run for rows of another shape; restore(arrays) carries the moments over",
            )


def check_state(given: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """BackendError unless `given` is the state of a run whose arrays have these names and shapes."""
    if set(given) != set(shapes):
        differ = ", ".join(sorted(set(given) ^ set(shapes)))
        raise BackendError(f"this is not the state of such a run; it differs in {differ}")
    for name, shape in shapes.items():
        if np.shape(given[name]) != shape:
            raise BackendError(f"state {name!r} has shape {np.shape(given[name])}, needs {shape}")


def _named(given: Mapping[str, Any], names: list[str], what: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise BackendError(f"{what}s must be a dict of arrays by name ({', '.join(names)}), got {type(given).__name__}")
    for name in given:
        if name not in names:
            raise BackendError(f"the network has no {what} {name!r}", hint=suggest(str(name), names))
    missing = [name for name in names if name not in given]
    if missing:
        raise BackendError(f"{what} {missing[0]!r} is missing; the network needs {', '.join(names)}")
    return dict(given)


def _typed(node: Node, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if node.attrs["dtype"] == "int32":
        if array.dtype.kind not in "iu":
            raise BackendError(f"input {node.name!r} needs whole numbers (int32), got dtype {array.dtype}")
        if array.size and (array.min() < -(2**31) or array.max() >= 2**31):
            raise BackendError(f"input {node.name!r} holds numbers that do not fit int32")
        return np.ascontiguousarray(array, dtype=np.int32)
    if array.dtype.kind not in "fiub":
        raise BackendError(f"input {node.name!r} needs numbers (float32), got dtype {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.float32)


def _classes(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    classes = shape[-1]
    if classes < 2:
        raise BackendError(
            f"output {name!r} has one value: its softmax is always 1 and cannot be trained",
            hint="use activation=sigmoid for two classes, or the objective MSE",
        )
    if array.dtype.kind not in "iu":
        raise BackendError(f"target {name!r} must hold class indices (whole numbers), got dtype {array.dtype}")
    if array.shape != shape[:-1]:
        raise BackendError(f"target {name!r} needs shape {list(shape[:-1])} (class indices), got {list(array.shape)}")
    if array.min() < 0 or array.max() >= classes:
        bad = int(array[(array < 0) | (array >= classes)].flat[0])
        raise BackendError(f"target {name!r} holds class {bad}, but the output has classes 0 .. {classes - 1}")
    return np.ascontiguousarray(array, dtype=np.int64)


def _numbers(given: TensorType) -> tuple[int, ...]:
    assert all(isinstance(dim, int) for dim in given.shape)
    return tuple(int(dim) for dim in given.shape)

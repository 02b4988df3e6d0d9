"""What a backend lets in: inputs, targets and programs are checked once, here, and trusted inside.

Every backend asks the same Admission, so that all of them refuse the same things in the same words. What
comes out is contiguous: float32 or int32 inputs, int64 class indices, float32 regression and 0/1 targets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from alexandra.errors import BackendError, suggest
from alexandra.ir.check import bind_sizes, final_activation, infer, param_specs
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.objectives.spec import MSE, SGD, CrossEntropy, Objective, Program

SCHEDULES = ("constant", "cosine", "step")


class Admission:
    """The checks at the boundary of one bound graph. `primitive` is its expansion, made once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.primitive = primitives(graph)
        self.heads = {node.name: final_activation(self.primitive, node.name) for node in graph.outputs}
        self.untrained = frozenset(name for name, spec in param_specs(graph).items() if not spec.trained)
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
    """The targets of every output by its name; `kinds` are the outputs' final activations, `shapes` with rows."""
    check_objective(objective)
    if any(shape[0] == 0 for shape in shapes.values()):
        raise BackendError("a loss needs at least one row, got 0")
    names = list(kinds)
    if not isinstance(targets, Mapping):
        if len(names) > 1:
            raise BackendError(f"the network has outputs {', '.join(names)}: give targets as a dict by output")
        targets = {names[0]: targets}
    given = _named(targets, names, "target")
    return {name: _target(name, given[name], objective, kinds[name], shapes[name]) for name in names}


def _target(name: str, value: Any, objective: Objective, kind: str | None, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value)
    if isinstance(objective, CrossEntropy) and kind != "sigmoid":
        return _classes(name, array, shape)
    if array.shape == shape[:-1] and shape[-1] == 1:
        array = array.reshape(shape)
    if array.shape != shape:
        raise BackendError(f"target {name!r} has shape {list(array.shape)}, the output {list(shape)}")
    if array.dtype.kind not in "fiub":
        raise BackendError(f"target {name!r} must hold numbers, got dtype {array.dtype}")
    if isinstance(objective, CrossEntropy) and not np.isin(array, (0, 1)).all():
        raise BackendError(f"target {name!r} must hold 0 and 1 only, because the output ends in a sigmoid")
    return np.ascontiguousarray(array, dtype=np.float32)


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
    """BackendError for an objective that is not one of the two, or has settings out of range."""
    if not isinstance(objective, CrossEntropy | MSE):
        raise BackendError(f"objective {objective!r} is not supported; known: CrossEntropy, MSE")
    if isinstance(objective, CrossEntropy) and not 0.0 <= objective.label_smoothing < 1.0:
        raise BackendError(f"label_smoothing must be in [0, 1), got {objective.label_smoothing!r}")


def check_program(program: Program) -> None:
    """BackendError for settings of a run that are out of range."""
    check_objective(program.objective)
    if program.batch_size < 1:
        raise BackendError(f"batch_size must be at least 1, got {program.batch_size!r}")
    schedule, optimizer = program.schedule, program.optimizer
    if schedule.kind not in SCHEDULES:
        raise BackendError(f"unknown schedule {schedule.kind!r}", hint=suggest(schedule.kind, SCHEDULES))
    if schedule.kind == "step" and schedule.every < 1:
        raise BackendError(f"schedule 'step' needs every >= 1, got {schedule.every!r}")
    ranges = {
        "clip_norm": (program.clip_norm, 0.0, False),
        "warmup_steps": (schedule.warmup_steps, 0.0, False),
        "lr": (optimizer.lr, 0.0, False),
        "weight_decay": (optimizer.weight_decay, 0.0, False),
    }
    if isinstance(optimizer, SGD):
        ranges["momentum"] = (optimizer.momentum, 0.0, True)
    else:
        ranges |= {"beta1": (optimizer.beta1, 0.0, True), "beta2": (optimizer.beta2, 0.0, True)}
        ranges["eps"] = (optimizer.eps, 0.0, False)
    for name, (value, low, below_one) in ranges.items():
        if not (isfinite(value) and value >= low and (not below_one or value < 1.0)):
            raise BackendError(f"{name} must be {'in [0, 1)' if below_one else 'a number >= 0'}, got {value!r}")


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

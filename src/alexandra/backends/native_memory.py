"""How many bytes a network and a run of it take in the engine, before any of them are asked for.

The engine makes the plan, the schedule and the layout of the run and adds them up (csrc/footprint.h), so what it says
is what `NativeModel.memory` reports of that run. Arrays of Python (data, targets, copies of weights) are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import alexandra._native as _native
from alexandra.backends.admit import Admission, check_program, trained_names
from alexandra.backends.native import PLANNED_ROWS, engine_errors, refuse_without_training
from alexandra.backends.native_nodes import axes, node_tuples
from alexandra.backends.native_program import loss_kinds, settings_of
from alexandra.errors import BackendError
from alexandra.ir.check import hidden_matrices, infer, param_specs
from alexandra.ir.graph import Graph, TensorType
from alexandra.ir.ops import ParamSpec
from alexandra.ir.ops.rules import whole
from alexandra.objectives.spec import Program

MOST_VALUES, MOST_ANGLES = 2**30, 2**22  # of a parameter in the engine; of the tables of positions that a plan holds


def planned_memory(
    graph: Graph,
    program: Program,
    rows: int | None = None,
    *,
    threads: int = 1,
    max_rows: int = PLANNED_ROWS,
    checkpoint: bool = False,
) -> dict[str, int]:
    """Bytes by tier of a model of `graph` (sizes and axes bound) while it runs `program` over `rows` rows of data.

    The tiers are those of `NativeModel.memory`; "inference" is the part of "arena" that a bound model has before any
    run. `rows` are program.batch_size unless given. A run with early stopping also keeps its best weights and an
    arena for validation rows, which are not counted. BackendError.
    """
    refuse_without_training()
    check_program(program)
    admission = Admission(graph)
    primitive, types = admission.primitive, infer(admission.primitive)
    if unbound := [name for name, given in types.items() if not all(isinstance(dim, int) for dim in given.shape)]:
        hint = "bind its axes first: ir.check.bind_sizes(graph, {axis: length})"
        raise BackendError(f"the memory of {graph.name!r} depends on the length of {unbound[0]!r}", hint=hint)
    specs = param_specs(graph)
    _refuse_huge(admission, types, specs)
    numbers = {name: i for i, name in enumerate(specs)}
    settings = settings_of(program, None, [numbers[name] for name in hidden_matrices(graph)])
    settings.checkpoint = checkpoint
    moving = set(trained_names(program.frozen, specs))
    settings.set_wishes([number for name, number in numbers.items() if name not in moving], [], False)
    index = {node.name: i for i, node in enumerate(primitive.nodes)}
    with engine_errors():
        found = _native.planned_bytes(
            [(name, list(spec.shape), name not in admission.untrained) for name, spec in specs.items()],
            node_tuples(primitive, types, numbers),
            settings,
            loss_kinds(program.objective, admission.heads, index),
            program.batch_size if rows is None else rows,
            threads,
            max_rows,
        )
    return {str(tier): int(size) for tier, size in found.items()}


def _refuse_huge(admission: Admission, types: Mapping[str, TensorType], specs: Mapping[str, ParamSpec]) -> None:
    """BackendError for what would cost memory to plan, or could not be planned at all."""
    for name, spec in specs.items():
        if spec.size > MOST_VALUES:
            raise BackendError(f"parameter {name!r} has {spec.size:,} values; the engine takes at most {MOST_VALUES:,}")
    angles = 0
    for node in admission.primitive.nodes:
        length, width = (axes(types[node.name]) + (0, 0))[:2]
        angles += length * whole(node.attrs["head_dim"]) if node.op == "rope" else 0
        angles += length * width if node.op == "position" and node.attrs["kind"] == "sinusoidal" else 0
    if angles > MOST_ANGLES:
        hint = "ask for a shorter sequence: ir.cost.memory is an upper bound for any length"
        raise BackendError(f"a plan would hold {angles:,} angles of positions, at most {MOST_ANGLES:,}", hint=hint)

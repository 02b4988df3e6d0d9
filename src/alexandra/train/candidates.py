"""Which networks compete for a task: the task's own NureonLang files and families, as named candidates.

A candidate is a graph with AUTO sizes plus how to train it. Names are deterministic and say the shape:
`linear`, `tabular-2x64`. Nothing here touches data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alexandra.errors import TaskError, suggest
from alexandra.ir import build
from alexandra.ir.graph import Graph
from alexandra.lang.nureon import compile_network
from alexandra.lang.task_spec import FamilyRef, NetworkRef, Task

DEFAULT_FAMILY = FamilyRef("tabular", (0, 3), (64, 256))


@dataclass(frozen=True)
class Recipe:
    """How a candidate is trained; `epochs` is a bound, validation loss stops earlier."""

    lr: float = 1e-3
    weight_decay: float = 0.1
    batch_size: int = 128
    epochs: int = 60
    patience: int = 10


LINEAR_LR = 5e-3
DROPOUT = 0.3


@dataclass(frozen=True)
class Candidate:
    name: str
    graph: Graph
    recipe: Recipe


def candidates(task: Task, folder: Path, *, classification: bool, rows: int) -> list[Candidate]:
    """Every network that `task` names, in its order; TaskError for unknown families and clashing names."""
    found: list[Candidate] = []
    for reference in task.networks or (DEFAULT_FAMILY,):
        if isinstance(reference, FamilyRef):
            found += _family(reference, classification=classification, rows=rows)
        else:
            found.append(from_text(reference, folder, rows))
    refuse_twins(found)
    return found


def refuse_twins(found: Sequence[Candidate]) -> None:
    """TaskError when two candidates have one name."""
    names = [candidate.name for candidate in found]
    for name in names:
        if names.count(name) > 1:
            raise TaskError(f"two networks are called {name!r}", hint="give one of them a NETWORK header of its own")


def from_text(reference: NetworkRef, folder: Path, rows: int) -> Candidate:
    """The candidate of a NureonLang program or file; TaskError when the file is not there."""
    if reference.program:
        graph = compile_network(reference.program)
        return Candidate(graph.name, graph, recipe_for(rows))
    path = folder / reference.file
    if not path.is_file():
        raise TaskError(f"NETWORKS names {reference.file!r}, but there is no file {str(path)!r}")
    graph = compile_network(path.read_text(encoding="utf-8"), name=path.stem, file=str(path))
    return Candidate(graph.name, graph, recipe_for(rows))


def _family(family: FamilyRef, *, classification: bool, rows: int) -> list[Candidate]:
    if family.name != "tabular":
        raise TaskError(f"unknown network family {family.name!r}", hint=suggest(family.name, ["tabular"]))
    output = "softmax" if classification else "linear"
    recipe = recipe_for(rows)
    found = []
    for layers, width in _grid(family.layers, family.widths):
        if layers == 0:
            found.append(Candidate("linear", build.linear(output=output), replace(recipe, lr=LINEAR_LR)))
        else:
            name = f"tabular-{layers}x{width}"
            graph = build.mlp(*[width] * layers, dropout=DROPOUT, activation="relu", output=output)
            found.append(Candidate(name, graph, recipe))
    return found


def _grid(layers: tuple[int, int], widths: tuple[int, int]) -> Sequence[tuple[int, int]]:
    """Up to six shapes that span the family: the smallest, the largest, and what lies between."""
    (low, high), (narrow, wide) = layers, widths
    middle = 1
    while middle * middle < narrow * wide:
        middle *= 2
    middle = min(max(middle, narrow), wide)
    wanted = [(0, narrow), (1, middle), (2, narrow), (2, middle), (2, wide), (3, middle), (4, wide)]
    inside = [(depth, width) for depth, width in wanted if low <= depth <= high]
    return list(dict.fromkeys(inside))[:6] or [(low, narrow), (high, wide)][: 1 + (low != high)]


def recipe_for(
    rows: int, *, lr: float | None = None, batch_size: int | None = None, epochs: int | None = None
) -> Recipe:
    """Smaller batches and more patience where rows are few; what is given wins."""
    base = Recipe()
    if rows < 2_000:
        base = Recipe(batch_size=32, epochs=100, patience=15)
    elif rows >= 20_000:
        base = Recipe(batch_size=256, epochs=40, patience=6)
    return replace(
        base,
        lr=base.lr if lr is None else lr,
        batch_size=base.batch_size if batch_size is None else batch_size,
        epochs=base.epochs if epochs is None else epochs,
    )

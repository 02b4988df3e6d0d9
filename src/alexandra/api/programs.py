"""Actions on programs in the three languages: compile, format, show the rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alexandra.backends.bind import available, choose
from alexandra.backends.pytorch_memory import training_memory
from alexandra.errors import BackendError, UsageError, suggest
from alexandra.ir.check import auto_nodes, bind_sizes, infer, open_axes, with_length
from alexandra.ir.cost import BYTES_PER_VALUE, active_parameters, flops, memory, parameters
from alexandra.ir.graph import Graph
from alexandra.ir.sharding import sharding_plan
from alexandra.lang.fmt import format_text
from alexandra.lang.nureon import CompiledNetwork, compile_program
from alexandra.lang.rules import default_rules, load_rules
from alexandra.objectives.spec import AdamW, CrossEntropy, Program
from alexandra.storage import publish

PRINTS = ("text", "json", "dot")


@dataclass(frozen=True)
class Compiled:
    """A network as text for a person and as a record for --json."""

    graph: Graph
    text: str
    record: dict[str, Any]


def read_program(path: Path) -> str:
    """The text of a program file; UsageError when it is missing or not text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"no file {str(path)!r}") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"{str(path)!r} is not a program: {error}") from None


@dataclass(frozen=True)
class CostQuestion:
    """What a cost is asked for: rows, the length of open axes (0: none is), and devices to lie on (0: no plan)."""

    batch: int = 1
    sequence: int = 0
    devices: int = 0
    device_gib: float = 80.0
    training: bool = True


def read_graph(path: Path, sizes: Sequence[str] = (), constants: Sequence[str] = ()) -> Graph:
    """The network of a NureonLang file; `sizes` are like "x=30" or "x=28x28", `constants` like "layers=2"."""
    return _sized(_compiled(path, constants).graph, sizes)


def _compiled(path: Path, constants: Sequence[str]) -> CompiledNetwork:
    lets = dict(_constant(text) for text in constants)
    return compile_program(read_program(path), name=path.stem, file=str(path), constants=lets)


def _sized(graph: Graph, sizes: Sequence[str]) -> Graph:
    given = dict(_size(text) for text in sizes)
    return bind_sizes(graph, given) if given else graph


def compile_file(
    path: Path,
    *,
    print_as: str = "text",
    cost: CostQuestion | bool = False,
    develop: bool = False,
    sizes: Sequence[str] = (),
    constants: Sequence[str] = (),
) -> Compiled:
    """Compile a NureonLang file; `sizes` are like "x=30" or "x=28x28", `constants` (of its LETs) like "layers=2".

    The text is the graph as `print_as` says, or its cost; `develop` puts the flat program that macros, loops and
    modules develop into before the cost. Weights that FILE names must be there and be this network's.
    """
    if print_as not in PRINTS:
        raise UsageError(f"cannot print as {print_as!r}", hint=suggest(print_as, PRINTS))
    program = _compiled(path, constants)
    graph = _sized(program.graph, sizes)
    bound = None if sizes or constants else program.weights(mapped=True)
    shown = {"text": graph.text, "json": lambda: json.dumps(graph.to_dict(), indent=1), "dot": graph.dot}[print_as]()
    record: dict[str, Any] = {"graph": graph.to_dict(), "spec_hash": graph.spec_hash, "has_weights": bound is not None}
    if cost:
        question = cost if isinstance(cost, CostQuestion) else CostQuestion()
        record["cost"] = _cost(graph, question)
        table = "\n".join(f"{name:<34}{value:>24,}" for name, value in record["cost"].items())
        auto = choose(graph)
        record["auto"] = asdict(auto)
        table += f"\nbackend auto: {auto.backend} ({auto.reason})"
        if question.devices:
            plan = sharding_plan(graph, question.devices, int(question.device_gib * 2**30), question.training)
            record["plan"] = asdict(plan)
            table = "\n".join([table, *plan.lines()])
        shown = f"{graph.text()}\n{table}" if develop else table
    elif develop:
        shown = graph.text()
    return Compiled(graph, shown, record)


def _size(text: str) -> tuple[str, int | tuple[int, ...]]:
    name, equals, value = text.partition("=")
    try:
        dims = tuple(int(part) for part in value.split("x"))
    except ValueError:
        dims = ()
    if not equals or not dims:
        raise UsageError(f"--size {text!r} is not a size", hint="write NAME=NUMBER, for instance x=30, or x=28x28")
    return name, dims[0] if len(dims) == 1 else dims


def _constant(text: str) -> tuple[str, int | float]:
    name, equals, value = text.partition("=")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    raise UsageError(f"--let {text!r} is not a constant", hint="write NAME=NUMBER, for instance layers=2")


def _cost(graph: Graph, question: CostQuestion) -> dict[str, int]:
    open_names = [node.name for node in auto_nodes(graph)]
    if open_names:
        raise UsageError(
            f"the cost of {graph.name!r} depends on open sizes: {', '.join(open_names)}",
            hint=f"give them: --size {open_names[0]}=30",
        )
    if not question.sequence and (axes := open_axes(graph)):
        raise UsageError(
            f"the cost of {graph.name!r} depends on the length of {', '.join(sorted(axes))}",
            hint="give it: --sequence 128",
        )
    bound = with_length(graph, question.sequence)
    found = {
        "layers": len(infer(bound)),
        "parameters": parameters(bound),
        "active_parameters": active_parameters(bound),
        "flops_per_row": flops(bound),
    }
    for mode, training in (("inference", False), ("training", True)):
        for backend in BYTES_PER_VALUE:
            total = _training_bytes(bound, backend, question.batch) if training else None
            total = total or memory(bound, backend, question.batch, training)["total"]
            found[f"memory_{mode}_{backend}_bytes"] = total
    tiers = {f"memory_{name}_bytes": size for name, size in memory(bound, rows=question.batch).items()}
    return {**found, **tiers}


def _training_bytes(graph: Graph, backend: str, rows: int) -> int | None:
    """The peak of a step of AdamW over `rows` rows where `backend` has a prediction: exact native, near on torch."""
    program = Program(CrossEntropy(), AdamW(), batch_size=rows)
    if backend == "torch":
        return training_memory(graph, program)["total"]
    if backend != "native" or available("native"):
        return None
    from alexandra.backends.native_memory import planned_memory  # the engine is loaded when it is asked

    try:
        tiers = planned_memory(graph, program)
    except BackendError:  # a row beyond what the engine can plan
        return None
    return sum(tiers.values()) - tiers["inference"]


def format_files(paths: Sequence[Path], *, check: bool = False) -> list[Path]:
    """Rewrite programs in their canonical form; returns those that changed (with `check`: would change)."""
    changed = []
    for path in paths:
        text = read_program(path)
        formatted = format_text(text, file=str(path))
        if formatted != text:
            changed.append(path)
            if not check:
                publish(path, formatted.encode())
    return changed


def rules_text(path: Path | None) -> str:
    """The rules of a file, or the default ones, in canonical form."""
    rules = default_rules() if path is None else load_rules(path)
    return rules.text()

"""Actions on programs in the three languages: compile, format, show the rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexandra.errors import UsageError, suggest
from alexandra.ir.check import auto_nodes, bind_sizes, infer
from alexandra.ir.cost import flops, memory, parameters
from alexandra.ir.graph import Graph
from alexandra.lang.fmt import format_text
from alexandra.lang.nureon import compile_network
from alexandra.lang.rules import default_rules, load_rules
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


def read_graph(path: Path, sizes: Sequence[str] = ()) -> Graph:
    """The network of a NureonLang file; `sizes` are like "x=30" or "x=28x28"."""
    graph = compile_network(read_program(path), name=path.stem, file=str(path))
    given = dict(_size(text) for text in sizes)
    return bind_sizes(graph, given) if given else graph


def compile_file(
    path: Path, *, print_as: str = "text", cost: bool = False, develop: bool = False, sizes: Sequence[str] = ()
) -> Compiled:
    """Compile a NureonLang file; `sizes` are like "x=30" or "x=28x28".

    The text is the graph as `print_as` says, or its cost; `develop` puts the flat program that macros, loops and
    modules develop into before the cost.
    """
    if print_as not in PRINTS:
        raise UsageError(f"cannot print as {print_as!r}", hint=suggest(print_as, PRINTS))
    graph = read_graph(path, sizes)
    shown = {"text": graph.text, "json": lambda: json.dumps(graph.to_dict(), indent=1), "dot": graph.dot}[print_as]()
    record: dict[str, Any] = {"graph": graph.to_dict(), "spec_hash": graph.spec_hash}
    if cost:
        record["cost"] = _cost(graph)
        table = "\n".join(f"{name:<22}{value:>16,}" for name, value in record["cost"].items())
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


def _cost(graph: Graph) -> dict[str, int]:
    open_names = [node.name for node in auto_nodes(graph)]
    if open_names:
        raise UsageError(
            f"the cost of {graph.name!r} depends on open sizes: {', '.join(open_names)}",
            hint=f"give them: --size {open_names[0]}=30",
        )
    tiers = {f"memory_{name}_bytes": size for name, size in memory(graph).items()}
    return {"layers": len(infer(graph)), "parameters": parameters(graph), "flops_per_row": flops(graph), **tiers}


def format_files(paths: Sequence[Path], *, check: bool = False) -> list[Path]:
    """Rewrite programs in their canonical form; returns those that changed (with `check`: would change)."""
    changed = []
    for path in paths:
        text = read_program(path)
        formatted = format_text(text, str(path))
        if formatted != text:
            changed.append(path)
            if not check:
                publish(path, formatted.encode())
    return changed


def rules_text(path: Path | None) -> str:
    """The rules of a file, or the default ones, in canonical form."""
    rules = default_rules() if path is None else load_rules(path)
    return rules.text()

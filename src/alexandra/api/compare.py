"""Two networks side by side: what `alexandra diff` prints and gives as a record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexandra.api.programs import read_graph
from alexandra.ir.diff import Change, GraphDiff, diff
from alexandra.ir.graph import Graph, Node
from alexandra.ir.text import layer_text


@dataclass(frozen=True)
class Compared:
    """The difference as lines for a person and as a record for --json."""

    found: GraphDiff
    lines: tuple[str, ...]
    record: dict[str, Any]


def compare_files(first: Path, second: Path, *, sizes: tuple[str, ...] = ()) -> Compared:
    """Compare two NureonLang files; `sizes` bind open sizes of both, like "x=30"."""
    graphs = read_graph(first, sizes), read_graph(second, sizes)
    found = diff(*graphs)
    return Compared(found, tuple(_lines(found, graphs)), _record(found, graphs))


def _lines(found: GraphDiff, graphs: tuple[Graph, Graph]) -> list[str]:
    lines = [f"- {layer_text(node)}" for node in found.removed]
    lines += [f"+ {layer_text(node)}" for node in found.added]
    for change in found.changed:
        lines.append(f"~ {change.name}: {'; '.join(_changes(change))}")
    lines += [f"= {old} is called {new}" for old, new in found.renamed]
    if found.equal:
        lines.append(f"equal: {found.same} layers" + (", some under other names" if found.renamed else ""))
    else:
        lines.append(f"{found.same} layer{'s are' if found.same != 1 else ' is'} equal")
    for what, pair in (("parameters", found.parameters), ("FLOPs per row", found.flops)):
        if pair is not None:
            lines.append(f"{what}: {pair[0]:,} -> {pair[1]:,}{_ratio(*pair)}")
    return lines


def _ratio(old: int, new: int) -> str:
    return f" ({(new - old) / old:+.1%})" if old and new != old else ""


def _changes(change: Change) -> list[str]:
    if change.op[0] != change.op[1]:  # the settings of two types of layer say nothing about each other
        words = [f"{change.op[0]} -> {change.op[1]}"]
    else:
        words = [f"{name} {_value(old)} -> {_value(new)}" for name, (old, new) in change.attrs.items()]
    if change.inputs is not None:
        words.append(f"reads {', '.join(change.inputs[0]) or 'nothing'} -> {', '.join(change.inputs[1]) or 'nothing'}")
    return words


def _value(value: object) -> str:
    return "none" if value in (None, "") else str(value)


def _record(found: GraphDiff, graphs: tuple[Graph, Graph]) -> dict[str, Any]:
    return {
        "equal": found.equal,
        "spec_hashes": [graph.spec_hash for graph in graphs],
        "removed": [_node(node) for node in found.removed],
        "added": [_node(node) for node in found.added],
        "changed": [
            {
                "name": change.name,
                "op": list(change.op),
                "attrs": {name: list(pair) for name, pair in change.attrs.items()},
                "inputs": None if change.inputs is None else [list(names) for names in change.inputs],
            }
            for change in found.changed
        ],
        "renamed": [list(pair) for pair in found.renamed],
        "same": found.same,
        "parameters": found.parameters,
        "flops_per_row": found.flops,
    }


def _node(node: Node) -> dict[str, Any]:
    return {"name": node.name, "op": node.op, "inputs": list(node.inputs), "attrs": dict(node.attrs)}

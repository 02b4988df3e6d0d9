"""Two networks side by side: what `alexandra diff` prints and gives as a record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexandra.api.programs import read_graph
from alexandra.ir.check import with_length
from alexandra.ir.diff import Change, GraphDiff, diff
from alexandra.ir.graph import Graph, Node
from alexandra.ir.text import layer_text

ROUND = re.compile(r"_[0-9]+(?=\.)")  # in a layer's name: the round of a REPEAT


@dataclass(frozen=True)
class Compared:
    """The difference as lines for a person and as a record for --json."""

    found: GraphDiff
    lines: tuple[str, ...]
    record: dict[str, Any]


def compare_files(
    first: Path, second: Path, *, sizes: tuple[str, ...] = (), constants: tuple[str, ...] = (), sequence: int = 0
) -> Compared:
    """Compare two NureonLang files; `sizes` bind open sizes of both, like "x=30", `constants` their LETs.

    `sequence` is the length of their open axes, which FLOPs need; 0 leaves them open.
    """
    graphs = read_graph(first, sizes, constants), read_graph(second, sizes, constants)
    if sequence:
        graphs = with_length(graphs[0], sequence), with_length(graphs[1], sequence)
    found = diff(*graphs)
    return Compared(found, tuple(_lines(found, graphs)), _record(found, graphs))


def _lines(found: GraphDiff, graphs: tuple[Graph, Graph]) -> list[str]:
    lines = _rounds([(node.name, f"- {layer_text(node)}") for node in found.removed])
    lines += _rounds([(node.name, f"+ {layer_text(node)}") for node in found.added])
    lines += _rounds([(change.name, f"~ {change.name}: {'; '.join(_changes(change))}") for change in found.changed])
    lines += _rounds([(old, f"= {old} is called {new}") for old, new in found.renamed])
    if found.equal:
        lines.append(f"equal: {found.same} layers" + (", some under other names" if found.renamed else ""))
    else:
        lines.append(f"{found.same} layer{'s are' if found.same != 1 else ' is'} equal")
    for what, pair, way in (
        ("parameters", found.parameters, "--size NAME=NUMBER"),
        ("FLOPs per row", found.flops, "--sequence 128" if found.parameters else "--size NAME=NUMBER"),
    ):
        if pair is None:
            lines.append(f"{what}: they depend on what is open; give it: {way}")
        else:
            lines.append(f"{what}: {pair[0]:,} -> {pair[1]:,}{_ratio(*pair)}")
    return lines


def _rounds(named: list[tuple[str, str]]) -> list[str]:
    """Lines about layers; what is said alike of several rounds of a REPEAT is said once, at the first of them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, line in named:
        number = ROUND.search(name)
        word = name[: number.end()] if number else ""
        alike = _numberless(line, name[: number.start()], int(number[0][1:])) if number else line
        found.setdefault(alike, []).append((word, line))
    lines = []
    for group in found.values():
        more = f"   (and in {len(group) - 1} more, {group[1][0]} to {group[-1][0]})" if len(group) > 2 else ""
        lines += [line for _, line in group] if len(group) <= 2 else [f"{group[0][1]}{more}"]
    return lines


def _numberless(line: str, stem: str, number: int) -> str:
    """`line` with the names of this round and the one before it written alike for every round."""
    for near in (number, number - 1):
        line = re.sub(rf"\b{re.escape(stem)}_{near}(?![0-9])", f"{stem}_#{number - near}", line)
    return line


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

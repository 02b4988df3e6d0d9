"""The network as data: a Graph is a named, ordered, immutable list of Nodes; order is topological.

A Node is one layer. `op` names a row of the op table (ops.py), `inputs` name earlier nodes, `attrs` are the
layer's settings, complete (defaults filled in) and typed. Shapes leave out the leading batch dimension.
Parameters are named `<owner>.<suffix>` where the owner is the node, or its `param` when set: two nodes with
one `param` share weights. This module knows no op; ops.py, check.py and expand.py do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Attr = int | float | bool | str | tuple[int | str, ...] | None

AUTO = "AUTO"  # a size that the task's data binds


@dataclass(frozen=True)
class TensorType:
    """Shape without the batch dimension, and dtype ("float32" or "int32"); a str is a symbolic size (SEQ)."""

    shape: tuple[int | str, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Node:
    """One layer; `param` is "" unless the node uses another owner's parameters."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    param: str = ""

    @property
    def owner(self) -> str:
        return self.param or self.name

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.inputs, tuple(sorted(self.attrs.items())), self.param))


@dataclass(frozen=True)
class Graph:
    """A verified network. Build one with `alexandra.compile`, `alexandra.net` or `ir.check.make_graph`."""

    name: str
    nodes: tuple[Node, ...]

    @cached_property
    def by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @property
    def inputs(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.op == "input")

    @property
    def outputs(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.op == "output")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with a schema version; `ir.check.graph_from_dict` is its inverse."""
        return {
            "schema": 1,
            "name": self.name,
            "nodes": [
                {
                    "name": node.name,
                    "op": node.op,
                    "inputs": list(node.inputs),
                    "attrs": {k: list(v) if isinstance(v, tuple) else v for k, v in sorted(node.attrs.items())},
                    **({"param": node.param} if node.param else {}),
                }
                for node in self.nodes
            ],
        }

    @cached_property
    def spec_hash(self) -> str:
        """SHA-256 of nodes and attributes (not of the network's name): weights prove by it that they fit."""
        body = json.dumps(self.to_dict()["nodes"], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(body.encode()).hexdigest()

    def text(self) -> str:
        """The flat NureonLang program of this graph; compiling it gives an equal graph."""
        from alexandra.ir.text import graph_text

        return graph_text(self)

    def dot(self) -> str:
        """Graphviz source."""
        from alexandra.ir.text import graph_dot

        return graph_dot(self)

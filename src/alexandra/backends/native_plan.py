"""A network as the C interface reads it (include/alexandra.h): JSON of primitives with shapes and parameters.

It is Graph.to_dict of the primitives, with what inference has added: the engine needs no shape rules of its own. The
engine checks every line of it again (csrc/description.cpp), because such a file may come from anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alexandra.backends.native_nodes import node_tuples
from alexandra.errors import BackendError
from alexandra.ir.check import auto_nodes, final_activation, infer, param_specs, verify
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph
from alexandra.ir.ops import ParamSpec
from alexandra.storage import publish

FORMAT, VERSION = "alexandra-plan", 1


def describe(graph: Graph) -> dict[str, Any]:
    """The plan of `graph`, JSON-ready. BackendError while an axis or a size is open."""
    verify(graph)
    primitive = primitives(graph)
    types = infer(primitive)
    open_names = [node.name for node in auto_nodes(graph)]
    open_names += [name for name, given in types.items() if not all(isinstance(dim, int) for dim in given.shape)]
    if open_names:
        raise BackendError(
            f"network {graph.name!r} leaves sizes open in {open_names[0]!r}",
            hint="bind them first: ir.check.bind_sizes(graph, {name: size})",
        )
    specs = param_specs(graph)
    names, by_number = [node.name for node in primitive.nodes], list(specs)
    nodes = []
    for name, op, inputs, shape, params, numbers in node_tuples(primitive, types, {n: i for i, n in enumerate(specs)}):
        reads, owns = [names[i] for i in inputs], [by_number[i] for i in params]
        node = {"name": name, "op": op, "inputs": reads, "shape": shape, "params": owns, "numbers": numbers}
        nodes.append(node)
    heads = []
    for output in graph.outputs:
        activation, logits = final_activation(primitive, output.name)
        heads.append({"output": output.name, "logits": logits, "sigmoid": activation == "sigmoid"})
    described = [{"name": name, "shape": list(spec.shape), **_begins(spec)} for name, spec in specs.items()]
    head = {"format": FORMAT, "version": VERSION, "name": graph.name, "spec_hash": graph.spec_hash}
    return {**head, "params": described, "nodes": nodes, "heads": heads}


def _begins(spec: ParamSpec) -> dict[str, Any]:
    return {"trained": spec.trained, "init": spec.init, "fan_in": spec.fan_in, "fan_out": spec.fan_out}


def save_plan(graph: Graph, path: str | Path) -> Path:
    """Write the plan of `graph`; beside `weights.save(...)` it is all that a C program needs."""
    text = json.dumps(describe(graph), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    publish(Path(path), text.encode())
    return Path(path)

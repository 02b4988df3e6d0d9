"""A graph as text: the flat NureonLang program that compiles back to it, and Graphviz source.

The program has one LAYER line per node, in order, with the attributes that differ from their defaults, then
its CONNECT lines in the order of its inputs. A network's name that is no identifier is written as a string.
"""

from __future__ import annotations

import json

from alexandra.errors import GraphError
from alexandra.ir.check import NAME, infer
from alexandra.ir.graph import Attr, Graph, Node
from alexandra.ir.ops import OPS


def graph_text(graph: Graph) -> str:
    """The flat program of `graph`; `alexandra.compile` of it gives an equal graph."""
    lines = [f"NETWORK {_word(graph.name)}"] if graph.name else []
    lines.append("BEGIN")
    for node in graph.nodes:
        lines.append(f"  {layer_text(node)}")
        lines.extend(f"  CONNECT {source} -> {node.name}" for source in node.inputs)
    return "\n".join([*lines, "END", ""])


def layer_text(node: Node) -> str:
    """The LAYER line of one node."""
    return " ".join(["LAYER", node.op.upper(), f"name={node.name}", *_attributes(node)])


def _attributes(node: Node) -> list[str]:
    specs = OPS[node.op].attrs
    words = []
    for name, value in node.attrs.items():
        if value != specs[name].default:
            if node.op == "input" and isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], int):
                words.append(f"size={value[0]}")
            else:
                words.append(f"{name}={_value(value)}")
    return [*words, f"shared={node.param}"] if node.param else words


def _value(value: Attr) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, tuple):
        return f"({', '.join(map(str, value))})"
    return _word(value) if isinstance(value, str) else repr(value)


def _word(text: str) -> str:
    return text if NAME.match(text) else json.dumps(text, ensure_ascii=False)


def graph_dot(graph: Graph) -> str:
    """Graphviz source: a box per node with op, attributes and type, an arrow per input."""
    try:
        types = {name: str(given) for name, given in infer(graph).items()}
    except GraphError:
        types = {}
    lines = [f"digraph {json.dumps(graph.name)} {{", '  rankdir="TB";', '  node [shape="box", fontname="monospace"];']
    for node in graph.nodes:
        label = "\n".join(filter(None, [f"{node.name}: {node.op}", " ".join(_attributes(node)), types.get(node.name)]))
        lines.append(f"  {json.dumps(node.name)} [label={json.dumps(label)}];")
    for node in graph.nodes:
        lines.extend(f"  {json.dumps(source)} -> {json.dumps(node.name)};" for source in node.inputs)
    return "\n".join([*lines, "}", ""])

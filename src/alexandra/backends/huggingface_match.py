"""Which layers of two networks are the same but for their names.

Two graphs of primitives match when a walk back from their outputs meets equal ops with equal settings, inputs in the
same order (of sums and products in either) and parameters shared alike.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

from alexandra.ir.graph import Attr, Graph, Node
from alexandra.ir.ops.rules import optional, whole

_UNORDERED = ("add", "mul")


def plain(node: Node) -> Node:
    """The node with settings that mean the same made equal."""
    attrs: dict[str, Attr] = dict(node.attrs)
    if node.op == "sdpa":
        attrs["kv_heads"] = optional(attrs["kv_heads"], whole(attrs["heads"]))
    return replace(node, attrs=attrs)


def matched(ours: Graph, theirs: Graph) -> dict[str, str] | None:
    """Our names by theirs, of primitives; None when the networks differ."""
    if len(ours.nodes) != len(theirs.nodes) or len(ours.outputs) != len(theirs.outputs):
        return None
    left, right = _shapes(ours), _shapes(theirs)
    names: dict[str, str] = {}
    waiting = list(zip((n.name for n in ours.outputs), (n.name for n in theirs.outputs), strict=True))
    while waiting:
        mine, yours = waiting.pop()
        if left[mine] != right[yours] or names.setdefault(yours, mine) != mine:
            return None
        a, b = (list(graph.by_name[name].inputs) for graph, name in ((ours, mine), (theirs, yours)))
        if ours.by_name[mine].op in _UNORDERED:
            a, b = sorted(a, key=left.__getitem__), sorted(b, key=right.__getitem__)
        waiting += zip(a, b, strict=True)
    pairs = [(ours.by_name[mine].owner, names.get(theirs.by_name[yours].owner)) for yours, mine in names.items()]
    alike = all(mine == yours for mine, yours in pairs)
    return names if alike and len(set(names.values())) == len(names) == len(ours.nodes) else None


def _shapes(graph: Graph) -> dict[str, str]:
    """By node: a digest of its op, its settings and its history, the same in every graph."""
    found: dict[str, str] = {}
    for node in map(plain, graph.nodes):
        before = [found[name] for name in node.inputs]
        before = sorted(before) if node.op in _UNORDERED else before
        attrs = {key: value for key, value in node.attrs.items() if node.op != "input" or key == "dtype"}
        kind = (node.op, sorted((key, _setting(value)) for key, value in attrs.items()), bool(node.param), before)
        found[node.name] = blake2b(repr(kind).encode(), digest_size=16).hexdigest()
    return found


def _setting(value: Attr) -> str:
    """Numbers that are equal in float32 are the same setting: 1 / 8^0.5 and 8^-0.5 differ in their last bit."""
    return f"{value:.7g}" if isinstance(value, float) else repr(value)

"""Two networks compared: layers that only one has, layers that changed, and what the change costs.

Layers meet by name first; what is left meets by meaning (op, settings and what it reads, all the way up), so that a
renamed layer is a renaming and not a loss and a gain. The comparison is of graphs as written, composites whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from alexandra.errors import GraphError
from alexandra.ir import cost
from alexandra.ir.check import infer
from alexandra.ir.graph import Attr, Graph, Node


@dataclass(frozen=True)
class Change:
    """One layer that both have under `name` (in the first network) with other settings, inputs or op."""

    name: str
    op: tuple[str, str]
    attrs: Mapping[str, tuple[Attr, Attr]]
    inputs: tuple[tuple[str, ...], tuple[str, ...]] | None


@dataclass(frozen=True)
class GraphDiff:
    """What leads from the first network to the second. `renamed` holds (old, new); `same` counts equal layers.

    `parameters` and `flops` (one row) are of both networks, None where a size that they depend on is still open.
    """

    removed: tuple[Node, ...]
    added: tuple[Node, ...]
    changed: tuple[Change, ...]
    renamed: tuple[tuple[str, str], ...]
    same: int
    parameters: tuple[int, int] | None
    flops: tuple[int, int] | None

    @property
    def equal(self) -> bool:
        """Whether the two compute the same, layer by layer; names may differ."""
        return not (self.removed or self.added or self.changed)


def diff(first: Graph, second: Graph) -> GraphDiff:
    """What differs between two networks."""
    pairs = {name: name for name in first.by_name if name in second.by_name}
    left = [node for node in first.nodes if node.name not in pairs]
    right = [node for node in second.nodes if node.name not in pairs]
    renamed = _renamed(first, second, left, right)
    pairs |= renamed
    changes = [_change(first.by_name[a], second.by_name[b], pairs) for a, b in pairs.items()]
    return GraphDiff(
        removed=tuple(node for node in left if node.name not in renamed),
        added=tuple(node for node in right if node.name not in set(renamed.values())),
        changed=tuple(change for change in changes if change is not None),
        renamed=tuple(renamed.items()),
        same=sum(change is None for change in changes),
        parameters=_both(cost.parameters, first, second),
        flops=None if _has_open_axis(first) or _has_open_axis(second) else _both(cost.flops, first, second),
    )


def _renamed(first: Graph, second: Graph, left: Iterable[Node], right: Iterable[Node]) -> dict[str, str]:
    """Old name -> new name of layers with one meaning, in order where several have it; then by their own line."""
    meanings = _meanings(second)
    waiting: dict[str, list[str]] = {}
    for node in right:
        waiting.setdefault(meanings[node.name], []).append(node.name)
    found, own = {}, _meanings(first)
    for node in left:
        if names := waiting.get(own[node.name]):
            found[node.name] = names.pop(0)
    return found | _moved(first, second, found)


def _moved(first: Graph, second: Graph, renamed: Mapping[str, str]) -> dict[str, str]:
    """Further renamings: layers whose own line is equal although something that they read has changed."""
    found: dict[str, str] = {}
    taken = set(renamed.values())
    for node in first.nodes:
        if node.name in second.by_name or node.name in renamed:
            continue
        pairs = {**{name: name for name in second.by_name}, **renamed, **found}
        for other in second.nodes:
            free = other.name not in taken and other.name not in first.by_name
            if free and _change(node, other, pairs) is None:
                found[node.name] = other.name
                taken.add(other.name)
                break
    return found


def _meanings(graph: Graph) -> dict[str, str]:
    """A hash of each layer's op, settings, inputs' hashes and, of an input or output, its place among them."""
    places = {node.name: i for i, node in enumerate(graph.inputs)} | {n.name: i for i, n in enumerate(graph.outputs)}
    found: dict[str, str] = {}
    for node in graph.nodes:
        parts = [node.op, repr(sorted(node.attrs.items())), *(found[name] for name in node.inputs)]
        parts += [str(places.get(node.name, "")), found.get(node.param, "")]
        found[node.name] = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
    return found


def _change(old: Node, new: Node, pairs: Mapping[str, str]) -> Change | None:
    attrs = {
        key: (old.attrs.get(key), new.attrs.get(key))
        for key in {**old.attrs, **new.attrs}
        if old.attrs.get(key) != new.attrs.get(key)
    }
    if pairs.get(old.param, old.param) != new.param:
        attrs["shared"] = (old.param, new.param)
    rewired = tuple(pairs.get(name, name) for name in old.inputs) != new.inputs
    if old.op == new.op and not attrs and not rewired:
        return None
    return Change(old.name, (old.op, new.op), attrs, (old.inputs, new.inputs) if rewired else None)


def _both(measure: Callable[[Graph], int], first: Graph, second: Graph) -> tuple[int, int] | None:
    """`measure` of both, None while it depends on a size that is open."""
    try:
        return measure(first), measure(second)
    except GraphError:
        return None


def _has_open_axis(graph: Graph) -> bool:
    return any(isinstance(dim, str) for kind in infer(graph).values() for dim in kind.shape)

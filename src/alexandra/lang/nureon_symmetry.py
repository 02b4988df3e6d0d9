"""EXPAND: one body with one set of weights, applied to several views of what it reads.

A layer outside, read from the body, has its last axis cut into n equal parts; each copy of the body sees a view:
- EXPAND SPACE = nD: n copies, copy k sees part k alone; so the body runs along each of n axes.
- EXPAND GROUP = G (or WITH GROUP G): one copy per element of a finite group of orders of the n parts, which sees all
  parts in that order: Cn their n rotations, Dn rotations and reflections (2n), Sn all orders (n!). Rotating the input
  of EXPAND GROUP = Cn by one part rotates its result by one copy: T. S. Cohen and M. Welling, "Group Equivariant
  Convolutional Networks", 2016, section 4.
Outside, a name of the body is all copies side by side on the last axis, in the order of the elements (the identity
first); what is connected to it from outside goes to every copy. In a chain the copies are chains from the same entry.
An OUTPUT inside is the copies' results side by side. Weights belong to the first copy, the others share them. The
sizes of what is read must be known: they are cut while compiling.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter

from alexandra.errors import GraphError
from alexandra.ir.check import Size, input_types
from alexandra.ir.expand import default_attrs
from alexandra.ir.graph import AUTO, Node, TensorType
from alexandra.ir.ops import OPS
from alexandra.lang.lexis import Source, Span
from alexandra.lang.nureon_ast import Expand
from alexandra.lang.nureon_branch import as_layer
from alexandra.lang.nureon_frame import Development, Frame
from alexandra.lang.nureon_space import Entity, Item, Junction, NameRef, Space, View

Order = tuple[int, ...]


def rotations(parts: int) -> list[Order]:
    return [tuple((place + turn) % parts for place in range(parts)) for turn in range(parts)]


def rotations_and_reflections(parts: int) -> list[Order]:
    return rotations(parts) + [tuple((turn - place) % parts for place in range(parts)) for turn in range(parts)]


def all_orders(parts: int) -> list[Order]:
    return list(itertools.permutations(range(parts)))


GROUPS: dict[str, tuple[Callable[[int], list[Order]], int, str]] = {
    "C": (rotations, 64, "C2 ... C64 (rotations)"),
    "D": (rotations_and_reflections, 64, "D3 ... D64 (rotations and reflections)"),
    "S": (all_orders, 5, "S2 ... S5 (all orders)"),
}
SMALLEST = {"C": 2, "D": 3, "S": 2}
MOST_AXES = 64


def expand(development: Development, statement: Expand, frame: Frame) -> None:
    """Run the body once per view."""
    views = _views(development.source, statement)
    chain = frame.chain if frame.chain is not None and frame.chain.mode == "chain" else None
    whole = development.plan.group("expand", "fixed", frame.space, statement.span) if chain else None
    spaces: list[Space] = []
    layers: list[list[Item]] = []
    for number, view in enumerate(views):
        space = frame.space.open("copy")
        space.view = view
        arm = development.plan.group("expand", "chain", space, statement.span) if whole else None
        first = len(development.plan.items)
        development.run_all((statement.body,), frame.inner(frame.scope, space, arm))
        made = development.plan.items[first:]
        for item in made:
            if item.op == "input":
                message = "an INPUT inside EXPAND would be several inputs"
                raise development.source.error(item.span, message, "declare it outside")
            if item.space is space:
                item.local += f".at_{number}"
        if layers and not development.share(made, layers[0]):
            raise development.source.error(statement.span, "the copies of this EXPAND differ in their layers")
        spaces.append(space)
        layers.append(made)
        if whole and arm:
            development.plan.edge(whole.entry, arm.entry, space, statement.span)
            development.plan.edge(arm.exit, whole.exit, frame.space, statement.span)
    if chain and whole:
        chain.members.append(whole)
    _name_copies(development, spaces, frame, statement.span)


def _views(source: Source, statement: Expand) -> list[View]:
    if not statement.group:
        if not 1 <= statement.axes <= MOST_AXES:
            message = f"EXPAND SPACE = {statement.axes}D: 1 to {MOST_AXES} axes are possible"
            raise source.error(statement.target_span, message)
        return [View(statement.axes, (axis,)) for axis in range(statement.axes)]
    match = re.fullmatch(r"([CDS])([0-9]{1,3})", statement.group.upper())
    if match:
        letter, parts = match.group(1), int(match.group(2))
        orders, largest, _ = GROUPS[letter]
        if SMALLEST[letter] <= parts <= largest:
            return [View(parts, order) for order in orders(parts)]
    known = ", ".join(words for _, _, words in GROUPS.values())
    hint = f"known: {known}. A continuous group such as SO3 has no list of elements."
    raise source.error(statement.target_span, f"unknown group {statement.group!r}", hint)


def _name_copies(development: Development, spaces: list[Space], frame: Frame, span: Span) -> None:
    """Make the names of the body known outside."""
    slots = [{(frame.space, name): entity for name, entity in s.table.items()} | s.foreign for s in spaces]
    for slot in slots[0]:
        copies = tuple(named[slot] for named in slots)
        space, name = slot
        ref = NameRef(space, tuple(name.split(".")), (), span, frame.space)
        if isinstance(copies[0], Item) and copies[0].op == "output":
            _join_outputs(development, ref, copies, frame.space)
            continue
        if name in space.table:
            hint = f"the first is on line {space.table[name].span.line}"
            raise development.source.error(copies[0].span, f"two layers are named {name!r}", hint)
        joined = Junction(name, frame.space, copies[0].span, copies=copies)
        development.plan.spread.append(joined)
        around = list(space.regions())
        region = next((r for r in frame.space.regions() if r not in around), None)
        if region is None:
            space.table[name] = joined
        else:
            region.foreign[slot] = joined


def _join_outputs(development: Development, ref: NameRef, copies: tuple[Entity, ...], space: Space) -> None:
    """The outputs of all copies become layers, and one output reads them side by side."""
    items = [copy for copy in copies if isinstance(copy, Item)]
    for item in items:
        as_layer(development, item, keep_activation=True)
    output = development.declare(ref, "output", items[0].span)
    for item in items:
        development.plan.edge(item, output, space, item.span)


# ---------------------------------------------------------------- cutting


class Cutter:
    """Slices that were written as "part k of n" and get their elements once sizes are known."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.parts: dict[str, tuple[int, int, Span]] = {}

    def part(self, name: str, source: str, part: int, parts: int, span: Span) -> Node:
        """The node `name` for part number `part` of `parts` of the node `source`; `cut` gives it its elements."""
        self.parts[name] = (part, parts, span)
        return Node(name, "slice", (source,), {"start": 0, "stop": 1})

    def cut(self, nodes: list[Node], sizes: Mapping[str, Size]) -> list[Node]:
        """The nodes with every part as elements; LanguageError when a size is unknown or does not divide.

        A graph that is wrong in another way comes back as far as it was understood: `make_graph` says what is wrong.
        """
        if not self.parts:
            return nodes
        types: dict[str, TensorType] = {}
        done = {node.name: node for node in nodes}
        try:
            order = list(TopologicalSorter({node.name: node.inputs for node in nodes}).static_order())
            for name in order:
                node = done[name]
                if name in self.parts:
                    node = done[name] = self._cut(node, types[node.inputs[0]].shape[-1])
                attrs = {**default_attrs(node.op), **node.attrs}
                if node.op == "input" and name in sizes:
                    attrs["shape"] = OPS["input"].attrs["shape"].canonical(sizes[name])
                types[name] = OPS[node.op].infer(attrs, input_types(node, types))
        except (CycleError, GraphError, IndexError):
            pass
        return [done[node.name] for node in nodes]

    def _cut(self, node: Node, size: int | str) -> Node:
        part, parts, span = self.parts[node.name]
        read = node.inputs[0]
        if not isinstance(size, int):
            message = f"EXPAND must know the size of {read!r}, which is {size}"
            hint = "give it a size, or compile with sizes={...}" if size == AUTO else "give its last axis a number"
            raise self.source.error(span, message, hint)
        if size % parts:
            message = f"{read!r} has {size} values, which cannot be cut into {parts} equal parts"
            raise self.source.error(span, message, f"choose a multiple of {parts}")
        width = size // parts
        return Node(node.name, "slice", node.inputs, {"start": part * width, "stop": (part + 1) * width})

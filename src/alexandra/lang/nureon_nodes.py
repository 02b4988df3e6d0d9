"""Wired layers become nodes: final names, selections as slices, junctions gone.

Names that the user wrote stay as they are, below the prefix of their module instance or round; names that the
language made (layers of macros, of branches, without a name) become unique by _1, _2 ... in the order of the text,
so equal programs give equal names. Where several wires meet in a port or an entry, a concat stands.
"""

from __future__ import annotations

from collections.abc import Mapping

from alexandra.errors import LanguageError
from alexandra.ir.check import Size
from alexandra.ir.graph import Node
from alexandra.ir.ops import OPS
from alexandra.lang.lexis import Source, Span
from alexandra.lang.nureon_space import (
    Container,
    Item,
    Junction,
    NameRef,
    Pick,
    Plan,
    View,
    Wire,
    resolve,
    unknown_layer,
)
from alexandra.lang.nureon_symmetry import Cutter


class Names:
    """The final names that are taken."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.spans: dict[str, Span] = {}
        self.next: dict[str, int] = {}

    def take(self, name: str, span: Span) -> str:
        """`name` itself; LanguageError when it is taken."""
        if name in self.spans:
            hint = f"the first is on line {self.spans[name].line}"
            raise self.source.error(span, f"two layers are named {name!r}", hint)
        self.spans[name] = span
        return name

    def unique(self, base: str, span: Span) -> str:
        """`base`, or base_1, base_2 ... when it is taken."""
        name = base
        while name in self.spans:
            number = self.next.get(base, 1)
            self.next[base] = number + 1
            name = f"{base}_{number}"
        self.spans[name] = span
        return name

    def give(self, root: Container) -> None:
        """Name all containers and layers below `root`."""
        generated: list[tuple[Container, Item]] = []
        stack = [root]
        while stack:
            container = stack.pop()
            items = [entry for entry in container.entries if isinstance(entry, Item)]
            inner = [entry for entry in container.entries if isinstance(entry, Container)]
            for item in items:
                if item.explicit:
                    item.full = self.take(container.prefixed(item.local), item.span)
                else:
                    generated.append((container, item))
            for child in sorted(inner, key=lambda entry: not entry.explicit):
                wanted = container.prefixed(child.local)
                child.full = self.take(wanted, child.span) if child.explicit else self.unique(wanted, child.span)
            stack.extend(reversed(inner))
        for container, item in generated:
            item.full = self.unique(container.prefixed(item.local), item.span)


class Writer:
    """Makes the nodes of a wired plan, in the order of the text; `nodes` once."""

    def __init__(self, source: Source, plan: Plan) -> None:
        self.source = source
        self.plan = plan
        self.names = Names(source)
        self.made: list[Node] = []
        self.slices: dict[tuple[str, Pick | View], str] = {}
        self.cutter = Cutter(source)
        self.joined: dict[Junction, Item] = {}

    def nodes(self, sizes: Mapping[str, Size]) -> list[Node]:
        """All nodes; `sizes` are those that the caller binds (EXPAND cuts what it reads)."""
        self.names.give(self.plan.root)
        for item in list(self.plan.items):
            self._write(item)
        return self.cutter.cut(self.made, sizes)

    def _write(self, item: Item) -> None:
        """The node of `item`, after the concats that it turned out to need."""
        waiting = [item]
        nodes: list[list[Node]] = []
        for current in waiting:
            before: list[Node] = []
            inputs = []
            for wire in current.sources:
                source, picks = self._trace(wire, current, waiting)
                name = source.full
                for pick in picks:
                    if isinstance(pick, View):
                        name = self._view(name, pick, wire.span, before)
                    else:
                        name = self._slice(name, pick, wire.span, before)
                inputs.append(name)
            if not inputs and OPS[current.op].min_inputs > 0:
                message = f"layer {current.full!r} ({current.op}) is not connected"
                raise self.source.error(current.span, message, f"CONNECT something -> {current.local}")
            nodes.append([*before, Node(current.full, current.op, tuple(inputs), current.attrs, self._owner(current))])
        for group in reversed(nodes):
            self.made.extend(group)

    def _trace(self, wire: Wire, reader: Item, waiting: list[Item]) -> tuple[Item, tuple[Pick | View, ...]]:
        """The layer behind a wire and the selections on the way; a new concat is put in `waiting`."""
        end, picks = wire.source, wire.picks
        seen: set[Junction] = set()
        while isinstance(end, Junction):
            if end in self.joined:
                end = self.joined[end]
                break
            if end in seen:
                raise self.source.error(end.span, f"{_shown(end)!r} feeds itself")
            if not end.sources:
                raise self._open(end, reader)
            if len(end.sources) > 1:
                made = self.plan.item("concat", end.label, False, end.space, end.span)
                made.full = self.names.unique(end.space.container.prefixed(end.label), end.span)
                made.sources = end.sources
                self.joined[end] = made
                waiting.append(made)
                end = made
                break
            seen.add(end)
            only = end.sources[0]
            end, picks = only.source, (*only.picks, *picks)
        return end, picks

    def _open(self, junction: Junction, reader: Item) -> LanguageError:
        group = junction.group
        if group is None or junction is group.exit:
            return self.source.error(reader.span, f"nothing flows out of {_shown(junction)!r}")
        if junction is group.entry:
            message, hint = f"{group.name!r} is not connected", f"CONNECT something -> {group.name}"
        else:
            message = f"port {junction.label!r} of {group.name!r} is not connected"
            hint = f"CONNECT something -> {group.name}.{junction.label}"
        return self.source.error(group.span, message, hint)

    def _slice(self, name: str, pick: Pick, span: Span, before: list[Node]) -> str:
        """The node that selects `pick` of the node `name`."""
        made = self.slices.get((name, pick))
        if made is None:
            stop = pick.start + 1 if pick.stop is None else pick.stop
            words = f"slice_{pick.start}" if pick.stop is None else f"slice_{pick.start}_{stop}"
            made = self.slices[(name, pick)] = self.names.unique(f"{name}.{words}", span)
            before.append(Node(made, "slice", (name,), {"start": pick.start, "stop": stop}))
        return made

    def _view(self, name: str, view: View, span: Span, before: list[Node]) -> str:
        """The node that has the parts of the node `name` in the order of `view`."""
        if view.order == tuple(range(view.parts)):
            return name
        made = self.slices.get((name, view))
        if made is not None:
            return made
        words = "_".join(map(str, view.order))
        if len(view.order) == 1:
            made = self.names.unique(f"{name}.part_{words}_of_{view.parts}", span)
            before.append(self.cutter.part(made, name, view.order[0], view.parts, span))
        else:
            alone = [self._view(name, View(view.parts, (part,)), span, before) for part in view.order]
            made = self.names.unique(f"{name}.order_{words}", span)
            before.append(Node(made, "concat", tuple(alone)))
        self.slices[(name, view)] = made
        return made

    def _owner(self, item: Item) -> str:
        """The name of the layer whose weights `item` uses, "" for its own."""
        seen = {item}
        owner = item
        while owner.shared is not None:
            owner = self._shared(owner.shared)
            if owner in seen:
                raise self.source.error(item.span, f"layer {item.full!r} shares its weights with itself")
            seen.add(owner)
        return owner.full if owner is not item else ""

    def _shared(self, shared: NameRef | Item) -> Item:
        if isinstance(shared, Item):
            return shared
        found = resolve(shared)
        if found is None:
            raise unknown_layer(self.source, shared)
        entity, picks = found
        if picks or not isinstance(entity, Item):
            raise self.source.error(shared.span, f"{str(shared)!r} is not a layer with weights")
        return entity


def _shown(junction: Junction) -> str:
    if junction.group is None:
        return junction.label
    group = junction.group
    return group.name if junction in (group.entry, group.exit) else f"{group.name}.{junction.label}"

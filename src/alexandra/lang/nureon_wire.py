"""Names become wires: what was written down (a Plan) learns what feeds what.

Every edge finds its ends; edges that leave a branch of an IF on data meet in a select; then chains, and the open
layers of modules without ports, get the wires that nobody wrote. nureon_nodes.py makes nodes of the result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from alexandra.ir.ops import OPS
from alexandra.lang.lexis import Source, Span
from alexandra.lang.nureon_space import (
    Decision,
    Edge,
    End,
    Entity,
    Group,
    Item,
    Junction,
    NameRef,
    Pick,
    Plan,
    Space,
    View,
    Wire,
    resolve,
    unknown_layer,
)


@dataclass(frozen=True)
class Link:
    """A connection whose ends are known."""

    source: Entity
    picks: tuple[Pick, ...]
    target: Entity
    space: Space
    span: Span


class Wiring:
    """Gives every layer and junction of a plan its sources; `run` once."""

    def __init__(self, source: Source, plan: Plan) -> None:
        self.source = source
        self.plan = plan
        self.fed: set[Entity] = set()
        self.readers: dict[Entity, list[Entity]] = {}

    def run(self) -> None:
        for name in self.plan.spread:
            name.sources = [Wire(self._leave(copy, name.span), (), name.span) for copy in name.copies]
        links, crossing = self._resolve_all()
        for decision in self.plan.decisions:
            self._merge_crossing(decision, links, crossing)
        for link in links:
            self._connect(link)
        for group in self.plan.groups:
            self._wire_group(group)

    # ---- edges

    def _resolve_all(self) -> tuple[list[Link], dict[Space, list[Link]]]:
        links: list[Link] = []
        crossing: dict[Space, list[Link]] = {}
        for edge in self.plan.edges:
            self._place(self._link(edge), links, crossing)
        return links, crossing

    def _place(self, link: Link, links: list[Link], crossing: dict[Space, list[Link]]) -> None:
        """A link that leaves the branch it was written in waits for that branch's decision."""
        around = list(link.target.space.regions())
        left = (region for region in link.space.regions() if region.kind == "branch" and region not in around)
        branch = next(left, None)
        if branch is None:
            links.append(link)
        else:
            crossing.setdefault(branch, []).append(link)

    def _link(self, edge: Edge) -> Link:
        source, picks = self._end(edge.source)
        target, target_picks = self._end(edge.target, as_target=True)
        if target_picks:
            assert isinstance(edge.target, NameRef)
            hint = "select where the connection starts: CONNECT x[0] -> h"
            raise self.source.error(edge.target.span, f"a connection cannot end in a part, {str(edge.target)!r}", hint)
        if isinstance(source, Item) and source.op == "output":
            where = edge.source.span
            raise self.source.error(where, f"{source.local!r} is an OUTPUT and feeds nothing", "connect what it reads")
        if isinstance(target, Item) and OPS[target.op].max_inputs == 0:
            where = edge.target.span
            raise self.source.error(where, f"{target.local!r} is an {target.op.upper()} and reads nothing")
        return Link(source, picks, target, edge.space, edge.source.span if picks else edge.span)

    def _end(self, end: End, as_target: bool = False) -> tuple[Entity, tuple[Pick, ...]]:
        if not isinstance(end, NameRef):
            return end, ()
        found = resolve(end, as_target)
        if found is None:
            raise unknown_layer(self.source, end, self.plan.modules)
        return found

    def _merge_crossing(self, decision: Decision, links: list[Link], crossing: dict[Space, list[Link]]) -> None:
        """Connections from both branches into one layer outside become one, from their select."""
        sides = (crossing.pop(decision.then, []), crossing.pop(decision.otherwise, []))
        for target in dict.fromkeys(link.target for side in sides for link in side):
            then, otherwise = ([link for link in side if link.target is target] for side in sides)
            if not then or not otherwise:
                hint = "connect something to it in the other branch (ELSE) too"
                raise self.source.error((then or otherwise)[0].span, _one_sided(target), hint)
            selected = self.plan.item("select", f"{_local(target)}.select", False, decision.space, decision.span)
            selected.attrs = decision.attrs()
            condition, picks = self._end(decision.condition)
            selected.sources.append(self._wire(condition, picks, decision.space, decision.span))
            selected.sources.extend(self._join(side, decision) for side in (then, otherwise))
            self._place(Link(selected, (), target, decision.space, then[0].span), links, crossing)

    def _join(self, side: list[Link], decision: Decision) -> Wire:
        wires = [self._wire(link.source, link.picks, decision.space, link.span) for link in side]
        for link in side:
            self.readers.setdefault(link.source, []).append(link.target)
        if len(wires) == 1:
            return wires[0]
        return Wire(Junction("join", decision.space, decision.span, sources=wires), (), decision.span)

    def _connect(self, link: Link) -> None:
        target, source = link.target, link.source
        if isinstance(target, Junction) and target.copies:
            for copy in target.copies:
                self._connect(replace(link, target=copy))
            return
        self.fed.add(target)
        if isinstance(source, Junction):
            for copy in source.copies:
                self.readers.setdefault(copy, []).append(target)
        self.readers.setdefault(source, []).append(target)
        if isinstance(target, Junction) and target.group and target in (target.group.entry, *target.group.inputs):
            self.fed.add(target.group)
        if isinstance(source, Junction) and source.group and source in (source.group.exit, *source.group.outputs):
            self.readers.setdefault(source.group, []).append(target)
        self._feed(source, target, link.span, link.picks)

    def _wire(self, source: Entity, picks: tuple[Pick, ...], space: Space, span: Span) -> Wire:
        """The wire that brings `source` to a reader in `space`: seen through the copies on the way, then selected."""
        views: tuple[Pick | View, ...] = source.space.views_from(space)
        return Wire(self._leave(source, span), (*views, *picks), span)

    def _feed(self, source: Entity, target: Entity, span: Span, picks: tuple[Pick, ...] = ()) -> None:
        self._enter(target, span).sources.append(self._wire(source, picks, target.space, span))

    # ---- groups

    def _enter(self, target: Entity, span: Span) -> Item | Junction:
        while isinstance(target, Group):
            target = self._port(target, target.inputs, "input", span) if target.has_ports else target.entry
        return target

    def _leave(self, source: Entity, span: Span) -> Item | Junction:
        while isinstance(source, Group):
            source = self._port(source, source.outputs, "result", span) if source.has_ports else source.exit
        return source

    def _port(self, group: Group, ports: list[Entity], kind: str, span: Span) -> Entity:
        if len(ports) == 1:
            return ports[0]
        named = ", ".join(f"{group.name}.{_local(port)}" for port in ports)
        hint = f"name one of them: {named}" if ports else "its body connects no port that way"
        message = f"{group.name!r} has {len(ports) or 'no'} {kind} port{'s' * (len(ports) != 1)}"
        raise self.source.error(span, message, hint)

    def _wire_group(self, group: Group) -> None:
        if group.mode == "chain":
            before: Item | Junction = group.entry
            for member in group.members:
                if self._is_open(member):
                    self._feed(before, member, member.span)
                if not isinstance(member, Item) or member.op != "output":
                    before = self._leave(member, member.span)
            group.exit.sources.append(Wire(before, (), group.span))
        elif group.mode == "module" and not group.has_ports:
            for member in group.members:
                if self._is_open(member):
                    self._feed(group.entry, member, member.span)
            last = [member for member in group.members if self._is_last(member, group)]
            group.exit.sources.extend(Wire(self._leave(member, member.span), (), group.span) for member in last)

    def _is_last(self, member: Item | Group, group: Group) -> bool:
        """Whether nothing inside the module instance reads a member."""
        assert group.inner is not None
        if isinstance(member, Item) and member.op == "output":
            return False
        inside = group.inner.container
        return not any(reader.space.container.within(inside) for reader in self.readers.get(member, ()))

    def _is_open(self, member: Item | Group) -> bool:
        """Whether a member waits for an input that no CONNECT gives it."""
        if member in self.fed:
            return False
        if isinstance(member, Item):
            return OPS[member.op].min_inputs > 0
        if member.mode == "module" and not member.has_ports:
            return any(self._is_open(inner) for inner in member.members)
        return not member.has_ports or len(member.inputs) == 1


def _local(entity: Entity) -> str:
    if isinstance(entity, Item):
        return entity.local
    return entity.name if isinstance(entity, Group) else entity.label


def _one_sided(target: Entity) -> str:
    return f"{_local(target)!r}, declared outside the IF, is connected in one branch only"

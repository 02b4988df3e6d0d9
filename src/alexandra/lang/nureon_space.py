"""What expansion writes down: layers, ports, groups and edges, in name spaces; and how a written name finds one.

A Space answers names: the program, a module instance, a macro instance, one round of REPEAT, one branch of an
IF on data. A Container is where final names live (the program, a module instance, a round): macros and branches
put their layers into the container around them, under names made unique. A name that a space does not know is
looked for in the spaces around its text; last, inside the one instance called from there that has it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from alexandra.errors import LanguageError, suggest
from alexandra.ir.graph import Attr
from alexandra.lang.lexis import NOWHERE, Limits, Source, Span, limit_error


@dataclass(frozen=True)
class Pick:
    """A selection on the last axis: elements start .. stop-1; `stop` None means one element, h[i]."""

    start: int
    stop: int | None = None


@dataclass(frozen=True)
class View:
    """What one copy of an EXPAND sees: of the last axis, cut into `parts` equal parts, those of `order`, in order."""

    parts: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class NameRef:
    """A name as written at `span` in `seen`, its computed pieces filled in.

    `space` is where it is looked up: `seen`, or the caller's space when a macro's argument stands behind it (`given`).
    """

    space: Space
    words: tuple[str, ...]
    picks: tuple[Pick, ...]
    span: Span
    seen: Space
    given: bool = False

    @property
    def text(self) -> str:
        return ".".join(self.words)

    def __str__(self) -> str:
        shown = "".join(f"[{p.start}]" if p.stop is None else f"[{p.start}:{p.stop}]" for p in self.picks)
        return self.text + shown


@dataclass(eq=False)
class Container:
    """A prefix of final names; `entries` in the order of creation."""

    local: str
    explicit: bool
    span: Span
    parent: Container | None = None
    entries: list[Item | Container] = field(default_factory=list)
    full: str = ""

    def child(self, local: str, explicit: bool, span: Span) -> Container:
        made = Container(local, explicit, span, self)
        self.entries.append(made)
        return made

    def within(self, other: Container) -> bool:
        container: Container | None = self
        while container is not None and container is not other:
            container = container.parent
        return container is other

    def prefixed(self, name: str) -> str:
        return f"{self.full}.{name}" if self.full else name


@dataclass(eq=False)
class Item:
    """A layer. `explicit`: the user wrote this very name, so it may not change to become unique."""

    op: str
    local: str
    explicit: bool
    space: Space
    span: Span
    attrs: dict[str, Attr] = field(default_factory=dict)
    shared: NameRef | Item | None = None
    tied: NameRef | None = None
    sources: list[Wire] = field(default_factory=list)
    full: str = ""


@dataclass(eq=False)
class Junction:
    """A place where wires meet and that is no layer: a port, the entry or the exit of a group.

    With `copies` it is the name of something in the body of an EXPAND, seen from outside: it gives all copies side by
    side, and what is connected to it goes to each.
    """

    label: str
    space: Space
    span: Span = NOWHERE
    group: Group | None = None
    sources: list[Wire] = field(default_factory=list)
    copies: tuple[Entity, ...] = ()


@dataclass(eq=False)
class Group:
    """Several layers that connect as one: a module instance, a REPEAT, a round of it, a RESIDUAL, an IF in a chain.

    mode "chain": members without a CONNECT read the member before them, the first the entry.
    mode "module": the entry feeds the one input port, or, without ports, every member that nothing feeds.
    mode "fixed": entry and exit are wired by whoever made the group.
    """

    name: str
    mode: str
    space: Space
    span: Span
    inner: Space | None = None
    members: list[Item | Group] = field(default_factory=list)
    inputs: list[Entity] = field(default_factory=list)
    outputs: list[Entity] = field(default_factory=list)
    has_ports: bool = False

    def __post_init__(self) -> None:
        self.entry = Junction(f"{self.name}.in", self.space, self.span, self)
        self.exit = Junction(f"{self.name}.out", self.space, self.span, self)


REGIONS = ("branch", "copy")
Entity = Item | Junction | Group
End = NameRef | Item | Junction


@dataclass(frozen=True)
class Wire:
    """What flows in: the value of a layer or junction, or the part of it that `picks` selects, one after another."""

    source: Item | Junction
    picks: tuple[Pick | View, ...]
    span: Span


@dataclass
class Edge:
    """A connection as written; ends are names until all layers are known."""

    source: End
    target: End
    space: Space
    span: Span


@dataclass(eq=False)
class Decision:
    """An IF on data: row by row the value of one of two branches."""

    condition: NameRef
    comparison: str
    value: float
    space: Space
    then: Space
    otherwise: Space
    span: Span

    def attrs(self) -> dict[str, Attr]:
        return {"cmp": self.comparison, "value": self.value}


@dataclass(eq=False)
class Space:
    """Names of one kind ("program", "module", "macro", "round", "branch", "copy") over the space around its text.

    Branches of an IF on data and copies of an EXPAND are regions: `region` is the innermost one in which this space
    was opened (a region: itself), `outer` the region around that. `foreign` are the layers that a region declared
    under a name of another space. A copy has a `view` of what is outside.
    """

    kind: str
    parent: Space | None
    container: Container
    region: Space | None = None
    outer: Space | None = None
    view: View | None = None
    table: dict[str, Entity] = field(default_factory=dict)
    aliases: dict[str, Item] = field(default_factory=dict)
    called: list[Space] = field(default_factory=list)
    one_sided: dict[str, Span] = field(default_factory=dict)
    foreign: dict[tuple[Space, str], Entity] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def explicit(self) -> bool:
        """Whether names written here are final names of the container."""
        return self.kind not in ("macro", *REGIONS)

    def regions(self) -> Iterator[Space]:
        """The regions around, innermost first."""
        region = self.region
        while region is not None:
            yield region
            region = region.outer

    def views_from(self, other: Space) -> tuple[View, ...]:
        """How something of this space is seen from `other`: through the copies around it that this is outside of."""
        own = list(self.regions())
        seen = [region.view for region in other.regions() if region.view is not None and region not in own]
        return tuple(reversed(seen))

    def open(self, kind: str, parent: Space | None = None, container: Container | None = None) -> Space:
        """A space opened from here; its text stands in `parent` (default: here)."""
        made = Space(kind, parent or self, container or self.container, self.region, self.outer)
        if kind in REGIONS:
            made.region, made.outer = made, self.region
        return made

    def number(self, base: str) -> str:
        """`base` for the first generated name of that kind, then base_1, base_2 ..."""
        count = self.counts.get(base, 0)
        self.counts[base] = count + 1
        return base if count == 0 else f"{base}_{count}"


class Plan:
    """All that a program wrote down, before names are looked up."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.root = Container("", True, NOWHERE)
        self.items: list[Item] = []
        self.groups: list[Group] = []
        self.edges: list[Edge] = []
        self.decisions: list[Decision] = []
        self.spread: list[Junction] = []
        self.name = ""
        self.name_span = NOWHERE
        self.modules: set[str] = set()
        self.file = ""
        self.file_span = NOWHERE

    def item(self, op: str, local: str, explicit: bool, space: Space, span: Span) -> Item:
        """A new layer in the container of `space`; LanguageError at the limit."""
        if len(self.items) >= self.limits.layers:
            raise limit_error(self.source, span, "layers", self.limits.layers, "the network has too many layers")
        made = Item(op, local, explicit, space, span)
        self.items.append(made)
        space.container.entries.append(made)
        return made

    def group(self, name: str, mode: str, space: Space, span: Span, inner: Space | None = None) -> Group:
        made = Group(name, mode, space, span, inner)
        self.groups.append(made)
        return made

    def edge(self, source: End, target: End, space: Space, span: Span) -> None:
        self.edges.append(Edge(source, target, space, span))


def find(space: Space, words: tuple[str, ...]) -> Entity | None:
    """What `words` name in `space` itself: a layer, a port, a group, or something inside a group."""
    key = ".".join(words)
    entity = space.table.get(key) or space.aliases.get(key.lower())
    if entity is not None:
        return entity
    for cut in range(len(words) - 1, 0, -1):
        head = space.table.get(".".join(words[:cut]))
        if isinstance(head, Group) and head.inner is not None:
            return find(head.inner, words[cut:]) or one_inside(head.inner, words[cut:])
    return None


def one_inside(space: Space, words: tuple[str, ...]) -> Entity | None:
    """The one entity of that name in the instances called from `space`, at any depth; None for none or several."""
    found: list[Entity] = []
    stack = list(space.called)
    while stack:
        inner = stack.pop()
        entity = inner.table.get(".".join(words))
        if entity is not None and not isinstance(entity, Junction):
            found.append(entity)
        stack.extend(inner.called)
    return found[0] if len(found) == 1 else None


def look_up(space: Space, words: tuple[str, ...], in_instances: bool = True) -> Entity | None:
    """What `words` name from inside `space`: its own names, those around its text, then one called instance's."""
    for around in spaces_around(space):
        entity = find(around, words)
        if entity is not None:
            return entity
    here: Space | None = space if in_instances else None
    while here is not None:
        entity = one_inside(here, words)
        if entity is not None or here.kind not in REGIONS:
            return entity
        here = here.parent
    return None


def spaces_around(space: Space) -> Iterator[Space]:
    current: Space | None = space
    while current is not None:
        yield current
        current = current.parent


def resolve(ref: NameRef, as_target: bool = False, in_instances: bool = True) -> tuple[Entity, tuple[Pick, ...]] | None:
    """The entity that `ref` names and the selections on it, or None.

    Brackets may also be pieces of the name (h[0] is h_0): where the plain name is nothing, and first of all in the
    target of a connection, which cannot be a selection.
    """
    words, picks = ref.words, ref.picks
    spellings = [(words, picks)]
    while picks and picks[0].stop is None:
        words = (*words[:-1], f"{words[-1]}_{picks[0].start}")
        picks = picks[1:]
        spellings.append((words, picks))
    for words, picks in reversed(spellings) if as_target else spellings:
        entity = _declared_here(ref, words) or look_up(ref.space, words, in_instances)
        if entity is not None:
            return entity, picks
    return None


def _declared_here(ref: NameRef, words: tuple[str, ...]) -> Entity | None:
    """A layer that a region around the text declared under a name of another space."""
    key = (ref.space, ".".join(words))
    return next((region.foreign[key] for region in ref.seen.regions() if key in region.foreign), None)


def unknown_layer(source: Source, ref: NameRef, modules: Iterable[str] = ()) -> LanguageError:
    """The error for a name that is nothing here, with what was probably meant; `modules` are those defined."""
    if ref.words[0] in modules:
        message = f"{ref.text!r} names a module that is not called here"
        return source.error(ref.span, message, f"write CALL {ref.words[0]} before")
    for around in spaces_around(ref.space):
        span = around.one_sided.get(ref.words[0])
        if span is not None:
            hint = f"give the other branch of that IF a layer {ref.text!r} too, then this name is the selected one"
            return source.error(ref.span, f"{ref.text!r} is only in one branch of the IF of line {span.line}", hint)
    names = {name for around in spaces_around(ref.space) for name in around.table}
    head = look_up(ref.space, ref.words[:1]) if len(ref.words) > 1 else None
    if isinstance(head, Group) and head.inner is not None:
        names = {f"{ref.words[0]}.{name}" for name in head.inner.table}
    return source.error(ref.span, f"unknown layer {ref.text!r}", known_names(ref.text, names))


def known_names(value: str, names: Iterable[str]) -> str:
    """`suggest`, but of many names only the near ones."""
    listed = sorted(set(names))
    if not listed:
        return "nothing is declared yet."
    if len(listed) <= 24:
        return suggest(value, listed)
    near = difflib.get_close_matches(value, listed, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else f"{len(listed)} names are declared here."

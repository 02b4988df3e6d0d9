"""Statements that make or call groups of layers: DEFINE and MODULE with their calls, REPEAT, RESIDUAL.

A macro's body runs in a space of its own, so its layers never meet the caller's; what an argument names is the
caller's. A module's body runs once per CALL in a container of its own (encoder.e1). Its ports are sources where the
body reads them and results where it connects into them. A SHARED instance uses the weights of the module's first
instance, layer by layer. REPEAT and RESIDUAL chain their members; nureon_wire.py draws those wires.
"""

from __future__ import annotations

from dataclasses import replace

from alexandra.errors import suggest
from alexandra.lang.nureon_ast import Call, Define, Module, Repeat, Residual
from alexandra.lang.nureon_frame import Development, Frame
from alexandra.lang.nureon_space import Entity, Group, Item, Junction, NameRef, resolve
from alexandra.lang.nureon_values import Definition, Scope, Value


def define(development: Development, statement: Define | Module, frame: Frame) -> None:
    """Remember a macro or module; its text sees the constants and layers around it."""
    known = frame.scope.definitions.get(statement.name)
    if known is not None:
        hint = f"the first is on line {known.node.span.line}"
        raise development.source.error(statement.span, f"{statement.name!r} is defined twice in this block", hint)
    names = statement.parameters if isinstance(statement, Define) else statement.ports or ()
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise development.source.error(statement.span, f"{statement.name} has two parameters {twice!r}")
    if isinstance(statement, Module):
        development.plan.modules.add(statement.name)
    frame.scope.definitions[statement.name] = Definition(statement, frame.scope, frame.space)


def call(development: Development, statement: Call, frame: Frame) -> None:
    """Run a macro or make a module instance, whichever the name is."""
    definition = frame.scope.definition(statement.name)
    if definition is None:
        names = frame.scope.known("definitions")
        hint = suggest(statement.name, names) if names else "none is defined here: write DEFINE or MODULE before."
        raise development.source.error(statement.name_span, f"unknown macro or module {statement.name!r}", hint)
    if isinstance(definition.node, Module):
        _instance(development, statement, definition, definition.node, frame)
    else:
        _macro(development, statement, definition, definition.node, frame)


def _check_count(development: Development, statement: Call, node: Define | Module, names: tuple[str, ...]) -> None:
    given = len(statement.arguments or ())
    if given != len(names):
        message = f"{node.name} takes {len(names)} argument{'s' * (len(names) != 1)}, got {given}"
        hint = f"it is defined as {node.name}({', '.join(names)}) on line {node.span.line}"
        raise development.source.error(statement.span, message, hint)


def _macro(development: Development, statement: Call, definition: Definition, node: Define, frame: Frame) -> None:
    if statement.alias is not None or statement.shared:
        raise development.source.error(statement.span, f"{node.name} is a macro: AS and SHARED are for modules")
    _check_count(development, statement, node, node.parameters)
    values: dict[str, Value] = {}
    for name, expr in zip(node.parameters, statement.arguments or (), strict=True):
        value = development.evaluator.value(expr, frame.scope, frame.space)
        values[name] = replace(value, given=True) if isinstance(value, NameRef) else value
    space = frame.space.open("macro", definition.space)
    frame.space.called.append(space)
    spans = dict.fromkeys(values, node.span)
    scope = Scope(definition.scope, values, parameters=frozenset(values), spans=spans)
    development.run_all(node.body.body, frame.inner(Scope(scope), space))


# ---------------------------------------------------------------- modules


def _instance(development: Development, statement: Call, definition: Definition, node: Module, frame: Frame) -> None:
    ports = node.ports or ()
    if statement.arguments is not None:
        _check_count(development, statement, node, ports)
    group = _open(development, statement, definition, node, frame)
    first_item, first_edge = len(development.plan.items), len(development.plan.edges)
    body_frame = replace(frame.inner(Scope(definition.scope), group.inner), chain=group)
    development.run_all(node.body.body, body_frame)
    _sort_ports(development, node, group, first_edge)
    _bind_arguments(development, statement, ports, group, frame)
    _share(development, statement, definition, development.plan.items[first_item:])
    if frame.chain is not None:
        frame.chain.members.append(group)


def _open(development: Development, statement: Call, definition: Definition, node: Module, frame: Frame) -> Group:
    """The named group of an instance, with its space, container and ports."""
    if statement.alias is None:
        owner, local = frame.space, frame.space.number(node.name)
        while local in owner.table:
            local = owner.number(node.name)
    else:
        ref = development.evaluator.ref(statement.alias, frame.scope, frame.space)
        owner, local = ref.space, ref.text
        if ref.picks or len(ref.words) > 1:
            raise development.source.error(ref.span, f"{str(ref)!r} cannot name a module instance")
    explicit = owner.explicit and statement.alias is not None
    container = owner.container.child(local, explicit, statement.span)
    inner = frame.space.open("module", definition.space, container)
    group = development.plan.group(local, "module", owner, statement.span, inner)
    group.has_ports = bool(node.ports)
    development.name_group(group, local, owner)
    frame.space.called.append(inner)
    for port in node.ports or ():
        inner.table[port] = Junction(port, inner, statement.span, group)
    return group


def _sort_ports(development: Development, node: Module, group: Group, first_edge: int) -> None:
    """A port that the body connects into is a result, any other an input; LanguageError for one it never uses."""
    assert group.inner is not None
    read: set[Entity] = set()
    written: set[Entity] = set()
    for edge in development.plan.edges[first_edge:]:
        for end, known in ((edge.source, read), (edge.target, written)):
            found = resolve(end, as_target=known is written) if isinstance(end, NameRef) else None
            if found is not None:
                known.add(found[0])
    for port in node.ports or ():
        entity = group.inner.table[port]
        if isinstance(entity, Junction) and entity not in read and entity not in written:
            message = f"module {node.name!r} never uses its port {port!r}"
            raise development.source.error(node.span, message, "CONNECT it inside, or leave it out")
        (group.outputs if entity in written else group.inputs).append(entity)


def _bind_arguments(
    development: Development, statement: Call, ports: tuple[str, ...], group: Group, frame: Frame
) -> None:
    """CALL encoder(x, h): x flows into an input port; h is connected to a result port, or becomes its name."""
    assert group.inner is not None
    for port, expr in zip(ports, statement.arguments or (), strict=False):
        value = development.evaluator.value(expr, frame.scope, frame.space)
        ref = development.as_ref(value, expr.span, frame)
        entity = group.inner.table[port]
        end = entity.entry if isinstance(entity, Group) else entity
        if entity in group.inputs:
            development.plan.edge(ref, end, frame.space, expr.span)
        elif resolve(ref, as_target=True, in_instances=False) is not None:
            development.plan.edge(end, ref, frame.space, expr.span)
        else:
            ref.space.table[ref.text] = entity


def _share(development: Development, statement: Call, definition: Definition, items: list[Item]) -> None:
    first = development.first_instances.setdefault(definition, items)
    if statement.shared and first is not items and not development.share(items, first):
        message = f"this instance of {statement.name} has other layers than the first and cannot share its weights"
        raise development.source.error(statement.span, message, "leave out SHARED")


# ---------------------------------------------------------------- chains


def repeat(development: Development, statement: Repeat, frame: Frame) -> None:
    """REPEAT 4 AS block: the rounds block_1 ... block_4, each with names of its own, one feeding the next."""
    count = development.evaluator.whole(statement.count, frame.scope, frame.space, "the count of a REPEAT")
    if count < 0:
        message = f"the count of a REPEAT must be at least 0, got {count}"
        raise development.source.error(statement.count.span, message)
    name = statement.name or frame.space.number("repeat")
    whole = development.plan.group(name, "chain", frame.space, statement.span)
    development.name_group(whole, name, frame.space)
    explicit = frame.space.explicit and bool(statement.name)
    for number in range(1, count + 1):
        development.evaluator.step(statement.span)
        container = frame.space.container.child(f"{name}_{number}", explicit, statement.span)
        space = frame.space.open("round", container=container)
        one = development.plan.group(f"{name}_{number}", "chain", frame.space, statement.span, space)
        development.name_group(one, one.name, frame.space)
        whole.members.append(one)
        development.run_all(statement.body.body, frame.inner(space=space, chain=one))
    if frame.chain is not None:
        frame.chain.members.append(whole)


def residual(development: Development, statement: Residual, frame: Frame) -> None:
    """RESIDUAL: what enters is added to what the chain inside makes of it."""
    name = statement.name or "residual"
    outer = development.plan.group(name, "fixed", frame.space, statement.span)
    inner = development.plan.group(name, "chain", frame.space, statement.span)
    if statement.name:
        development.name_group(outer, name, frame.space)
    development.run_all((statement.body,), frame.inner(frame.scope, chain=inner))
    if not inner.members:
        raise development.source.error(statement.span, "this RESIDUAL holds no layer")
    explicit = frame.space.explicit and bool(statement.name)
    added = development.plan.item("add", statement.name or "add", explicit, frame.space, statement.span)
    for source, target in ((outer.entry, inner.entry), (outer.entry, added), (inner.exit, added), (added, outer.exit)):
        development.plan.edge(source, target, frame.space, statement.span)
    if frame.chain is not None:
        frame.chain.members.append(outer)

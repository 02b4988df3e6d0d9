"""IF on data: both branches are computed, and a `select` keeps, row by row, the value of one of them.

The condition is one number per row, `IF x[0] == 1`. What a program sees of the branches:
- a layer declared under one name in both is, outside, the selected value under that name; the branches' own layers
  are called name.then and name.else. Outputs likewise: each branch's projection becomes a dense layer of that branch,
  and one output follows the select. An activation that both have is applied after it (the same values, since a row
  comes whole from one branch), so that a final softmax stays final. A size of AUTO cannot be split in two: an error.
- connections from both branches into one layer outside become one, from their select; from one only, an error.
- a layer that only one branch declares is known in that branch only.
Inside REPEAT and RESIDUAL each branch is a chain from the same entry (without ELSE: the entry itself), and the
select of the two is the next member.
"""

from __future__ import annotations

from alexandra.ir.graph import AUTO
from alexandra.lang.nureon_ast import If
from alexandra.lang.nureon_frame import Development, Frame
from alexandra.lang.nureon_space import Decision, Entity, Item, NameRef, Space
from alexandra.lang.nureon_values import Value, show

Slot = tuple[Space, str]


def decide(development: Development, statement: If, frame: Frame, test: tuple[NameRef, str, Value]) -> None:
    """Run both branches of an IF on the layer `test[0]` and merge what they share."""
    condition, comparison, value = test
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"a layer is compared with a number, got {show(value)}"
        raise development.source.error(statement.span, message, "IF x[0] >= 0.5 compares one value of x in each row")
    then, otherwise = frame.space.open("branch"), frame.space.open("branch")
    decision = Decision(condition, comparison, float(value), frame.space, then, otherwise, statement.span)
    if frame.chain is not None and frame.chain.mode == "chain":
        _chained(development, statement, frame, decision)
        return
    development.run_all((statement.then,), frame.inner(frame.scope, then))
    if statement.otherwise is not None:
        development.run_all((statement.otherwise,), frame.inner(frame.scope, otherwise))
    development.plan.decisions.append(decision)
    _merge_names(development, frame, decision)


def _chained(development: Development, statement: If, frame: Frame, decision: Decision) -> None:
    plan, space, span = development.plan, frame.space, statement.span
    assert frame.chain is not None
    whole = plan.group("if", "fixed", space, span)
    arms = []
    for label, body, inside in (
        ("then", statement.then, decision.then),
        ("else", statement.otherwise, decision.otherwise),
    ):
        arm = plan.group(f"if.{label}", "chain", space, span)
        plan.edge(whole.entry, arm.entry, space, span)
        if body is not None:
            development.run_all((body,), frame.inner(frame.scope, inside, arm))
        arms.append(arm)
    selected = plan.item("select", "select", False, space, span)
    selected.attrs = decision.attrs()
    for source in (decision.condition, arms[0].exit, arms[1].exit):
        plan.edge(source, selected, space, span)
    plan.edge(selected, whole.exit, space, span)
    frame.chain.members.append(whole)


def _slots(branch: Space, space: Space) -> dict[Slot, Entity]:
    own: dict[Slot, Entity] = {(space, name): entity for name, entity in branch.table.items()}
    return own | dict(branch.foreign)


def _merge_names(development: Development, frame: Frame, decision: Decision) -> None:
    then, otherwise = _slots(decision.then, frame.space), _slots(decision.otherwise, frame.space)
    for slot, entity in {**then, **otherwise}.items():
        if slot in then and slot in otherwise:
            _merge(development, frame, decision, slot, (then[slot], otherwise[slot]))
        elif isinstance(entity, Item) and entity.op == "output":
            message = f"output {slot[1]!r} is in one branch of the IF only"
            raise development.source.error(entity.span, message, "declare it in both branches, or outside the IF")
        else:
            slot[0].one_sided.setdefault(slot[1], decision.span)


def _merge(development: Development, frame: Frame, decision: Decision, slot: Slot, pair: tuple[Entity, Entity]) -> None:
    space, name = slot
    then, otherwise = pair
    if not isinstance(then, Item) or not isinstance(otherwise, Item):
        message = f"{name!r} is in both branches of the IF, where only single layers can be selected"
        raise development.source.error(otherwise.span, message, "give the groups different names")
    outputs = [item for item in (then, otherwise) if item.op == "output"]
    if len(outputs) == 1:
        raise development.source.error(outputs[0].span, f"{name!r} is an OUTPUT in one branch of the IF only")
    ref = NameRef(space, tuple(name.split(".")), (), decision.span, frame.space)
    activation = then.attrs.get("activation", "linear")
    if outputs:
        together = activation == otherwise.attrs.get("activation", "linear")
        for item in outputs:
            as_layer(development, item, keep_activation=not together)
        selected = development.plan.item("select", f"{name}.select", False, frame.space, decision.span)
        merged = development.declare(ref, "output", decision.span)
        merged.attrs = {"activation": activation} if together else {}
        development.plan.edge(selected, merged, frame.space, decision.span)
    else:
        selected = merged = development.declare(ref, "select", decision.span)
    selected.attrs = decision.attrs()
    then.local, otherwise.local = f"{name}.then", f"{name}.else"
    for source in (decision.condition, then, otherwise):
        development.plan.edge(source, selected, frame.space, decision.span)
    if frame.chain is not None:
        frame.chain.members.append(merged)


def as_layer(development: Development, item: Item, keep_activation: bool) -> None:
    """Turn the output of a branch or a copy into the layer that computes its value."""
    if item.attrs.get("size") == AUTO:
        hint = "write the size, or declare the output once, outside, and connect to it from inside"
        message = "an output inside an IF on data or an EXPAND cannot have size=AUTO"
        raise development.source.error(item.span, message, hint)
    activation = item.attrs.pop("activation", "linear")
    kept = activation if keep_activation else "linear"
    if item.attrs.get("size") is None:
        item.op, item.attrs = str(kept), {}
    else:
        item.op, item.attrs = "dense", {**item.attrs, "activation": kept}

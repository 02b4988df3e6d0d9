"""What every statement of NureonLang needs while it runs: where it stands, and how a layer is declared.

`Development` holds one program's evaluator and plan and runs statements through a table of functions, one per kind
of statement (nureon_expand.py fills it); nesting is bounded here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alexandra.ir.ops import OPS, OpSpec
from alexandra.lang.lexis import NOWHERE, Limits, Source, Span, limit_error
from alexandra.lang.nureon_ast import Statement
from alexandra.lang.nureon_space import Group, Item, Junction, NameRef, Plan, Space
from alexandra.lang.nureon_values import Definition, Evaluator, Scope, Value, show


@dataclass
class Frame:
    """Where a statement runs: names, constants, and the chain that layers without CONNECT join, if any."""

    space: Space
    scope: Scope
    chain: Group | None = None
    depth: int = 0

    def inner(self, scope: Scope | None = None, space: Space | None = None, chain: Group | None = None) -> Frame:
        """The frame of a block inside, one deeper; by default with a scope of its own."""
        return Frame(space or self.space, scope or Scope(self.scope), chain or self.chain, self.depth + 1)


Runner = Callable[["Development", Any, Frame], None]


class Development:
    """One program being expanded; `plan` is the result."""

    def __init__(self, source: Source, limits: Limits, runners: Mapping[type, Runner]) -> None:
        self.source = source
        self.limits = limits
        self.runners = runners
        self.evaluator = Evaluator(source, limits)
        self.plan = Plan(source, limits)
        self.program = Space("program", None, self.plan.root)
        self.first_instances: dict[Definition, list[Item]] = {}

    def run_all(self, statements: tuple[Statement, ...], frame: Frame) -> None:
        """Run statements in order; LanguageError when they stand too deep."""
        if frame.depth > self.limits.nesting:
            span = statements[0].span if statements else NOWHERE
            what = "blocks and calls are nested too deeply (does a macro or module call itself?)"
            raise limit_error(self.source, span, "nesting", self.limits.nesting, what)
        for statement in statements:
            self.evaluator.step(statement.span)
            self.runners[type(statement)](self, statement, frame)

    def as_ref(self, value: Value, span: Span, frame: Frame) -> NameRef:
        """A computed value as a layer's name; LanguageError when it is none."""
        if isinstance(value, NameRef):
            return value
        words = tuple(value.split(".")) if isinstance(value, str) else ()
        if not words or not all(word.isidentifier() and word.isascii() for word in words):
            raise self.source.error(span, f"{show(value)} is not the name of a layer", "use letters, digits and _")
        return NameRef(frame.space, words, (), span, frame.space)

    def declare(self, ref: NameRef, op: str, span: Span) -> Item:
        """A new layer under a written name, in the space that the name belongs to."""
        words = list(ref.words)
        for pick in ref.picks:
            if pick.stop is not None:
                raise self.source.error(ref.span, "a range selects values and cannot be part of a name")
            words[-1] += f"_{pick.start}"
        local = ".".join(words)
        # inside a branch or a copy, a name of a space outside it (a macro's argument) is declared by the region
        around = list(ref.space.regions())
        region = next((r for r in ref.seen.regions() if r not in around), None)
        known = ref.space.table.get(local) if region is None else region.foreign.get((ref.space, local))
        if known is not None and not (isinstance(known, Junction) and known.space is ref.space):
            hint = f"the first is on line {known.span.line}; in a FOR write name={words[-1]}_[i]"
            raise self.source.error(ref.span, f"two layers are named {local!r}", hint)
        if region is None:
            item = self.plan.item(op, local, ref.space.explicit, ref.space, span)
            ref.space.table[local] = item
        else:
            item = self.plan.item(op, local, False, region, span)
            region.foreign[(ref.space, local)] = item
        return item

    def share(self, items: list[Item], owners: list[Item]) -> bool:
        """Let `items` use the weights of `owners`, one by one; False when they are not of the same kinds."""
        if [item.op for item in items] != [item.op for item in owners]:
            return False
        for item, owner in zip(items, owners, strict=True):
            if item.shared is None and OPS[item.op].params is not OpSpec.params:
                item.shared = owner
        return True

    def name_group(self, group: Group, name: str, space: Space) -> None:
        """Make a group known under its name; LanguageError when the name is taken."""
        known = space.table.get(name)
        if known is not None:
            hint = f"the first is on line {known.span.line}"
            raise self.source.error(group.span, f"{name!r} is declared twice", hint)
        space.table[name] = group

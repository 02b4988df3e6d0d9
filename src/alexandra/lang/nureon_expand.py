"""Development: statements run once, in order, and leave layers, groups and edges (nureon_space.py) behind.

FOR counts up, both ends included, and does nothing when the first is above the last. LET holds until the end of
its block; an entry `LET a[2] = 5` joins the array `a` of a block around it when there is one. IF compares constants
and takes one branch; on a layer it runs both (nureon_branch.py). Layers belong to the space around their block, not
to the block; macros, modules and chains are in nureon_group.py. Errors are LanguageErrors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from alexandra.errors import LanguageError
from alexandra.ir.ops import OPS, Required
from alexandra.lang.lexis import NOWHERE, Limits, Source, Span, string_value
from alexandra.lang.nureon_ast import (
    Block,
    Call,
    Connect,
    Define,
    Expand,
    File,
    For,
    If,
    Layer,
    Let,
    Module,
    Network,
    Param,
    Path,
    Repeat,
    Residual,
    Statement,
    inner_statements,
)
from alexandra.lang.nureon_attrs import attributes, op_name, unknown_layer_type
from alexandra.lang.nureon_branch import decide
from alexandra.lang.nureon_frame import Development, Frame, Runner
from alexandra.lang.nureon_group import call, define, repeat, residual
from alexandra.lang.nureon_space import Item, NameRef, Plan, known_names, resolve
from alexandra.lang.nureon_symmetry import expand
from alexandra.lang.nureon_values import Scope, Value, show


def develop(source: Source, program: tuple[Statement, ...], limits: Limits) -> Plan:
    """Run a program in its canonical spelling (nureon_forms.py)."""
    _check_types(source, program)
    development = Development(source, limits, RUNNERS)
    development.run_all(program, Frame(development.program, Scope()))
    return development.plan


def _check_types(source: Source, program: tuple[Statement, ...]) -> None:
    """LanguageError for the first layer type that is unknown, also in text that never runs."""
    stack: list[tuple[Statement, frozenset[str]]] = [(statement, frozenset()) for statement in reversed(program)]
    while stack:
        statement, parameters = stack.pop()
        if isinstance(statement, Layer) and statement.type not in parameters and op_name(statement.type) is None:
            raise unknown_layer_type(source, statement.type_span, statement.type)
        if isinstance(statement, Define):
            parameters = parameters | frozenset(statement.parameters)
        stack.extend((inner, parameters) for inner in reversed(inner_statements(statement)))


def block(development: Development, statement: Block, frame: Frame) -> None:
    development.run_all(statement.body, frame.inner())


# ---------------------------------------------------------------- header and file


def network(development: Development, statement: Network, frame: Frame) -> None:
    source, plan = development.source, development.plan
    if plan.name_span is not NOWHERE:
        hint = f"the first is {plan.name!r}; move this one to its own file"
        raise source.error(statement.span, "a file holds one network", hint)
    quoted = statement.raw.startswith('"')
    where = Span(0, 0, statement.span.end - len(statement.raw), statement.span.end)
    plan.name = string_value(source, where) if quoted else statement.name
    plan.name_span = statement.span


def file(development: Development, statement: File, frame: Frame) -> None:
    source, plan = development.source, development.plan
    if plan.file_span is not NOWHERE or frame.space is not development.program:
        raise source.error(statement.span, "FILE stands once in a network, outside modules and macros")
    plan.file, plan.file_span = string_value(source, statement.path.span), statement.span


# ---------------------------------------------------------------- layers and connections


def layer(development: Development, statement: Layer, frame: Frame) -> None:
    source, evaluator = development.source, development.evaluator
    op = _op(source, statement, frame.scope)
    names = [param for param in statement.params if param.key.lower() == "name"]
    if len(names) > 1:
        raise source.error(names[-1].key_span, "this layer is named twice")
    item = _declared(development, statement, names[0] if names else None, op, frame)
    for param in statement.params:
        key = param.key.lower()
        if key in ("shared", "tied"):
            if not isinstance(param.value, Path):
                raise source.error(param.value.span, f"{key}= names the layer whose weights are used")
            setattr(item, key, evaluator.ref(param.value, frame.scope, frame.space))
        elif key != "name":
            value = evaluator.value(param.value, frame.scope, frame.space)
            for name, canonical in attributes(source, op, param, value, frame.scope).items():
                if name in item.attrs:
                    raise source.error(param.key_span, f"{name} is given twice")
                item.attrs[name] = canonical
    for name, spec in OPS[op].attrs.items():
        if isinstance(spec.default, Required) and name not in item.attrs:
            raise source.error(statement.span, f"{op.upper()} needs {name}=", f"{name}: {spec.doc}")
    if frame.chain is not None:
        frame.chain.members.append(item)


def _op(source: Source, statement: Layer, scope: Scope) -> str:
    text = statement.type
    given = scope.constant(text) if scope.is_parameter(text) else None
    if isinstance(given, NameRef | str):
        text = given if isinstance(given, str) else given.text
    op = op_name(text)
    if op is None:
        raise unknown_layer_type(source, statement.type_span, text)
    return op


def _declared(development: Development, statement: Layer, name: Param | None, op: str, frame: Frame) -> Item:
    """The layer under its name; without one it is called by its type, in small letters."""
    if name is None:
        item = development.plan.item(op, op, False, frame.space, statement.span)
        frame.space.aliases.setdefault(frame.space.number(op), item)
        return item
    path = name.value
    if isinstance(path, Path):
        ref = development.evaluator.ref(path, frame.scope, frame.space)
    else:
        value = development.evaluator.value(path, frame.scope, frame.space)
        ref = development.as_ref(value, path.span, frame)
    return development.declare(ref, op, statement.span)


def connect(development: Development, statement: Connect, frame: Frame) -> None:
    refs = [development.evaluator.ref(path, frame.scope, frame.space) for path in statement.ends]
    for source, target in zip(refs, refs[1:], strict=False):
        development.plan.edge(source, target, frame.space, statement.span)


# ---------------------------------------------------------------- constants and control


def let(development: Development, statement: Let, frame: Frame) -> None:
    source, evaluator = development.source, development.evaluator
    scope, name, where = frame.scope, statement.name, statement.name_span
    value = evaluator.value(statement.value, scope, frame.space)
    if isinstance(value, NameRef):
        value = replace(value, given=True)
    if statement.index is None:
        if name in scope.constants or name in scope.arrays:
            hint = f"the first is on line {scope.spans[name].line}; a constant does not change within its block"
            raise source.error(where, f"{name!r} is defined twice in this block", hint)
        scope.constants[name] = value
        scope.spans[name] = where
        return
    index = evaluator.whole(statement.index, scope, frame.space, "an index")
    if index < 0:
        raise source.error(statement.index.span, f"an index counts from 0, got {index}")
    if name in scope.constants:
        raise source.error(where, f"{name!r} is a constant, not an array")
    entries = scope.array(name)
    if entries is None:
        entries = scope.arrays.setdefault(name, {})
        scope.spans[name] = where
    if index in entries:
        raise source.error(where, f"{name}[{index}] is defined twice")
    entries[index] = value


def for_loop(development: Development, statement: For, frame: Frame) -> None:
    evaluator = development.evaluator
    first = evaluator.whole(statement.first, frame.scope, frame.space, "the first value of a FOR")
    last = evaluator.whole(statement.last, frame.scope, frame.space, "the last value of a FOR")
    for value in range(first, last + 1):
        evaluator.step(statement.span)
        scope = Scope(frame.scope, {statement.variable: value}, spans={statement.variable: statement.span})
        development.run_all(statement.body.body, frame.inner(Scope(scope)))


def if_else(development: Development, statement: If, frame: Frame) -> None:
    left = development.evaluator.value(statement.left, frame.scope, frame.space)
    right = development.evaluator.value(statement.right, frame.scope, frame.space)
    comparison = statement.comparison
    if _is_layer(right) and not _is_layer(left):
        left, right, comparison = right, left, _FLIPPED[comparison]
    if isinstance(left, NameRef) and _is_layer(left):
        decide(development, statement, frame, (left, comparison, right))
    elif _holds(development.source, statement, left, right, frame.scope):
        development.run_all((statement.then,), frame)
    elif statement.otherwise is not None:
        development.run_all((statement.otherwise,), frame.inner(frame.scope))


def _is_layer(value: Value) -> bool:
    return isinstance(value, NameRef) and resolve(value) is not None


def _holds(source: Source, statement: If, left: Value, right: Value, scope: Scope) -> bool:
    """Whether a comparison of constants holds. A word may be compared with a text or with a word that was passed in."""
    words = [value for value in (left, right) if isinstance(value, NameRef)]
    texts = [value for value in (left, right) if isinstance(value, str)]
    is_equality = statement.comparison in ("==", "!=")
    if words and not (is_equality and (any(word.given for word in words) or texts)):
        raise _unknown_operand(source, words[0], scope)
    pair = [value.text if isinstance(value, NameRef) else value for value in (left, right)]
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in pair]
    if is_equality or all(numbers):
        return bool(_COMPARE[statement.comparison](pair[0], pair[1]))
    raise source.error(statement.left.span, f"{show(pair[0])} and {show(pair[1])} have no order", "compare numbers")


def _unknown_operand(source: Source, ref: NameRef, scope: Scope) -> LanguageError:
    names = scope.known("constants") | scope.known("arrays") | set(ref.space.table)
    message = f"{str(ref)!r} is neither a constant nor a layer declared above"
    return source.error(ref.span, message, known_names(str(ref), names))


_FLIPPED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_COMPARE: dict[str, Callable[[Any, Any], object]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
RUNNERS: Mapping[type, Runner] = {
    Network: network,
    File: file,
    Block: block,
    Layer: layer,
    Connect: connect,
    Let: let,
    For: for_loop,
    If: if_else,
    Module: define,
    Define: define,
    Call: call,
    Repeat: repeat,
    Residual: residual,
    Expand: expand,
}

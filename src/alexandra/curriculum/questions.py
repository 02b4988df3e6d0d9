"""A question: an expression with bindings, the key by which it is counted and placed, and its record's parts.

The key of a question without bindings is that of its canonical form (maths/canonical_form.py). Bindings belong to the
question: (+ x 3) at x = 2 and at x = 5 are two, (+ x y) at 2, 3 and (+ y x) at 3, 2 are one.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from alexandra.maths import Apply, Constant, Expr, Number, Symbol, key
from alexandra.maths.canonical_form import ordered_text

Bindings = tuple[tuple[str, Fraction], ...]
Answer = Fraction | Expr  # a number, or the expression, set or tuple that was asked for


class Question(NamedTuple):
    """An input; `bindings` are (symbol, value) pairs; `hint` is the answer that it was made from, where it was."""

    expr: Expr
    bindings: Bindings = ()
    hint: Answer | None = None


def question_key(expr: Expr, bindings: Sequence[tuple[str, Fraction]] = ()) -> str:
    """32 hex digits; the same for every writing of the question."""
    if not bindings:
        return key(expr)
    texts = []
    for order in itertools.permutations(bindings):
        names = {name: f"x{i + 1}" for i, (name, _) in enumerate(order)}
        values = " ".join([f"{names[name]}={value}" for name, value in order])
        texts.append(f"{ordered_text(expr, names)} {values}")
    return hashlib.blake2b(min(texts).encode(), digest_size=16).hexdigest()


_NAMES = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "%": "Mod", "^": "Pow", "=": "Eq"}


def tree_record(expr: Expr) -> dict[str, Any]:
    """The tree as the seed's JSON has it: {"BinOp": {"op": "Add", "left": ..., "right": ...}}."""
    if isinstance(expr, Number):
        value = expr.exact
        return {
            "Value": {"Integer": value} if type(value) is int else {"Rational": [value.numerator, value.denominator]}
        }
    if isinstance(expr, Symbol | Constant):
        return {"Value": {"Symbol": expr.name}}
    assert isinstance(expr, Apply)
    inner = [tree_record(arg) for arg in expr.args]
    if expr.op not in _NAMES:
        return {"Function": {"func": expr.op.capitalize(), "args": inner}}
    if len(inner) == 1:
        return {"UnaryOp": {"op": "Neg", "operand": inner[0]}}
    return {"BinOp": {"op": _NAMES[expr.op], "left": inner[0], "right": inner[1]}}


def tree_json(expr: Expr) -> str:
    """json.dumps(tree_record(expr)), several times faster."""
    if isinstance(expr, Apply):
        args = expr.args
        if expr.op not in _NAMES:
            inner = ", ".join([tree_json(arg) for arg in args])
            return f'{{"Function": {{"func": "{expr.op.capitalize()}", "args": [{inner}]}}}}'
        if len(args) == 1:
            return f'{{"UnaryOp": {{"op": "Neg", "operand": {tree_json(args[0])}}}}}'
        left, right = tree_json(args[0]), tree_json(args[1])
        return f'{{"BinOp": {{"op": "{_NAMES[expr.op]}", "left": {left}, "right": {right}}}}}'
    if isinstance(expr, Number):
        value = expr.exact
        if type(value) is int:
            return f'{{"Value": {{"Integer": {value}}}}}'
        return f'{{"Value": {{"Rational": [{value.numerator}, {value.denominator}]}}}}'
    assert isinstance(expr, Symbol | Constant)
    return f'{{"Value": {{"Symbol": "{expr.name}"}}}}'

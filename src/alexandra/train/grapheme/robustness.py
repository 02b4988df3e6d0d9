"""Questions beside those that were answered, after Welleck, West, Cao and Choi (Symbolic Brittleness, AAAI 2022).

`nearby` changes one coefficient by one (for an integral in its answer, so that the question stays in the class that is
integrated); `joined` asks for the sum of two questions that were each answered rightly.
"""

from __future__ import annotations

from collections.abc import Sequence

from alexandra.curriculum.derivation.tree import Tree, text, tree
from alexandra.curriculum.items import Item
from alexandra.curriculum.levels import level_of
from alexandra.curriculum.questions import Question, question_key
from alexandra.errors import AlexandraError
from alexandra.maths import Apply, Expr, Symbol, derivative, parse, tidy
from alexandra.maths.arithmetic import IrrationalError
from alexandra.rng import derive

X = Symbol("x")


def nearby(item: Item, seed: int = 0) -> Item | None:
    """The item with one of its numbers larger by one; None where that is no question of its level."""
    source = item.expected if item.level == 6 and isinstance(item.expected, Expr) else item.expr
    part = tree(source)
    places = _numbers(part)
    if not places:
        return None
    chosen = places[int(derive(seed, "nearby", item.key).below(len(places), 1)[0])]
    changed = parse(text(_replaced(part, chosen)))
    if source is item.expr:
        return _item(item, Question(changed, item.bindings))
    answer = tidy(changed)
    if not isinstance(answer, Apply):
        return None
    return _item(item, Question(Apply("integrate", (derivative(answer, "x"), X)), (), answer))


def joined(a: Item, b: Item) -> Item | None:
    """derive or integrate of a sum, from two items of level 5 or 6 (not definite ones)."""
    if not isinstance(a.expr, Apply) or not isinstance(b.expr, Apply) or len(a.expr.args) != 2 or len(b.expr.args) != 2:
        return None
    if a.expr.op not in ("derive", "integrate") or a.expr.op != b.expr.op:
        return None
    body = Apply("+", (a.expr.args[0], b.expr.args[0]))
    return _item(a, Question(Apply(a.expr.op, (body, X))))


def _item(origin: Item, question: Question) -> Item | None:
    row = level_of(origin.level)
    try:
        answer = row.answer(question) if question.hint is None else question.hint
    except (AlexandraError, ArithmeticError, IrrationalError, RecursionError):
        return None
    name = question_key(question.expr, question.bindings)
    return Item(origin.id, origin.level, question.expr, answer, name, origin.split, question.bindings)


def _numbers(part: Tree, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Where whole numbers stand; exponents and the ends of an integral stay as they are."""
    if isinstance(part, int):
        return [path]
    if not isinstance(part, tuple):
        return []
    inner = [(i, arg) for i, arg in enumerate(part[1:], 1) if not (part[0] == "^" and i == 2)]
    inner = inner[:1] if part[0] == "integrate" else inner
    return [place for i, arg in inner for place in _numbers(arg, (*path, i))]


def _replaced(part: Tree, path: Sequence[int]) -> Tree:
    if not path:
        assert isinstance(part, int)
        return part + 1
    assert isinstance(part, tuple)
    first = path[0]
    return (*part[:first], _replaced(part[first], path[1:]), *part[first + 1 :])

"""Whole derivations of items."""

from __future__ import annotations

from alexandra.curriculum.derivation.opening import opened, roots, with_whole_coefficients
from alexandra.curriculum.derivation.rewrite import rewritten
from alexandra.curriculum.derivation.tree import Tree, is_ratio
from alexandra.curriculum.questions import Answer, Question

MAX_STEPS = 40


def derivation(question: Question, answer: Answer | None = None) -> list[Tree]:
    """The graphs after the question's own, the last one being the answer.

    `answer` (the antiderivative that an indefinite integral was made from) is needed where a question is answered
    backwards; elsewhere it is not read.
    """
    now = opened(question, answer)
    steps = [now]
    while len(steps) < MAX_STEPS:
        following = _stepped(now)
        if following == now:
            break
        steps.append(following)
        now = following
    return steps


def _stepped(now: Tree) -> Tree:
    """A quotient that is an answer, or stands in one, is finished as it is."""
    if is_ratio(now) or not isinstance(now, tuple):
        return now
    if now[0] in ("set", "tuple"):
        return (now[0], *map(_stepped, now[1:]))
    if now[0] != "solve":
        return rewritten(now)
    found = roots(now)
    return rewritten(with_whole_coefficients(now)) if found is None else found

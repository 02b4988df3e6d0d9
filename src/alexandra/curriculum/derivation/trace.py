"""Whole derivations of items."""

from __future__ import annotations

from alexandra.curriculum.derivation.opening import opened, roots
from alexandra.curriculum.derivation.rewrite import rewritten
from alexandra.curriculum.derivation.tree import Tree
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
    found = roots(now) if isinstance(now, tuple) and now[0] == "solve" else None
    return rewritten(now) if found is None else found

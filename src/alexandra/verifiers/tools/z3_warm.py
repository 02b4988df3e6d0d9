"""Warm Z3: one context a thread, used for many questions and then replaced: making one costs more than an answer."""

from __future__ import annotations

import threading
from typing import Any

QUESTIONS = 300
_held = threading.local()


def solver(milliseconds: int) -> Any:
    """A fresh solver in this thread's context, with its time limit set."""
    import z3

    if getattr(_held, "left", 0) <= 0:
        _held.context, _held.left = z3.Context(), QUESTIONS
    _held.left -= 1
    made = z3.Solver(ctx=_held.context)
    made.set("timeout", milliseconds)
    return made

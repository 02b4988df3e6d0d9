"""Runs in the sandbox: the program under test, answering calls from the other side (tests_side.py) by value.

A file of its own that imports the standard library only; it is read as text and never imported by the package. What
is not a plain value stays here, and its number crosses.
"""

from __future__ import annotations

import ast
import collections
import decimal
import fractions
import os
import runpy
import types
from typing import Any

PLAIN = (bool, int, complex, str, bytes, type(None))
LARGEST = 100_000


def encode(value: Any, kept: list[Any], depth: int = 0) -> Any:
    """A value as nested tuples of plain values, tagged."""
    if depth > 50:
        raise ValueError("the value is nested deeper than 50 levels")
    kind = type(value)
    if kind in PLAIN:
        return ("v", value)
    if isinstance(value, float):
        return ("n", repr(float(value)))
    if kind in (fractions.Fraction, decimal.Decimal):
        return (kind.__name__, str(value))
    if isinstance(value, (int, str, bytes)):
        return ("v", value.__class__.__mro__[-2](value))
    if isinstance(value, dict):
        return ("d", [(encode(k, kept, depth + 1), encode(v, kept, depth + 1)) for k, v in value.items()])
    for tag, types_ in SEQUENCES:
        if isinstance(value, types_):
            return (tag, [encode(part, kept, depth + 1) for part in _first(value)])
    kept.append(value)
    return ("h", len(kept) - 1)


SEQUENCES: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("t", (tuple,)),
    ("l", (list, collections.deque)),
    ("f", (frozenset,)),
    ("s", (set,)),
    ("r", (range,)),
    ("i", (types.GeneratorType, map, filter, zip, enumerate, reversed, type({}.keys()), type({}.values()),
           type({}.items()), type(iter([])), type(iter(())), type(iter({})))),
)  # fmt: skip


def _first(values: Any) -> list[Any]:
    out = []
    for value in values:
        out.append(value)
        if len(out) > LARGEST:
            raise ValueError(f"more than {LARGEST} items")
    return out


def decode(value: Any, kept: list[Any]) -> Any:
    tag, inside = value
    if tag == "v":
        return inside
    if tag == "n":
        return float(inside)
    if tag == "h":
        return kept[inside]
    if tag == "d":
        return {decode(k, kept): decode(v, kept) for k, v in inside}
    if tag == "Fraction":
        return fractions.Fraction(inside)
    if tag == "Decimal":
        return decimal.Decimal(inside)
    made: dict[str, Any] = {"t": tuple, "l": list, "f": frozenset, "s": set, "r": list, "i": iter}
    return made[tag]([decode(part, kept) for part in inside])


def serve() -> None:
    calls, answers = os.fdopen(3, "rb"), os.fdopen(4, "wb")

    def send(value: Any) -> None:
        answers.write(repr(value).encode("utf-8", "backslashreplace").replace(b"\n", b" ") + b"\n")
        answers.flush()

    names = runpy.run_path("candidate.py", run_name="candidate")
    kept: list[Any] = []
    public = {name: value for name, value in names.items() if not name.startswith("__")}
    constants = {}
    for name, value in public.items():
        if not callable(value) and not isinstance(value, types.ModuleType):
            constants[name] = encode(value, kept)
    send(([name for name, value in public.items() if callable(value)], constants))
    for line in calls:
        what, target, args, kwargs = ast.literal_eval(line.decode())
        try:
            arguments = [decode(arg, kept) for arg in args]
            named = {name: decode(arg, kept) for name, arg in kwargs.items()}
            if what == "call":
                result = (kept[target] if isinstance(target, int) else public[target])(*arguments, **named)
            elif what == "get":
                result = getattr(kept[target], arguments[0])
            elif what == "item":
                result = kept[target][arguments[0]]
            else:
                made: dict[str, Any] = {"bool": bool, "len": len, "str": str, "list": list}
                result = made[what](kept[target])
            send(("ok", encode(result, kept)))
        except RecursionError:
            send(("error", "RecursionError", "maximum recursion depth exceeded"))
        except Exception as error:
            send(("error", type(error).__name__, str(error)[:200]))


if __name__ == "__main__":
    serve()

"""Runs in the sandbox: the tests, calling the program on the other side (candidate_side.py) by value.

A file of its own that imports the standard library only; it is read as text and never imported by the package. An
object that stayed on the other side can be called and looked into here, but never compared: its equality is its own.
"""

from __future__ import annotations

import ast
import builtins
import decimal
import fractions
import json
import os
import runpy
import sys
from typing import Any


class Refused(Exception):
    """An operation that would let the program under test decide its own test."""


class Other:
    """Something on the other side: `target` is a global's name or a kept object's number."""

    def __init__(self, ask: Any, target: Any) -> None:
        self._ask, self._target = ask, target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask("call", self._target, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", self._target, (name,), {})

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", self._target, (key,), {})

    def __bool__(self) -> bool:
        return bool(self._ask("bool", self._target, (), {}))

    def __len__(self) -> int:
        return int(self._ask("len", self._target, (), {}))

    def __str__(self) -> str:
        return str(self._ask("str", self._target, (), {}))

    def __iter__(self) -> Any:
        return iter(self._ask("list", self._target, (), {}))

    def __eq__(self, other: object) -> bool:
        raise Refused("an object of the program cannot be compared; compare its parts")

    __hash__ = None  # type: ignore[assignment]


def encode(value: Any) -> Any:
    if isinstance(value, Other):
        return ("h", value._target)
    if type(value) in (bool, int, complex, str, bytes, type(None)):
        return ("v", value)
    if isinstance(value, float):
        return ("n", repr(value))
    if isinstance(value, (fractions.Fraction, decimal.Decimal)):
        return (type(value).__name__, str(value))
    if isinstance(value, dict):
        return ("d", [(encode(k), encode(v)) for k, v in value.items()])
    for tag, kind in (("t", tuple), ("l", list), ("f", frozenset), ("s", set), ("r", range)):
        if isinstance(value, kind):
            return (tag, [encode(part) for part in value])
    if hasattr(value, "__next__"):
        return ("i", [encode(part) for part in value])
    raise Refused(f"a {type(value).__name__} cannot cross to the program")


def decode(value: Any, ask: Any) -> Any:
    tag, inside = value
    if tag == "v":
        return inside
    if tag == "n":
        return float(inside)
    if tag == "h":
        return Other(ask, int(inside))
    if tag == "d":
        return {decode(k, ask): decode(v, ask) for k, v in inside}
    if tag in ("Fraction", "Decimal"):
        return getattr(fractions if tag == "Fraction" else decimal, tag)(inside)
    parts = [decode(part, ask) for part in inside]
    if tag == "r":
        return parts
    made: dict[str, Any] = {"t": tuple, "l": list, "f": frozenset, "s": set, "i": iter}
    return made[tag](parts)


def connect() -> dict[str, Any]:
    """The program's names as things that can be called here."""
    answers, calls = os.fdopen(3, "rb"), os.fdopen(4, "wb")

    def receive() -> Any:
        line = answers.readline()
        if not line:
            raise EOFError("the program ended")
        return ast.literal_eval(line.decode())

    def ask(what: str, target: Any, args: Any, kwargs: Any) -> Any:
        sent = (what, target, [encode(arg) for arg in args], {name: encode(arg) for name, arg in kwargs.items()})
        calls.write(repr(sent).encode("utf-8", "backslashreplace").replace(b"\n", b" ") + b"\n")
        calls.flush()
        kind, *result = receive()
        if kind == "ok":
            return decode(result[0], ask)
        raised = getattr(builtins, str(result[0]), RuntimeError)
        if not (isinstance(raised, type) and issubclass(raised, Exception)):
            raised = RuntimeError
        raise raised(result[1])

    names, constants = receive()
    return {**{n: Other(ask, n) for n in names}, **{n: decode(v, ask) for n, v in constants.items()}}


def main() -> None:
    report: dict[str, Any] = {"passed": []}
    try:
        names = connect()
        for number in range(len([name for name in os.listdir(".") if name.startswith("test_")])):
            try:
                runpy.run_path(f"test_{number}.py", init_globals=names, run_name="test")
                report["passed"].append(True)
            except Exception as error:
                report["passed"].append(False)
                report.setdefault("first", f"test {number}: {type(error).__name__}: {error}")
    except EOFError as error:
        report["first"] = str(error)
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()

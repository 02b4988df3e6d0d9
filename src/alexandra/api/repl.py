"""The exact calculator behind `alexandra repl`: bindings, prefix, infix or LaTeX in, the engine's answer out.

A line is an expression, `let name = expression`, or one of the commands in HELP. Nothing is guessed: what the engine
cannot prove or work out is said so. With an asker (a registered model's answers as text) the model's answer stands
beside, marked as proved, wrong or not proved.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from alexandra.errors import AlexandraError
from alexandra.maths import Apply, Expr, Number, equal, evaluate, read, symbols, tidy, to_infix, worked_out
from alexandra.maths.tidy import replaced

HELP = """let x = 3      bind a symbol (a number or an expression)     vars       what is bound
clear          forget every binding                          history    what was asked
infix          answers in infix (or: prefix)                 timing     show how long an answer took
a == b         equal, different or unknown, with a reason    quit       leave
examples: 2/3 + 1/6    derive(x^2 sin(x), x)    integrate(x^2, x, 0, 1)    solve(2x + 5 = 13, x)    (+ 2 (* 3 x))"""


@dataclass
class Repl:
    """One session; `ask` gives a model's answer to an input in prefix form, "" where it has none."""

    ask: Callable[[str], str] | None = None
    bindings: dict[str, Expr] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    infix: bool = True
    timing: bool = False

    def answer(self, line: str) -> list[str] | None:
        """The lines to print for what was typed; None to leave."""
        text = line.strip()
        if not text:
            return []
        if text in ("quit", "exit"):
            return None
        self.asked.append(text)
        if text in _COMMANDS:
            return _COMMANDS[text](self)
        began = time.perf_counter()
        try:
            found = self._worked(text)
        except AlexandraError as error:
            found = [str(error)]
        if self.timing:
            found.append(f"{(time.perf_counter() - began) * 1000:.1f} ms")
        return found

    def _worked(self, text: str) -> list[str]:
        if text.startswith("let "):
            return [self._let(text[4:])]
        left, sign, right = text.partition("==")
        if sign:
            verdict = equal(self._read(left), self._read(right))
            return [f"{verdict.kind}: {verdict.reason}"]
        expr = self._read(text)
        value = self._value(expr)
        lines = [self._shown(value)]
        if self.ask is not None:
            lines.append(self._beside(expr, value))
        return lines

    def _read(self, text: str) -> Expr:
        expr = read(text.strip(), tuple(self.bindings))
        for name, value in self.bindings.items():
            expr = _bound(expr, name, value)
        return expr

    def _value(self, expr: Expr) -> Expr:
        """Evaluated where nothing is open, else tidied."""
        if symbols(expr):
            expr = tidy(worked_out(expr))
            if symbols(expr):
                return expr
        found = evaluate(expr)
        return Number(found) if isinstance(found, Fraction) else found

    def _let(self, text: str) -> str:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not name.isidentifier():
            return "write: let x = 3"
        read(name)
        self.bindings[name] = self._value(self._read(value))
        return f"{name} = {self._shown(self.bindings[name])}"

    def _shown(self, value: Expr) -> str:
        text = to_infix(value) if self.infix else value.text()
        if symbols(value) or isinstance(value, Number) and value.value.denominator == 1:
            return text
        try:
            return f"{text}   (about {float(value):.12g})"
        except AlexandraError:
            return text

    def _beside(self, expr: Expr, value: Expr) -> str:
        """The model's own answer and what the engine makes of it."""
        assert self.ask is not None
        given = self.ask(expr.text())
        if not given:
            return "model: no answer"
        try:
            verdict = equal(read(given, symbols(expr)), value)
        except AlexandraError:
            return f"model: {given}   (not proved: it is not understood)"
        words = {"equal": "proved", "different": "wrong"}.get(verdict.kind, "not proved")
        return f"model: {given}   ({words})"

    def _vars(self) -> list[str]:
        return [f"{name} = {self._shown(value)}" for name, value in self.bindings.items()] or ["nothing is bound"]

    def _clear(self) -> list[str]:
        self.bindings.clear()
        return ["nothing is bound"]

    def _set_infix(self, infix: bool) -> list[str]:
        self.infix = infix
        return [f"answers are in {'infix' if infix else 'prefix'}"]

    def _set_timing(self) -> list[str]:
        self.timing = not self.timing
        return [f"timing is {'on' if self.timing else 'off'}"]


def _bound(expr: Expr, name: str, value: Expr) -> Expr:
    """A bound symbol replaced, but not where a task names it as its own variable."""
    if not isinstance(expr, Apply):
        return replaced(expr, name, value)
    if expr.op in ("derive", "integrate", "solve") and any(arg.text() == name for arg in expr.args[1:]):
        return expr
    return Apply(expr.op, tuple([_bound(arg, name, value) for arg in expr.args]))


_COMMANDS: dict[str, Callable[[Repl], list[str]]] = {
    "help": lambda repl: HELP.split("\n"),
    "vars": Repl._vars,
    "clear": Repl._clear,
    "history": lambda repl: [f"{i}  {text}" for i, text in enumerate(repl.asked[:-1], 1)],
    "infix": lambda repl: repl._set_infix(True),
    "prefix": lambda repl: repl._set_infix(False),
    "timing": Repl._set_timing,
}

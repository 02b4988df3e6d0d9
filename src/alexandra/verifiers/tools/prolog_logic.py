"""Tool `prolog_logic`: a logic program's answer by SWI-Prolog, tabled so that every program ends.

One warm `swipl` process answers one program after the other: clauses go to it as terms, answers come back as words; it
is killed and replaced when it is overdue. Only terms that our own reader has written reach it.
"""

from __future__ import annotations

import select
import subprocess
import threading
import time
from functools import cache
from re import findall

from alexandra.errors import VerifierError
from alexandra.records import Claim, Verdict
from alexandra.verifiers.notations import horn
from alexandra.verifiers.tool import Tool, needs_program, own_version

SECONDS = 2.0
SERVER = """
:- use_module(library(time)).
:- set_prolog_flag(double_quotes, codes).
:- dynamic rule/2.
:- table holds/1.
holds(H) :- rule(H, B), all(B).
all([]).
all([A|T]) :- holds(A), all(T).
ask(A) :- holds(A) -> write(yes) ; write(no).
answer(Q, N) :- abolish_all_tables, ask(Q), write(' '), ask(N), nl.
answer(Q, N, S) :- catch(call_with_time_limit(S, answer(Q, N)), _, (write('timeout'), nl)).
handle(clear) :- retractall(rule(_, _)).
handle(rules(L)) :- forall(member(R, L), assertz(R)).
handle(ask(Q, N, S)) :- answer(Q, N, S), flush_output.
serve :- read_term(T, []), ( T == end_of_file -> halt ; ignore(catch(handle(T), _, (write(error), nl, flush_output))) ),
  serve.
"""


class _Swipl:
    """A warm Prolog; used by one thread at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None

    def ask(self, text: str) -> str:
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                goal = "open_string(T, S), load_files(user, [stream(S)]), serve"
                command = ["swipl", "-q", "--no-tty", "--stack-limit=256m", "-g", f"T = {_quoted(SERVER)}, {goal}"]
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            assert self.process.stdin is not None and self.process.stdout is not None
            due = time.monotonic() + SECONDS + 5.0
            try:
                self.process.stdin.write(text)
                self.process.stdin.flush()
                if select.select([self.process.stdout], [], [], max(0.0, due - time.monotonic()))[0]:
                    line = self.process.stdout.readline().strip()
                    if line:
                        return line
            except OSError:
                pass
            self.process.kill()
            self.process.wait()
            self.process = None
            raise VerifierError("SWI-Prolog did not answer")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


@cache
def _swipl() -> _Swipl:
    return _Swipl()


@cache
def _version() -> str:
    try:
        said = subprocess.run(["swipl", "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
        return "swi-prolog " + str((findall(r"\d+\.\d+\.\d+", said) or ["unknown"])[0]) + ", " + own_version("1")()
    except (OSError, subprocess.TimeoutExpired):
        return "swi-prolog not installed"


def _term(atom: horn.Atom) -> str:
    terms = ",".join(f"V{term}" if horn.is_variable(term) else f"c_{term}" for term in atom.terms)
    return atom.named() + (f"({terms})" if terms else "")


def _judge(tool: Tool, claim: Claim) -> Verdict:
    program = horn.parse(claim.content.program, claim.content.query)
    horn.ground(program)  # bounds the number of instances
    rules = [f"rule({_term(rule.head)},[{','.join(map(_term, rule.body))}])" for rule in program.rules]
    asked, opposite = _term(program.query), _term(program.query.opposite)
    said = _swipl().ask(f"clear.\nrules([{','.join(rules)}]).\nask({asked},{opposite},{SECONDS}).\n")
    if said not in ("yes yes", "yes no", "no yes", "no no"):
        return tool.abstains(f"SWI-Prolog said {said[:60]!r}")
    first, second = said.split()
    found = horn.answer(first == "yes", second == "yes")
    words = f"{program.query.text()} is {found}, claimed {claim.content.answer}"
    return tool.holds(claim, horn.judge(found, claim.content.answer), words)


TOOL = Tool(
    "prolog_logic", "consistency", ("logic",), _version, one=_judge,
    missing=needs_program("swipl", "apt-get install swi-prolog (or: make system-tools)"), hard=True, seconds=9.0,
)  # fmt: skip

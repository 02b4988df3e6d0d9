"""Reward functions of files in a process of their own, with a deadline: one that does not answer in time abstains.

Python cannot be interrupted safely inside a thread, so the function runs in a worker process (workers.py), which is
killed when overdue and started anew. What hangs is found answer by answer: the others keep their numbers. All functions
of this Python process share one worker; it loads a file before its first deadline begins.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alexandra.errors import AlexandraError, UsageError
from alexandra.train.lm.rewards import Answer, FunctionJudge, Judge, judge_of
from alexandra.verifiers.loading import import_function
from alexandra.workers import Failure, Pool

LOADING_SECONDS = 300.0
MOST_HANGING = 4  # answers in a row that a call waits for
SHARE_SECONDS = 1.0  # after so long a worker hands back what it has of many answers
IN_PROCESS = "[reward] timeout = 0 calls it in the training process, without a deadline"
Given = tuple[float | None, bool]


@dataclass(frozen=True)
class Asked:
    """What a worker reads: "function" of the file `path`, and the answers; none only loads the file."""

    path: str
    function: str
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class Said:
    """The first numbers of what was asked, or why the reward is refused."""

    given: tuple[Given, ...] = ()
    refused: str = ""
    hint: str = ""


class TimedJudge:
    """The judge that "file.py:function" names; `seconds` for an answer, or for a call of a function of batches."""

    def __init__(self, reference: str, folder: Path, seconds: float) -> None:
        file, _, function = reference.rpartition(":")
        inside = judge_of(import_function(reference, folder))  # what is wrong with the file is said before the run
        self.name, self.seconds = inside.name, seconds
        self._path, self._function = str((folder / file).absolute()), function
        self._is_whole = isinstance(inside, FunctionJudge) and inside.is_batched

    def judge(self, answers: Sequence[Answer]) -> list[Given]:
        """None for an answer that took too long, or that killed the process; UsageError when the function raises."""
        found: list[Given] = []
        size, hung = len(answers), 0
        while len(found) < len(answers):
            some = tuple(answers[len(found) : len(found) + size])
            limit = self.seconds if self._is_whole or len(some) == 1 else self.seconds + SHARE_SECONDS
            said = _worker().ask(Asked(self._path, self._function, some), limit, self.name)
            if isinstance(said, Said):
                found += said.given
                hung = 0
            elif len(some) > 1 and not self._is_whole:
                size = 1  # one of these hangs: the next ones go alone, until it is found
            else:
                warnings.warn(self._late(said, len(some)), UserWarning, stacklevel=2)
                found += [(None, False)] * len(some)
                size, hung = len(answers), hung + 1
                if hung == MOST_HANGING and len(found) < len(answers):
                    warnings.warn(self._given_up(len(answers) - len(found)), UserWarning, stacklevel=2)
                    found += [(None, False)] * (len(answers) - len(found))
        return found

    def _given_up(self, count: int) -> str:
        return f"reward {self.name!r} hung {MOST_HANGING} times in a row: the {count} answers left are not judged"

    def _late(self, failure: Failure, count: int) -> str:
        if failure.kind == "timeout":
            what = f"did not answer within {self.seconds:g} s ([reward] timeout)"
        else:
            what = f"ended its process ({failure.message})"
        return f"reward {self.name!r} {what}: {f'all {count} answers count' if count > 1 else 'it counts'} as abstained"


class _Worker:
    """One process for all rewards, and what it has loaded."""

    def __init__(self) -> None:
        self._pool, self._busy = Pool(1), threading.Lock()
        self._loaded: set[tuple[str, str]] = set()

    def ask(self, asked: Asked, seconds: float, name: str) -> Said | Failure:
        """What the function says within `seconds`; the Failure of one that hung or died. UsageError for the rest."""
        with self._busy:
            if (asked.path, asked.function) not in self._loaded:
                self._load(asked, name)
            return self._sent(asked, seconds, name)

    def _load(self, asked: Asked, name: str) -> None:
        found = self._sent(Asked(asked.path, asked.function), LOADING_SECONDS, name)
        if isinstance(found, Failure):
            words = f"reward {name!r} cannot be loaded in a worker process: {found.message}"
            raise UsageError(words, hint=f"{found.details.strip()} {IN_PROCESS}".strip())
        self._loaded.add((asked.path, asked.function))

    def _sent(self, asked: Asked, seconds: float, name: str) -> Said | Failure:
        (result,) = self._pool.map(answered, [asked], seconds)
        failure = result.failure
        if failure is None:
            assert isinstance(result.value, Said)
            if result.value.refused:
                raise UsageError(result.value.refused, hint=result.value.hint)
            return result.value
        if failure.kind == "error":
            raise UsageError(f"reward {name!r} failed: {failure.message}", hint=f"{failure.details}{IN_PROCESS}")
        self._loaded.clear()
        return failure


@cache
def _worker() -> _Worker:
    return _Worker()


@cache
def _judge(path: str, function: str) -> Judge:
    place = Path(path)
    return judge_of(import_function(f"{place.name}:{function}", place.parent))


def answered(asked: Asked) -> Said:
    """In the worker: a batch as a whole, else one answer after another, at least one, for about SHARE_SECONDS."""
    judge = _judge(asked.path, asked.function)
    try:
        if isinstance(judge, FunctionJudge) and judge.is_batched:
            return Said(tuple(judge.judge(asked.answers)) if asked.answers else ())
        found: list[Given] = []
        began = time.monotonic()
        for answer in asked.answers:
            found += judge.judge([answer])
            if time.monotonic() - began > SHARE_SECONDS:
                break
        return Said(tuple(found))
    except AlexandraError as error:
        return Said(refused=error.message, hint=error.hint or "")

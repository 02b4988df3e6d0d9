"""One pool of worker processes with a deadline per item: what is overdue is killed, what fails is named.

Workers are spawned, never forked, each in its own process group, so that killing one takes its children along;
they end when their parent does. A result or a failure comes back for every item, in the order of the items.
The function and the items travel by pickle between our own processes only; the function must be importable.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, Self

from alexandra.errors import AlexandraError

START_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 60.0


class Closable(Protocol):
    """What has a `close` to call at the end of a `with` block."""

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class WorkerError(AlexandraError):
    """An item failed in a worker process; the message names the item."""

    http_status = 500


@dataclass(frozen=True)
class Failure:
    """Why an item has no value. kind: "error" (it raised), "timeout" (killed when overdue) or "died" (no answer)."""

    kind: str
    message: str
    details: str = ""


@dataclass(frozen=True)
class Result:
    """The outcome of item number `index`: `value`, or `failure`; `seconds` is its time in the worker."""

    index: int
    value: Any = None
    failure: Failure | None = None
    seconds: float = 0.0


def values(results: Iterable[Result]) -> list[Any]:
    """The values in order; WorkerError for the first item that failed, with its index and its traceback's text."""
    out = []
    for result in results:
        if result.failure is not None:
            words = f"item {result.index}: {result.failure.message}"
            raise WorkerError(words, hint=result.failure.details.strip())
        out.append(result.value)
    return out


class Pool(Closable):
    """`size` workers, started when they are first needed; use it in a `with` block, which ends them."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a pool needs at least 1 worker, got {size}")
        self._size = size
        self._workers: list[_Worker] = []
        self._busy = threading.Lock()

    def close(self) -> None:
        """Kill every worker and what it started."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], timeout_seconds: float | None = None
    ) -> list[Result]:
        """function(item) for every item, results in order; an item gets `timeout_seconds` from when it starts."""
        return sorted(self.stream(function, items, timeout_seconds), key=lambda result: result.index)

    def stream(
        self, function: Callable[[Any], Any], items: Iterable[Any], timeout_seconds: float | None = None
    ) -> Iterator[Result]:
        """Results as they are ready. Items are taken one at a time, as workers become free."""
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this pool is already mapping; use one pool per thread")
        try:
            yield from self._run(function, enumerate(items), timeout_seconds)
        finally:
            for worker in [worker for worker in self._workers if worker.index is not None]:
                self._discard(worker)
            self._busy.release()

    def _run(
        self, function: Callable[[Any], Any], queue: Iterator[tuple[int, Any]], timeout: float | None
    ) -> Iterator[Result]:
        exhausted = False
        while True:
            while not exhausted:
                idle = self._idle()
                if idle is None:
                    break
                following = next(queue, None)
                exhausted = following is None
                if following is not None:
                    idle.send(function, *following)
            running = [worker for worker in self._workers if worker.index is not None]
            if not running:
                return
            nearest = min(worker.due for worker in running)
            pause = min(max(0.0, nearest - time.monotonic()), LONGEST_WAIT_SECONDS)
            ready = wait([worker.pipe for worker in running], pause)
            for worker in running:
                result = worker.receive(timeout) if worker.pipe in ready else worker.overdue(timeout)
                if result is not None:
                    if result.failure is not None and result.failure.kind != "error":
                        self._discard(worker)
                    yield result

    def _idle(self) -> _Worker | None:
        for worker in self._workers:
            if worker.index is None:
                if worker.process.is_alive():
                    return worker
                self._discard(worker)
                break
        if len(self._workers) < self._size:
            self._workers.append(_Worker())
            return self._workers[-1]
        return None

    def _discard(self, worker: _Worker) -> None:
        worker.kill()
        self._workers.remove(worker)


class _Worker:
    """One process and the item it works on; `due` is when it is overdue (time.monotonic)."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.index: int | None = None
        self.due = 0.0
        self._started = False
        self._leads_group = False

    def send(self, function: Callable[[Any], Any], index: int, item: Any) -> None:
        self.index, self.due, self._started = index, time.monotonic() + START_SECONDS, False
        try:
            self.pipe.send((function, item))
        except BrokenPipeError:
            pass  # a dead worker is found by `receive`
        except Exception as error:
            hint = "workers take functions from the top level of a module, and items that pickle"
            raise WorkerError(f"item {index} cannot be sent to a worker: {error}", hint=hint) from error

    def receive(self, timeout: float | None) -> Result | None:
        """The item's result when there is one; the first message only says that work on it has begun."""
        assert self.index is not None
        index = self.index
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(1.0)
            words = f"the worker process died (exit code {self.process.exitcode})"
            hint = "it was killed (out of memory?), it exited, or the program lacks `if __name__ == '__main__':`"
            return Result(index, failure=Failure("died", words, hint))
        if message == "begun":
            self._started = self._leads_group = True
            self.due = float("inf") if timeout is None else time.monotonic() + timeout
            return None
        self.index = None
        value, failure, seconds = message
        return Result(index, value, failure, seconds)

    def overdue(self, timeout: float | None) -> Result | None:
        if self.index is None or time.monotonic() < self.due:
            return None
        words = f"no answer within {timeout:g} s" if self._started else f"no start within {START_SECONDS:g} s"
        return Result(self.index, failure=Failure("timeout", f"{words}: killed"), seconds=timeout or START_SECONDS)

    def kill(self) -> None:
        """End the process and everything in its process group."""
        if self.process.pid is not None and self._leads_group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection) -> None:
    """A worker's life: items in, results out, until the pipe closes or the parent is gone."""
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, item = pipe.recv()
        except (EOFError, OSError):
            return
        except Exception as error:  # the function or the item cannot be rebuilt here
            pipe.send("begun")
            pipe.send((None, _failure(error), 0.0))
            continue
        pipe.send("begun")
        began = time.monotonic()
        value, failure = None, None
        try:
            value = function(item)
        except Exception as error:
            failure = _failure(error)
        seconds = time.monotonic() - began
        try:
            pipe.send((value, failure, seconds))
        except OSError:
            return
        except Exception as error:  # the value cannot travel
            pipe.send((None, _failure(error), seconds))


def _failure(error: BaseException) -> Failure:
    return Failure("error", f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

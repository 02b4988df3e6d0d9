"""Run foreign code confined, from our side: jobs in, how they ended out, with every byte and second bounded.

A Sandbox is a handle on one zygote process (zygote.py) that is started when first needed. Output beyond the limit,
time beyond the deadline and a vanished guard all end the job; what it wrote until then is kept. `layers` is what the
confined process itself reported, `level` what probes inside could still do: the level is measured, never assumed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexandra.errors import VerifierError
from alexandra.records import EMPTY
from alexandra.verifiers.sandbox.zygote import HEADER, START_SECONDS
from alexandra.workers import Closable

GRACE_SECONDS = 2.0
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Limits:
    """Seconds by the clock (and of the processor) from when the program begins; bytes of memory, outputs and files."""

    seconds: float = 2.0
    memory_bytes: int = 512 << 20
    output_bytes: int = 1 << 20
    files_bytes: int = 16 << 20


@dataclass(frozen=True)
class Job:
    """A Python program (`source`), or `program` (an absolute path and arguments) over `files`.

    links: open descriptors that become 3, 4, ... in the job; they are closed here once it has started.
    """

    source: str = ""
    files: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    program: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    links: tuple[int, ...] = ()


@dataclass(frozen=True)
class Ran:
    """How a job ended. code: exit code, or minus the signal's number. why: "", "timeout", "output" or "lost"."""

    code: int
    why: str
    stdout: bytes
    stderr: bytes
    seconds: float
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    layers: Mapping[str, str] = field(default_factory=lambda: EMPTY)

    @property
    def ok(self) -> bool:
        return self.code == 0 and not self.why


class _Running:
    def __init__(self, job: Job, pipes: dict[int, str]) -> None:
        self.job, self.pipes = job, pipes
        self.data: dict[str, bytearray] = {name: bytearray() for name in pipes.values()}
        self.started = time.monotonic()
        self.due = self.started + START_SECONDS + GRACE_SECONDS
        self.begun = False
        self.why = ""
        self.ended = self.started
        self.guard = 0
        self.stopping = False


class Sandbox(Closable):
    """One zygote and the jobs forked from it; may be used by several threads. `readable`: further folders to show."""

    def __init__(self, readable: Sequence[str | Path] = ()) -> None:
        self._readable = [str(path) for path in readable]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._owner = 0

    def close(self) -> None:
        """End the zygote and every job of it."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            if self._process is not None and self._owner == os.getpid():
                self._process.kill()
                self._process.wait()
            self._channel = self._process = None

    def run(self, source: str, limits: Limits | None = None, files: Mapping[str, str] = EMPTY) -> Ran:
        """Run a Python program to its end."""
        return self.run_many([Job(source, files, limits=limits or Limits())])[0]

    def run_many(self, jobs: Sequence[Job]) -> list[Ran]:
        """Run all jobs at once, to their ends, in order."""
        poll = selectors.DefaultSelector()
        running = [self._start(job) for job in jobs]
        by_fd = {fd: one for one in running for fd in one.pipes}
        for fd in by_fd:
            poll.register(fd, selectors.EVENT_READ)
        try:
            while by_fd:
                pause = min(one.due for one in by_fd.values()) - time.monotonic()
                for key, _ in poll.select(max(0.0, pause)):
                    one = by_fd[key.fd]
                    if not self._take(one, key.fd):
                        poll.unregister(key.fd)
                        os.close(key.fd)
                        del by_fd[key.fd]
                        one.ended = time.monotonic()
                for one in {id(one): one for one in by_fd.values()}.values():
                    if time.monotonic() >= one.due:
                        self._stop(one, "lost" if one.stopping else "timeout", hard=one.stopping)
                        if one.why == "lost":
                            for fd in [fd for fd, owner in by_fd.items() if owner is one]:
                                poll.unregister(fd)
                                os.close(fd)
                                del by_fd[fd]
        finally:
            for fd in by_fd:
                os.close(fd)
            poll.close()
        return [self._ran(one) for one in running]

    def _take(self, one: _Running, fd: int) -> bool:
        """Read what is there; False at the end of the pipe."""
        part = os.read(fd, _CHUNK)
        name = one.pipes[fd]
        kept = one.data[name]
        if name == "status":
            kept += part
            if not one.guard and b"\n" in kept:
                one.guard = int(json.loads(kept.split(b"\n", 1)[0])["guard"])
            if not one.begun and b'{"begun": true}' in kept:
                one.begun = True
                if not one.stopping:
                    one.due = time.monotonic() + one.job.limits.seconds + GRACE_SECONDS
            return bool(part)
        room = one.job.limits.output_bytes - len(kept)
        kept += part[:room]
        if len(part) > room and not one.stopping:
            self._stop(one, "output")
        return bool(part)

    def _stop(self, one: _Running, why: str, hard: bool = False) -> None:
        one.why = one.why if one.why and not hard else why
        one.stopping, one.due = True, time.monotonic() + GRACE_SECONDS
        if one.guard:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one.guard, signal.SIGKILL if hard else signal.SIGTERM)

    def _ran(self, one: _Running) -> Ran:
        report: dict[str, Any] = {}
        for line in bytes(one.data["status"]).splitlines():
            with contextlib.suppress(ValueError):
                report |= json.loads(line)
        why = one.why or report.get("why", "") or ("" if "code" in report else "lost")
        return Ran(
            report.get("code", -9), why, bytes(one.data["stdout"]), bytes(one.data["stderr"]),
            one.ended - one.started, report.get("cpu_seconds", 0.0), report.get("memory_bytes", 0),
            report.get("layers", {}),
        )  # fmt: skip

    def _start(self, job: Job) -> _Running:
        ours, theirs = [], []
        for _ in range(3):
            reading, writing = os.pipe()
            ours.append(reading)
            theirs.append(writing)
        nothing = os.open("/dev/null", os.O_RDONLY)
        files = {**job.files, **({"main.py": job.source} if not job.program else {})}
        request = {
            "files": {name: text.encode("utf-8", "replace").decode() for name, text in files.items()},
            "program": list(job.program), "seconds": job.limits.seconds, "memory_bytes": job.limits.memory_bytes,
            "files_bytes": job.limits.files_bytes,
        }  # fmt: skip
        body = json.dumps(request).encode()
        running = _Running(job, dict(zip(ours, ("stdout", "stderr", "status"), strict=True)))
        sent = [nothing, *theirs, *job.links]
        try:
            with self._lock:
                channel = self._ready()
                try:
                    socket.send_fds(channel, [HEADER.pack(len(body))], sent)
                    channel.sendall(body)
                except OSError:  # the zygote was killed: a new one takes its place
                    self._process = None
                    channel = self._ready()
                    socket.send_fds(channel, [HEADER.pack(len(body))], sent)
                    channel.sendall(body)
        finally:
            for fd in sent:
                os.close(fd)
        return running

    def _ready(self) -> socket.socket:
        if self._process is not None and self._process.poll() is None and self._owner == os.getpid():
            assert self._channel is not None
            return self._channel
        if not sys.platform.startswith("linux"):
            raise VerifierError(f"the sandbox needs Linux, this is {sys.platform}")
        ours, theirs = socket.socketpair()
        here = str(Path(__file__).parents[3])
        words = (
            f"import sys; sys.path.insert(0, {here!r}); from alexandra.verifiers.sandbox.zygote import main; "
            f"main({theirs.fileno()}, {self._readable!r})"
        )
        python = getattr(sys, "_base_executable", "") or sys.executable
        self._process = subprocess.Popen(
            [python, "-I", "-S", "-B", "-c", words], pass_fds=[theirs.fileno()], env={"LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        theirs.close()
        self._channel, self._owner = ours, os.getpid()
        return ours


@functools.cache
def shared() -> Sandbox:
    """The sandbox of this process, for tools; its zygote ends with this process."""
    return Sandbox()

"""The pool returns every item's result or failure, in order, kills what is overdue, and leaves no process behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alexandra.workers import Pool, WorkerError, values

HELPER = """
import os, subprocess, sys, time

def square(x):
    if x < 0:
        raise ValueError(f"negative: {x}")
    return x * x

def act(what):
    if what == "hang":
        time.sleep(600)
    if what == "exit":
        os._exit(3)
    if what == "lambda":
        return lambda: 1
    if isinstance(what, tuple):  # start a child that outlives us, and hang
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(what[0], "w") as file:
            file.write(f"{os.getpid()} {child.pid}")
        time.sleep(600)
    return what
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A module that workers can import: spawned processes inherit sys.path."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "alexandra_test_jobs.py").write_text(HELPER)
    sys.path.insert(0, str(folder))
    import alexandra_test_jobs

    yield alexandra_test_jobs
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2) as shared:
        yield shared


def gone(pid: int) -> bool:
    """Whether a process has ended within a minute (a zombie has)."""
    for _ in range(1200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_results_come_in_order_with_their_index(pool: Pool, jobs: object) -> None:
    results = pool.map(jobs.square, range(9))  # type: ignore[attr-defined]
    assert [result.index for result in results] == list(range(9))
    assert values(results) == [x * x for x in range(9)]


def test_an_exception_names_its_item_and_carries_its_traceback(pool: Pool, jobs: object) -> None:
    results = pool.map(jobs.square, [1, -2, 3])  # type: ignore[attr-defined]
    assert [result.value for result in results] == [1, None, 9]
    failure = results[1].failure
    assert failure is not None and failure.kind == "error"
    with pytest.raises(WorkerError, match=r"item 1: ValueError: negative: -2") as caught:
        values(results)
    assert "in square" in caught.value.hint


def test_what_is_overdue_is_killed_and_the_others_are_answered(pool: Pool, jobs: object) -> None:
    pool.map(jobs.act, ["warm", "warm"])  # type: ignore[attr-defined]
    began = time.monotonic()
    results = pool.map(jobs.act, ["a", "hang", "b", "c"], timeout_seconds=3.0)  # type: ignore[attr-defined]
    assert time.monotonic() - began < 60
    assert [result.value for result in results] == ["a", None, "b", "c"]
    failure = results[1].failure
    assert failure is not None and (failure.kind, failure.message) == ("timeout", "no answer within 3 s: killed")
    assert values(pool.map(jobs.square, [4])) == [16]  # type: ignore[attr-defined]


def test_a_worker_that_dies_fails_its_item_only(pool: Pool, jobs: object) -> None:
    results = pool.map(jobs.act, ["a", "exit", "b"])  # type: ignore[attr-defined]
    assert [result.value for result in results] == ["a", None, "b"]
    failure = results[1].failure
    assert failure is not None and failure.kind == "died"
    assert "exit code 3" in failure.message


def test_what_cannot_travel_is_refused_by_name(pool: Pool, jobs: object) -> None:
    with pytest.raises(WorkerError, match="item 0 cannot be sent to a worker") as caught:
        pool.map(lambda x: x, [1])
    assert "top level of a module" in caught.value.hint
    results = pool.map(jobs.act, ["lambda", "a"])  # type: ignore[attr-defined]
    assert results[0].failure is not None and "lambda" in results[0].failure.message
    assert results[1].value == "a"


def test_killing_a_worker_takes_what_it_started_along(tmp_path: Path, jobs: object) -> None:
    note = tmp_path / "pids"
    with Pool(1) as pool:
        result = pool.map(jobs.act, [(str(note),)], timeout_seconds=5.0)[0]  # type: ignore[attr-defined]
    assert result.failure is not None and result.failure.kind == "timeout"
    assert all(gone(int(pid)) for pid in note.read_text().split())


def test_leaving_the_stream_early_frees_the_pool(pool: Pool, jobs: object) -> None:
    stream = pool.stream(jobs.act, ["a", "hang", "hang"])  # type: ignore[attr-defined]
    assert next(stream).value == "a"
    stream.close()
    assert values(pool.map(jobs.square, [3])) == [9]  # type: ignore[attr-defined]


def test_items_are_taken_as_workers_become_free() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(6):
            taken.append(i)
            yield i

    with Pool(1) as pool:
        stream = pool.stream(math.sqrt, items())
        next(stream)
        assert len(taken) <= 2


def test_workers_end_when_their_parent_is_killed(tmp_path: Path, jobs: object) -> None:
    note = tmp_path / "pids"
    program = tmp_path / "parent.py"
    folder = Path(jobs.__file__).parent  # type: ignore[attr-defined, arg-type]
    program.write_text(
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from alexandra.workers import Pool\nimport alexandra_test_jobs as jobs\n"
        f"if __name__ == '__main__':\n    Pool(1).map(jobs.act, [({str(note)!r},)])\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(program)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    for _ in range(600):
        if note.exists() and len(note.read_text().split()) == 2:
            break
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert all(gone(int(pid)) for pid in note.read_text().split())


def test_a_pool_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="at least 1 worker, got 0"):
        Pool(0)

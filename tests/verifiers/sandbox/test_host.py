"""What runs in the sandbox runs; what is endless, huge, forking or crashing ends within its bounds."""

from __future__ import annotations

import os
import threading
import time

import pytest

from alexandra.verifiers.sandbox.host import Job, Limits, Sandbox

PATIENT = Limits(seconds=60.0)  # for programs that end by themselves, also on a loaded machine


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as one:
        yield one


def test_a_program_runs_with_the_standard_library_and_its_files(sandbox: Sandbox) -> None:
    source = "import json, sys\nprint(json.load(open('a.json'))['x'] * 2)\nprint('note', file=sys.stderr)"
    ran = sandbox.run(source, PATIENT, files={"a.json": '{"x": 21}'})
    assert ran.ok and ran.stdout == b"42\n" and ran.stderr == b"note\n"
    assert 0 < ran.seconds < 60 and ran.cpu_seconds > 0 and ran.memory_bytes > 1 << 20


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("raise ValueError('no')", 1, b"ValueError: no"),
        ("import sys; sys.exit(3)", 3, b""),
        ("import os; os._exit(4)", 4, b""),
        ("import ctypes; ctypes.string_at(0)", -11, b""),
        ("def f(): f()\nf()", 1, b"RecursionError"),
        ("x = []\nwhile True: x.append(bytes(10 ** 7))", 1, b"MemoryError"),
        ("print(1", 1, b"SyntaxError"),
    ],
)
def test_how_it_ended_is_told(sandbox: Sandbox, source: str, code: int, said: bytes) -> None:
    ran = sandbox.run(source, PATIENT)
    assert ran.code == code and not ran.why and said in ran.stderr


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import time; time.sleep(99)",
        "import signal\nfor n in (1, 2, 15, 24):\n    signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "import threading\ndef f():\n    while True: pass\nfor _ in range(8): threading.Thread(target=f).start()",
        "(lambda f: f(f))(lambda f: [f for _ in iter(int, 1)])",
        "10 ** 10 ** 10",
    ],
)
def test_an_endless_program_ends_at_its_deadline(sandbox: Sandbox, source: str) -> None:
    ran = sandbox.run(source, Limits(seconds=0.3))
    assert ran.why == "timeout" and 0.25 < ran.seconds < 60.0


def test_a_program_ends_with_its_last_thread(sandbox: Sandbox) -> None:
    """What other threads write after the main one is done counts, as under the interpreter itself."""
    source = "import threading, time\ndef f():\n    time.sleep(0.1); print('late')\nthreading.Thread(target=f).start()"
    assert sandbox.run(source, PATIENT).stdout == b"late\n"
    background = source.replace("target=f)", "target=f, daemon=True)")
    assert sandbox.run(background, PATIENT).stdout == b""
    leaving = "import atexit, sys\natexit.register(print, 'bye')\nsys.exit('gone')"
    ran = sandbox.run(leaving, PATIENT)
    assert (ran.stdout, ran.stderr, ran.code) == (b"bye\n", b"gone\n", 1)


def test_output_is_kept_to_its_bound_and_the_program_ended(sandbox: Sandbox) -> None:
    ran = sandbox.run("while True: print('x' * 1000)", PATIENT)
    assert ran.why == "output" and len(ran.stdout) == 1 << 20 and ran.seconds < 60
    exact = sandbox.run("import sys; sys.stdout.write('x' * 1000)", Limits(seconds=60.0, output_bytes=1000))
    assert exact.ok and len(exact.stdout) == 1000


def test_a_fork_bomb_starts_nothing(sandbox: Sandbox) -> None:
    source = "import os\nwhile True:\n    try: os.fork()\n    except OSError: break\nprint('stopped')"
    ran = sandbox.run(source, PATIENT)
    assert ran.ok and ran.stdout == b"stopped\n"


def test_a_program_that_may_fork_is_bounded_too(sandbox: Sandbox) -> None:
    bomb = "bomb() { bomb | bomb & }; bomb; wait"
    began = time.monotonic()
    ran = sandbox.run_many([Job(program=("/bin/sh", "-c", bomb), limits=Limits(seconds=0.5))])[0]
    assert time.monotonic() - began < 60
    after = sandbox.run("print('still here')", PATIENT)
    assert after.ok, (ran, after)


def test_many_at_once_and_from_threads(sandbox: Sandbox) -> None:
    ran = sandbox.run_many([Job(f"print({i})", limits=PATIENT) for i in range(12)])
    assert [one.stdout for one in ran] == [b"%d\n" % i for i in range(12)]
    found: dict[int, bytes] = {}

    def work(i: int) -> None:
        found[i] = sandbox.run(f"print({i} ** 2)", PATIENT).stdout

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: b"%d\n" % i**2 for i in range(6)}


def test_one_job_sees_nothing_of_another(sandbox: Sandbox) -> None:
    sandbox.run("open('left', 'w').write('x')", PATIENT)
    ran = sandbox.run("import os; print(os.listdir('.'))", PATIENT)
    assert ran.stdout == b"['main.py']\n"


def test_linked_jobs_talk_through_their_descriptors(sandbox: Sandbox) -> None:
    reading, writing = os.pipe()
    jobs = [
        Job("import os; os.write(3, b'secret word')", limits=PATIENT, links=(writing,)),
        Job("import os; print(os.read(3, 99))", limits=PATIENT, links=(reading,)),
    ]
    assert sandbox.run_many(jobs)[1].stdout == b"b'secret word'\n"


def test_a_killed_zygote_is_replaced(sandbox: Sandbox) -> None:
    sandbox.run("pass", PATIENT)
    assert sandbox._process is not None
    sandbox._process.kill()
    sandbox._process.wait()
    assert sandbox.run("print(1)", PATIENT).stdout == b"1\n"


def test_no_process_is_left_behind() -> None:
    with Sandbox() as one:
        one.run("pass", PATIENT)
        assert one._process is not None
        zygote = one._process.pid
        one.run("while True: pass", Limits(seconds=0.2))
        children = [line for line in os.popen(f"ps -o pid= --ppid {zygote}").read().split() if line]
        assert children == []
    assert not os.path.exists(f"/proc/{zygote}")


def test_a_start_takes_milliseconds_of_processor_time(sandbox: Sandbox) -> None:
    """A fork of what is warm, not a new interpreter; by the clock: benchmarks/verifiers.py."""
    used = [sandbox.run("pass", PATIENT).cpu_seconds for _ in range(5)]
    assert 0 < min(used) < 0.5

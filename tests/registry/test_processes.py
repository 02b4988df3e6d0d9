"""Many processes at once, and a crash at any moment: nothing is lost, doubled or half there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from alexandra.errors import StorageError
from alexandra.registry import lifecycle
from alexandra.registry.oracle import Oracle
from alexandra.registry.store import Registry
from alexandra.rng import derive

PRELUDE = """
import json, sys
import numpy as np
from alexandra.records import Interval, Outcomes, Scorecard
from alexandra.registry import lifecycle
from alexandra.registry.store import Registry

location, who = sys.argv[1], sys.argv[2]
registry = Registry(location, actor=who, **json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}"))
outcomes = Outcomes(np.array(["k1", "k2"]), np.array([0, 1]), np.eye(2), ("a", "b"))

def register(task, name):
    card = Scorecard(task, name, {"accuracy": Interval(1.0, 0.3, 1.0, 2)}, outcomes, 0, "", "", 1, 0.001)
    blobs = {"weights": f"weights of {name}".encode(), "shared": b"the same for all"}
    return registry.register(task, name, blobs, card).version
"""


def start(registry, who, body, **kwargs):
    command = [sys.executable, "-c", PRELUDE + body, str(registry.database.path.parent), who]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **kwargs)


def results(processes):
    out = []
    for process in processes:
        text, _ = process.communicate(timeout=1800)
        assert process.returncode == 0
        out.append(json.loads(text.splitlines()[-1]))
    return out


def register_at_once(registry, processes, each):
    """`processes` x `each` models into one task; returns the versions that each process was given."""
    body = f"print(json.dumps([register('churn', f'm{{who}}-{{i}}') for i in range({each})]))"
    return results([start(registry, str(who), body) for who in range(processes)])


def assert_all_there(registry, given, count):
    assert sorted(number for numbers in given for number in numbers) == list(range(1, count + 1))
    versions = registry.versions("churn")
    assert [version.version for version in versions] == list(range(1, count + 1))
    assert len({version.name for version in versions}) == count
    for who, numbers in enumerate(given):
        assert [versions[number - 1].name for number in numbers] == [f"m{who}-{i}" for i in range(len(numbers))]
    assert len(registry.history("churn")) == count
    assert registry.verify() == []


def test_three_processes_register_at_once(registry):
    assert_all_there(registry, register_at_once(registry, 3, 10), 30)


@pytest.mark.slow
def test_eight_processes_register_a_hundred_each(registry):
    assert_all_there(registry, register_at_once(registry, 8, 100), 800)


def test_the_same_model_from_many_processes_is_one_version(registry):
    body = "print(json.dumps([register('churn', f'm{i}') for i in range(5)]))"
    given = results([start(registry, str(who), body) for who in range(3)])
    assert given == [given[0]] * 3
    assert sorted(given[0]) == [1, 2, 3, 4, 5]
    assert len(registry.versions("churn")) == 5
    assert registry.verify() == []


def test_promotions_at_once_leave_one_production_and_an_unbroken_history(registry):
    body = """
for i in range(3):
    lifecycle.promote(registry, f"churn:{register('churn', f'm{who}-{i}')}", force=True, reason=who)
print("true")
"""
    results([start(registry, str(who), body) for who in range(3)])
    assert len(registry.search(stage="production")) == 1
    assert len(registry.search(stage="archived")) == 8
    promoted = [entry.version for entry in registry.history("churn") if entry.action == "promote"]
    assert sorted(promoted) == list(range(1, 10))
    assert registry.get("churn").version == promoted[-1]
    assert registry.verify() == []


def test_readers_see_whole_states_while_others_write(registry):
    body = "[register('churn', f'm{who}-{i}') for i in range(20)]; print('true')"
    writers = [start(registry, "0", body)]
    seen = []
    while any(process.poll() is None for process in writers):
        versions = registry.search()
        numbers = sorted(version.version for version in versions)
        assert numbers == list(range(1, len(numbers) + 1))
        for version in versions[:2]:
            assert registry.blobs(version)["weights"] == f"weights of {version.name}".encode()
        seen.append(len(numbers))
        time.sleep(0.02)
    results(writers)
    assert seen == sorted(seen)
    assert len(registry.search()) == 20


def test_a_registry_survives_fork(registry, register):
    register("a")
    child = os.fork()
    if child == 0:
        try:
            registry.add_tags("churn:1", "child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert registry.get("churn:1").tags == ("CHILD",)
    assert register("b").version == 2


# ---------------------------------------------------------------- crashes


ENDLESS = """
print("ready", flush=True)
start = len(registry.search())
for i in range(10_000):
    version = register("churn", f"m{start + i}")
    if i % 3 == 2:
        lifecycle.promote(registry, f"churn:{version}", force=True, reason="test")
"""


def kill_while_writing(registry, moment):
    process = start(registry, "victim", ENDLESS)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_a_whole_registry(registry, rounds):
    before = 0
    for moment in derive(9, "moments").uniform(rounds):
        kill_while_writing(registry, 0.05 + 0.4 * float(moment))
        again = Registry(registry.database.path.parent)
        versions = again.search()
        assert again.verify() == []
        assert len(versions) >= before
        assert len(again.search(stage="production")) <= 1
        for version in versions[:3]:
            assert again.blobs(version)["shared"] == b"the same for all"
        before = len(versions)
    assert before > 0
    lifecycle.promote(
        registry,
        f"churn:{before}" if registry.get(f"churn:{before}").stage != "production" else "churn:1",
        force=True,
        reason="it still writes",
    )
    assert Oracle(registry).choose("churn").members


def test_a_writer_that_dies_between_commit_and_seal_is_believed_after_a_check(registry, register):
    """The one window that atomic files cannot close: the commit is durable, the seal is still the old one."""
    register("a")
    seal = registry.database.seal_path.read_bytes()
    register("b")
    registry.database.seal_path.write_bytes(seal)
    assert registry.get("churn:2").name == "b"
    assert registry.database.seal_path.read_bytes() != seal
    registry.database.seal_path.write_bytes(seal)
    data = registry.database.path.read_bytes()
    registry.database.path.write_bytes(data.replace(b"tester", b"nobody"))
    with pytest.raises(StorageError, match=r"registry\.db' is damaged: table 'audit': the row id=1 is damaged"):
        registry.get("churn:2")


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = registry.database.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * float(sys.argv[4])), resource.RLIM_INFINITY))
from alexandra.errors import StorageError
done, error = [], ""
try:
    for i in range(300):
        done.append(register("churn", f"n{i}"))
except StorageError as caught:
    error = str(caught)
print(json.dumps([len(done), error]))
"""


@pytest.mark.parametrize("room", [0.02, 1.3])
def test_a_full_disk_is_a_clear_error_and_the_registry_stays_whole(registry, register, room):
    """A limit on the size of files stands for the full disk; it bites in an object, the log, or the database."""
    register("a")
    command = [sys.executable, "-c", PRELUDE + FULL, str(registry.database.path.parent), "writer", "{}", str(room)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=True)
    count, error = json.loads(done.stdout.splitlines()[-1])
    assert "cannot write" in error or "registry.db" in error
    assert registry.verify() == []
    assert len(registry.search()) >= 1 + count
    assert register("b").name == "b"
    assert [version.version for version in registry.versions("churn")] == list(range(1, len(registry.search()) + 1))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 900 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_really_is_full(small_disk, registering):
    registry = Registry(small_disk / "registry")
    register = registering(registry)
    with pytest.raises(StorageError, match="No space left on device|disk is full|disk I/O error") as caught:
        for number in range(100):
            register(f"m{number}", n=40, seed=number)
    assert "unchanged" in str(caught.value)
    for part in small_disk.rglob("*.part"):
        raise AssertionError(f"litter: {part}")
    count = number
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert registry.verify() == []
    assert len(registry.search()) in (count, count + 1)
    assert register("more", n=40).name == "more"

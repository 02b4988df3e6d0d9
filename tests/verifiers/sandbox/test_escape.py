"""No attempt to leave the sandbox succeeds; the probes do succeed outside it, so that their silence means something."""

from __future__ import annotations

import subprocess
import sys

import pytest

from alexandra.verifiers.sandbox import escape
from alexandra.verifiers.sandbox.host import Sandbox


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as one:
        yield one


def test_no_probe_escapes_and_the_level_is_measured(sandbox: Sandbox) -> None:
    found = escape.level(sandbox, tuple(escape.PROBES))
    if found.name != "full":
        pytest.skip(f"this kernel gives a weaker sandbox: {found.name}")
    assert found.escapes == () and found.tried == len(escape.PROBES) >= 60
    assert all(state.startswith("ok") for state in found.layers.values())


def test_a_missing_layer_is_named(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A level without evidence is not full: here no job starts at all."""
    monkeypatch.setattr(escape, "QUICK", ())
    assert escape.level(sandbox, ()).name == "weaker: no job could be started"


OUTSIDE = (
    "file by path", "passwords", "file by symbolic link", "file by linked folder", "tcp", "abstract socket", "fork",
    "program", "exec", "signal the host", "proc", "udp", "memory file", "much on disk", "32-bit calls", "write outside",
)  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_probe_succeeds_outside(name: str, tmp_path) -> None:
    with escape._outside() as facts:
        source = escape._HEAD + escape.PROBES[name].format(**facts)
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, cwd=tmp_path, timeout=1800)
    if name == "32-bit calls" and done.returncode == -11:
        pytest.skip("this kernel has no 32-bit calls")
    assert escape.ESCAPED in done.stdout, done.stderr


def test_every_probe_is_a_program() -> None:
    with escape._outside() as facts:
        for name, source in escape.PROBES.items():
            compile(escape._HEAD + source.format(**facts), name, "exec")

"""Importing does nothing observable, brings no torch, and is quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

# Folders whose files may import torch; everything else is the symbolic half (tests/house/test_contracts.py).
TORCH_FOLDERS = ("nn",)

PROBE = """
import importlib, json, logging, os, sys, threading, warnings
import numpy, random, rich.style  # rich draws one random number when it is first imported
environ, threads, folder = dict(os.environ), threading.active_count(), os.listdir(".")
handlers, states = list(logging.root.handlers), (numpy.random.get_state()[1].tolist(), random.getstate())
stdout, stderr = sys.stdout, sys.stderr
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
changed = [what for what, same in {
    "environment": dict(os.environ) == environ,
    "threads": threading.active_count() == threads,
    "files in the working folder": os.listdir(".") == folder,
    "log handlers": list(logging.root.handlers) == handlers,
    "global random state": (numpy.random.get_state()[1].tolist(), random.getstate()) == states,
    "sys.stdout or sys.stderr": sys.stdout is stdout and sys.stderr is stderr,
}.items() if not same]
heavy = sorted({"torch", "transformers", "tensorflow", "jax", "pandas", "sklearn"} & set(sys.modules))
print(json.dumps({"changed": changed, "heavy": heavy}))
"""


def module_names(repository: Path) -> list[str]:
    """Every module of the package that the light core must be able to import."""
    allowed = tomllib.loads((repository / "tests/house/exceptions.toml").read_text(encoding="utf-8"))["heavy_imports"]
    names = []
    for path in sorted((repository / "src/alexandra").rglob("*.py")):
        parts = path.relative_to(repository / "src").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[1] not in TORCH_FOLDERS and name not in allowed and parts[-1] != "__main__":
            names.append(name)
    return names


def child(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "utf8", "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1800, check=False)


def test_importing_every_module_changes_nothing_and_loads_no_heavy_library(repository: Path, tmp_path: Path) -> None:
    done = child(PROBE, json.dumps(module_names(repository)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    assert not printed and not done.stderr, f"importing printed: {printed} {done.stderr}"
    report = json.loads(last)
    assert report["changed"] == []
    assert report["heavy"] == [], "import it inside the function that needs it"


def test_each_module_can_be_imported_first(repository: Path, tmp_path: Path) -> None:
    """No module needs another to have been imported before it (a hidden cycle)."""
    code = """
import importlib, sys, json
names = json.loads(sys.argv[1])
for name in names:
    for loaded in [m for m in sys.modules if m == "alexandra" or m.startswith("alexandra.")]:
        if not loaded.endswith("_native"):
            del sys.modules[loaded]
    importlib.import_module(name)
"""
    done = child(code, json.dumps(module_names(repository)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def cpu_seconds(command: list[str], cwd: Path) -> float:
    """User plus system time of one child: unlike the clock, the same on a busy machine."""
    before = os.times()
    subprocess.run(command, cwd=cwd, capture_output=True, check=True, timeout=1800)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_importing_alexandra_takes_under_150_ms(tmp_path: Path) -> None:
    empty = min(cpu_seconds([sys.executable, "-c", "pass"], tmp_path) for _ in range(5))
    full = min(cpu_seconds([sys.executable, "-c", "import alexandra"], tmp_path) for _ in range(5))
    assert full - empty < 0.150, f"import alexandra takes {1e3 * (full - empty):.0f} ms"


def test_help_takes_under_300_ms(repository: Path, tmp_path: Path) -> None:
    if not (repository / "src/alexandra/cli/__init__.py").exists():
        pytest.skip("no command line in this checkout")
    command = [sys.executable, "-c", "from alexandra.cli import main; main()", "--help"]
    seconds = min(cpu_seconds(command, tmp_path) for _ in range(5))
    assert seconds < 0.300, f"alexandra --help takes {1e3 * seconds:.0f} ms"

"""The one command for figures that need a GPU: refused in words without one, and every part of it runs when tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, str(Path(__file__).parents[2] / "benchmarks/gpu.py")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 1 and done.stdout == ""
    assert "no GPU" in done.stderr and "--tiny" in done.stderr


def test_every_part_runs_when_tiny() -> None:
    done = subprocess.run([*COMMAND, "--tiny"], capture_output=True, text=True, check=True, timeout=1800)
    found = json.loads(done.stdout)
    mixture, dense = found["mixture of 8"], found["dense 0.35 B"]
    assert mixture["parameters"] > mixture["active_parameters"] > 0 and dense["mfu"] > 0
    assert [row["length"] for row in found["attention"]] == [2048, 4096]
    assert len(found["reached"]) == 4

"""A solve that is killed at any moment leaves a registry that opens, and the same command finishes the job."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alexandra.registry.store import Registry
from alexandra.rng import derive

KILLS = 20
TASK = """
TASK crash BEGIN
  DATA csv("crash.csv") TARGET label
  SPLIT folds=3 SEED 4
  ACCEPT roc_auc >= 0.6
  NETWORKS FAMILY tabular(0..2 layers, 16..32 wide)
END
"""


def command(folder: Path) -> list[str]:
    call = "import sys; from alexandra.cli import main; main(sys.argv[1:])"
    return [sys.executable, "-W", "ignore", "-c", call, "solve", str(folder / "crash.task"), "--registry",
            str(folder / "registry"), "--runs", str(folder / "runs")]  # fmt: skip


def folder_with_task(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 5))
    label = np.where(x[:, 0] - x[:, 1] + rng.logistic(size=900) > 0, "yes", "no")
    lines = [",".join([*(f"{v:.5f}" for v in row), word]) for row, word in zip(x, label, strict=True)]
    (folder / "crash.csv").write_text("\n".join(["a,b,c,d,e,label", *lines]))
    (folder / "crash.task").write_text(TASK)
    return folder


def registered(folder: Path) -> list[tuple[str, str, dict[str, str]]]:
    store = Registry(folder / "registry")
    return [(one.name, one.stage, dict(one.blobs)) for one in store.versions("crash")]


@pytest.mark.slow
def test_sigkill_at_random_moments_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    (tmp_path / "killed").mkdir()
    clean, killed = folder_with_task(tmp_path / "clean"), folder_with_task(tmp_path / "killed")
    began = time.monotonic()
    subprocess.run(command(clean), check=True, capture_output=True)
    whole = time.monotonic() - began
    moments = derive(11, "kill").uniform(KILLS) * whole * 1.05
    finished = 0
    for moment in moments:
        process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=float(moment))
            finished += 1
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if (killed / "registry" / "registry.db").exists():
            store = Registry(killed / "registry")
            assert store.verify() == []
            for one in store.search():
                assert set(store.blobs(one)) == set(one.blobs)
                assert store.scorecard(one).n > 800
    assert finished < KILLS, "no run was killed: the moments are too late"
    subprocess.run(command(killed), check=True, capture_output=True)
    assert registered(killed) == registered(clean)
    assert not list(killed.rglob("*.part"))

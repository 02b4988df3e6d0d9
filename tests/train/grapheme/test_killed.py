"""A brain's run that is killed at any moment and resumed is the undisturbed one, byte for byte."""

import os
import signal
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from tests.train.grapheme.test_brain import small

from alexandra.rng import derive
from alexandra.train.grapheme.run import MODEL, run
from alexandra.train.lm.folder import read_model
from alexandra.train.stages import METRICS

pytest.importorskip("alexandra._native", reason="the brain runs on the native engine")

KILLS, EPOCHS = 20, 24
RECIPE = small(checkpoint_every=1, epochs=EPOCHS, epochs_per_level=6)


def child(folder: Path) -> int:
    """A forked process that trains or goes on in `folder`."""
    process = os.fork()
    if process:
        return process
    try:
        run(RECIPE, folder, resume=True)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(3)


def killed(folder: Path, wait: float) -> bool:
    """Whether the process was killed, so many seconds after it took up its work, before it ended by itself."""
    metrics = folder / METRICS
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    process = child(folder)
    done, status = os.waitpid(process, os.WNOHANG)
    while not done and (not metrics.exists() or metrics.stat().st_mtime_ns == before):
        time.sleep(0.001)
        done, status = os.waitpid(process, os.WNOHANG)
    if not done:
        time.sleep(wait)
        os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
    assert not os.WIFEXITED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.slow
def test_sigkill_at_random_moments_changes_no_byte(tmp_path: Path) -> None:
    whole = run(RECIPE, tmp_path / "whole")
    weights, metrics = read_model(whole.model).weights, (tmp_path / "whole" / METRICS).read_bytes()
    assert weights is not None
    waits = iter((0.4 * derive(5, "kill").uniform(10 * KILLS)).tolist())
    kills = rounds = 0
    while kills < KILLS:
        folder = tmp_path / f"cut{rounds}"
        while killed(folder, next(waits)):
            kills += 1
        assert (folder / METRICS).read_bytes() == metrics
        again = read_model(folder / MODEL).weights
        assert again is not None and all(np.array_equal(array, again[name]) for name, array in weights.items())
        rounds += 1
    print(f"{kills} kills in {rounds} runs of {EPOCHS} epochs")

"""Checkpoints of a run: whole, checksummed, written while training goes on, and never read when damaged.

A checkpoint is one safetensors file with every array that decides the future and the step that comes next. It appears
under its name only when it is complete and on disk. `latest` skips what does not verify and says so; a run is resumed
from the newest one that does. Nothing is unpickled.
"""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alexandra.errors import StorageError
from alexandra.storage import publish, read_bytes, read_tensors, sweep, tensors_bytes

NAME = re.compile(r"step-(\d{8})\.safetensors\Z")
BEST = "best.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """The arrays of a stage after `step` steps, and the measures that were known."""

    step: int
    arrays: Mapping[str, np.ndarray]
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run's folder. `keep` newest ones stay, and the best beside them."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, max(1, keep)
        self._writer: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(self, checkpoint: Checkpoint, *, best: bool = False) -> None:
        """Write in the background; copies the arrays first. Waits for the one before, and raises what it met."""
        self.wait()
        copies = {name: np.array(array) for name, array in checkpoint.arrays.items()}
        copied = Checkpoint(checkpoint.step, copies, dict(checkpoint.metrics), dict(checkpoint.notes))
        self._writer = threading.Thread(target=self._write, args=(copied, best), daemon=False)
        self._writer.start()

    def wait(self) -> None:
        """Until the last `save` is on disk. Raises StorageError when it could not be written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that verifies; a damaged one is named in a warning and passed over."""
        for path in sorted(self._paths(), reverse=True):
            try:
                return read(path)
            except StorageError as error:
                warnings.warn(f"checkpoint {path.name} is not used: {error.message}", UserWarning, stacklevel=2)
        return None

    def best(self) -> Checkpoint | None:
        """The one that was saved as the best; None without."""
        path = self.folder / BEST
        return read(path) if path.exists() else None

    def tidy(self) -> None:
        """Remove what a killed run left behind: parts of files, and checkpoints beyond `keep`."""
        sweep(self.folder)
        self._drop_old()

    def settle(self) -> None:
        """Until nothing is being written; a failure is kept for `wait`."""
        if self._writer is not None:
            self._writer.join()

    def _drop_old(self) -> None:
        for path in sorted(self._paths())[: -self.keep]:
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return [path for path in self.folder.glob("step-*.safetensors") if NAME.match(path.name)]

    def _write(self, checkpoint: Checkpoint, best: bool) -> None:
        try:
            data = encoded(checkpoint)
            if best:  # first: a run that is killed in between comes back to a step before, and finds this best again
                publish(self.folder / BEST, data)
            publish(self.folder / f"step-{checkpoint.step:08d}.safetensors", data)
            self._drop_old()
        except BaseException as error:
            self._failure = error


def encoded(checkpoint: Checkpoint) -> bytes:
    """The bytes of the file."""
    notes = {
        "step": str(checkpoint.step),
        "metrics": json.dumps(dict(checkpoint.metrics), sort_keys=True),
        "notes": json.dumps(dict(checkpoint.notes), sort_keys=True),
    }
    return tensors_bytes(dict(checkpoint.arrays), notes)


def read(path: Path) -> Checkpoint:
    """A checkpoint whose every byte was verified. Raises StorageError."""
    arrays, notes = read_tensors(read_bytes(path), str(path))
    try:
        return Checkpoint(int(notes["step"]), arrays, json.loads(notes["metrics"]), json.loads(notes["notes"]))
    except (KeyError, ValueError) as error:
        raise StorageError(f"{str(path)!r} is not a checkpoint: {error}") from error

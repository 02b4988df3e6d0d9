"""What a run says of itself: JSON lines, TensorBoard, MLflow, Weights & Biases, a progress line.

metrics.jsonl holds a line a step and only what training decides, so that a resumed run writes the bytes of an
undisturbed one; times go to timing.jsonl, answers to samples.jsonl and kept.jsonl. Lines behind the last checkpoint are
dropped before a run goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from alexandra.errors import missing_extra
from alexandra.storage import publish

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"
LOGS = ("samples", "kept")  # files of records beside them: what was answered, what rejection sampling kept
Numbers = Mapping[str, float]


class Watcher(Protocol):
    """Someone who is told every step's numbers."""

    def note(self, step: int, numbers: Numbers) -> None: ...

    def close(self) -> None: ...


class Lines:
    """metrics.jsonl, timing.jsonl and the records of LOGS in a run's folder, continued at step `first`."""

    def __init__(self, folder: Path, first: int = 0) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, TIMING, *(f"{log}.jsonl" for log in LOGS)):
            if name not in (METRICS, TIMING) and not (folder / name).exists():
                continue
            kept = [line for line in _whole_lines(folder / name) if line[0] < first]
            publish(folder / name, "".join(text + "\n" for _, text in kept).encode())
        self._metrics = (folder / METRICS).open("a", encoding="utf-8")
        self._timing = (folder / TIMING).open("a", encoding="utf-8")
        self._before = time.monotonic()

    def note(self, step: int, numbers: Numbers) -> None:
        now = time.monotonic()
        seconds, self._before = now - self._before, now
        self._metrics.write(line_of(step, numbers) + "\n")
        self._metrics.flush()
        self._timing.write(json.dumps({"step": step, "seconds": seconds}) + "\n")
        self._timing.flush()

    def write(self, log: str, step: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Add records of a step to a log, one a line."""
        assert log in LOGS
        lines = [json.dumps({"step": step, **record}, ensure_ascii=False, allow_nan=False) for record in records]
        with (self._folder / f"{log}.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))

    def close(self) -> None:
        self._metrics.close()
        self._timing.close()


def line_of(step: int, numbers: Numbers) -> str:
    """One line; a number that is not finite is written as null, since JSON has no other word for it."""
    shown = {name: value if math.isfinite(value) else None for name, value in sorted(numbers.items())}
    return json.dumps({"step": step, **shown}, allow_nan=False)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The steps of a metrics file, a torn last line left out."""
    return [json.loads(text) for _, text in _whole_lines(path)]


def _whole_lines(path: Path) -> list[tuple[int, str]]:
    """(step, text) of every line that is whole; a line that a killed run tore ends the file."""
    found: list[tuple[int, str]] = []
    if not path.exists():
        return found
    for text in path.read_bytes().decode("utf-8", "replace").splitlines():
        try:
            found.append((int(json.loads(text)["step"]), text))
        except (ValueError, KeyError, TypeError):
            break
    return found


class Report:
    """Tells a function (step, total, numbers), for instance a progress bar."""

    def __init__(self, total: int, tell: Callable[[str, int, int], None]) -> None:
        self.total, self.tell = total, tell

    def note(self, step: int, numbers: Numbers) -> None:
        names = ("loss", "reward", "eval_loss", "eval_reward", "eval_accuracy", "eval_check")
        shown = [f"{name} {numbers[name]:.4g}" for name in names if name in numbers]
        if numbers.get("eval_alarm"):
            shown.insert(0, "ALARM: the reward rises while the check falls")
        self.tell("  ".join(shown), step + 1, self.total)

    def close(self) -> None:
        """Nothing is open."""


class TensorBoard:
    """Scalars in TensorBoard's event files, under the folder that is given."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise missing_extra("logging to TensorBoard", "watch") from None
        self._writer = SummaryWriter(str(folder))

    def note(self, step: int, numbers: Numbers) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A run of an MLflow store: a URL, or sqlite:///mlflow.db."""

    def __init__(self, uri: str, name: str, settings: Mapping[str, str]) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise missing_extra("logging to MLflow", "mlflow") from None
        self._client = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._run = self._client.create_run(experiment).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, value)

    def note(self, step: int, numbers: Numbers) -> None:
        for name, value in numbers.items():
            if math.isfinite(value):
                self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class WeightsAndBiases:
    """A run of Weights & Biases; offline unless the library is configured otherwise."""

    def __init__(self, project: str, folder: Path, settings: Mapping[str, str]) -> None:
        try:
            import wandb
        except ImportError:
            raise missing_extra("logging to Weights & Biases", "watch") from None
        self._run = wandb.init(project=project, dir=str(folder), config=dict(settings))

    def note(self, step: int, numbers: Numbers) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


def tell_all(watchers: Sequence[Watcher], step: int, numbers: Numbers) -> None:
    """The same numbers to everyone."""
    for watcher in watchers:
        watcher.note(step, numbers)

"""What a solve found, logged to an MLflow tracking store: params, metrics with their intervals, curves, the report.

Written for the client of MLflow 3 (extra `mlflow`), which talks to a server or to a database file. The store is
asked before anything is trained, so that a wrong address costs no training. Nothing is sent anywhere else: MLflow's
own usage statistics are switched off unless the user has set them.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexandra import __version__
from alexandra.errors import StorageError, missing_extra
from alexandra.lang.expr import text
from alexandra.records import Interval
from alexandra.train.solve import Row, Solution

FILES = ("report.html", "task.task", "leaderboard.json")
BATCH = 500
LONGEST_PARAM = 5000
_LOCAL = "sqlite:///"


@dataclass(frozen=True)
class Tracker:
    """An experiment of a tracking store, named after the task; every solve becomes one run of it."""

    uri: str
    client: Any
    experiment: str

    def log(self, solution: Solution) -> str:
        """Log a run and say where it is; StorageError when the store refuses."""
        with translated(self.uri, "the models are registered all the same; run the same command again to log them"):
            run = self.client.create_run(self.experiment, run_name=solution.best, tags=tags(solution))
            key = run.info.run_id
            try:
                self._write(key, solution)
            except BaseException:
                self.client.set_terminated(key, status="FAILED")
                raise
            self.client.set_terminated(key)
        return f"logged as run {key} of experiment {solution.task.name!r} at {self.uri}"

    def _write(self, key: str, solution: Solution) -> None:
        from mlflow.entities import Metric, Param

        found = [Param(name, value[:LONGEST_PARAM]) for name, value in params(solution).items()]
        self.client.log_batch(key, params=found)
        stamp = int(time.time() * 1000)
        points = [Metric(name, value, stamp, step) for name, value, step in (*metrics(solution), *curves(solution))]
        for start in range(0, len(points), BATCH):
            self.client.log_batch(key, metrics=points[start : start + BATCH])
        for name in FILES:
            if (path := solution.folder / name).is_file():
                self.client.log_artifact(key, str(path))


def connect(uri: str, experiment: str) -> Tracker:
    """The tracker of `experiment` (made when it is not there) at `uri`, such as sqlite:///runs.db or a server's URL.

    MissingExtraError without the extra, StorageError when there is no such store.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    folder = Path(uri.removeprefix(_LOCAL)).parent
    if uri.startswith(_LOCAL) and not folder.is_dir():
        raise StorageError(f"no folder {str(folder)!r} for the MLflow database {uri!r}")
    with translated(uri, "name a server's URL or a database, for instance sqlite:///mlflow.db"):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(uri)
        known = client.get_experiment_by_name(experiment)
        key = known.experiment_id if known is not None else client.create_experiment(experiment)
    return Tracker(uri, client, str(key))


@contextmanager
def translated(uri: str, hint: str) -> Iterator[None]:
    """Errors of the store as ours; MLflow raises its own kind, SQLAlchemy's and the network's, so all are caught."""
    try:
        yield
    except ImportError:
        raise missing_extra("logging to MLflow", "mlflow") from None
    except Exception as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise StorageError(f"MLflow at {uri!r}: {first[0]}", hint=hint) from error


def tags(solution: Solution) -> dict[str, str]:
    """What a run is searched by."""
    version = solution.winner.version
    found = {"alexandra": __version__, "task": solution.task.name, "task_tags": " ".join(solution.task.tags)}
    if version is not None:
        found |= {"version": version.ref, "stage": version.stage}
    return found


def params(solution: Solution) -> dict[str, str]:
    """What was asked and on which data: the task's settings, hashes and counts."""
    task, data = solution.task, solution.data
    found: dict[str, object] = {
        "target": task.target,
        "metric": data.metric,
        "split": task.split.text(),
        "seed": task.split.seed,
        "accept": text(task.accept) if task.accept else "",
        "networks": ", ".join(one.text() for one in task.networks),
        "verify": ", ".join(one.text() for one in task.verify),
        "budget": task.budget.text(),
        "rows": data.table.n_rows,
        "features": ", ".join(data.features),
        "dropped": ", ".join((*task.drop, *data.profile.dropped)),
        "data_hash": data.data_hash,
        "best": solution.best,
        "epochs": solution.winner.epochs,
        "passed": solution.winner.passed,
        "gate": "" if solution.gate is None else "met" if solution.gate.passed else "refused",
    }
    version = solution.winner.version
    if version is not None:
        found |= {f"sha256 {name}": digest for name, digest in version.blobs.items()}
    return {metric_name(name): str(value) for name, value in found.items()}


def metrics(solution: Solution) -> list[tuple[str, float, int]]:
    """(name, value, step 0): the winner's scorecard, then every model's own metric, each with its interval."""
    main = str(solution.data.metric)
    found: list[tuple[str, float]] = []
    for name, value in solution.winner.card.metrics.items():
        found += _interval(name, value)
    for row in solution.rows:
        found += _interval(f"models/{row.name}/{main}", row.metric(main))
    found += _figures(solution.winner) + [("seconds", solution.seconds)]
    return [(metric_name(name), value, 0) for name, value in found if math.isfinite(value)]


def _interval(name: str, value: Interval) -> list[tuple[str, float]]:
    return [(name, value.value), (f"{name}.low", value.low), (f"{name}.high", value.high), (f"{name}.n", value.n)]


def _figures(row: Row) -> list[tuple[str, float]]:
    card = row.card
    found = {"parameters": card.parameters, "size_bytes": card.size_bytes, "latency_p95": card.latency_p95_seconds}
    return [(name, float(value)) for name, value in found.items() if value]


def curves(solution: Solution) -> list[tuple[str, float, int]]:
    """(name, loss, epoch) of the winner's training in every part."""
    found = []
    for fit in (fit for fit in solution.fits if fit.name == solution.best):
        for kind, losses in (("train", fit.train_loss), ("validation", fit.valid_loss)):
            steps = enumerate([float(loss) for loss in losses], 1)
            found += [(f"loss/{kind}/{fit.part}", loss, step) for step, loss in steps if math.isfinite(loss)]
    return found


def metric_name(name: str) -> str:
    """A name as MLflow takes it: letters, digits, underscores, dashes, periods, spaces, colons, slashes."""
    return re.sub(r"[^A-Za-z0-9_\-. :/]+", "_", name).strip("_")

"""Every candidate on every fold: fit on the training rows, stop on validation rows, answer the test rows.

Jobs are independent and run on a few threads (the native engine releases the GIL); each result is published
to the run's folder, so that an interrupted command continues where it was. Results do not depend on the
number of threads or on the order of completion.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.bind import bind
from alexandra.data.encoder import Encoder
from alexandra.data.target_means import encode_target
from alexandra.errors import StorageError, TaskError
from alexandra.ir.check import bind_sizes
from alexandra.ir.graph import AUTO, Graph
from alexandra.objectives.spec import AdamW, Program, Schedule
from alexandra.rng import derive
from alexandra.storage import publish, read_tensors, tensors_bytes
from alexandra.train.baselines import Baseline
from alexandra.train.candidates import Candidate, Recipe
from alexandra.train.loop import OUT_OF_TIME, Batch, History, Plan, fit_loop
from alexandra.train.model import default_objective
from alexandra.train.prepare import Part, Prepared
from alexandra.train.specialist import Specialist, fingerprints


@dataclass(frozen=True)
class Fit:
    """One candidate on one part: its answers to validation and test rows, and how training went."""

    name: str
    part: str
    valid: np.ndarray
    test: np.ndarray
    best_epoch: int
    epochs: int
    train_loss: np.ndarray
    valid_loss: np.ndarray
    parameters: int
    seconds: float
    stopped: str = ""


@dataclass(frozen=True)
class Settings:
    """What solve decides once: seed, threads, backend, the moment the budget ends, the run's folder."""

    seed: int
    threads: int
    backend: str
    deadline: float
    folder: Path


@dataclass(frozen=True)
class Maker:
    """How specialists are made from one kind of data.

    encode  fit the coding of inputs on rows (its `width` is the number of features)
    train   train one candidate, with a coding, on rows to learn from and rows to stop on
    finish  the specialist of a candidate that is registered, given the number of epochs that was best
    """

    encode: Callable[[Prepared, np.ndarray], Any]
    train: Callable[[Prepared, Candidate, Any, tuple[np.ndarray, np.ndarray], Settings], tuple[Any, History]]
    finish: Callable[[Prepared, Candidate, int, Settings], Any]


def fit_graph(graph: Graph, width: int, classes: int) -> Graph:
    """Bind the AUTO sizes of a candidate; TaskError when the output cannot carry the target."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise TaskError(f"network {graph.name!r} needs one input and one output for a table")
    source, output = graph.inputs[0], graph.outputs[0]
    wanted = classes or 1
    size = output.attrs.get("size")
    if size not in (AUTO, None, wanted) and not (classes == 2 and size == 1):
        raise TaskError(
            f"network {graph.name!r}: its output {output.name!r} has size {size}, but the target needs {wanted}",
            hint=f"write size=AUTO or size={wanted}",
        )
    activation = output.attrs.get("activation")
    if classes and activation not in ("softmax", "sigmoid"):
        raise TaskError(
            f"network {graph.name!r}: its output {output.name!r} has activation {activation!r}, not probabilities",
            hint="write activation=softmax (or sigmoid with size=1 for two classes)",
        )
    return bind_sizes(graph, {source.name: width, output.name: wanted})


def program_for(recipe: Recipe, graph: Graph, rows: int, seed: int, epochs: int) -> Program:
    """AdamW with a short warm-up and cosine decay over the epochs that are allowed at most."""
    total = epochs * -(-rows // recipe.batch_size)
    schedule = Schedule("cosine", warmup_steps=min(100, total // 10), total_steps=total, final=0.05)
    optimizer = AdamW(lr=recipe.lr, weight_decay=recipe.weight_decay)
    return Program(default_objective(graph), optimizer, schedule, recipe.batch_size, 1.0, seed)


def crossfit(
    data: Prepared,
    networks: Sequence[Candidate],
    simple: Sequence[Baseline],
    settings: Settings,
    on_done: Callable[[Fit], None],
    maker: Maker,
) -> list[Fit]:
    """All fits, candidates in their order and parts in theirs; calls `on_done` as each one ends.

    One candidate after the other, so that a time budget that ends early leaves the first ones whole.
    """
    encoders = {part.name: maker.encode(data, part.train) for part in data.parts}
    _refuse_over_memory(data, max(encoder.width for encoder in encoders.values()), settings.threads)
    jobs: list[tuple[str, Part, Callable[[], Fit]]] = []
    for candidate in networks:
        for part in data.parts:
            train = partial(maker.train, data, candidate, encoders[part.name], (part.train, part.valid))
            jobs.append((candidate.name, part, _network_job(data, part, candidate.name, train, settings)))
    for baseline in simple:
        jobs += [(baseline.name, part, _baseline_job(data, part, baseline, settings)) for part in data.parts]
    done: dict[tuple[str, str], Fit] = {}
    with ThreadPoolExecutor(settings.threads) as pool:
        futures = {
            pool.submit(_cached, settings.folder, name, part, job): (name, part.name) for name, part, job in jobs
        }
        try:
            for future in as_completed(futures):
                fit = future.result()
                done[futures[future]] = fit
                on_done(fit)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[name, part.name] for name, part, _ in jobs]


def _refuse_over_memory(data: Prepared, width: int, threads: int) -> None:
    """TaskError when the encoded rows of the jobs that run at once do not fit the task's memory budget."""
    limit = data.task.budget.bytes
    needed = 4 * width * data.table.n_rows * (threads + 1)
    if limit is not None and needed > limit:
        raise TaskError(
            f"{data.table.n_rows:,} rows of {width} features on {threads} threads need about {needed:,} bytes, "
            f"BUDGET memory allows {limit:,}",
            hint="raise BUDGET memory, use --threads 1, or drop columns",
        )


def seed_of(settings: Settings, name: str, part: str) -> int:
    """The seed with which the candidate `name` is trained on one part."""
    return derive(settings.seed, "fit", name, part).integer()


def _network_job(
    data: Prepared, part: Part, name: str, train: Callable[[Settings], tuple[Any, History]], settings: Settings
) -> Callable[[], Fit]:
    def job() -> Fit:
        specialist, history = train(replace(settings, seed=seed_of(settings, name, part.name), threads=1))
        return Fit(
            name,
            part.name,
            specialist.predict_raw(data.table.take(part.valid)),
            specialist.predict_raw(data.table.take(part.test)),
            history.best_epoch,
            len(history.epochs),
            np.array([epoch.train_loss for epoch in history.epochs]),
            np.array([epoch.valid_loss for epoch in history.epochs]),
            specialist.num_parameters,
            history.seconds,
            history.stopped,
        )

    return job


def train_specialist(
    data: Prepared,
    candidate: Candidate,
    encoder: Encoder,
    rows: tuple[np.ndarray, np.ndarray],
    settings: Settings,
    epochs: int = 0,
) -> tuple[Specialist, History]:
    """Train one candidate on rows[0], stopping on rows[1] (none: exactly `epochs` epochs)."""
    train_rows, valid_rows = (data.table.take(part) for part in rows)
    x = [encoder.transform_training(train_rows, data.encoding_target[rows[0]]), encoder.transform(valid_rows)]
    graph = fit_graph(candidate.graph, x[0].shape[1], len(data.target.classes))
    y = shaped(graph, data.y)
    name = graph.inputs[0].name
    train, valid = (Batch({name: part}, y[index]) for part, index in zip(x, rows, strict=True))
    recipe = replace(candidate.recipe, epochs=epochs or candidate.recipe.epochs)
    schedule_epochs = candidate.recipe.epochs
    model = bind(graph, settings.backend, seed=settings.seed, threads=1)
    program = program_for(recipe, graph, train.rows, settings.seed, schedule_epochs)
    plan = Plan(program, recipe.epochs, recipe.patience if valid.rows else 0, settings.deadline)
    history = fit_loop(model, train, plan, valid if valid.rows else None)
    return Specialist(candidate.name, encoder, data.target, model, {}), history


def encode(data: Prepared, rows: np.ndarray) -> Encoder:
    """The encoder of a table's features, fitted on `rows`."""
    table, settings = data.table.take(rows), data.task.encode
    if settings is None:
        return Encoder.fit(table, data.features)
    seed = derive(data.task.split.seed, "encode").integer()
    return Encoder.fit_means(table, data.features, data.encoding_target[rows], settings, seed)


def finish(data: Prepared, candidate: Candidate, epochs: int, settings: Settings) -> Specialist:
    """Train once more on all rows, for as many epochs as were best."""
    everything = np.arange(data.table.n_rows)
    rows = everything, np.zeros(0, dtype=np.int64)
    late = replace(settings, deadline=float("inf"))
    specialist, _ = train_specialist(data, candidate, encode(data, everything), rows, late, max(1, epochs))
    specialist.training = np.unique(fingerprints(data.keys))
    return specialist


TABLES = Maker(encode, train_specialist, finish)


def shaped(graph: Graph, y: np.ndarray) -> np.ndarray:
    """Class indices for softmax, 0/1 floats for one sigmoid output, float32 for regression."""
    if graph.outputs[0].attrs.get("activation") == "softmax":
        return y
    return y.astype(np.float32)


def _baseline_job(data: Prepared, part: Part, baseline: Baseline, settings: Settings) -> Callable[[], Fit]:
    def job() -> Fit:
        began = time.monotonic()
        classes = len(data.target.classes)
        rows = np.concatenate([part.train, part.valid])
        y = data.y if classes else data.target.decode(data.y)
        table, valid_rows, test_rows = (data.table.take(index) for index in (rows, part.valid, part.test))
        features = data.features
        if data.task.encode is not None:
            table, means = encode_target(table.select(features), data.encoding_target[rows], data.task.encode)
            valid_rows, test_rows = (means.transform(one.select(features)) for one in (valid_rows, test_rows))
            features = list(table.names)
        fitted = baseline.fit(table, features, y[rows], classes, settings.seed)
        valid, test = fitted.predict_raw(valid_rows), fitted.predict_raw(test_rows)
        none = np.zeros(0)
        return Fit(baseline.name, part.name, valid, test, 0, 0, none, none, fitted.parameters, time.monotonic() - began)

    return job


_ARRAYS = ("valid", "test", "train_loss", "valid_loss")
_NUMBERS = ("best_epoch", "epochs", "parameters", "seconds", "stopped")


def _cached(folder: Path, name: str, part: Part, job: Callable[[], Fit]) -> Fit:
    """Read the job's result when an earlier run published it, else do the job and publish."""
    path = folder / "fits" / f"{name}-{part.name}.safetensors"
    if path.is_file():
        try:
            arrays, notes = read_tensors(path.read_bytes(), str(path))
            return _from_file(name, part.name, arrays, notes)
        except (StorageError, KeyError, ValueError):
            path.unlink()
    fit = job()
    if fit.stopped != OUT_OF_TIME:
        arrays = {key: np.asarray(getattr(fit, key), dtype=np.float64) for key in _ARRAYS}
        publish(path, tensors_bytes(arrays, {key: str(getattr(fit, key)) for key in _NUMBERS}))
    return fit


def _from_file(name: str, part: str, arrays: dict[str, np.ndarray], notes: dict[str, str]) -> Fit:
    best_epoch, epochs, parameters = (int(notes[key]) for key in ("best_epoch", "epochs", "parameters"))
    valid, test, train_loss, valid_loss = (arrays[key] for key in _ARRAYS)
    seconds = float(notes["seconds"])
    return Fit(
        name, part, valid, test, best_epoch, epochs, train_loss, valid_loss, parameters, seconds, notes["stopped"]
    )

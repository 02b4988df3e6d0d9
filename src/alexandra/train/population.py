"""`fit_many`: thousands of small networks trained at once, each with its own data, settings and stop rule.

Networks of one shape share vectors in the native engine (backends/population.py), one lane each; those that cannot
train alone. Either way a network ends with the bytes that `bind(graph, "native").fit(...)` gives it alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from alexandra.errors import BackendError
from alexandra.ir.weights import WeightSet
from alexandra.train.fits import FAILED, Fit, Fitted
from alexandra.train.loop import Batch, Epoch, History, Plan, fit_loop
from alexandra.train.model import bind, default_objective


def fit_many(
    fits: Iterable[Fit],
    *,
    threads: int = 1,
    together: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[Fitted]:
    """Train every network and return what became of each, in order.

    `progress(done, all)` is called now and then. `together=False` trains each alone, to the same bytes. A network
    whose loss stops being finite says so in its `error`; a wrong request raises BackendError naming its number.
    """
    wanted = list(fits)
    if not 1 <= threads <= 256:
        raise BackendError(f"threads must be 1 .. 256, got {threads!r}")
    tell = progress or (lambda done, total: None)
    results: dict[int, Fitted] = {}
    if together and _engine():
        from alexandra.train.population_groups import train_side_by_side

        results = train_side_by_side(wanted, threads, lambda done: tell(done, len(wanted)))
    left = [number for number in range(len(wanted)) if number not in results]
    for number, fitted in _one_by_one(wanted, left, threads):
        results[number] = fitted
        tell(len(results), len(wanted))
    return [results[number] for number in range(len(wanted))]


def _engine() -> bool:
    try:
        import alexandra.backends.population  # noqa: F401  (the engine may not be built)
    except ImportError:
        return False
    return True


def _one_by_one(fits: Sequence[Fit], numbers: Sequence[int], threads: int) -> Iterator[tuple[int, Fitted]]:
    """Train each of these networks alone, `threads` at a time; results in order."""
    cancelled = threading.Event()

    def alone(number: int) -> Fitted:
        try:
            return _fit_alone(fits[number], cancelled)
        except BackendError as error:
            raise BackendError(f"network {number}: {error.message}", hint=error.hint) from error

    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from zip(numbers, pool.map(alone, numbers), strict=True)
        except BaseException:
            cancelled.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _fit_alone(fit: Fit, cancelled: threading.Event) -> Fitted:
    model = bind(fit.graph, "native" if _engine() else "auto", fit.weights, fit.seed)
    objective = fit.objective or default_objective(fit.graph)
    program = fit.program(objective)
    validation = Batch(*fit.validation) if fit.validation is not None else None
    model.start(program, fit.inputs, fit.targets, fit.validation)  # refuses a wrong request before anything is trained
    entries: list[Epoch] = []
    best: list[tuple[Epoch, WeightSet]] = []

    def on_epoch(entry: Epoch) -> None:
        entries.append(entry)
        if entry.valid_loss < (best[0][0].valid_loss if best else math.inf):
            best[:] = [(entry, model.weights)]
        if cancelled.is_set():
            raise KeyboardInterrupt

    plan = Plan(program, fit.epochs, fit.patience, target_loss=fit.target_loss)
    began = time.monotonic()
    error = None
    try:
        history = fit_loop(model.inner, Batch(fit.inputs, fit.targets), plan, validation, on_epoch)
        weights = model.weights
    except BackendError as failure:
        error, weights = failure, best[0][1] if best else model.weights
        number = best[0][0].number if best else len(entries)
        history = History(tuple(entries), number, 0, time.monotonic() - began, FAILED)
    losses = np.array([(entry.train_loss, entry.valid_loss) for entry in history.epochs]).reshape(-1, 2).T.copy()
    ends = history.best_epoch, history.steps, history.seconds, history.stopped
    return Fitted(weights, losses[0], losses[1], *ends, error)

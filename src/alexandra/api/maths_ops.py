"""Actions on curricula: write data sets of levels, prove what such files hold."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from alexandra import curriculum
from alexandra.curriculum import LEVELS, Validation
from alexandra.curriculum.dataset import FORMATS, DataSet
from alexandra.errors import DataError, UsageError

Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def generate(
    out: str | Path,
    levels: Sequence[int] = (),
    *,
    count: int | None = None,
    seed: int = 0,
    workers: int = 1,
    formats: Sequence[str] = FORMATS,
    progress: Progress = silent,
) -> list[DataSet]:
    """Write `count` distinct items of each level (default: what the seed asks for) to out/level_N/SPLIT.jsonl.

    levels   level numbers; empty means all of them
    workers  processes that draw, 0 for as many as there are processors; the files do not depend on it
    formats  "jsonl", "parquet" or both
    """
    numbers = list(dict.fromkeys(levels)) or sorted(LEVELS)
    many = processes(workers)
    return curriculum.generate(numbers, count, out, seed=seed, workers=many, formats=formats, progress=progress)


def processes(workers: int) -> int:
    """`workers`, or the processors that this process may use for 0."""
    if workers < 0:
        raise UsageError(
            f"--workers {workers} is no number of processes", hint="use 1 or more, or 0 for every processor"
        )
    return workers or len(os.sched_getaffinity(0))


def validate(path: str | Path, *, workers: int = 1, progress: Progress = silent) -> Validation:
    """Work every answer, key and split of the .jsonl files at or below `path` out again; the result names faults."""
    return curriculum.validate(path, workers=processes(workers), progress=progress)


def asker(model: str, registry: str | Path) -> Callable[[str], str]:
    """A function from a question in prefix form to a model's answer as text, "" where it reads none.

    model   the folder of a trained brain, or the name of a registered model
    """
    from alexandra.api import brain, operations

    if brain.is_brain(model):
        return brain.asker(model)

    def ask(question: str) -> str:
        try:
            reply = operations.ask(model, question=json.dumps({"input": question}), registry=registry)
        except DataError:
            return ""
        return str(reply.answers[0].value) if reply.answers else ""

    return ask

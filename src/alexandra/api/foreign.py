"""Models that were made elsewhere, for users: measure one on a task and keep it in the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alexandra.api.models import Store, open_registry
from alexandra.api.operations import read_task
from alexandra.backends.foreign import Foreign, wrap
from alexandra.lang.task_spec import Task
from alexandra.registry.artifact import ModelVersion
from alexandra.train import foreign_specialist
from alexandra.train.prepare import load_table, prepare


def register(model: Any, task: Task | str | Path, *, name: str = "", registry: Store = None) -> ModelVersion:
    """Measure a wrapped model or a fitted scikit-learn estimator on all rows of a task and register it.

    It becomes a version of stage `experiment`, which answers, compares and is promoted as any other. Its scorecard
    cannot tell which rows the model was fitted on: evaluate it on rows of their own before you promote it.
    BackendError when the model cannot be stored, DataError when it does not fit the task's columns or classes.
    """
    found = model if isinstance(model, Foreign) else wrap(model)
    spec = task if isinstance(task, Task) else read_task(task)
    data = prepare(spec, load_table(spec, Path(spec.folder)), keep_leaks=True)
    return foreign_specialist.register(open_registry(registry), data, foreign_specialist.adopt(found, data, name))

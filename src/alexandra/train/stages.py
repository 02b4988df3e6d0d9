"""The loop over a stage's steps: measure, save, tell, stop; and go on after a kill as if there had been none.

A step is a pure function of its number and of the stage's arrays: which rows it takes, which words it draws. So a run
that was killed and resumed is the run that was not. A loss that is not finite ends the run before it changes anything:
what the step read is saved beside the checkpoints, and the error names it and the last good checkpoint.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from alexandra.errors import BackendError, StorageError
from alexandra.storage import publish, sweep, tensors_bytes
from alexandra.train.checkpoint import Checkpoint, Checkpoints
from alexandra.train.watch import METRICS, Lines, Watcher, read_lines, tell_all
from alexandra.verifiers.alarm import reward_hacking

Metrics = dict[str, float]
Records = Mapping[str, Sequence[Mapping[str, Any]]]  # by log of watch.LOGS


class Stage(Protocol):
    """One recipe of training. `evaluate` measures on held-out rows; an empty result says there are none."""

    name: str

    def step(self, number: int) -> Metrics: ...

    def evaluate(self) -> Metrics: ...

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        """What step `number` reads, to be looked at when it fails."""
        ...

    def arrays(self) -> dict[str, np.ndarray]: ...

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None: ...


@runtime_checkable
class Recording(Protocol):
    """A stage that leaves records: its answers ("samples", kept now and then) and "kept", every step's."""

    def records(self) -> Records: ...


HIGHER = ("eval_reward", "eval_accuracy")
LOWER = ("eval_loss",)


@dataclass(frozen=True)
class StagePlan:
    """`steps` in all. Every `eval_every` steps the held-out rows are measured, every `save_every` the state is kept.

    Without `folder` nothing is written. `resume` goes on from the newest whole checkpoint of the folder; without it a
    folder that holds a run is refused. After `deadline` (time.monotonic()) no step starts. `keep` newest checkpoints
    stay, and the one with the best measure. With every measure `samples` answers are written down: the stage's own, or
    what `ask` gives for a step. `on_alarm` says what the alarm for reward hacking does: "warn" or "stop".
    `also` gives more numbers of the step that was just done.
    """

    steps: int
    folder: Path | None = None
    eval_every: int = 0
    save_every: int = 0
    keep: int = 2
    resume: bool = False
    deadline: float = math.inf
    settings_hash: str = ""
    samples: int = 8
    ask: Callable[[int], Sequence[Mapping[str, Any]]] | None = None
    on_alarm: str = "warn"
    also: Callable[[], Metrics] | None = None


@dataclass(frozen=True)
class StageResult:
    """How a run ended: the numbers of its last step, every measure, where it was resumed (0: not) and the best one.

    `alarm` says since when the reward rises while the independent check falls; empty without.
    """

    steps: int
    last: Metrics
    measures: tuple[tuple[int, Metrics], ...]
    stopped: str
    resumed_at: int = 0
    best_step: int = 0
    alarm: str = ""


def run_stage(stage: Stage, plan: StagePlan, watchers: Sequence[Watcher] = ()) -> StageResult:
    """All steps of `stage`. Raises BackendError for a loss that is not finite, StorageError for a folder in use."""
    run = _Run(stage, plan, watchers)
    try:
        return run.all()
    finally:
        run.close()


class _Run:
    """One run in progress."""

    def __init__(self, stage: Stage, plan: StagePlan, watchers: Sequence[Watcher]) -> None:
        self.stage, self.plan = stage, plan
        self.watchers = list(watchers)
        self.measures: list[tuple[int, Metrics]] = []
        self.first = self.best_step = self.saved = 0
        self.best = -math.inf
        self.last: Metrics = {}
        self.alarm = ""
        self.lines: Lines | None = None
        self.checkpoints = Checkpoints(plan.folder / "checkpoints", plan.keep) if plan.folder else None
        if plan.folder is not None:
            self._open(plan.folder)

    def _open(self, folder: Path) -> None:
        assert self.checkpoints is not None
        found = self.checkpoints.latest() if self.plan.resume else None
        if not self.plan.resume and (folder / METRICS).exists():
            raise StorageError(
                f"{str(folder)!r} holds a run already", hint="--resume goes on with it; --runs names another folder"
            )
        if found is not None:
            if found.notes.get("settings", "") != self.plan.settings_hash:
                raise StorageError(
                    f"the run in {str(folder)!r} was made with other settings",
                    hint="resume with the recipe that began it, or train into another folder",
                )
            self.stage.restore(found.arrays)
            self.first = self.saved = found.step
        if self.plan.resume:
            sweep(folder)
            self.checkpoints.tidy()
        self.lines = Lines(folder, self.first)
        self.watchers.insert(0, self.lines)
        self._recall(folder)

    def _recall(self, folder: Path) -> None:
        """Measures and the best one of the steps that are done."""
        for line in read_lines(folder / METRICS):
            given = ((name, value) for name, value in line.items() if name != "step")
            numbers = {name: math.nan if value is None else float(value) for name, value in given}
            self.last = {name: value for name, value in numbers.items() if not name.startswith("eval_")}
            if measured := {name: value for name, value in numbers.items() if name.startswith("eval_")}:
                self._measured(int(line["step"]) + 1, measured)
        self._look_for_hacking()

    def all(self) -> StageResult:
        stopped = "all steps done"
        number = self.first
        while number < self.plan.steps:
            if time.monotonic() >= self.plan.deadline:
                stopped = "time budget"
                break
            if self.alarm and self.plan.on_alarm == "stop":
                stopped = self.alarm
                break
            self._one(number)
            number += 1
        if self.checkpoints is not None:
            if number > self.saved:
                self._save(number, best=False)
            self.checkpoints.wait()
        return StageResult(number, self.last, tuple(self.measures), stopped, self.first, self.best_step, self.alarm)

    def _one(self, number: int) -> None:
        done = number + 1
        self.last = self._stepped(number)
        numbers, is_best = dict(self.last), False
        is_due = self._due(done, self.plan.eval_every)
        if is_due:
            measured = self.stage.evaluate()
            is_best = self._measured(done, measured)
            if "eval_check" in measured:
                measured["eval_alarm"] = float(self._look_for_hacking())
            numbers |= measured
        self._record(number, is_due)
        tell_all(self.watchers, number, numbers)
        if self.checkpoints is not None and (is_best or self._due(done, self.plan.save_every)):
            self._save(done, best=is_best)

    def _look_for_hacking(self) -> bool:
        """Whether the alarm rings after the measures so far; says so once."""
        both = [numbers for _, numbers in self.measures if {"eval_reward", "eval_check"} <= set(numbers)]
        known = [m for m in both if math.isfinite(m["eval_reward"]) and math.isfinite(m["eval_check"])]
        found = reward_hacking([m["eval_reward"] for m in known], [m["eval_check"] for m in known])
        if found.ringing and not self.alarm:
            warnings.warn(f"reward hacking: {found.reason}", UserWarning, stacklevel=2)
        self.alarm = f"reward hacking: {found.reason}" if found.ringing else ""
        return found.ringing

    def _record(self, number: int, is_due: bool) -> None:
        """Write down what was answered and kept."""
        if self.lines is None:
            return
        records = dict(self.stage.records()) if isinstance(self.stage, Recording) else {}
        if "kept" in records:
            self.lines.write("kept", number, records["kept"])
        if not (is_due and self.plan.samples):
            return
        shown = records.get("samples", ())
        if not shown and self.plan.ask is not None:
            shown = self.plan.ask(number)
        spread = shown[:: max(1, len(shown) // self.plan.samples)][: self.plan.samples]
        self.lines.write("samples", number, spread)

    def _due(self, done: int, every: int) -> bool:
        return bool(every) and (done % every == 0 or done == self.plan.steps)

    def _stepped(self, number: int) -> Metrics:
        try:
            found = self.stage.step(number)
        except BackendError as error:
            if "loss is" not in error.message:
                raise
            raise self._failure(number, error.message) from error
        if not math.isfinite(found.get("loss", 0.0)):
            raise self._failure(number, f"the loss is {found['loss']} at step {number}")
        return found if self.plan.also is None else {**found, **self.plan.also()}

    def _failure(self, number: int, message: str) -> BackendError:
        if self.checkpoints is None or self.plan.folder is None:
            return BackendError(message, hint="lower the learning rate, or clip the gradient")
        self.checkpoints.wait()
        place = self.plan.folder / f"failed-step-{number:08d}.safetensors"
        publish(place, tensors_bytes(self.stage.inputs(number)))
        good = self.checkpoints.latest()
        known = f"the last good checkpoint is step {good.step}" if good else "there is no checkpoint yet"
        return BackendError(
            f"{message}; what it read is in {str(place)!r}, {known}",
            hint="lower the learning rate, clip the gradient, or look at these rows; then --resume",
        )

    def _measured(self, step: int, measured: Metrics) -> bool:
        """Keep a measure; whether it is the best so far."""
        if not measured:
            return False
        self.measures.append((step, measured))
        score = next((measured[name] for name in HIGHER if name in measured), math.nan)
        score = next((-measured[name] for name in LOWER if name in measured), score) if math.isnan(score) else score
        if not score > self.best:
            return False
        self.best, self.best_step = score, step
        return True

    def _save(self, done: int, *, best: bool) -> None:
        assert self.checkpoints is not None
        self.saved = done
        notes = {"settings": self.plan.settings_hash, "stage": self.stage.name}
        self.checkpoints.save(Checkpoint(done, self.stage.arrays(), {}, notes), best=best)

    def close(self) -> None:
        if self.checkpoints is not None:
            self.checkpoints.settle()
        for watcher in self.watchers:
            watcher.close()

"""Rollouts sampled ahead of the updates that learn from them, at most `staleness` updates early.

Step n learns from answers that the weights before update max(0, n - staleness) gave; at 0 that is on-policy. So which
weights answer what does not depend on timing, and a run is the same however long sampling takes. Where the sampler can
take a snapshot of the weights, it answers and is judged in a thread while the update runs. Rollouts that wait are part
of the stage's arrays: a resumed run learns from the same ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexandra.errors import StorageError
from alexandra.train.lm.rewards import Judgement
from alexandra.train.lm.rollout import Actor, Holding, Rollouts, RolloutSettings, Task, collect
from alexandra.train.lm.sampling import Completion
from alexandra.train.lm.stage import rows_of_step

WAITING = "rollouts/"  # what the names of a stage's arrays begin with


@dataclass(frozen=True)
class _Waiting:
    """The rollouts of a step, and before which update their weights were."""

    version: int
    found: Future[Rollouts]


class Ahead:
    """The rollouts of each step of a stage: `prompts` tasks a step, in an endless shuffled order."""

    def __init__(self, actor: Actor, settings: RolloutSettings, tasks: Sequence[Task], prompts: int) -> None:
        self.actor, self.settings, self.tasks, self.prompts = actor, settings, list(tasks), prompts
        self.staleness = settings.staleness
        self._waiting: dict[int, _Waiting] = {}
        self._next = 0
        self._thread: ThreadPoolExecutor | None = None

    @property
    def overlaps(self) -> bool:
        """Whether answers are sampled while the policy is updated."""
        sampler: Any = self.actor.sampler
        return self.staleness > 0 and isinstance(sampler, Holding)

    def take(self, number: int) -> tuple[Rollouts, int]:
        """The rollouts of step `number`, and how many updates old the weights are that gave them.

        Call it before the update of step `number`: what it starts meanwhile is answered by the weights of now.
        """
        if number not in self._waiting:
            self._begin(number, number)
        for coming in range(max(self._next, number + 1), number + self.staleness + 1):
            self._begin(coming, number)
        self._next = max(self._next, number + self.staleness + 1)
        one = self._waiting.pop(number)
        return one.found.result(), number - one.version

    def settle(self) -> None:
        """Until nothing is being sampled."""
        for one in self._waiting.values():
            one.found.result()

    def _begin(self, number: int, version: int) -> None:
        """Sample the answers of step `number` with the weights of now."""
        self.settle()
        sampler: Any = self.actor.sampler
        if number == version or not isinstance(sampler, Holding):
            self._waiting[number] = _Waiting(version, _done(self._collected(number)))
            return
        sampler.hold()
        self._thread = self._thread or ThreadPoolExecutor(1, "rollouts")
        self._waiting[number] = _Waiting(version, self._thread.submit(self._held, sampler, number))

    def _held(self, sampler: Holding, number: int) -> Rollouts:
        try:
            return self._collected(number)
        finally:
            sampler.release()

    def _collected(self, number: int) -> Rollouts:
        return collect(self.actor, self.settings, number, lambda attempt: self._drawn(number, attempt))

    def _drawn(self, number: int, attempt: int) -> list[Task]:
        place = number * (self.settings.redraws + 1) + attempt
        return [self.tasks[i] for i in rows_of_step(self.settings.seed, len(self.tasks), self.prompts, place)]

    def arrays(self) -> dict[str, np.ndarray]:
        """The rollouts that wait, as "rollouts/<step>/<name>"; nothing without staleness."""
        found: dict[str, np.ndarray] = {}
        index = {id(task): i for i, task in enumerate(self.tasks)}
        for number, one in self._waiting.items():
            arrays = _packed(one.found.result(), index) | {"version": np.array(one.version, np.int64)}
            found |= {f"{WAITING}{number}/{name}": array for name, array in arrays.items()}
        return found

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken; names that are not of rollouts are somebody else's."""
        self.settle()
        parts: dict[int, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            if name.startswith(WAITING):
                _, step, own = name.split("/", 2)
                parts.setdefault(int(step), {})[own] = array
        self._waiting = {}
        for number, part in sorted(parts.items()):
            self._waiting[number] = _Waiting(int(part["version"]), _done(self._unpacked(part)))
        self._next = max(self._waiting, default=-1) + 1

    def _unpacked(self, arrays: Mapping[str, np.ndarray]) -> Rollouts:
        if arrays["tasks"].size and int(arrays["tasks"].max()) >= len(self.tasks):
            raise StorageError("the rollouts that wait in the checkpoint are of other prompts than the data's")
        ends = np.cumsum(arrays["lengths"])[:-1]
        tokens, logps = (np.split(arrays[name], ends) for name in ("tokens", "logps"))
        completions = tuple(
            Completion(tuple(own.tolist()), tuple(p.tolist()), bool(stopped))
            for own, p, stopped in zip(tokens, logps, arrays["stopped"], strict=True)
        )
        names = json.loads(arrays["judges"].tobytes())
        rewards = arrays["rewards"]
        judgements = tuple(
            Judgement(_known(reward), {name: _known(value) for name, value in zip(names, parts, strict=True)}, steps)
            for reward, parts, steps in zip(
                rewards.reshape(-1).tolist(), arrays["parts"].tolist(), _marks(arrays), strict=True
            )
        )
        texts = tuple(self.actor.tokenizer.decode(one.tokens) for one in completions)
        tasks = tuple(self.tasks[i] for i in arrays["tasks"].tolist())
        return Rollouts(tasks, completions, texts, judgements, np.array(rewards))


def _done(rollouts: Rollouts) -> Future[Rollouts]:
    future: Future[Rollouts] = Future()
    future.set_result(rollouts)
    return future


def _packed(rollouts: Rollouts, index: Mapping[int, int]) -> dict[str, np.ndarray]:
    names = list(rollouts.judgements[0].parts) if rollouts.judgements else []
    parts = [[_number(one.parts[name]) for name in names] for one in rollouts.judgements]
    return {
        "tasks": np.array([index[id(task)] for task in rollouts.tasks], np.int64),
        "lengths": np.array([len(one.tokens) for one in rollouts.completions], np.int64),
        "tokens": np.array([token for one in rollouts.completions for token in one.tokens], np.int32),
        "logps": np.array([value for one in rollouts.completions for value in one.logps], np.float64),
        "stopped": np.array([one.stopped for one in rollouts.completions], np.int32),
        "rewards": np.array(rollouts.rewards_PG, np.float64),
        "parts": np.array(parts, np.float64).reshape(len(rollouts.judgements), len(names)),
        "step_counts": np.array([-1 if one.steps is None else len(one.steps) for one in rollouts.judgements], np.int64),
        "steps": np.array([mark for one in rollouts.judgements for mark in one.steps or ()], np.float64).reshape(-1, 2),
        "judges": np.frombuffer(json.dumps(names).encode(), np.uint8),
    }


def _marks(arrays: Mapping[str, np.ndarray]) -> list[tuple[tuple[int, float], ...] | None]:
    """The steps of each answer: their ends and what they are worth; None where nobody judged steps."""
    if "step_counts" not in arrays:  # of a checkpoint from before there were any
        return [None] * len(arrays["parts"])
    counts = arrays["step_counts"]
    parts = np.split(arrays["steps"], np.cumsum(np.maximum(counts, 0))[:-1])
    return [
        None if count < 0 else tuple((int(end), worth) for end, worth in part.tolist())
        for count, part in zip(counts.tolist(), parts, strict=True)
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value

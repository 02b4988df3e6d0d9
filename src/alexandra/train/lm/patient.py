"""What the doctor looks at: a recipe that can be built again with changes, and what a check may say of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.train.lm.build import Built, Given, build
from alexandra.train.lm.recipe import Recipe

PLAIN = {"optimizer": "sgd", "lr": 1e-2, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warmup": 0}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: which check, where, what, and what to do."""

    check: str
    where: str
    what: str
    fix: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings, the checks that ran, and those that do not apply, with the reason."""

    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    skipped: Mapping[str, str]
    seconds: float


@dataclass
class Patient:
    """A recipe that can be built again with changes, until `deadline` (time.monotonic()).

    What was built last and the steps that were taken with it tell how long the next one may take.
    """

    recipe: Recipe
    given: Given
    base: Path
    built: Built
    deadline: float = math.inf
    _since: float = 0.0
    _longest: float = 0.0

    @cached_property
    def first_change(self) -> tuple[int, dict[str, np.ndarray]]:
        """The first step that changes a weight under plain SGD, and its change."""
        for number in range(6):
            change = changed_by(self.again(**PLAIN, clip=0.0, micro=0), number)
            if any(array.any() for array in change.values()):
                return number, change
        raise NotApplicable("the first steps change nothing: all answers had one reward")

    def again(self, **train: Any) -> Built:
        """The same recipe with other keys of [train] (and `length` of [data]). OutOfTime when it would end too late."""
        now = time.monotonic()
        self._longest = max(self._longest, now - self._since if self._since else 0.0)
        if now + self._longest > self.deadline:
            raise OutOfTime
        self._since = now
        data = {"length": train.pop("length")} if "length" in train else {}
        changed = self.recipe.model_copy(
            update={
                "train": self.recipe.train.model_copy(update=train),
                "data": self.recipe.data.model_copy(update=data),
            }
        )
        return build(changed, self.given, self.base)

    def rest(self) -> None:
        """Between two checks: what follows is not the cost of what was built before."""
        if self._since:
            self._longest = max(self._longest, time.monotonic() - self._since)
            self._since = 0.0


Check = Callable[[Patient], list[Finding]]


class OutOfTime(Exception):
    """There is no time left for another run."""


class NotApplicable(Exception):
    """A check that this recipe gives nothing to look at."""


def changed_by(built: Built, number: int = 0) -> dict[str, np.ndarray]:
    """What one step does to every weight."""
    before = {name: np.array(array, np.float64) for name, array in built.model.weights.items()}
    built.stage.step(number)
    return {name: np.asarray(array, np.float64) - before[name] for name, array in built.model.weights.items()}

"""Steps of the native engine on rows of several widths: no position is computed that only fills a row up.

Each width has a plan of its own; all work in one memory, one after the other, and add to one gradient, by which the
weights take one step. What a step gives depends on the rows and their order alone, not on the threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from alexandra.backends.base import Arrays
from alexandra.backends.native import NativeModel, NativeState, engine_errors
from alexandra.errors import BackendError
from alexandra.objectives.spec import Program

EVERY_ROW = 1 << 20  # batches of an update: more than there are
Group = tuple[Mapping[str, Any], Any]  # inputs and targets of rows of one width


class NativeParts:
    """A run at step 0 of `program`, whose objective is divided by a constant: losses of groups add up.

    `groups` are the rows of the first step, which is not taken yet; `program.batch_size` go through at once.
    """

    def __init__(self, model: NativeModel, program: Program, groups: Sequence[Group]) -> None:
        self.model = model
        self.program = replace(program, accumulate=EVERY_ROW)
        self._states: dict[int, NativeState] = {}
        self._main = self._fed(groups[0])

    def advance(self, groups: Sequence[Group]) -> float:
        """One step on all rows; the sum of the groups' losses before it. BackendError when that is not finite."""
        if not groups:
            raise BackendError("a step needs rows")
        states = [self._fed(group) for group in groups]
        if len({id(state) for state in states}) < len(states):
            raise BackendError("two groups of rows have one width")
        hint = "lower the learning rate, clip the gradient (clip_norm=1.0) or look for huge values"
        with engine_errors(hint):
            loss = float(self._main.trainer.run_over([state.trainer for state in states]))
        self.model.count(self._main.trainer)  # its memory grows with the widest rows
        return loss

    @property
    def step(self) -> int:
        return self._main.step

    @property
    def grad_norm(self) -> float:
        """Of the last step's gradient before clipping; NaN without clipping."""
        return self._main.grad_norm

    def arrays(self) -> Arrays:
        """Step and moments, as NativeState's."""
        return self._main.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken; the weights are the model's business."""
        self._main.restore(arrays)

    def _fed(self, group: Group) -> NativeState:
        inputs, targets = group
        width = next(iter(inputs.values())).shape[1]
        if width in self._states:
            self.model.feed(self._states[width], inputs, targets)
        else:
            is_part = bool(self._states)
            self._states[width] = self.model.started(self.program, inputs, targets, varies=True, part=is_part)
        return self._states[width]

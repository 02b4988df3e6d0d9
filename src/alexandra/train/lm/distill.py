"""Distillation: a student learns a teacher's distribution of the next token, on given answers or on its own.

`on_policy` is the share of steps whose answers the student samples itself (Agarwal et al. 2024, GKD): there it is
corrected where it goes, not where the data went. Teacher and student must read the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from alexandra.errors import DataError, UsageError
from alexandra.objectives.distillation import Distillation, LogitLoss, distillation
from alexandra.objectives.tokens import F64, count
from alexandra.rng import derive
from alexandra.train.lm.batch import Row, TokenBatch, padded
from alexandra.train.lm.outputs import Outputs
from alexandra.train.lm.rollout import Sampler
from alexandra.train.lm.sampling import Sampling
from alexandra.train.lm.stage import Metrics, means, rows_of_step


@dataclass(frozen=True)
class DistillSettings:
    """`length` positions a row, `batch_rows` rows a step; `on_policy` of the steps sample with `sampling`."""

    length: int
    sampling: Sampling
    batch_rows: int = 16
    on_policy: float = 0.0
    seed: int = 0
    pad: int = 0
    objective: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        if not 0 <= self.on_policy <= 1:
            raise UsageError(f"on_policy is a share of the steps in [0, 1], got {self.on_policy!r}")


class Distill:
    """A student, its teacher, and rows whose learnt tokens are compared."""

    name = "distill"

    def __init__(
        self,
        student: Outputs,
        teacher: Outputs,
        rows: Sequence[Row],
        settings: DistillSettings,
        sampler: Sampler,
        held_out: Sequence[Row] = (),
    ) -> None:
        if not rows:
            raise DataError("there is no row to learn from")
        self.student, self.teacher, self.settings, self.sampler = student, teacher, settings, sampler
        self.rows, self.held_out = list(rows), list(held_out)

    def samples_itself(self, number: int) -> bool:
        """Whether step `number` reads the student's own answers."""
        return bool(derive(self.settings.seed, "on policy").at(number).uniform(1)[0] < self.settings.on_policy)

    def batch(self, number: int) -> TokenBatch:
        """The rows of a step, with the student's answers in place of the given ones where it samples itself."""
        settings = self.settings
        rows = [self.rows[i] for i in rows_of_step(settings.seed, len(self.rows), settings.batch_rows, number)]
        if self.samples_itself(number):
            rows = self._answered(rows, settings.sampling, number)
        return self._padded(rows)

    def step(self, number: int) -> Metrics:
        batch = self.batch(number)
        teacher_BTV = self.teacher.values(batch)
        found: list[LogitLoss] = []

        def gradient(student_BTV: F64) -> tuple[float, F64]:
            found.append(self._loss(student_BTV, teacher_BTV, batch))
            return found[0].value, found[0].grad_BTV

        loss = self.student.update(batch, gradient)
        return {"loss": loss, **means(found[0].stats, "tokens"), "own_answers": float(self.samples_itself(number))}

    def loss_of(self, number: int) -> float:
        """The loss of a step's rows as the weights are now."""
        batch = self.batch(number)
        return self._loss(self.student.values(batch), self.teacher.values(batch), batch).value

    def evaluate(self) -> Metrics:
        """Divergence on held-out rows, and how often both have one likeliest token; greedy where all is on policy."""
        settings, total = self.settings, 0.0
        stats = {"tokens": 0.0, "agreed": 0.0}
        for first in range(0, len(self.held_out), 64):
            rows = self.held_out[first : first + 64]
            if settings.on_policy == 1:
                rows = self._answered(rows, replace(settings.sampling, temperature=0.0, top_k=0, top_p=1.0), 0)
            batch = self._padded(rows)
            if not batch.mask_BT.any():
                continue
            found = self._loss(self.student.values(batch), self.teacher.values(batch), batch)
            total += found.value * found.stats["tokens"]
            stats = {name: stats[name] + found.stats[name] for name in stats}
        if not stats["tokens"]:
            return {}
        return {"eval_loss": total / stats["tokens"], "eval_agreed": stats["agreed"] / stats["tokens"]}

    def _loss(self, student_BTV: F64, teacher_BTV: F64, batch: TokenBatch) -> LogitLoss:
        return distillation(student_BTV, teacher_BTV, batch.mask_BT, self.settings.objective, count(batch.mask_BT))

    def _answered(self, rows: Sequence[Row], sampling: Sampling, number: int) -> list[Row]:
        """Each row's prompt (what stands before its first learnt token) with an answer of the student."""
        stream = derive(self.settings.seed, "answers", number)
        prompts = [list(row.tokens[: _first(row)]) for row in rows]
        drawn = self.sampler(prompts, sampling, [stream.at(i) for i in range(len(rows))])
        pairs = zip(prompts, drawn, strict=True)
        return [Row([*p, *one.tokens], [0] * len(p) + [1] * len(one.tokens)) for p, one in pairs]

    def _padded(self, rows: Sequence[Row]) -> TokenBatch:
        return padded(rows, pad=self.settings.pad, length=self.settings.length)

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        return self.batch(number).arrays()

    def arrays(self) -> dict[str, np.ndarray]:
        return self.student.updates.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.student.updates.restore(arrays)


def _first(row: Row) -> int:
    """Where the first learnt token stands; the row's length without one."""
    return next((i for i, learnt in enumerate(row.mask) if learnt), len(row.tokens))

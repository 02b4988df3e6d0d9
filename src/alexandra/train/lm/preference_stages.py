"""DPO and its variants, ORPO and KTO on answers that people or verifiers compared.

The reference is the policy as it was before the first step (or another policy); its log-probabilities of all answers
are computed once, so a step costs no second model. Each step takes the next pairs of an endless shuffled order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from alexandra.errors import DataError
from alexandra.objectives.preference import DPO, KTO, Answers, dpo, kto, kto_kl, orpo
from alexandra.objectives.tokens import F64, TokenLoss, count
from alexandra.train.lm.batch import Row, TokenBatch, padded
from alexandra.train.lm.policy import Policy
from alexandra.train.lm.stage import Metrics, OfPolicy, means, rows_of_step


@dataclass(frozen=True)
class ORPO:
    """Weight of the odds-ratio term (lambda of the paper)."""

    weight: float = 0.1


@dataclass(frozen=True)
class PairRows:
    """One preference: two sequences with one prompt, each counting its own answer."""

    chosen: Row
    rejected: Row


@dataclass(frozen=True)
class PreferenceSettings:
    """`length` positions a sequence, `batch_rows` pairs (or answers) a step."""

    length: int
    batch_rows: int = 16
    seed: int = 0
    pad: int = 0


class _Compared(OfPolicy, Protocol):
    """A policy and what its reference said of all answers."""

    _reference: dict[str, F64]

    def arrays(self) -> dict[str, np.ndarray]:
        return self.policy.arrays() | {f"reference/{name}": array for name, array in self._reference.items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._reference = {n.partition("/")[2]: a for n, a in arrays.items() if n.startswith("reference/")}
        self.policy.restore({n: a for n, a in arrays.items() if not n.startswith("reference/")})


class Preference(_Compared):
    """DPO or ORPO on pairs. `objective` says which."""

    def __init__(
        self,
        policy: Policy,
        pairs: Sequence[PairRows],
        objective: DPO | ORPO,
        settings: PreferenceSettings,
        *,
        reference: Policy | None = None,
        held_out: Sequence[PairRows] = (),
    ) -> None:
        if not pairs:
            raise DataError("there is no pair to learn from")
        self.name = "dpo" if isinstance(objective, DPO) else "orpo"
        self.policy, self.pairs, self.objective, self.settings = policy, list(pairs), objective, settings
        self.held_out = list(held_out)
        self._reference: dict[str, F64] = {}
        if isinstance(objective, DPO) and not objective.simpo_margin:
            every = [*self.pairs, *self.held_out]
            for side in ("chosen", "rejected"):
                rows = [getattr(pair, side) for pair in every]
                self._reference[side] = reference_logprobs(reference or policy, rows, settings)

    def step(self, number: int) -> Metrics:
        chosen = rows_of_step(self.settings.seed, len(self.pairs), self.settings.batch_rows, number)
        batch = self._batch([self.pairs[i] for i in chosen])
        found = self.policy.update(batch, lambda logp: self._loss(logp, batch, chosen))
        return {"loss": found.value, **means(found.stats, "pairs")}

    def loss_of(self, number: int) -> float:
        """The loss of a step's pairs as the policy is now."""
        chosen = rows_of_step(self.settings.seed, len(self.pairs), self.settings.batch_rows, number)
        batch = self._batch([self.pairs[i] for i in chosen])
        return self._loss(self.policy.logprobs(batch), batch, chosen).value

    def evaluate(self) -> Metrics:
        """The objective and the share of held-out pairs that are ranked right."""
        if not self.held_out:
            return {}
        stats: dict[str, float] = {}
        total = 0.0
        for first in range(0, len(self.held_out), 64):
            part = self.held_out[first : first + 64]
            batch = self._batch(part)
            where = [len(self.pairs) + first + i for i in range(len(part))]
            found = self._loss(self.policy.logprobs(batch), batch, where)
            total += found.value * len(part)
            for name, value in found.stats.items():
                stats[name] = stats.get(name, 0.0) + value
        result = {f"eval_{name}": value for name, value in means(stats, "pairs").items()}
        return {"eval_loss": total / len(self.held_out), **result}

    def _batch(self, pairs: Sequence[PairRows]) -> TokenBatch:
        rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        return padded(rows, pad=self.settings.pad, length=self.settings.length)

    def _loss(self, logp_BT: F64, batch: TokenBatch, numbers: Sequence[int]) -> TokenLoss:
        half = len(numbers)
        sides = []
        for side, part in (("chosen", slice(0, half)), ("rejected", slice(half, None))):
            known = self._reference.get(side)
            reference = np.zeros_like(logp_BT[part]) if known is None else known[list(numbers)]
            sides.append(Answers.of(logp_BT[part], reference, batch.mask_BT[part]))
        if isinstance(self.objective, DPO):
            better, worse = dpo(sides[0], sides[1], self.objective, half)
        else:
            tokens = count(batch.mask_BT[:half])
            better, worse = orpo(sides[0], sides[1], self.objective.weight, tokens, half)
        rows = np.concatenate([better.rows_B, worse.rows_B])
        return TokenLoss(rows, np.concatenate([better.grad_BT, worse.grad_BT]), better.stats)

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        chosen = rows_of_step(self.settings.seed, len(self.pairs), self.settings.batch_rows, number)
        return self._batch([self.pairs[i] for i in chosen]).arrays()


class Liking(_Compared):
    """KTO on single answers with a label. The KL estimate comes from answers under their neighbours' prompts."""

    name = "kto"

    def __init__(
        self,
        policy: Policy,
        rows: Sequence[tuple[Row, Row, bool]],
        objective: KTO,
        settings: PreferenceSettings,
        reference: Policy | None = None,
    ) -> None:
        """`rows`: (answer with its prompt, the same answer with another prompt, whether it was liked)."""
        if not rows:
            raise DataError("there is no answer to learn from")
        self.policy, self.rows, self.objective, self.settings = policy, list(rows), objective, settings
        base = reference or policy
        self._reference = {
            "own": reference_logprobs(base, [own for own, _, _ in self.rows], settings),
            "other": reference_logprobs(base, [other for _, other, _ in self.rows], settings),
        }

    def step(self, number: int) -> Metrics:
        chosen = rows_of_step(self.settings.seed, len(self.rows), self.settings.batch_rows, number)
        own = padded([self.rows[i][0] for i in chosen], pad=self.settings.pad, length=self.settings.length)
        other = padded([self.rows[i][1] for i in chosen], pad=self.settings.pad, length=self.settings.length)
        reference = self._reference["other"][chosen]
        kl = kto_kl(Answers.of(self.policy.logprobs(other), reference, other.mask_BT))
        liked = [self.rows[i][2] for i in chosen]
        found = self.policy.update(
            own,
            lambda logp: kto(
                Answers.of(logp, self._reference["own"][chosen], own.mask_BT), liked, kl, self.objective, len(chosen)
            ),
        )
        return {"loss": found.value, "kl": max(0.0, kl), **means(found.stats, "rows")}

    def evaluate(self) -> Metrics:
        return {}

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        chosen = rows_of_step(self.settings.seed, len(self.rows), self.settings.batch_rows, number)
        rows = [self.rows[i][0] for i in chosen]
        return padded(rows, pad=self.settings.pad, length=self.settings.length).arrays()


def reference_logprobs(policy: Policy, rows: Sequence[Row], settings: PreferenceSettings) -> F64:
    """Log-probabilities of all rows, [rows, length]."""
    pieces = [
        policy.logprobs(padded(rows[i : i + 64], pad=settings.pad, length=settings.length))
        for i in range(0, len(rows), 64)
    ]
    return np.concatenate(pieces)

"""Pre-training and supervised fine-tuning: raise the likelihood of tokens that the mask counts.

The loss is a mean over the counted tokens of the whole batch (or over sequences), whatever the batch is cut into.
Pre-training reads windows of one long text; fine-tuning reads rendered conversations (chat.py), padded or packed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alexandra.errors import DataError
from alexandra.objectives.tokens import count, rows_with_tokens, sft
from alexandra.rng import derive
from alexandra.train.lm.batch import Row, TokenBatch, packed, padded
from alexandra.train.lm.policy import Policy
from alexandra.train.lm.stage import Metrics, OfPolicy, rows_of_step


@dataclass(frozen=True)
class LikelihoodSettings:
    """`length` positions a row, `batch_rows` rows a step; `pack` puts several documents into a row."""

    length: int
    batch_rows: int = 16
    pack: bool = False
    per_sequence: bool = False
    seed: int = 0
    pad: int = 0


class Likelihood(OfPolicy):
    """SFT on rows: step n takes the next `batch_rows` rows of an endless shuffled order."""

    name = "sft"

    def __init__(
        self, policy: Policy, rows: Sequence[Row], settings: LikelihoodSettings, held_out: Sequence[Row] = ()
    ) -> None:
        if not rows:
            raise DataError("there is no row to learn from")
        self.policy, self.rows, self.settings, self.held_out = policy, list(rows), settings, list(held_out)

    def batch(self, number: int) -> TokenBatch:
        """The rows of a step as arrays of one shape."""
        chosen = rows_of_step(self.settings.seed, len(self.rows), self.settings.batch_rows, number)
        return self._arrays([self.rows[i] for i in chosen])

    def _arrays(self, rows: Sequence[Row]) -> TokenBatch:
        if self.settings.pack:
            return packed(rows, pad=self.settings.pad, length=self.settings.length)
        return padded(rows, pad=self.settings.pad, length=self.settings.length)

    def step(self, number: int) -> Metrics:
        return likelihood_step(self.policy, self.batch(number), self.settings.per_sequence)

    def evaluate(self) -> Metrics:
        batches = [self._arrays(self.held_out[i : i + 64]) for i in range(0, len(self.held_out), 64)]
        return held_out_loss(self.policy, batches)

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        return self.batch(number).arrays()


class Pretraining(OfPolicy):
    """Windows of `length` + 1 tokens at random places of one long text; every token counts.

    `sources` say that `tokens` are several texts one after the other, (length, weight) of each: a window lies in one,
    which is drawn by the weights.
    """

    name = "pretrain"

    def __init__(
        self,
        policy: Policy,
        tokens: npt.NDArray[np.integer],
        settings: LikelihoodSettings,
        held_out: npt.NDArray[np.integer] | None = None,
        sources: Sequence[tuple[int, float]] = (),
    ) -> None:
        sizes, weights = zip(*(sources or [(len(tokens), 1.0)]), strict=True)
        if min(sizes) <= settings.length + 1:
            raise DataError(f"the text has {min(sizes)} tokens, a window needs {settings.length + 1}")
        self._sizes, self._firsts = np.array(sizes), np.cumsum(sizes) - sizes
        self._edges = np.cumsum(weights) / sum(weights)
        self.policy, self.tokens, self.settings = policy, tokens, settings
        self.held_out = np.zeros(0, np.int32) if held_out is None else held_out

    def batch(self, number: int) -> TokenBatch:
        """Windows that start where derive(seed, "windows").at(number) says."""
        settings = self.settings
        stream = derive(settings.seed, "windows").at(number)
        if len(self._sizes) == 1:
            starts = stream.below(len(self.tokens) - settings.length, settings.batch_rows)
            return _windows(self.tokens, starts.tolist(), settings.length)
        drawn = derive(settings.seed, "sources").at(number).uniform(settings.batch_rows)
        source = np.minimum(np.searchsorted(self._edges, drawn, side="right"), len(self._sizes) - 1)
        places = np.floor(stream.uniform(settings.batch_rows) * (self._sizes[source] - settings.length)).astype(int)
        return _windows(self.tokens, (self._firsts[source] + places).tolist(), settings.length)

    def step(self, number: int) -> Metrics:
        return likelihood_step(self.policy, self.batch(number), False)

    def evaluate(self) -> Metrics:
        """Nats per token of the held-out text in windows side by side; each token is predicted once."""
        length = min(self.settings.length, len(self.held_out) - 1)
        if length < 1:
            return {}
        starts = list(range(0, len(self.held_out) - length, length))
        batches = [_windows(self.held_out, starts[i : i + 64], length) for i in range(0, len(starts), 64)]
        return held_out_loss(self.policy, batches)

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        return self.batch(number).arrays()


def _windows(tokens: npt.NDArray[np.integer], starts: Sequence[int], length: int) -> TokenBatch:
    places = np.asarray(starts)[:, None] + np.arange(length + 1)
    found = np.asarray(tokens)[places].astype(np.int32)
    shape = len(starts), length
    where = tuple((i, 0, length) for i in range(len(starts)))
    tokens, targets = (np.ascontiguousarray(part) for part in (found[:, :-1], found[:, 1:]))
    return TokenBatch(tokens, targets, np.ones(shape), np.ones(shape, np.int32), where)


def likelihood_step(policy: Policy, batch: TokenBatch, per_sequence: bool) -> Metrics:
    """One update on the negative log-likelihood of a batch."""
    normalizer = rows_with_tokens(batch.mask_BT) if per_sequence else count(batch.mask_BT)
    found = policy.update(
        batch, lambda logp: sft(logp, batch.mask_BT, normalizer, per_sequence=per_sequence), constant=True
    )
    return {"loss": found.value, "tokens": found.stats["tokens"]}


def held_out_loss(policy: Policy, batches: Sequence[TokenBatch]) -> Metrics:
    """Nats per counted token over all batches; nothing without a counted token."""
    total = math.fsum(float(-value) for batch in batches for value in policy.logprobs(batch).sum(1))
    tokens = sum(count(batch.mask_BT) for batch in batches)
    return {"eval_loss": total / tokens, "eval_tokens": tokens} if tokens else {}

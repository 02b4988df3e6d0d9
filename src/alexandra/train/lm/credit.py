"""Which tokens of an answer get the credit: all alike, or each by what its step was worth.

A reward that follows an answer step by step (rewards.Steps) marks where a step ends in the answer's text; here those
marks become numbers at tokens, and numbers become token advantages (objectives/advantages.py).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from alexandra.errors import UsageError
from alexandra.objectives.advantages import advantages, process, verdicts
from alexandra.objectives.tokens import F64
from alexandra.train.lm.batch import TokenBatch
from alexandra.train.lm.rollout import Rollouts
from alexandra.train.lm.sampling import Completion
from alexandra.train.lm.tokenizer import Tokenizer

KINDS = ("answer", "process", "verdicts")


def credited(kind: str, rollouts: Rollouts, batch: TokenBatch, old_BT: F64, tokenizer: Tokenizer, group: str) -> F64:
    """Advantages of the answers, [B], or of their tokens, [B, T], where steps are judged. UsageError without steps."""
    if kind == "answer":
        return advantages(rollouts.rewards_PG, group).reshape(-1)
    worth_BT = worth_of(rollouts, batch, tokenizer)
    found_BT = process(worth_BT, rollouts.group) if kind == "process" else verdicts(worth_BT, old_BT)
    return np.where(batch.mask_BT > 0, found_BT, 0.0)


def worth_of(rollouts: Rollouts, batch: TokenBatch, tokenizer: Tokenizer) -> F64:
    """What each step is worth, where its last token is the target, [B, T]; NaN elsewhere."""
    told = [one for one in rollouts.judgements if one.reward is not None]
    if told and all(one.steps is None for one in told):
        raise UsageError(
            "no reward says what the steps of an answer are worth",
            hint='let one give {"reward": 0.5, "steps": [(4, 1.0), (9, 0.0)]}, or leave rollout.credit at "answer"',
        )
    found = np.full(batch.mask_BT.shape, math.nan)
    lengths = _Lengths(tokenizer)
    for row, (one, judged) in enumerate(zip(rollouts.completions, rollouts.judgements, strict=True)):
        if judged.reward is None:
            continue
        first, marks = len(rollouts.tasks[row // rollouts.group].tokens) - 1, judged.steps or ()
        ends, worth = np.array(marks, np.float64).reshape(-1, 2).T
        at = np.searchsorted(lengths.ends(one), ends)
        seen = at < len(one.tokens)
        np.fmin.at(found[row], first + at[seen], worth[seen])  # of steps that end in one token the worst counts
    return found


class _Lengths:
    """How many characters tokens write."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._alone: dict[int, int] = {}

    def ends(self, one: Completion) -> npt.NDArray[np.int64]:
        """Behind which character of the text each token ends; the one that ends the answer is a character long."""
        tokens = one.tokens
        lengths = [self._of(token) for token in tokens]
        if sum(lengths) != len(self.tokenizer.decode(tokens)):  # what a token writes depends on its neighbours
            whole = [len(self.tokenizer.decode(tokens[: i + 1])) for i in range(len(tokens))]
            lengths = [after - before for before, after in zip([0, *whole], whole, strict=False)]
        if one.stopped:
            lengths[-1] = 1
        return np.cumsum(lengths, dtype=np.int64)

    def _of(self, token: int) -> int:
        if token not in self._alone:
            self._alone[token] = len(self.tokenizer.decode([token]))
        return self._alone[token]

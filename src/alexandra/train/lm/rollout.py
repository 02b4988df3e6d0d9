"""Sampled answers with their rewards, as the arrays that a policy-gradient step reads.

A step samples G answers for each of P prompts, has them judged, and keeps what the judges could tell. With dynamic
sampling, prompts whose answers all have one reward are drawn again (DAPO, Yu et al. 2025), at most a few times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from alexandra.objectives.advantages import informative
from alexandra.objectives.tokens import F64
from alexandra.rng import Stream, derive
from alexandra.train.lm.batch import Row, TokenBatch, padded
from alexandra.train.lm.examples import Prompt
from alexandra.train.lm.policy import Policy
from alexandra.train.lm.rewards import Answer, Judgement, Mix
from alexandra.train.lm.sampling import Completion, Sampling
from alexandra.train.lm.tokenizer import Tokenizer

Sampler = Callable[[Sequence[Sequence[int]], Sampling, Sequence[Stream]], list[Completion]]


@runtime_checkable
class Holding(Protocol):
    """A sampler that can go on with the weights of one moment while the policy changes, from `hold` to `release`."""

    def hold(self) -> None: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class Actor:
    """Who answers and who judges: a policy, its text, its sampler, its rewards, and maybe what it may not leave far.

    `exact`: the sampler's log-probabilities are the policy's own to rounding, so nobody computes them again.
    `check` judges held-out answers only: what it says never trains anything. `words` say what runs the sampler.
    """

    policy: Policy
    tokenizer: Tokenizer
    sampler: Sampler
    mix: Mix
    reference: Policy | None = None
    exact: bool = False
    check: Mix | None = None
    words: str = ""


@dataclass(frozen=True)
class Task:
    """A prompt to be answered: its tokens, and what judges read."""

    tokens: tuple[int, ...]
    prompt: Prompt


@dataclass(frozen=True)
class Rollouts:
    """G answers of each of P prompts, in rows prompt by prompt. `rewards_PG` is NaN where all judges abstained."""

    tasks: tuple[Task, ...]
    completions: tuple[Completion, ...]
    texts: tuple[str, ...]
    judgements: tuple[Judgement, ...]
    rewards_PG: F64

    @property
    def group(self) -> int:
        return int(self.rewards_PG.shape[1])

    def batch(self, length: int, pad: int) -> TokenBatch:
        """Prompts and answers as [P * G, length] arrays; the mask counts the answers of judged rows."""
        rows = []
        for i, completion in enumerate(self.completions):
            prompt = self.tasks[i // self.group].tokens
            learnt = int(not math.isnan(self.rewards_PG[i // self.group, i % self.group]))
            rows.append(Row([*prompt, *completion.tokens], [0] * len(prompt) + [learnt] * len(completion.tokens)))
        return padded(rows, pad=pad, length=length)

    def placed(self, values: Sequence[Sequence[float]], batch: TokenBatch) -> F64:
        """A number per sampled token, [rows, positions], where that token is the target."""
        found = np.zeros(batch.mask_BT.shape)
        for i, own in enumerate(values):
            first = len(self.tasks[i // self.group].tokens) - 1
            found[i, first : first + len(own)] = own
        return np.where(batch.mask_BT > 0, found, 0.0)


@dataclass(frozen=True)
class RolloutSettings:
    """`group` answers a prompt; `redraws` > 0 turns dynamic sampling on; `staleness`: ahead.py."""

    sampling: Sampling
    group: int = 8
    redraws: int = 0
    seed: int = 0
    staleness: int = 0


def collect(
    actor: Actor, settings: RolloutSettings, number: int, draw_tasks: Callable[[int], Sequence[Task]]
) -> Rollouts:
    """The rollouts of step `number`. `draw_tasks(attempt)` gives the prompts; each row has a stream of its own."""
    kept: list[Rollouts] = []
    wanted = 0
    for attempt in range(settings.redraws + 1):
        tasks = list(draw_tasks(attempt))
        wanted = wanted or len(tasks)
        found = _judged(actor, settings, derive(settings.seed, "rollout", number, attempt), tasks)
        if not settings.redraws:
            return found
        kept.append(_chosen(found, informative(found.rewards_PG)))
        if sum(len(one.tasks) for one in kept) >= wanted:
            break
    return _joined(kept, wanted) if any(one.tasks for one in kept) else found


def _judged(actor: Actor, settings: RolloutSettings, stream: Stream, tasks: Sequence[Task]) -> Rollouts:
    prompts = [task.tokens for task in tasks for _ in range(settings.group)]
    completions = actor.sampler(prompts, settings.sampling, [stream.at(row) for row in range(len(prompts))])
    texts = [actor.tokenizer.decode(completion.tokens) for completion in completions]
    judgements = actor.mix.judge(answers_of(tasks, texts))
    rewards = [math.nan if one.reward is None else one.reward for one in judgements]
    shape = len(tasks), settings.group
    return Rollouts(tuple(tasks), tuple(completions), tuple(texts), tuple(judgements), np.reshape(rewards, shape))


def answers_of(tasks: Sequence[Task], texts: Sequence[str]) -> list[Answer]:
    """What judges read of texts, as many to each task."""
    group = len(texts) // max(1, len(tasks))
    prompts = [tasks[i // group].prompt for i in range(len(texts))]
    return [Answer(prompt.text, text, prompt.fields) for prompt, text in zip(prompts, texts, strict=True)]


def _chosen(rollouts: Rollouts, keep: np.ndarray) -> Rollouts:
    """The prompts where `keep` holds."""
    numbers = np.flatnonzero(keep).tolist()
    rows = [p * rollouts.group + g for p in numbers for g in range(rollouts.group)]
    return Rollouts(
        tuple(rollouts.tasks[p] for p in numbers),
        tuple(rollouts.completions[i] for i in rows),
        tuple(rollouts.texts[i] for i in rows),
        tuple(rollouts.judgements[i] for i in rows),
        rollouts.rewards_PG[numbers],
    )


def _joined(parts: Sequence[Rollouts], limit: int) -> Rollouts:
    """The first `limit` prompts of several."""
    whole = Rollouts(
        tuple(task for part in parts for task in part.tasks),
        tuple(one for part in parts for one in part.completions),
        tuple(text for part in parts for text in part.texts),
        tuple(one for part in parts for one in part.judgements),
        np.concatenate([part.rewards_PG for part in parts]),
    )
    return _chosen(whole, np.arange(len(whole.tasks)) < limit)

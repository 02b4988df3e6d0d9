"""Rejection sampling: n answers a prompt, those that the rewards let pass become rows to learn from.

Best of n, then supervised fine-tuning on what was kept, with the policy of each step (RAFT, Dong et al. 2023; ReST,
Gulcehre et al. 2023). What passed is left as rows that any stage reads (`kept.jsonl`); with `learn` off nothing is
trained and the rows are all there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alexandra.errors import DataError, UsageError
from alexandra.train.lm.batch import Row, padded
from alexandra.train.lm.grpo import described, greedy_rewards
from alexandra.train.lm.likelihood import likelihood_step
from alexandra.train.lm.policy import Policy
from alexandra.train.lm.rollout import Actor, Rollouts, RolloutSettings, Task, collect
from alexandra.train.lm.stage import Metrics, OfPolicy, rows_of_step
from alexandra.train.lm.traces import trace
from alexandra.train.stages import Records

KEEP = ("best", "all")


@dataclass(frozen=True)
class RejectionSettings:
    """`prompts` a step, `rollout.group` answers each. An answer passes with a reward of `at_least`.

    `keep`: the best that passed of each prompt (the first of several), or all different ones that passed.
    """

    rollout: RolloutSettings
    length: int
    prompts: int = 8
    at_least: float = 1.0
    keep: str = "best"
    learn: bool = True

    def __post_init__(self) -> None:
        if self.keep not in KEEP:
            raise UsageError(f"keep is {' or '.join(KEEP)}, got {self.keep!r}")


class Rejection(OfPolicy):
    """Best-of-n sampling filtered by rewards, and a step of likelihood on what was kept."""

    name = "rejection"

    def __init__(
        self, actor: Actor, tasks: Sequence[Task], settings: RejectionSettings, held_out: Sequence[Task] = ()
    ) -> None:
        if not tasks:
            raise DataError("there is no prompt to answer")
        self.actor, self.tasks, self.settings, self.held_out = actor, list(tasks), settings, list(held_out)
        self.policy: Policy = actor.policy
        self.last: Rollouts | None = None
        self.kept: list[int] = []

    def step(self, number: int) -> Metrics:
        """Metrics: `yield`, kept answers of all that were sampled, and `solved`, prompts with a kept answer."""
        settings = self.settings
        chosen = rows_of_step(settings.rollout.seed, len(self.tasks), settings.prompts, number)
        rollouts = collect(self.actor, settings.rollout, number, lambda _: [self.tasks[i] for i in chosen])
        self.last, self.kept = rollouts, kept(rollouts, settings)
        solved = len({row // rollouts.group for row in self.kept})
        metrics = {
            **described(rollouts),
            "yield": len(self.kept) / len(rollouts.completions),
            "solved": solved / len(rollouts.tasks),
        }
        if not (self.kept and settings.learn):
            return {"loss": 0.0, **metrics}
        batch = padded(self._rows(), pad=self.actor.tokenizer.pad, length=settings.length)
        return {**likelihood_step(self.policy, batch, False), **metrics}

    def _rows(self) -> list[Row]:
        assert self.last is not None
        found = []
        for row in self.kept:
            prompt, answer = self.last.tasks[row // self.last.group].tokens, self.last.completions[row].tokens
            found.append(Row([*prompt, *answer], [0] * len(prompt) + [1] * len(answer)))
        return found

    def evaluate(self) -> Metrics:
        """Mean reward of greedy answers to held-out prompts."""
        return greedy_rewards(self.actor, self.settings.rollout, self.held_out)

    def records(self) -> Records:
        """All answers of the last step, and the rows that were kept, in the form that supervised fine-tuning reads."""
        if self.last is None:
            return {}
        rollouts = self.last
        rows = [
            {
                **rollouts.tasks[row // rollouts.group].prompt.fields,
                "messages": [
                    *(vars(turn) for turn in rollouts.tasks[row // rollouts.group].prompt.messages),
                    {"role": "assistant", "content": rollouts.texts[row]},
                ],
                "reward": rollouts.judgements[row].reward,
            }
            for row in self.kept
        ]
        return {"samples": trace(rollouts), "kept": rows}

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        if not self.kept:
            return {}
        return padded(self._rows(), pad=self.actor.tokenizer.pad, length=self.settings.length).arrays()


def kept(rollouts: Rollouts, settings: RejectionSettings) -> list[int]:
    """The rows of `rollouts` that pass, prompt by prompt; an abstained answer never does, nor one without text."""
    found = []
    for p, rewards_G in enumerate(rollouts.rewards_PG.tolist()):
        rows = [p * rollouts.group + g for g, reward in enumerate(rewards_G) if _passes(reward, settings.at_least)]
        rows = [row for row in rows if rollouts.texts[row]]
        if settings.keep == "best":
            rows = sorted(rows, key=lambda row: -rewards_G[row - p * rollouts.group])[:1]
        seen: dict[str, int] = {}
        for row in rows:
            seen.setdefault(rollouts.texts[row], row)
        found += list(seen.values())
    return found


def _passes(reward: float, at_least: float) -> bool:
    return not math.isnan(reward) and reward >= at_least

"""GRPO and its named variants: sample groups of answers, let verifiers judge, raise what beat its group.

One step: the next prompts, G answers each, rewards, advantages, then `epochs` passes of `minibatches` updates. The
first update of a step is on-policy: its ratio is 1 and the gradient a weighted cross-entropy. Normalisers are those
of the whole minibatch, so cutting it into micro-batches changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alexandra.errors import DataError, UsageError, suggest
from alexandra.objectives.advantages import informative
from alexandra.objectives.policy import GRPO, Sampled, normalizer, policy_loss
from alexandra.objectives.tokens import F64
from alexandra.train.lm.ahead import WAITING, Ahead
from alexandra.train.lm.batch import TokenBatch
from alexandra.train.lm.credit import KINDS, credited
from alexandra.train.lm.rewards import Judgement
from alexandra.train.lm.rollout import Actor, Rollouts, RolloutSettings, Task, answers_of, collect
from alexandra.train.lm.stage import Metrics, means
from alexandra.train.lm.traces import trace
from alexandra.train.stages import Records

GAP_EVERY = 16  # steps between looks at how far an exact sampler is from the trainer


@dataclass(frozen=True)
class GRPOSettings:
    """`prompts` a step, `length` positions a row; `minibatches` must divide the prompts; `credit` is one of KINDS."""

    objective: GRPO
    rollout: RolloutSettings
    length: int
    prompts: int = 8
    epochs: int = 1
    minibatches: int = 1
    credit: str = "answer"

    def __post_init__(self) -> None:
        if self.credit not in KINDS:
            raise UsageError(f"GRPO gives no credit by {self.credit!r}", hint=suggest(self.credit, KINDS))
        if self.minibatches < 1 or self.prompts % self.minibatches:
            raise UsageError(f"{self.prompts} prompts do not divide into {self.minibatches} minibatches")


class GroupPolicy:
    """GRPO on prompts with verifiable answers."""

    name = "grpo"

    def __init__(
        self, actor: Actor, tasks: Sequence[Task], settings: GRPOSettings, held_out: Sequence[Task] = ()
    ) -> None:
        if not tasks:
            raise DataError("there is no prompt to learn from")
        longest = max(len(task.tokens) for task in (*tasks, *held_out)) + settings.rollout.sampling.max_tokens - 1
        if longest > settings.length:
            raise UsageError(
                f"a prompt and its answer may have {longest} positions, length is {settings.length}",
                hint="raise length or lower max_tokens",
            )
        if settings.objective.beta and actor.reference is None:
            raise UsageError(f"beta={settings.objective.beta:g} needs a reference policy")
        self.actor, self.tasks, self.settings, self.held_out = actor, list(tasks), settings, list(held_out)
        self.ahead = Ahead(actor, settings.rollout, tasks, settings.prompts)
        self.last: Rollouts | None = None

    def step(self, number: int) -> Metrics:
        """Sample, judge, learn. Where all groups agree, or all judges abstain, nothing changes."""
        settings = self.settings
        rollouts, age = self.ahead.take(number)
        self.last = rollouts
        metrics = described(rollouts)
        if settings.credit == "answer" and not informative(rollouts.rewards_PG).any():
            return {"loss": 0.0, **metrics}
        batch = rollouts.batch(settings.length, self.actor.tokenizer.pad)
        old_BT, measured = sampled_logps(self.actor, rollouts, batch, number, age)
        kind = settings.objective.advantage
        advantage = credited(settings.credit, rollouts, batch, old_BT, self.actor.tokenizer, kind)
        if not advantage.any():
            return {"loss": 0.0, **measured, **metrics}
        return {**self._learn(batch, advantage, old_BT, age), **measured, **metrics}

    def _learn(self, batch: TokenBatch, advantage: F64, old_BT: F64, age: int) -> Metrics:
        reference_BT = self.actor.reference.logprobs(batch) if self.actor.reference is not None else None
        rows = np.arange(len(advantage)).reshape(self.settings.minibatches, -1)
        stats: dict[str, float] = {}
        loss = 0.0
        for epoch in range(self.settings.epochs):
            for place, part in enumerate(rows):
                sampled = Sampled(
                    old_BT[part],
                    advantage[part],
                    batch.mask_BT[part],
                    None if reference_BT is None else reference_BT[part],
                )
                on_policy = epoch == place == age == 0  # the weights are still those that gave old_BT
                found = self._update(rows_of(batch, part), sampled, old_BT[part] if on_policy else None)
                loss += found[0] / (self.settings.epochs * len(rows))
                for name, value in found[1].items():
                    stats[name] = stats.get(name, 0.0) + value
        return {"loss": loss, **means(stats, "tokens")}

    def _update(
        self, batch: TokenBatch, sampled: Sampled, known_BT: F64 | None
    ) -> tuple[float, Mapping[str, float]]:
        objective = self.settings.objective
        if not np.asarray(sampled.mask_BT).any():
            return 0.0, {}
        total = normalizer(sampled.mask_BT, objective)
        found = self.actor.policy.update(
            batch, lambda logp: policy_loss(logp, sampled, objective, total), known_BT=known_BT
        )
        return found.value, found.stats

    def evaluate(self) -> Metrics:
        """Mean reward of greedy answers to held-out prompts; abstentions are counted apart."""
        self.ahead.settle()
        return greedy_rewards(self.actor, self.settings.rollout, self.held_out)

    def records(self) -> Records:
        """The answers of the last step with what each judge said."""
        return {} if self.last is None else {"samples": trace(self.last)}

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        return {} if self.last is None else self.last.batch(self.settings.length, self.actor.tokenizer.pad).arrays()

    def arrays(self) -> dict[str, np.ndarray]:
        return self.actor.policy.arrays() | self.ahead.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.actor.policy.restore({n: a for n, a in arrays.items() if not n.startswith(WAITING)})
        self.ahead.restore(arrays)


def sampled_logps(
    actor: Actor, rollouts: Rollouts, batch: TokenBatch, number: int, age: int
) -> tuple[F64, Metrics]:
    """Log-probabilities under the policy that sampled, [B, T], and how far sampler and trainer are apart.

    An exact sampler's own are taken, and compared in the first two steps and each sixteenth, on the longest answer that
    counts; else all are computed anew. Of answers that are `age` > 0 updates old only the sampler knows them.
    """
    drawn_BT = rollouts.placed([completion.logps for completion in rollouts.completions], batch)
    if age:
        return drawn_BT, {"staleness": float(age)}
    if actor.exact and number > 1 and number % GAP_EVERY:
        return drawn_BT, {}
    rows = np.array([np.argmax(batch.mask_BT.sum(1))]) if actor.exact else np.arange(len(drawn_BT))
    looked = rows_of(batch, rows)
    own_BT = actor.policy.logprobs(looked)
    gap_BT = np.where(looked.mask_BT > 0, drawn_BT[rows] - own_BT, 0.0)
    return drawn_BT if actor.exact else own_BT, {"sampler_gap": float(np.abs(gap_BT).max())}


def greedy_rewards(actor: Actor, settings: RolloutSettings, tasks: Sequence[Task]) -> Metrics:
    """What judges say of one greedy answer to each task; nothing without tasks."""
    if not tasks:
        return {}
    plain = replace(settings.sampling, temperature=0.0, top_k=0, top_p=1.0)
    once = RolloutSettings(plain, group=1, seed=settings.seed)
    found = collect(actor, once, 0, lambda _: tasks)
    left_out = "informative", "entropy"
    metrics = {f"eval_{name}": value for name, value in described(found).items() if name not in left_out}
    if actor.check is not None:
        judged = actor.check.judge(answers_of(found.tasks, found.texts))
        metrics |= {f"eval_{name}": value for name, value in by_judge(judged, "check").items()}
    return metrics


def rows_of(batch: TokenBatch, part: np.ndarray) -> TokenBatch:
    places = tuple((i, *batch.places[row][1:]) for i, row in enumerate(part.tolist()))
    return TokenBatch(
        batch.tokens_BT[part], batch.targets_BT[part], batch.mask_BT[part], batch.segments_BT[part], places
    )


def described(rollouts: Rollouts) -> Metrics:
    """Rewards, each judge's mean, abstentions, lengths, how many prompts can teach something, and entropy.

    The entropy (nats a token) is estimated by -ln p of the tokens that were drawn. `steps` is the mean worth of steps,
    where they are judged.
    """
    rewards = rollouts.rewards_PG
    judged = rewards[~np.isnan(rewards)]
    drawn = [logp for one in rollouts.completions for logp in one.logps]
    metrics = {
        "reward": float(judged.mean()) if judged.size else math.nan,
        "reward_std": float(judged.std()) if judged.size else math.nan,
        "abstained": float(np.isnan(rewards).mean()),
        "informative": float(informative(rewards).mean()),
        "answer_tokens": float(np.mean([len(one.tokens) for one in rollouts.completions])),
        "stopped": float(np.mean([one.stopped for one in rollouts.completions])),
        "entropy": -math.fsum(drawn) / max(1, len(drawn)),
    }
    worth = [one for judged in rollouts.judgements for _, one in judged.steps or ()]
    if worth:
        metrics["steps"] = float(np.mean(worth))
    parts = by_judge(rollouts.judgements, "reward")
    return metrics | {name: value for name, value in parts.items() if name != "reward"}


def by_judge(judgements: Sequence[Judgement], what: str) -> Metrics:
    """The mean of what was judged, and of each judge's own number; NaN where all abstained."""
    columns = {what: [one.reward for one in judgements]}
    for name in judgements[0].parts if judgements else ():
        columns[f"{what}/{name}"] = [one.parts[name] for one in judgements]
    known = {name: [value for value in column if value is not None] for name, column in columns.items()}
    return {name: float(np.mean(values)) if values else math.nan for name, values in known.items()}

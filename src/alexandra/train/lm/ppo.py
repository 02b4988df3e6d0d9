"""PPO: one answer a prompt, a critic for what was expected, the clipped objective, a KL penalty in the reward.

The reward of an answer stands at its last token; every token pays beta times its log-ratio to the reference (the policy
before training). Advantages are GAE's, whitened over the batch. After Schulman et al. 2017 and Ouyang et al. 2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from alexandra.errors import UsageError
from alexandra.objectives.advantages import gae, whitened
from alexandra.objectives.policy import GRPO, Sampled, normalizer, policy_loss, value_loss
from alexandra.objectives.tokens import F64, TokenLoss
from alexandra.train.lm.ahead import Ahead
from alexandra.train.lm.batch import TokenBatch
from alexandra.train.lm.grpo import described, greedy_rewards, rows_of, sampled_logps
from alexandra.train.lm.rollout import Actor, Rollouts, RolloutSettings, Task
from alexandra.train.lm.scores import ScoreModel
from alexandra.train.lm.stage import Metrics, means
from alexandra.train.lm.traces import trace
from alexandra.train.stages import Records


@dataclass(frozen=True)
class PPOSettings:
    """`prompts` a step, each answered `rollout.group` times; `epochs` passes of `minibatches` updates."""

    rollout: RolloutSettings
    length: int
    prompts: int = 64
    epochs: int = 2
    minibatches: int = 2
    kl: float = 0.05
    clip: float = 0.2
    value_clip: float = 0.2
    discount: float = 1.0
    decay: float = 0.95
    objective: GRPO = field(default_factory=lambda: GRPO(mean="token"))


@dataclass(frozen=True)
class _Scored:
    """What a step's updates read, all [B, T] but the batch; `age`: how many updates ago it was sampled."""

    batch: TokenBatch
    old_BT: F64
    values_BT: F64
    advantage_BT: F64
    returns_BT: F64
    age: int


class ProximalPolicy:
    """PPO with a critic of its own network."""

    name = "ppo"

    def __init__(
        self,
        actor: Actor,
        critic: ScoreModel,
        tasks: Sequence[Task],
        settings: PPOSettings,
        held_out: Sequence[Task] = (),
    ) -> None:
        if settings.kl and actor.reference is None:
            raise UsageError(f"kl={settings.kl:g} needs a reference policy")
        if settings.prompts * settings.rollout.group % settings.minibatches:
            raise UsageError(f"the answers of a step do not divide into {settings.minibatches} minibatches")
        self.actor, self.critic, self.tasks, self.settings = actor, critic, list(tasks), settings
        self.held_out = list(held_out)
        self.ahead = Ahead(actor, settings.rollout, tasks, settings.prompts)
        self.last: Rollouts | None = None

    def step(self, number: int) -> Metrics:
        rollouts, age = self.ahead.take(number)
        self.last = rollouts
        metrics = described(rollouts)
        if math.isnan(metrics["reward"]):
            return {"loss": 0.0, **metrics}
        scored, measured = self._scored(rollouts, number, age)
        return {**self._learn(scored), **measured, **metrics}

    def _scored(self, rollouts: Rollouts, number: int, age: int) -> tuple[_Scored, Metrics]:
        batch = rollouts.batch(self.settings.length, self.actor.tokenizer.pad)
        old_BT, measured = sampled_logps(self.actor, rollouts, batch, number, age)
        mask_BT = batch.mask_BT
        values_BT = np.where(mask_BT > 0, self.critic.scores(batch), 0.0)
        reference_BT = old_BT if self.actor.reference is None else self.actor.reference.logprobs(batch)
        log_ratio_BT = np.where(mask_BT > 0, old_BT - reference_BT, 0.0)
        rewards_BT = -self.settings.kl * log_ratio_BT
        for row, reward in enumerate(rollouts.rewards_PG.reshape(-1).tolist()):
            if mask_BT[row].any():
                rewards_BT[row, np.flatnonzero(mask_BT[row])[-1]] += reward
        advantage_BT, returns_BT = gae(
            rewards_BT, values_BT, mask_BT, discount=self.settings.discount, decay=self.settings.decay
        )
        kl = float(log_ratio_BT.sum() / max(mask_BT.sum(), 1.0))
        scored = _Scored(batch, old_BT, values_BT, whitened(advantage_BT, mask_BT), returns_BT, age)
        return scored, {"kl": kl, **measured}

    def _learn(self, scored: _Scored) -> Metrics:
        settings, stats = self.settings, dict[str, float]()
        loss = value = 0.0
        parts = np.arange(len(scored.old_BT)).reshape(settings.minibatches, -1)
        rounds = settings.epochs * len(parts)
        for number, part in enumerate([part for _ in range(settings.epochs) for part in parts]):
            batch = rows_of(scored.batch, part)
            if not batch.mask_BT.any():
                continue
            fresh = not number and not scored.age  # the weights are still those that gave old_BT
            known_BT = scored.old_BT[part] if fresh else None
            found = self._learn_policy(scored, part, batch, known_BT)
            loss += found.value / rounds
            for name, amount in found.stats.items():
                stats[name] = stats.get(name, 0.0) + amount
            value += self._learn_values(scored, part, batch) / rounds
        return {"loss": loss, "value_loss": value, **means(stats, "tokens")}

    def _learn_policy(
        self, scored: _Scored, part: np.ndarray, batch: TokenBatch, known_BT: F64 | None
    ) -> TokenLoss:
        total = normalizer(batch.mask_BT, self.settings.objective)
        sampled = Sampled(scored.old_BT[part], scored.advantage_BT[part], batch.mask_BT)
        return self.actor.policy.update(
            batch, lambda logp: policy_loss(logp, sampled, self.settings.objective, total), known_BT=known_BT
        )

    def _learn_values(self, scored: _Scored, part: np.ndarray, batch: TokenBatch) -> float:
        def gradient(values_BT: F64) -> tuple[float, F64]:
            found = value_loss(
                values_BT,
                scored.values_BT[part],
                scored.returns_BT[part],
                batch.mask_BT,
                float(batch.mask_BT.sum()),
                clip=self.settings.value_clip,
            )
            return float(found.rows_B.sum()), found.grad_BT

        return self.critic.update(batch, gradient)

    def evaluate(self) -> Metrics:
        """Mean reward of greedy answers to held-out prompts."""
        self.ahead.settle()
        return greedy_rewards(self.actor, self.settings.rollout, self.held_out)

    def records(self) -> Records:
        """The answers of the last step with what each judge said."""
        return {} if self.last is None else {"samples": trace(self.last)}

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        return {} if self.last is None else self.last.batch(self.settings.length, self.actor.tokenizer.pad).arrays()

    def arrays(self) -> dict[str, np.ndarray]:
        both = {"policy": self.actor.policy.arrays(), "critic": self.critic.arrays()}
        found = {f"{kind}/{name}": array for kind, own in both.items() for name, array in own.items()}
        return found | self.ahead.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        for kind, part in (("policy/", self.actor.policy), ("critic/", self.critic)):
            part.restore({n[len(kind) :]: a for n, a in arrays.items() if n.startswith(kind)})
        self.ahead.restore(arrays)

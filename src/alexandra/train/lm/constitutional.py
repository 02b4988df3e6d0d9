"""Constitutional AI: a model criticises and revises its own answers, and learns to give the revised ones at once.

Bai et al. 2022. First, for `learn` steps, supervised: critiques and revisions of its own drafts, as far as rules can
decide them (critic.py). Then the weights of that moment are kept as critic and reference, and the policy goes on from
its own answers to new prompts: drafts that the critic wants changed become pairs, the settled revision over the draft,
for DPO; or the critic's findings are the reward of GRPO. In this part no rule is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alexandra.errors import DataError, UsageError
from alexandra.objectives.preference import DPO, Answers, dpo
from alexandra.objectives.tokens import F64, TokenLoss
from alexandra.rng import derive
from alexandra.train.lm.batch import TokenBatch, padded
from alexandra.train.lm.critic import Critic
from alexandra.train.lm.grpo import GroupPolicy, described
from alexandra.train.lm.likelihood import likelihood_step
from alexandra.train.lm.rollout import Actor, RolloutSettings, Sampler, Task, collect
from alexandra.train.lm.stage import Metrics, means, rows_of_step
from alexandra.train.stages import Records

LOOKS = 4  # answers to each held-out prompt


@dataclass(frozen=True)
class ConstitutionalSettings:
    """`learn` steps of critiques and revisions of `rollout.group` drafts a prompt; then `rounds` over all principles.

    `prompts` a step; `length` positions hold a prompt, a draft, a critique and a revision.
    """

    rollout: RolloutSettings
    length: int
    prompts: int = 16
    rounds: int = 2
    learn: int = 0
    objective: DPO = DPO()


class Constitutional:
    """`actor` answers and is measured; the critic's policy takes the weights of critic and reference.

    `reinforce`, a GroupPolicy of the same policy whose judges are the critic, takes the place of DPO.
    """

    name = "constitution"

    def __init__(
        self,
        actor: Actor,
        critic: Critic,
        tasks: Sequence[Task],
        settings: ConstitutionalSettings,
        *,
        held_out: Sequence[Task] = (),
        reinforce: GroupPolicy | None = None,
    ) -> None:
        if not tasks:
            raise DataError("there is no prompt to answer")
        if settings.learn and not critic.constitution.formal:
            raise UsageError(
                "no principle of this constitution can be checked by rule, so nothing can teach the critique",
                hint="set constitution.learn = 0 for a model that can criticise, or give the principles rules",
            )
        self.actor, self.kept, self.critic, self.tasks = actor, critic.policy, critic, list(tasks)
        self.settings, self.held_out, self.reinforce = settings, list(held_out), reinforce
        self._batch: TokenBatch | None = None
        self._records: list[dict[str, object]] = []

    def step(self, number: int) -> Metrics:
        if number < self.settings.learn:
            return self._learn_critic(number)
        if number == self.settings.learn:
            weights = {n: a for n, a in self.actor.policy.arrays().items() if n.startswith("weights/")}
            self.kept.restore(weights)
        return self.reinforce.step(number) if self.reinforce is not None else self._prefer(number)

    def _chosen(self, number: int) -> list[Task]:
        settings = self.settings
        chosen = rows_of_step(settings.rollout.seed, len(self.tasks), settings.prompts, number)
        return [self.tasks[i] for i in chosen]

    def _drafts(self, number: int, sampler: Sampler, group: int) -> list[list[str]]:
        """`group` answers to each prompt of a step."""
        tokens = [task.tokens for task in self._chosen(number) for _ in range(group)]
        stream = derive(self.settings.rollout.seed, "drafts", number)
        drawn = sampler(tokens, self.settings.rollout.sampling, [stream.at(i) for i in range(len(tokens))])
        texts = [self.actor.tokenizer.decode(one.tokens) for one in drawn]
        return [texts[i : i + group] for i in range(0, len(texts), group)]

    def _learn_critic(self, number: int) -> Metrics:
        seed, drafts = (
            self.settings.rollout.seed,
            self._drafts(number, self.critic.sampler, self.settings.rollout.group),
        )
        rows = []
        for i, (task, own) in enumerate(zip(self._chosen(number), drafts, strict=True)):
            rows += self.critic.lessons(task.prompt.messages, own, derive(seed, "lessons", number, i))
        if not rows:
            return {"loss": 0.0, "lessons": 0.0}
        self._batch = padded(rows, pad=self.actor.tokenizer.pad, length=self.settings.length)
        return {**likelihood_step(self.actor.policy, self._batch, False), "lessons": float(len(rows))}

    def _prefer(self, number: int) -> Metrics:
        """Pairs of a settled revision and its draft; a step whose drafts nobody wants changed teaches nothing."""
        tasks = self._chosen(number)
        drafts = [own[0] for own in self._drafts(number, self.actor.sampler, 1)]
        final, before = list(drafts), list(drafts)
        prompts = [task.prompt.messages for task in tasks]
        for round_number in range(self.settings.rounds):
            before = list(final)
            for place, principle in enumerate(self.critic.constitution.principles):
                stream = derive(self.settings.rollout.seed, "revisions", number, round_number, place)
                final = self.critic.revised(principle, prompts, final, stream)
        settled = [self.settings.rounds == 1 or now == then for now, then in zip(final, before, strict=True)]
        paired = [i for i, now in enumerate(final) if settled[i] and drafts[i] and now != drafts[i]]
        self._records = [
            {"prompt": tasks[i].prompt.text, "answer": drafts[i], "revision": final[i], "paired": i in paired}
            for i in range(len(tasks))
        ]
        metrics = {"revised": sum(a != b for a, b in zip(final, drafts, strict=True)) / len(tasks)}
        metrics["pairs"] = float(len(paired))
        if not paired:
            return {"loss": 0.0, **metrics}
        rows = [self.critic.dialogue.answer(prompts[i], texts[i]) for texts in (final, drafts) for i in paired]
        self._batch = batch = padded(rows, pad=self.actor.tokenizer.pad, length=self.settings.length)
        reference_BT = self.kept.logprobs(batch)
        found = self.actor.policy.update(batch, lambda logp: self._loss(logp, reference_BT, batch))
        return {"loss": found.value, **means(found.stats, "pairs"), **metrics}

    def _loss(self, logp_BT: F64, reference_BT: F64, batch: TokenBatch) -> TokenLoss:
        half = len(logp_BT) // 2
        parts = slice(0, half), slice(half, None)
        chosen, rejected = (Answers.of(logp_BT[p], reference_BT[p], batch.mask_BT[p]) for p in parts)
        better, worse = dpo(chosen, rejected, self.settings.objective, half)
        rows_B = np.concatenate([better.rows_B, worse.rows_B])
        return TokenLoss(rows_B, np.concatenate([better.grad_BT, worse.grad_BT]), better.stats)

    def evaluate(self) -> Metrics:
        """Held-out prompts, LOOKS drawn answers each: the mean of the judges, and the share that all of them pass."""
        if not self.held_out:
            return {}
        settings = replace(self.settings.rollout, group=LOOKS, redraws=0)
        found = collect(self.actor, settings, -1, lambda _: self.held_out)
        whole = [all(value == 1.0 for value in one.parts.values()) for one in found.judgements]
        left_out = "informative", "entropy"
        metrics = {f"eval_{name}": value for name, value in described(found).items() if name not in left_out}
        return {**metrics, "eval_kept": float(np.mean(whole))}

    def records(self) -> Records:
        """Drafts and what became of them."""
        if self.reinforce is not None and self.reinforce.last is not None:
            return self.reinforce.records()
        return {"samples": self._records}

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        return {} if self._batch is None else self._batch.arrays()

    def arrays(self) -> dict[str, np.ndarray]:
        kept = {n: a for n, a in self.kept.arrays().items() if n.startswith("weights/")}
        return self.actor.policy.arrays() | {f"kept/{name}": array for name, array in kept.items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.kept.restore({n.removeprefix("kept/"): a for n, a in arrays.items() if n.startswith("kept/")})
        self.actor.policy.restore({n: a for n, a in arrays.items() if not n.startswith("kept/")})

"""A policy that criticises answers by a constitution and revises them, and the rows that teach it to.

A request stands behind the answer as another turn: prompt, answer, request, critique; then, if the critique is not
clean, the request for a revision and the revision. What a formal principle decides is what its critique should say; a
revision of an answer that breaks it is another answer to the same prompt that keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alexandra.rng import Stream
from alexandra.train.lm.batch import Row
from alexandra.train.lm.chat import Message
from alexandra.train.lm.constitution import Constitution, Principle
from alexandra.train.lm.dialogue import Dialogue
from alexandra.train.lm.policy import Policy
from alexandra.train.lm.rewards import Answer
from alexandra.train.lm.rollout import Sampler
from alexandra.train.lm.sampling import Sampling

Turns = tuple[Message, ...]


@dataclass(frozen=True)
class Critic:
    """`sampler` asks `policy`, which criticises; critiques are greedy, of at most `critique_tokens`."""

    constitution: Constitution
    dialogue: Dialogue
    policy: Policy
    sampler: Sampler
    revision: Sampling
    critique_tokens: int

    def critiques(self, principle: Principle, prompts: Sequence[Turns], answers: Sequence[str]) -> list[str]:
        """What the policy says of each answer; "" where it finds it clean. An empty answer is not judged: clean."""
        asked = [i for i, answer in enumerate(answers) if answer]
        found = [""] * len(answers)
        plain = Sampling(self.critique_tokens, 0.0, stop=self.revision.stop)
        turns = [_asking(prompts[i], answers[i], principle) for i in asked]
        for i, text in zip(asked, self._ask(turns, plain), strict=True):
            found[i] = "" if text.strip() == self.constitution.clean else text
        return found

    def revised(
        self, principle: Principle, prompts: Sequence[Turns], answers: Sequence[str], stream: Stream
    ) -> list[str]:
        """Each answer, rewritten where the policy's critique is not clean (and says something)."""
        critiques = self.critiques(principle, prompts, answers)
        asked = [i for i, critique in enumerate(critiques) if critique]
        turns = [_revising(prompts[i], answers[i], principle, critiques[i]) for i in asked]
        found = list(answers)
        for i, text in zip(asked, self._ask(turns, self.revision, [stream.at(i) for i in asked]), strict=True):
            found[i] = text or answers[i]
        return found

    def _ask(self, turns: Sequence[Turns], sampling: Sampling, streams: Sequence[Stream] = ()) -> list[str]:
        if not turns:
            return []
        greedy = [Stream(0, 0)] * len(turns)  # never drawn from
        drawn = self.sampler([self.dialogue.prompt(one) for one in turns], sampling, list(streams) or greedy)
        return [self.dialogue.tokenizer.decode(one.tokens) for one in drawn]

    def lessons(self, prompt: Turns, drafts: Sequence[str], stream: Stream) -> list[Row]:
        """What formal principles teach from several drafts of one prompt: critiques, revisions, and the first draft.

        Of each draft a broken principle and a kept one (drawn, where there are several); a revision where another draft
        keeps what this one breaks: the one that breaks least.
        """
        text, formal = prompt[-1].content, self.constitution.formal
        drafts = [draft for draft in dict.fromkeys(drafts) if draft]
        reasons = {draft: {p.name: self.constitution.broken(p, text, draft) for p in formal} for draft in drafts}
        faults = {draft: sum(map(bool, own.values())) for draft, own in reasons.items()}
        best = sorted(drafts, key=lambda draft: faults[draft])
        rows = [self.dialogue.answer(prompt, draft) for draft in drafts[:1]]
        for number, draft in enumerate(drafts):
            own, draws = reasons[draft], stream.at(number).uniform(2)
            for is_broken, u in zip((True, False), draws.tolist(), strict=True):
                among = [principle for principle in formal if bool(own[principle.name]) is is_broken]
                if not among:
                    continue
                principle = among[int(u * len(among))]
                critique = own[principle.name] or self.constitution.clean
                rows.append(self.dialogue.answer(_asking(prompt, draft, principle), critique))
                better = next((other for other in best if not reasons[other][principle.name]), None)
                if is_broken and better is not None and faults[better] < faults[draft]:
                    rows.append(self.dialogue.answer(_revising(prompt, draft, principle, critique), better))
        return rows


class CriticJudge:
    """1 where the critic finds nothing to criticise by one principle, else 0: the reward of RL from AI feedback."""

    def __init__(self, critic: Critic, principle: Principle) -> None:
        self.critic, self.principle, self.name = critic, principle, principle.name

    def judge(self, answers: Sequence[Answer]) -> list[tuple[float | None, bool]]:
        prompts = [(Message("user", answer.prompt),) for answer in answers]
        found = self.critic.critiques(self.principle, prompts, [answer.completion for answer in answers])
        return [
            (float(not text and bool(answer.completion)), False) for text, answer in zip(found, answers, strict=True)
        ]


def _asking(prompt: Turns, answer: str, principle: Principle) -> Turns:
    return (*prompt, Message("assistant", answer), Message("user", principle.critique))


def _revising(prompt: Turns, answer: str, principle: Principle, critique: str) -> Turns:
    return (*_asking(prompt, answer, principle), Message("assistant", critique), Message("user", principle.revise))


def longest_exchange(constitution: Constitution, dialogue: Dialogue, draft_tokens: int, critique_tokens: int) -> int:
    """How many tokens stand behind a prompt at most: draft, request, critique, request, revision."""
    found = 0
    for principle in constitution.principles:
        turns = _revising((), "", principle, "")
        found = max(found, len(dialogue.prompt(turns)))
    return found + 2 * draft_tokens + critique_tokens

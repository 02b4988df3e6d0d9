"""What a run leaves to be read: the answers of a step with every judge's number, and answers to a few prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from alexandra.rng import derive
from alexandra.train.lm.rollout import Rollouts, Sampler
from alexandra.train.lm.sampling import Sampling
from alexandra.train.lm.tokenizer import Tokenizer

Record = dict[str, Any]


def trace(rollouts: Rollouts) -> list[Record]:
    """One record an answer: prompt, answer, reward (null: abstained), and the number of each judge."""
    found: list[Record] = []
    for row, (text, judged) in enumerate(zip(rollouts.texts, rollouts.judgements, strict=True)):
        prompt = rollouts.tasks[row // rollouts.group].prompt.text
        found.append({"prompt": prompt, "answer": text, "reward": judged.reward, "parts": dict(judged.parts)})
    return found


@dataclass(frozen=True)
class Asked:
    """Prompts that a policy answers now and then, so that a reader sees what it says."""

    prompts: Sequence[tuple[str, Sequence[int]]]
    sampler: Sampler
    sampling: Sampling
    tokenizer: Tokenizer
    seed: int = 0

    def answers(self, number: int) -> list[Record]:
        """An answer to each prompt after step `number`; a draw of its own for each."""
        stream = derive(self.seed, "asked", number)
        given = [list(tokens) for _, tokens in self.prompts]
        drawn = self.sampler(given, self.sampling, [stream.at(i) for i in range(len(given))])
        pairs = zip(self.prompts, drawn, strict=True)
        return [{"prompt": text, "answer": self.tokenizer.decode(one.tokens)} for (text, _), one in pairs]

    def first(self, count: int) -> Asked:
        """The same with its first prompts alone."""
        return replace(self, prompts=list(self.prompts)[:count])

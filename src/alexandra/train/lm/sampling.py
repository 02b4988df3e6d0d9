"""Completions of a policy: the settings, the record, and a plain sampler that every faster one is compared with.

Each row draws from a random stream of its own, so its text does not depend on its neighbours. Log-probabilities are
those of the distribution that the token was drawn from at temperature 1 without truncation, which is what training
compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alexandra.errors import UsageError
from alexandra.objectives.tokens import F64
from alexandra.rng import Stream
from alexandra.train.lm.policy import Policy


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 is greedy; `top_k` 0 and `top_p` 1 truncate nothing. A completion ends with one of `stop`."""

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, got {self.max_tokens!r}")
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UsageError(f"temperature and top_k must be at least 0 and top_p in (0, 1], got {self}")


@dataclass(frozen=True)
class Completion:
    """Tokens drawn after a prompt, ln p of each, and whether a stop token ended them (it is the last token then)."""

    tokens: tuple[int, ...]
    logps: tuple[float, ...]
    stopped: bool


def complete(
    policy: Policy, prompts: Sequence[Sequence[int]], sampling: Sampling, streams: Sequence[Stream]
) -> list[Completion]:
    """One completion per prompt; token t of row i comes from word t of streams[i]."""
    check_prompts(prompts)
    rows = [list(prompt) for prompt in prompts]
    drawn: list[list[int]] = [[] for _ in rows]
    logps: list[list[float]] = [[] for _ in rows]
    words = [stream.uniform(sampling.max_tokens) for stream in streams]
    live = list(range(len(rows)))
    for t in range(sampling.max_tokens):
        if not live:
            break
        logits = policy.next_logits([rows[i] for i in live])
        for i, own in zip(live, logits, strict=True):
            token, logp = draw(own, sampling, float(words[i][t]))
            rows[i].append(token)
            drawn[i].append(token)
            logps[i].append(logp)
        live = [i for i in live if drawn[i][-1] not in sampling.stop]
    return [
        Completion(tuple(tokens), tuple(own), bool(tokens) and tokens[-1] in sampling.stop)
        for tokens, own in zip(drawn, logps, strict=True)
    ]


def check_prompts(prompts: Sequence[Sequence[int]]) -> None:
    """UsageError for a prompt that has no token."""
    if any(not prompt for prompt in prompts):
        raise UsageError("a prompt without a token cannot be continued", hint="start it with the tokenizer's bos")


def draw(logits_V: F64, sampling: Sampling, uniform: float) -> tuple[int, float]:
    """A token by the inverse of the cumulative distribution, and its ln p at temperature 1.

    The distribution is cumulated by token, where it is truncated from the likeliest down.
    """
    shifted = logits_V - logits_V.max()
    logp_V = shifted - np.log(np.exp(shifted).sum())
    if sampling.temperature == 0:
        token = int(np.argmax(logits_V))
        return token, float(logp_V[token])
    p_V = np.exp(shifted / sampling.temperature)
    allowed = truncated(p_V, sampling) if sampling.top_k or sampling.top_p < 1 else np.flatnonzero(p_V)
    edges = np.cumsum(p_V[allowed])
    place = int(np.searchsorted(edges, uniform * edges[-1], side="right"))
    token = int(allowed[min(place, len(allowed) - 1)])
    return token, float(logp_V[token])


def truncated(p_V: F64, sampling: Sampling) -> np.ndarray:
    """The `top_k` likeliest, of these the smallest set of the likeliest with mass `top_p`; likeliest first, ties by
    lower index."""
    order = np.argsort(-p_V, kind="stable")
    kept = order[: sampling.top_k] if sampling.top_k else order
    mass = np.cumsum(p_V[kept]) / p_V[kept].sum()
    return np.asarray(kept[: 1 + int(np.searchsorted(mass, sampling.top_p, side="left"))])

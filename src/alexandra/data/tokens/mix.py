"""Mixing sources by weight: which documents a corpus takes, how often, and in which order.

Weights are shares of tokens. A source is taken in shuffled passes; none is repeated more than `max_passes` times, so
the scarcest source limits the whole, unless `tokens` asks for less. Everything follows from the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alexandra.config import Config
from alexandra.errors import ConfigError, suggest
from alexandra.rng import derive


class MixSettings(Config):
    """weights: source -> share (they are scaled to sum to 1); without any, every document once."""

    weights: Mapping[str, float] = {}
    tokens: int | None = None
    max_passes: float = 1.0


@dataclass(frozen=True)
class Mixture:
    """order: document numbers, one entry for each time a document is taken; tokens: what each source gives."""

    order: np.ndarray
    tokens: Mapping[str, int]


def mix(lengths: np.ndarray, sources: np.ndarray, names: list[str], settings: MixSettings, seed: int) -> Mixture:
    """lengths [documents] in tokens, sources [documents] as places in `names`."""
    available = {name: int(lengths[sources == i].sum()) for i, name in enumerate(names)}
    if not settings.weights:
        order = derive(seed, "mix", "all").permutation(len(lengths))
        return Mixture(order, available)
    unknown = [name for name in settings.weights if name not in names]
    if unknown:
        raise ConfigError(
            f"the mixture names a source {unknown[0]!r} that there is not", hint=suggest(unknown[0], names)
        )
    weights = {name: float(settings.weights.get(name, 0.0)) for name in names}
    if min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ConfigError("the weights of a mixture must not be negative, and not all 0")
    total = sum(weights.values())
    shares = {name: weight / total for name, weight in weights.items()}
    empty = [name for name, share in shares.items() if share and not available[name]]
    if empty:
        raise ConfigError(f"the source {empty[0]!r} has no tokens left to mix", hint="see its drops in the report")
    most = min(available[name] * settings.max_passes / share for name, share in shares.items() if share)
    size = most if settings.tokens is None else min(most, settings.tokens)
    taken, tokens = [], {}
    for place, name in enumerate(names):
        documents = np.flatnonzero(sources == place)
        chosen = _passes(documents, lengths, size * shares[name], (seed, name))
        taken.append(chosen)
        tokens[name] = int(lengths[chosen].sum())
    every = np.concatenate(taken)
    return Mixture(every[derive(seed, "mix", "order").permutation(len(every))], tokens)


def _passes(documents: np.ndarray, lengths: np.ndarray, wanted: float, path: tuple[int, str]) -> np.ndarray:
    """Documents in shuffled passes until their tokens come nearest to `wanted`."""
    out: list[np.ndarray] = []
    left, number = wanted, 0
    while left > 0 and len(documents):
        order = documents[derive(path[0], "mix", path[1], number).permutation(len(documents))]
        sums = np.cumsum(lengths[order])
        if sums[-1] <= left:
            out.append(order)
            left -= float(sums[-1])
            number += 1
            continue
        count = int(np.searchsorted(sums, left))
        short = left - float(sums[count - 1] if count else 0)
        out.append(order[: count + (float(sums[count]) - left <= short)])
        break
    return np.concatenate(out) if out else np.empty(0, np.int64)

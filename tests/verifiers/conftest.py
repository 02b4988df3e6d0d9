"""Claims that the verifiers' tests share: a good two-class model, several classes, numbers, and broken copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from alexandra.records import Claim, Outcomes

Make = Callable[..., Claim]


def two_classes(n: int, sep: float, seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    targets = (rng.random(n) < 0.35).astype(np.int64)
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + sep * targets - sep / 2 - 0.6)))
    columns = {
        "gender": rng.choice(["female", "male"], n),
        "region": rng.choice(["north", "south", "east", "moon"], n, p=[0.4, 0.3, 0.29, 0.01]),
        "age": rng.integers(18, 90, n).astype(str),
    }
    keys = np.array([f"{i:032x}" for i in range(n)])
    return Outcomes(keys, targets, np.stack([1 - p, p], axis=1), ("no", "yes"), columns)


@pytest.fixture
def good() -> Make:
    """good(n, sep, seed, **context) -> a claim about a model of two classes."""

    def make(n: int = 1500, sep: float = 2.0, seed: int = 0, **context: object) -> Claim:
        return Claim("outcomes", two_classes(n, sep, seed), context, "test")

    return make


@pytest.fixture
def shuffled() -> Callable[[Claim], Claim]:
    """The same claim with the answers dealt out to other items: a model that knows nothing."""

    def shuffle(claim: Claim) -> Claim:
        order = np.random.default_rng(99).permutation(claim.content.n)
        return replace(claim, content=replace(claim.content, predictions=claim.content.predictions[order]))

    return shuffle


@pytest.fixture
def numbers() -> Callable[..., Claim]:
    """numbers(n, noise) -> a claim about a regression model."""

    def make(n: int = 400, noise: float = 1.0) -> Claim:
        rng = np.random.default_rng(0)
        targets = rng.normal(size=n) * 3
        keys = np.array([f"{i:032x}" for i in range(n)])
        return Claim("outcomes", Outcomes(keys, targets, targets + noise * rng.normal(size=n)))

    return make

"""The nouns that flow between the parts, frozen: Document, Claim, Verdict, Outcomes, Interval, Scorecard.

Nothing here computes; metrics.py and statistics.py do. Arrays inside a record are never written to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Document:
    """One text on its way from a source to training tokens.

    id        names it in its source: the file and the place in it; unique within a run
    source    the source's name in the recipe, which the mixture goes by
    kind      "prose", "html" (not extracted yet), "code" or "chat": cleaning treats them differently
    metadata  what the source said of it (url, language, licence, label), plain JSON values
    """

    text: str
    id: str
    source: str = ""
    kind: str = "prose"
    metadata: Mapping[str, Any] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True)
class Interval:
    """A measured value with its 95 % interval; `n` is the number of distinct items behind it."""

    value: float
    low: float
    high: float
    n: int = 0

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Outcomes:
    """What a model answered, item by item; row i of every array belongs to the item `keys[i]`.

    keys         unicode [n], the item's content hash (canonical key of the input), unique
    targets      [n], float64 for regression, int64 class index for classification
    predictions  [n] float64 for regression, [n, classes] probabilities for classification
    classes      class labels in the order of the columns; empty for regression
    columns      raw feature columns that checks need (groups), name -> array [n]
    """

    keys: np.ndarray
    targets: np.ndarray
    predictions: np.ndarray
    classes: tuple[str, ...] = ()
    columns: Mapping[str, np.ndarray] = field(default_factory=lambda: EMPTY)
    positive: int = -1

    @property
    def n(self) -> int:
        return len(self.keys)

    @property
    def is_classification(self) -> bool:
        return bool(self.classes)


@dataclass(frozen=True)
class Evidence:
    """How to replay one measurement: the tool, its version, the hash of its input, what it printed."""

    tool: str
    version: str
    input_hash: str
    output: str


@dataclass(frozen=True)
class Claim:
    """Something to verify: `kind` says which typed payload `content` holds.

    kind "outcomes": content is an `Outcomes` and `context` holds the task's settings (metric, thresholds).
    """

    kind: str
    content: Any
    context: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    source: str = ""


@dataclass(frozen=True)
class Verdict:
    """A verifier's answer to one claim.

    `score` in [0, 1], or None when it abstained (`reason` says why). `confidence` in [0, 1]. A `hard`
    verdict with score 0 vetoes. `facts` are named measurements that rules and ACCEPT may read.
    """

    verifier: str
    score: float | None
    confidence: float = 1.0
    reason: str = ""
    hard: bool = False
    evidence: tuple[Evidence, ...] = ()
    facts: Mapping[str, Interval] = field(default_factory=lambda: EMPTY)
    seconds: float = 0.0
    parts: tuple[Verdict, ...] = ()

    @property
    def abstained(self) -> bool:
        return self.score is None

    @property
    def vetoes(self) -> bool:
        return self.hard and self.score == 0.0


@dataclass(frozen=True)
class Scorecard:
    """What was measured of one model on one task; per-item outcomes are kept, because paired tests need them."""

    task: str
    model: str
    metrics: Mapping[str, Interval]
    outcomes: Outcomes
    seed: int
    data_hash: str
    model_hash: str
    parameters: int = 0
    latency_p95_seconds: float = 0.0
    size_bytes: int = 0
    verdicts: tuple[Verdict, ...] = ()

    @property
    def n(self) -> int:
        return self.outcomes.n

"""A registry in a fresh folder, and models of a chosen quality to put into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from alexandra.records import Evidence, Interval, Outcomes, Scorecard, Verdict
from alexandra.registry.artifact import ModelVersion
from alexandra.registry.lifecycle import promote
from alexandra.registry.store import Registry
from alexandra.rng import derive
from alexandra.statistics import interval


def outcomes_of(quality: float, n: int = 400, seed: int = 0, data_seed: int = 0) -> Outcomes:
    """A binary classifier whose score separates the classes by `quality` standard deviations on fixed items."""
    truth = (derive(data_seed, "truth").uniform(n) < 0.4).astype(np.int64)
    score = derive(seed, "score").normal(n) + quality * truth
    positive = 1 / (1 + np.exp(-(score - quality / 2)))
    keys = np.array([f"{data_seed:04x}{i:028x}" for i in range(n)])
    columns = {"gender": np.array(["f", "m"], dtype=object)[truth]}
    return Outcomes(
        keys, truth, np.stack([1 - positive, positive], axis=1), ("No", "Yes"), MappingProxyType(columns), 1
    )


def card_of(outcomes: Outcomes, task: str = "churn", metric: str = "roc_auc") -> Scorecard:
    """Measured for real: the metric and accuracy with intervals, one verdict with a gap."""
    metrics = {name: interval(name, outcomes) for name in dict.fromkeys((metric, "accuracy", "log_loss"))}
    verdict = Verdict(
        "power_dynamics",
        0.9,
        0.8,
        "gaps are small",
        False,
        (Evidence("numpy", "2", "abc", "0.03"),),
        MappingProxyType({"gap(gender, of=tpr)": Interval(0.03, 0.0, 0.08, 400)}),
        0.01,
        (Verdict("part", None, reason="too few"),),
    )
    return Scorecard(task, "m", metrics, outcomes, 7, "data", "model", 1000, 0.002, 0, (verdict,))


Register = Callable[..., ModelVersion]


def register_in(registry: Registry) -> Register:
    """register(name, quality=2.0, task="churn", n=400, seed=0, metric="roc_auc", tags=...) -> ModelVersion."""

    def call(
        name: str = "mlp",
        quality: float = 2.0,
        task: str = "churn",
        n: int = 400,
        seed: int = 0,
        metric: str = "roc_auc",
        **options: object,
    ) -> ModelVersion:
        blobs = {"weights.safetensors": f"weights of {name} {quality} {seed}".encode(), "graph.json": b"{}"}
        scored = card_of(outcomes_of(quality, n, seed), task, metric)
        return registry.register(task, name, blobs, scored, {"seed": seed}, **options)  # type: ignore[arg-type]

    return call


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", actor="tester")


@pytest.fixture
def register(registry: Registry) -> Register:
    return register_in(registry)


@pytest.fixture(scope="session")
def registering() -> Callable[[Registry], Register]:
    return register_in


@pytest.fixture
def outcomes() -> Callable[..., Outcomes]:
    return outcomes_of


@pytest.fixture
def card() -> Callable[..., Scorecard]:
    return card_of


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Four models of two tasks, churn:2 in production; tests only read it."""
    registry = Registry(tmp_path_factory.mktemp("stocked") / "registry", actor="tester")
    register = register_in(registry)
    register("a", 1.0, tags=("CLASSIFY", "FAST"))
    register("b", 3.0, tags=("CLASSIFY",))
    register("a", 3.0, task="spam", tags=("TEXT", "CLASSIFY"))
    register("c", 2.0, task="spam", metric="average_precision")
    promote(registry, "churn:2", force=True, reason="test")
    return registry

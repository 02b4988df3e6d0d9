"""The facts of a version, under the names that conditions and rules read (lang/facts.py).

What was not measured is `Missing` with its reason, never a zero. `metric` is turned so that more is better: as
registered before promotion, as served when a quarantine rule asks.
"""

from __future__ import annotations

import math
import time
from datetime import datetime

from alexandra.lang.conditions import FactValue, Missing
from alexandra.records import Interval
from alexandra.registry.artifact import ModelVersion, improving
from alexandra.registry.serving import Serving

PLACES = ("select", "require", "quarantine")


def facts_of(version: ModelVersion, serving: Serving, place: str = "require") -> dict[str, FactValue]:
    """Canonical fact name -> Interval, number, word, tags, or Missing; `place` is where the condition stands."""
    assert place in PLACES
    accepted = improving(version.metric, version.headline)
    facts: dict[str, FactValue] = {name: _measured(value) for name, value in version.metrics.items()}
    facts |= {
        "metric_name": version.metric,
        "metric": accepted,
        "accepted": accepted,
        "samples": version.samples,
        "parameters": version.parameters,
        "size": version.size_bytes,
        "latency_p95": version.latency_p95 if math.isfinite(version.latency_p95) else Missing("no answer was timed"),
        "age": age_seconds(version),
        "stage": version.stage,
        "tags": version.tags,
        "model_tags": version.tags,
        "served": serving.requests,
        "failed": Missing("no request was served") if serving.failed is None else serving.failed,
    }
    if version.lineage.get("role"):
        facts["role"] = str(version.lineage["role"])
    if place == "quarantine":
        served = serving.metric
        facts["metric"] = (
            improving(version.metric, served) if served else Missing("no answer was compared with the truth")
        )
    return facts


def age_seconds(version: ModelVersion) -> float:
    """Time since the version was registered; never negative, whatever the clock did."""
    return max(0.0, time.time() - datetime.fromisoformat(version.created).timestamp())


def _measured(value: Interval) -> FactValue:
    finite = all(map(math.isfinite, (value.value, value.low, value.high)))
    return value if finite else Missing(f"its value is {value.value:g} [{value.low:g}, {value.high:g}]")

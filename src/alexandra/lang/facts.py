"""The closed table of facts that conditions and scores may read: name, kind, where it is known, meaning.

Every metric of metrics.py is a fact under its own name; parameters stand in brackets (recall_at(10%)).
`place` is where a condition stands: "accept" (a task's check), "select" (WHEN and SCORE of a rule), "require"
(a gate before promotion), "quarantine" (a gate while serving). Anything that is not in the table is refused
when a text is read. Nothing is measured here; tests and the reference page walk the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from alexandra.metrics import METRICS, Metric
from alexandra.records import EMPTY

PLACES = {"accept": "ACCEPT", "select": "WHEN and SCORE", "require": "REQUIRE", "quarantine": "QUARANTINE WHEN"}
STAGES = ("experiment", "production", "quarantine", "archived")
METRIC_NAME = "metric_name"  # beside the facts `metric` and `accepted`: which metric they hold


@dataclass(frozen=True)
class Kind:
    """What sort of thing a fact is: its unit ("" number, "s", "B", "word") and the range of its values."""

    noun: str
    unit: str = ""
    lowest: float = 0.0
    highest: float = math.inf

    @property
    def is_share(self) -> bool:
        """True when values lie in 0..1, so that a percentage means points; elsewhere it is relative."""
        return (self.lowest, self.highest) == (0.0, 1.0)


SHARE = Kind("a share from 0 to 1", highest=1.0)
COUNT = Kind("a count from 0 up")
DURATION = Kind("a duration from 0 up", unit="s")
SIZE = Kind("a size from 0 up", unit="B")
NUMBER = Kind("a number", lowest=-math.inf)
WORD = Kind("a name", unit="word")


@dataclass(frozen=True)
class FactSpec:
    """One row of the table.

    params  parameter -> default (NaN: required); "share" is written in percent and without its name
    values  the allowed values of a word, empty for any
    """

    kind: Kind
    doc: str
    places: tuple[str, ...] = ("accept", "select", "require")
    params: Mapping[str, float] = field(default_factory=lambda: EMPTY, hash=False)
    values: tuple[str, ...] = ()


def metric_fact(metric: Metric) -> FactSpec:
    """The row of a metric."""
    low, high = metric.bounds
    reach = f"from {low:g} to {high:g}".replace("to inf", "up").replace("from -inf up", "of any size")
    noun = f"{'a score' if metric.higher_is_better else 'an error'} {reach}"
    return FactSpec(Kind(noun, lowest=low, highest=high), metric.doc, params=metric.params)


_ALWAYS = tuple(PLACES)
_RANKED = ("select", "require", "quarantine")
_SERVED = ("quarantine",)

FACTS: dict[str, FactSpec] = {
    **{name: metric_fact(row) for name, row in METRICS.items()},
    "metric": FactSpec(
        NUMBER, "the task's own metric, an error negated so that more is better; in QUARANTINE as served", _RANKED
    ),
    "accepted": FactSpec(NUMBER, "`metric` when the model was accepted", _RANKED),
    "samples": FactSpec(COUNT, "distinct items behind the measurement"),
    "parameters": FactSpec(COUNT, "trained numbers in the model"),
    "size": FactSpec(SIZE, "bytes of the stored model"),
    "latency_p95": FactSpec(DURATION, "95th percentile of the time for one answer", _ALWAYS),
    "cost": FactSpec(NUMBER, "price of one answer, in the unit of the budget", _ALWAYS),
    "age": FactSpec(DURATION, "time since the version was registered", _RANKED),
    "stage": FactSpec(WORD, "the version's stage", ("select",), values=STAGES),
    "role": FactSpec(WORD, "the model's role in a pipeline or a service", ("select",)),
    "served": FactSpec(COUNT, "requests answered since promotion", _SERVED),
    "failed": FactSpec(SHARE, "share of those requests that failed", _SERVED),
}

GAP = FactSpec(SHARE, "difference between groups: gap(gender, of=equalized_odds)", ("accept", "require"))


def kind_of(name: str, known: Mapping[str, FactSpec] = FACTS) -> Kind:
    """The kind of the fact or metric `name`, "gap" included."""
    return GAP.kind if name == "gap" else known[name].kind


def means_points(metric_name: str) -> bool:
    """True when a percentage beside this metric means points; otherwise it is relative. Unknown names: points."""
    return metric_name not in METRICS or METRICS[metric_name].is_share

"""What the registry keeps of a model: an immutable, numbered version of a task's specialist, and how it is named.

A ref names versions: "churn" (production), "churn@production" or any stage, "churn@alias", "churn:3",
"churn:latest", "churn/name" and "churn/name:3" (only if that version has that name). Nothing here reads or
writes; store.py does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from alexandra.errors import RegistryError, suggest
from alexandra.metrics import METRICS
from alexandra.records import Interval
from alexandra.storage import content_hash, json_bytes

STAGES = ("experiment", "production", "quarantine", "archived")
LATEST = "latest"

_TASK = re.compile(r"[A-Za-z_][A-Za-z_0-9.-]{0,199}\Z")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z_0-9.+-]{0,199}\Z")
_TAG = re.compile(r"[A-Za-z_][A-Za-z_0-9]{0,99}\Z")
_REF = re.compile(r"(?P<task>[^@:/]+)(?:/(?P<name>[^@:/]+))?(?:@(?P<pointer>[^@:/]+)|:(?P<version>[^@:/]+))?\Z")


@dataclass(frozen=True)
class ModelVersion:
    """One registered model. Only `stage`, `tags` and `aliases` ever change; the rest is as it was registered.

    metrics   name -> Interval, the task's own metric first, facts of verdicts (group gaps) last
    metric    the name of the task's own metric
    samples   distinct items behind the measurement;  latency_p95 in seconds
    blobs     file name -> SHA-256;  scorecard: the SHA-256 of its two objects
    lineage   data hash, seed, task text or hash, network's spec hash, parents: what the caller gave
    """

    id: int
    task: str
    version: int
    name: str
    stage: str
    created: str
    tags: tuple[str, ...]
    metrics: Mapping[str, Interval]
    metric: str
    samples: int
    parameters: int
    size_bytes: int
    latency_p95: float
    blobs: Mapping[str, str]
    scorecard: Mapping[str, str]
    lineage: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        return f"{self.task}:{self.version}"

    @property
    def headline(self) -> Interval:
        """The task's own metric, as it was measured when the version was registered."""
        return self.metrics[self.metric]

    def __str__(self) -> str:
        return f"{self.ref} {self.name} ({self.stage})"


@dataclass(frozen=True)
class AuditEntry:
    """One line of the history: who did what to which version, from which stage to which, why, on what grounds."""

    id: int
    time: str
    actor: str
    action: str
    task: str
    version: int
    origin: str
    target: str
    reason: str
    decision: Mapping[str, Any]


@dataclass(frozen=True)
class Ref:
    """A parsed ref; at most one of `pointer` (a stage or an alias) and `version` (a number or LATEST) is given."""

    task: str
    name: str = ""
    pointer: str = ""
    version: int | str | None = None


def parse_ref(text: str) -> Ref:
    """RegistryError with the grammar when `text` is no ref."""
    match = _REF.match(text.strip())
    version = (match["version"] or "") if match else ""
    is_number = version.isascii() and version.isdecimal() and len(version) <= 18
    if match is None or not (version in ("", LATEST) or is_number):
        raise RegistryError(
            f"{text!r} does not name a version",
            hint="write churn, churn@production, churn@alias, churn:3, churn:latest or churn/name",
        )
    return Ref(
        match["task"], match["name"] or "", match["pointer"] or "", int(version) if is_number else version or None
    )


def check_task(name: str) -> str:
    return _matching(_TASK, name, "task", "a letter first, then letters, digits, underscores, dots, hyphens")


def check_name(name: str) -> str:
    return _matching(_NAME, name, "model's name", "letters, digits and . _ + -")


def check_file(name: str) -> str:
    return _matching(_NAME, name, "file's name", "letters, digits and . _ + -, no folders")


def check_alias(name: str) -> str:
    """An alias must not look like a stage or `latest`, or a ref would mean two things."""
    if name in (*STAGES, LATEST):
        raise RegistryError(f"{name!r} cannot be an alias: it already means something in a ref", hint="choose another")
    return _matching(_TASK, name, "alias", "a letter first, then letters, digits, underscores, dots, hyphens")


def check_stage(stage: str) -> str:
    if stage not in STAGES:
        raise RegistryError(f"unknown stage {stage!r}", hint=suggest(stage, STAGES))
    return stage


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Upper case, each once, in the order given."""
    if isinstance(tags, str):
        raise RegistryError(f"tags are several names, got the one text {tags!r}")
    return tuple(dict.fromkeys(_matching(_TAG, tag, "tag", "letters, digits, underscores").upper() for tag in tags))


def _matching(pattern: re.Pattern[str], name: str, what: str, allowed: str) -> str:
    if not pattern.match(name):
        raise RegistryError(f"{name!r} cannot be a {what}", hint=f"allowed: {allowed}")
    return name


def content_key(task: str, name: str, blobs: Mapping[str, str]) -> str:
    """What makes two registrations the same model: task, name and the bytes of every file."""
    return content_hash(json_bytes({"task": task, "name": name, "blobs": dict(blobs)}))


def higher_is_better(metric: str) -> bool:
    """By the table of metrics; what is not in it counts as a score."""
    base = METRICS.get(metric.partition("(")[0])
    return base.higher_is_better if base is not None else True


def improving(metric: str, value: Interval) -> Interval:
    """`value` turned so that more is better: an error is negated."""
    return value if higher_is_better(metric) else Interval(-value.value, -value.high, -value.low, value.n)


def iso_time(seconds: float) -> str:
    """UTC with microseconds: 2026-01-31T12:00:00.000000Z; sorts as it reads."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

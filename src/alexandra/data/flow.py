"""How documents flow: readers yield them, steps keep, change or drop them, and every loss has a name and is counted.

A reader yields Document, Broken (a record that cannot be read: quarantined) or Skipped (a record that is not meant
to be read, such as a WARC request). A step is a function from a Document to a Document or a Drop. What goes in
equals what comes out plus each named loss, always: `Ledger.check` says so or fails. After datatrove's counted
rejections; nothing vanishes on an exception either, it becomes a Broken with the step's name.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alexandra.records import Document

EXCERPT_CHARS = 160


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be used: `position` says where in its file ("line 12", "byte 3041", "row group 2")."""

    file: str
    position: str
    reason: str
    excerpt: str = ""
    step: str = "read"

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("file", "position", "reason", "excerpt", "step")}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that is sound and not wanted; counted under its reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """A step's decision against a document; the reason is a short fixed word, so that counts mean something."""

    reason: str


Record = Document | Broken | Skipped
Outcome = Document | Drop
Apply = Callable[[Document], Outcome]


@dataclass(frozen=True)
class Step:
    """A named function in the flow."""

    name: str
    apply: Apply


@dataclass
class Ledger:
    """What happened to every record: reading first, then each step. Ledgers add up across files."""

    records: int = 0
    documents: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    failed: dict[str, Counter[str]] = field(default_factory=dict)
    kept: int = 0
    characters_in: int = 0
    characters_out: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def losses(self) -> dict[str, int]:
        """Every named loss: "read: skipped request", "read: broken ...", "gopher_quality: gopher_short_doc"."""
        out = {f"read: broken: {reason}": count for reason, count in self.broken.items()}
        out.update({f"read: skipped: {reason}": count for reason, count in self.skipped.items()})
        for step, reasons in self.dropped.items():
            out.update({f"{step}: {reason}": count for reason, count in reasons.items()})
        for step, reasons in self.failed.items():
            out.update({f"{step}: broken: {reason}": count for reason, count in reasons.items()})
        return dict(sorted(out.items()))

    def check(self) -> None:
        """In = out + each named loss; a difference is our mistake, never the data's."""
        lost = sum(self.losses().values())
        assert self.records == self.kept + lost, f"{self.records} records in, {self.kept} out, {lost} losses named"

    def add(self, other: Ledger) -> None:
        """Count `other` in."""
        for name in ("records", "documents", "kept", "characters_in", "characters_out"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("broken", "skipped"):
            getattr(self, name).update(getattr(other, name))
        for step, seconds in other.seconds.items():
            self.seconds[step] += seconds
        for name in ("dropped", "failed"):
            for step, reasons in getattr(other, name).items():
                getattr(self, name).setdefault(step, Counter()).update(reasons)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without times: equal runs give equal bytes."""
        return {
            "records": self.records,
            "documents": self.documents,
            "kept": self.kept,
            "characters_in": self.characters_in,
            "characters_out": self.characters_out,
            "broken": dict(sorted(self.broken.items())),
            "skipped": dict(sorted(self.skipped.items())),
            "dropped": {step: dict(sorted(reasons.items())) for step, reasons in sorted(self.dropped.items())},
            "failed": {step: dict(sorted(reasons.items())) for step, reasons in sorted(self.failed.items())},
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Ledger:
        ledger = cls(int(body["records"]), int(body["documents"]), kept=int(body["kept"]))
        ledger.characters_in, ledger.characters_out = int(body["characters_in"]), int(body["characters_out"])
        ledger.broken, ledger.skipped = Counter(body["broken"]), Counter(body["skipped"])
        ledger.dropped = {step: Counter(reasons) for step, reasons in body["dropped"].items()}
        ledger.failed = {step: Counter(reasons) for step, reasons in body["failed"].items()}
        return ledger


def flow(
    records: Iterable[Record], steps: Sequence[Step], ledger: Ledger, quarantine: Callable[[Broken], None]
) -> Iterator[Document]:
    """The documents that pass every step, in order. `quarantine` receives what broke, in the reader or in a step."""
    clock = time.perf_counter
    began = clock()
    for record in records:
        ledger.seconds["read"] += clock() - began
        ledger.records += 1
        if isinstance(record, Broken):
            ledger.broken[record.reason.partition(":")[0]] += 1
            quarantine(record)
        elif isinstance(record, Skipped):
            ledger.skipped[record.reason] += 1
        else:
            ledger.documents += 1
            ledger.characters_in += len(record.text)
            kept = _through(record, steps, ledger, quarantine)
            if kept is not None:
                ledger.kept += 1
                ledger.characters_out += len(kept.text)
                yield kept
        began = clock()


def _through(
    document: Document, steps: Sequence[Step], ledger: Ledger, quarantine: Callable[[Broken], None]
) -> Document | None:
    clock = time.perf_counter
    for step in steps:
        began = clock()
        try:
            outcome = step.apply(document)
        except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError, RuntimeError) as error:
            reason = type(error).__name__
            ledger.failed.setdefault(step.name, Counter())[reason] += 1
            broken = Broken(document.id, "", f"{reason}: {error}", excerpt(document.text), step.name)
            quarantine(broken)
            return None
        finally:
            ledger.seconds[step.name] += clock() - began
        if isinstance(outcome, Drop):
            ledger.dropped.setdefault(step.name, Counter())[outcome.reason] += 1
            return None
        document = outcome
    return document


def excerpt(text: str | bytes) -> str:
    """The beginning of a record, printable, for the quarantine file."""
    if isinstance(text, bytes):
        text = text[:EXCERPT_CHARS].decode("utf-8", "replace")
    return text[:EXCERPT_CHARS].encode("utf-8", "replace").decode("utf-8")

"""Runs what the oracle chose: loads verified artifacts once, answers raw rows, attaches the verdict.

The oracle decides who answers, this engine only executes: one specialist, an average of probabilities, a majority
vote, or a pipeline whose stages see the answers before them. Every answer says who gave it and what is known of
that model; for a row that the model was trained on it also gives the out-of-fold answer, because the in-sample one
is worth less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexandra.errors import RegistryError, StorageError, WeightsError, suggest
from alexandra.records import Outcomes
from alexandra.registry.artifact import ModelVersion
from alexandra.registry.oracle import Choice
from alexandra.registry.store import Registry
from alexandra.serve.combine import COMBINE, align, hand_on
from alexandra.storage import parse_json
from alexandra.tables import Table
from alexandra.train.curriculum_code import inputs_of
from alexandra.train.curriculum_specialist import CurriculumSpecialist, proof
from alexandra.train.foreign_specialist import ForeignSpecialist
from alexandra.train.specialist import Specialist
from alexandra.train.text_specialist import TextSpecialist

AnySpecialist = Specialist | ForeignSpecialist | CurriculumSpecialist | TextSpecialist
WORDED = (CurriculumSpecialist, TextSpecialist)  # answer texts, one model at a time
# "kind" in an artifact's specialist.json -> what reads it
KINDS: dict[str, type[AnySpecialist]] = {
    "network": Specialist,
    "foreign": ForeignSpecialist,
    "curriculum": CurriculumSpecialist,
    "text": TextSpecialist,
}


@dataclass(frozen=True)
class Answer:
    """One row's answer.

    value            the label (str), the number, or the text of a curriculum's or a language model's answer
    probability      of that label or text, None for a number;  probabilities: label -> probability
    verdict          what the registry knows of the model that answered; a curriculum's answer is proved beside it
    by               task:version, several when they were combined
    seen             the out-of-fold answer when the row was among the training data, else None
    """

    row: int
    value: str | float
    probability: float | None
    probabilities: Mapping[str, float]
    verdict: str
    by: str
    seen: str | float | None = None


@dataclass(frozen=True)
class Reply:
    """Answers, who gave them and why.

    `truth` is the known target of each row, where the data carries it; `notes` are what should be known beside.
    """

    answers: tuple[Answer, ...]
    choice: Choice
    out: Path | None = None
    truth: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Joint:
    """Probabilities [rows, classes] with their labels, or values [rows] and (); `members` spoke, `notes` say why."""

    raw: np.ndarray
    labels: tuple[str, ...]
    members: tuple[ModelVersion, ...]
    notes: tuple[str, ...] = ()


def read_specialist(blobs: Mapping[str, bytes], *, backend: str = "auto", threads: int = 1) -> AnySpecialist:
    """The specialist of an artifact's files, whatever its kind (a file without one holds a network)."""
    if "specialist.json" not in blobs:
        raise StorageError("the artifact has no 'specialist.json'")
    body = parse_json(blobs["specialist.json"], "specialist.json")
    kind = str(body.get("kind", "network")) if isinstance(body, dict) else ""
    if kind not in KINDS:
        raise StorageError(f"the artifact is of the unknown kind {kind!r}", hint=suggest(kind, KINDS))
    return KINDS[kind].from_blobs(blobs, backend=backend, threads=threads)


class Engine:
    """Answers from one registry; artifacts are loaded on first use and kept."""

    def __init__(self, registry: Registry, *, backend: str = "auto", threads: int = 1) -> None:
        self.registry = registry
        self.backend = backend
        self.threads = threads
        self._loaded: dict[str, AnySpecialist] = {}
        self._seen: dict[str, dict[str, int]] = {}

    def specialist(self, version: ModelVersion) -> AnySpecialist:
        """The model of `version`, its files checked against their hashes."""
        key = f"{version.task}:{version.version}"
        if key not in self._loaded:
            blobs = self.registry.blobs(version)
            self._loaded[key] = read_specialist(blobs, backend=self.backend, threads=self.threads)
        return self._loaded[key]

    def raw(self, choice: Choice, table: Table) -> Joint:
        """What the choice answers, as one: probabilities or values, and who really spoke."""
        if choice.combine == "pipeline":
            return self._pipeline(choice.members, table)
        if choice.combine == "best" or len(choice.members) == 1:
            return self._first_that_works(choice.members, table)
        if choice.combine not in COMBINE:
            raise RegistryError(f"cannot combine by {choice.combine!r}", hint=suggest(choice.combine, COMBINE))
        members = [self.specialist(version) for version in choice.members]
        parts, labels = align([one.predict_raw(table) for one in members], [one.classes for one in members])
        return Joint(COMBINE[choice.combine](parts), labels, choice.members)

    def _first_that_works(self, versions: Sequence[ModelVersion], table: Table) -> Joint:
        """The best one answers; the next stands in for one whose files are damaged, and that is said."""
        notes: list[str] = []
        for position, version in enumerate(versions):
            try:
                member = self.specialist(version)
            except (StorageError, WeightsError) as error:
                if position == len(versions) - 1:
                    raise
                notes.append(f"{versions[position + 1].ref} stands in for {version.ref}: {error.message}")
                continue
            return Joint(member.predict_raw(table), member.classes, (version,), tuple(notes))
        raise AssertionError("a choice has at least one member")

    def _pipeline(self, versions: Sequence[ModelVersion], table: Table) -> Joint:
        """Each stage sees the raw columns and, under its task's name, the answer of every stage before it."""
        for position, version in enumerate(versions):
            member = self.specialist(version)
            raw, labels = member.predict_raw(table), member.classes
            if position < len(versions) - 1:
                table = hand_on(table, version.task, raw, labels)
        return Joint(raw, labels, tuple(versions))

    def predict(self, choice: Choice, table: Table) -> np.ndarray:
        """Labels, values, or texts."""
        if len(choice.members) == 1 and isinstance(member := self.specialist(choice.members[0]), WORDED):
            return member.predict(table)
        joint = self.raw(choice, table)
        raw, labels = joint.raw, joint.labels
        return np.asarray(labels, dtype=object)[raw.argmax(axis=1)] if labels else raw

    def answer(self, choice: Choice, table: Table) -> list[Answer]:
        """One Answer per row of `table` (raw columns; extra ones are ignored)."""
        if len(choice.members) == 1:
            member = self.specialist(choice.members[0])
            if isinstance(member, CurriculumSpecialist):
                return self._proved(choice.members[0], member, table)
            if isinstance(member, TextSpecialist):
                known, by = verdict_of(choice.members[0]), f"{choice.members[0].ref} {member.name}"
                pairs = zip(*member.answers(table), strict=True)
                return [Answer(i, text, float(share), {}, known, by) for i, (text, share) in enumerate(pairs)]
        joint = self.raw(choice, table)
        raw, labels = joint.raw, joint.labels
        speaker = joint.members[-1] if choice.combine == "pipeline" else joint.members[0]
        verdict = "; ".join([verdict_of(speaker), *joint.notes])
        between = " -> " if choice.combine == "pipeline" else " + "
        by = between.join(f"{one.ref} {one.name}" for one in joint.members)
        seen: list[str | float | None] = [None] * table.n_rows
        if len(joint.members) == 1:
            seen = self._out_of_fold(speaker, self.specialist(speaker), table)
        out = []
        for i in range(table.n_rows):
            if labels:
                best = int(raw[i].argmax())
                shares = {label: float(p) for label, p in zip(labels, raw[i], strict=True)}
                out.append(Answer(i, labels[best], float(raw[i][best]), shares, verdict, by, seen[i]))
            else:
                out.append(Answer(i, float(raw[i]), None, {}, verdict, by, seen[i]))
        return out

    def _proved(self, version: ModelVersion, member: CurriculumSpecialist, table: Table) -> list[Answer]:
        """The network's answers as text, each with what the exact engine says of it."""
        values, probability = member.answers(table)
        known, by = verdict_of(version), f"{version.ref} {version.name}"
        return [
            Answer(i, str(value), float(p), {}, f"{known}; {proof(question, str(value))}", by)
            for i, (question, value, p) in enumerate(zip(inputs_of(table), values, probability, strict=True))
        ]

    def _out_of_fold(self, version: ModelVersion, member: AnySpecialist, table: Table) -> list[str | float | None]:
        """For each row the answer it got when it was a test row, None for rows that were never seen.

        Neither a foreign model nor one that answers texts was cross-fitted here: they have no such answers.
        """
        if isinstance(member, ForeignSpecialist | CurriculumSpecialist | TextSpecialist):
            return [None] * table.n_rows
        outcomes: Outcomes = self.registry.scorecard(version).outcomes
        place = self._seen.setdefault(
            f"{version.task}:{version.version}", {str(key): i for i, key in enumerate(outcomes.keys)}
        )
        found = [place.get(str(key)) for key in member.keys(table)]
        return [None if i is None else _label(outcomes, i) for i in found]


def _label(outcomes: Outcomes, i: int) -> str | float:
    if outcomes.classes:
        return outcomes.classes[int(outcomes.predictions[i].argmax())]
    return float(outcomes.predictions[i])


def verdict_of(version: ModelVersion) -> str:
    """ "production; roc_auc 0.995 [0.989, 0.999]": the stage and the first measured metric."""
    name, value = next(iter(version.metrics.items()), ("", ""))
    return f"{version.stage}; {name} {value}" if name else version.stage

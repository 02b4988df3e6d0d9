"""A foreign model as a specialist of a task: raw rows in, the target's classes or values out, files for an artifact.

It has the interface of `train.specialist.Specialist`, which it stands beside in the engine's table of kinds. The
model was fitted elsewhere, so its answers are in the user's own units and labels; they are put in the task's order
here. `adopt` fits a wrapped model to a task's data, `register` measures and keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alexandra.backends.foreign import Foreign, read_foreign
from alexandra.backends.foreign_estimator import frame_of
from alexandra.data.encoder import Encoder
from alexandra.data.target import TargetEncoder
from alexandra.errors import BackendError, DataError, StorageError, suggest
from alexandra.ir.graph import Graph
from alexandra.records import Scorecard
from alexandra.registry.artifact import ModelVersion
from alexandra.registry.store import Registry
from alexandra.storage import content_hash, json_bytes, parse_json
from alexandra.tables import Column, Table
from alexandra.train.evaluate import evaluate_table
from alexandra.train.prepare import Prepared
from alexandra.train.solve import facts_of_run
from alexandra.train.specialist import BLOCK_ROWS, latency_p95

KIND = "foreign"
SCHEMA = 1
SHARE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Columns:
    """Feature columns as they are, in order; `kinds` are theirs in the task's table, so that new rows read alike."""

    features: tuple[str, ...]
    kinds: Mapping[str, str]

    def matrix(self, table: Table) -> np.ndarray:
        """float32 [rows, features]: numbers, booleans as 0 and 1, NaN where missing."""
        return np.stack([column.numbers() for column in self._cast(table)], axis=1).astype(np.float32)

    def frame(self, table: Table) -> Any:
        """A data frame with the types that a CSV reader gives."""
        return frame_of(self.features, [_natural(column) for column in self._cast(table)])

    def cells(self, table: Table) -> np.ndarray:
        """[rows, features] for an estimator that was fitted on an array: float64, objects when there are texts."""
        return np.stack([_natural(column) for column in self._cast(table)], axis=1)

    def _cast(self, table: Table) -> list[Column]:
        return list(table.select(self.features).cast(self.kinds).columns.values())


def _natural(column: Column) -> np.ndarray:
    """float64, bool, datetime64[us], or an object array of texts; NaN where missing, as pandas has it."""
    if column.kind in ("number", "date"):
        return column.values
    truth = np.array([text == "true" for text in column.values.tolist()], dtype=bool)
    if column.kind == "boolean" and not column.missing.any():
        return truth
    values = (truth if column.kind == "boolean" else column.values).astype(object)
    values[column.missing] = np.nan
    return np.asarray(values)


@dataclass
class ForeignSpecialist:
    """One answering foreign model; `facts` are free-form notes that travel with it."""

    name: str
    model: Foreign
    encoder: Encoder | Columns
    target: TargetEncoder
    facts: Mapping[str, Any]

    @property
    def graph(self) -> Graph:
        """BackendError: it has none."""
        return self.model.graph

    @property
    def num_parameters(self) -> int:
        return self.model.num_parameters

    @property
    def classes(self) -> tuple[str, ...]:
        return self.target.classes

    def predict_raw(self, table: Table) -> np.ndarray:
        """Probabilities [rows, classes] for classification, values [rows] for regression, float64."""
        blocks = range(0, max(1, table.n_rows), BLOCK_ROWS)
        parts = [self._answers(table.take(slice(start, start + BLOCK_ROWS))) for start in blocks]
        return self._in_order(np.concatenate(parts).astype(np.float64))

    def predict(self, table: Table) -> np.ndarray:
        """Class labels (str) or values."""
        raw = self.predict_raw(table)
        return np.asarray(self.classes, dtype=object)[raw.argmax(axis=1)] if self.classes else raw

    def latency_p95(self, table: Table, calls: int = 100) -> float:
        """Seconds that 95 % of single raw rows stay under, measured on `calls` rows."""
        return latency_p95(self.predict_raw, table, calls)

    def _answers(self, table: Table) -> np.ndarray:
        if self.model.kind == "torch":
            name = self.model.inside.inputs[0].name
            x = self.encoder.matrix(table) if isinstance(self.encoder, Columns) else self.encoder.transform(table)
        else:
            name = "x"
            if isinstance(self.encoder, Encoder):
                x = self.encoder.transform(table)
            else:
                x = self.encoder.frame(table) if self.model.inside.features else self.encoder.cells(table)
        return next(iter(self.model.forward({name: x}).values()))

    def _in_order(self, answers: np.ndarray) -> np.ndarray:
        """The answers in the order of the task's classes, checked to be probabilities; values as they are."""
        if not self.classes:
            if answers.size != len(answers):
                raise DataError(f"{self.model.words} answers {answers.shape[-1]} values a row; the target has one")
            return answers.reshape(-1)
        answers = answers.reshape(len(answers), -1)
        if self.model.classes:
            answers = self._by_label(answers)
        width = answers.shape[1]
        if width != len(self.classes) and not (width == 1 and len(self.classes) == 2):
            raise DataError(
                f"{self.model.words} answers {width} values a row; the target has the classes {', '.join(self.classes)}"
            )
        raw = self.target.decode(answers)
        off = np.abs(raw.sum(axis=1) - 1.0).max(initial=0.0)
        if not (off <= SHARE_TOLERANCE and raw.min(initial=0.0) >= -SHARE_TOLERANCE):
            raise DataError(
                f"{self.model.words} answers no probabilities (a row sums to {1.0 + off:g})",
                hint='a module that returns logits is wrapped with outputs={"y": "softmax"}',
            )
        return raw

    def _by_label(self, answers: np.ndarray) -> np.ndarray:
        out = np.zeros((len(answers), len(self.classes)))
        for place, label in enumerate(self.model.classes):
            if label not in self.classes:
                raise DataError(
                    f"{self.model.words} answers the class {label!r}; the target {self.target.name!r} has it not",
                    hint=suggest(label, self.classes),
                )
            out[:, self.classes.index(label)] = answers[:, place]
        return out

    def to_blobs(self) -> dict[str, bytes]:
        """The artifact's files; equal models give equal bytes. BackendError when the model cannot be stored."""
        files = self.model.files()
        encoded = isinstance(self.encoder, Encoder)
        body = {
            "schema": SCHEMA,
            "kind": KIND,
            "name": self.name,
            "model": self.model.description(),
            "files": {name: content_hash(data) for name, data in files.items()},
            "encoder": self.encoder.to_dict() if isinstance(self.encoder, Encoder) else None,
            "columns": None if encoded else {name: self.encoder.kinds[name] for name in self.encoder.features},
            "features": list(self.encoder.features),
            "target": self.target.to_dict(),
            "facts": dict(self.facts),
        }
        return {**files, "specialist.json": json_bytes(body)}

    @classmethod
    def from_blobs(cls, blobs: Mapping[str, bytes], *, backend: str = "auto", threads: int = 1) -> ForeignSpecialist:
        """The inverse of `to_blobs`; `backend` must be "auto", a foreign model runs itself."""
        try:
            body = parse_json(blobs["specialist.json"], "specialist.json")
            for name, digest in body["files"].items():
                if content_hash(blobs[name]) != digest:
                    raise StorageError(f"the artifact's file {name!r} is damaged (its checksum does not match)")
            encoder: Encoder | Columns
            if body["encoder"] is not None:
                encoder = Encoder.from_dict(body["encoder"])
            else:
                encoder = Columns(tuple(body["features"]), dict(body["columns"]))
            given = encoder if isinstance(encoder, Encoder) else encoder.features
            model = read_foreign(blobs, body["model"], columns=given, threads=threads)
            found = cls(body["name"], model, encoder, TargetEncoder.from_dict(body["target"]), body["facts"])
        except KeyError as error:
            raise StorageError(f"the artifact has no {error.args[0]!r}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise StorageError(f"'specialist.json' does not describe a foreign model: {error}") from error
        if backend != "auto":
            raise BackendError(f"{model.words} runs itself, not on backend {backend!r}", hint="leave backend= out")
        return found


def adopt(model: Foreign, data: Prepared, name: str = "") -> ForeignSpecialist:
    """`model` as a specialist of the task of `data`; DataError when it is not clear which columns it reads."""
    encoder: Encoder | Columns
    if isinstance(model.encoder, Encoder):
        encoder = model.encoder
        data.table.select(encoder.features)
    else:
        names = model.columns or tuple(data.features)
        table = data.table.select(names)
        if data.target.name in names:
            raise DataError(f"{model.words} reads the target {data.target.name!r} itself")
        encoder = Columns(names, table.kinds)
        _check_width(model, table, named=bool(model.columns))
    return ForeignSpecialist(name or type_name(model), model, encoder, data.target, facts_of_run(data))


def type_name(model: Foreign) -> str:
    """The model's own class name, in lower case."""
    return model.words.rpartition(" ")[2].lower()


def _check_width(model: Foreign, table: Table, *, named: bool) -> None:
    hint = "wrap(..., columns=[...]) names the columns that it reads, in order"
    if model.kind == "torch":
        nodes = model.inside.inputs
        texts = [name for name, kind in table.kinds.items() if kind not in ("number", "boolean", "date")]
        if len(nodes) != 1 or len(nodes[0].attrs["shape"]) != 1:
            raise DataError(f"{model.words} needs one input of one axis to answer rows of a table")
        if texts:
            raise DataError(
                f"{model.words} reads numbers, but column {texts[0]!r} is a {table.kinds[texts[0]]}",
                hint="wrap(..., columns=encoder) with the fitted Encoder that its features come from; " + hint,
            )
        width = nodes[0].attrs["shape"][0]
    else:
        width = model.inside.width
    if isinstance(width, int) and width and width != len(table.names):
        origin = "columns= names" if named else "the task has"
        raise DataError(f"{model.words} reads {width} columns, {origin} {len(table.names)}", hint=hint)


def measured(data: Prepared, specialist: ForeignSpecialist) -> Scorecard:
    """The full scorecard on all rows of `data`, with the hash, size and latency of what is stored."""
    blobs = specialist.to_blobs()
    card = evaluate_table(data, specialist.predict_raw, np.arange(data.table.n_rows), specialist.name)
    return replace(
        card,
        model_hash=content_hash(b"".join(blobs[name] for name in sorted(blobs))),
        parameters=specialist.num_parameters,
        size_bytes=sum(len(blob) for blob in blobs.values()),
        latency_p95_seconds=specialist.latency_p95(data.table.drop([data.target.name])),
    )


def register(registry: Registry, data: Prepared, specialist: ForeignSpecialist) -> ModelVersion:
    """A new version, stage `experiment`, measured on all rows: which ones the model was fitted on is not known here."""
    card = measured(data, specialist)
    lineage = {
        **specialist.facts,
        "folder": os.path.abspath(data.task.folder),
        "foreign": specialist.model.description(),
        "measured_on": "all rows of the task",
    }
    return registry.register(
        data.task.name, specialist.name, specialist.to_blobs(), card, lineage=lineage, tags=data.task.tags
    )

"""A specialist that answers questions in the prefix language; the sibling of train.specialist.Specialist.

The network's own forward gives every answer; the exact engine is asked only to prove an answer, and says so beside it.
Files: graph.json, weights and manifest, training.safetensors, specialist.json with kind "curriculum".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alexandra.backends.base import Model
from alexandra.backends.bind import bind
from alexandra.curriculum.checks import check_value
from alexandra.errors import StorageError
from alexandra.maths import DomainError, key, parse, rational
from alexandra.storage import read_tensors, tensors_bytes
from alexandra.tables import Table
from alexandra.train.curriculum_code import DigitCoder, inputs_of
from alexandra.train.specialist import BLOCK_ROWS, TRAINING, OfGraph, fingerprints, latency_p95, read_files

KIND = "curriculum"
SCHEMA = 1


@dataclass
class CurriculumSpecialist(OfGraph):
    """One answering model.

    facts      free-form notes that travel with it (task text, data hash, seed)
    training   fingerprints of the items that it learnt from or was chosen on, sorted
    """

    name: str
    encoder: DigitCoder
    model: Model
    facts: Mapping[str, Any]
    training: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    @property
    def classes(self) -> tuple[str, ...]:
        """None: answers are numbers."""
        return ()

    def keys(self, table: Table) -> np.ndarray:
        """The canonical key of every question."""
        return np.array([key(text) for text in inputs_of(table)])

    def learnt_from(self, keys: np.ndarray) -> np.ndarray:
        """For each canonical key whether the model was trained on such an item."""
        return np.isin(fingerprints(keys), self.training)

    def answers(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """int64 answers and their probabilities, one a row; DataError for a question that it cannot read."""
        arrays = self.encoder.arrays(self.graph, inputs_of(table))
        name, x = next(iter(arrays.items()))
        blocks = [self.model.forward({name: x[i : i + BLOCK_ROWS]}) for i in range(0, len(x), BLOCK_ROWS)]
        parts = [self.encoder.decode(block) for block in blocks]
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0)
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def predict_raw(self, table: Table) -> np.ndarray:
        """The answers as values [rows], float64."""
        return self.answers(table)[0].astype(np.float64)

    def predict(self, table: Table) -> np.ndarray:
        """The answers as text, an object array."""
        return np.array([str(value) for value in self.answers(table)[0]], dtype=object)

    def latency_p95(self, table: Table, calls: int = 100) -> float:
        """Seconds that 95 % of single questions stay under, reading included, measured on `calls` rows."""
        return latency_p95(self.predict_raw, table, calls)

    def to_blobs(self) -> dict[str, bytes]:
        """The artifact's files; equal specialists give equal bytes."""
        body = {"schema": SCHEMA, "kind": KIND, "encoder": self.encoder.to_dict()}
        return {**self.files(body), TRAINING: tensors_bytes({"fingerprints": self.training})}

    @classmethod
    def from_blobs(cls, blobs: Mapping[str, bytes], *, backend: str = "auto", threads: int = 1) -> CurriculumSpecialist:
        """The inverse of `to_blobs`; WeightsError or StorageError when the files do not belong together."""
        try:
            graph, weights, body = read_files(blobs)
            coder = DigitCoder.from_dict(body["encoder"])
            training = read_tensors(blobs[TRAINING], TRAINING)[0]["fingerprints"]
        except KeyError as error:
            raise StorageError(f"the artifact has no {error.args[0]!r}") from error
        return cls(body["name"], coder, bind(graph, backend, weights=weights, threads=threads), body["facts"], training)


def proof(question: str, answer: str) -> str:
    """What the exact engine says of an answer, in words."""
    try:
        right = rational(parse(question))
    except DomainError as error:
        return f"not proved: {error.message}"
    return "proved by the exact engine" if check_value(answer, right) else f"WRONG: the exact engine has {right}"

"""A specialist: everything that turns raw rows into answers, and nothing else.

Encoder (fitted on training rows), network, weights and the target's coding, written to and read from the
blobs of an artifact. Evaluation, serving and the estimators all predict through `Specialist.predict_raw`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from alexandra.backends.base import Model
from alexandra.backends.bind import bind
from alexandra.data.encoder import Encoder
from alexandra.data.target import TargetEncoder
from alexandra.errors import StorageError
from alexandra.ir.check import graph_from_dict
from alexandra.ir.cost import parameters
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.storage import json_bytes, parse_json, read_tensors, tensors_bytes
from alexandra.tables import Table, row_keys

BLOCK_ROWS, TRAINING = 4096, "training.safetensors"


class OfGraph(Protocol):
    """What answers with a Graph: its size, and the files of the network in an artifact."""

    name: str
    model: Model
    facts: Mapping[str, Any]

    @property
    def graph(self) -> Graph:
        return self.model.graph

    @property
    def num_parameters(self) -> int:
        return parameters(self.graph)

    def files(self, body: Mapping[str, Any]) -> dict[str, bytes]:
        """Weights and manifest, graph.json, and specialist.json: `body` with the name and the facts."""
        facts = self.facts
        weights = self.model.weights.files(self.graph, seed=facts.get("seed"), data_hash=facts.get("data_hash", ""))
        body = {**body, "name": self.name, "facts": dict(facts)}
        return {**weights, "graph.json": json_bytes(self.graph.to_dict()), "specialist.json": json_bytes(body)}


def read_files(blobs: Mapping[str, bytes]) -> tuple[Graph, WeightSet, dict[str, Any]]:
    """Network, weights and the body of `OfGraph.files`. KeyError names a missing file; StorageError, WeightsError."""
    graph = graph_from_dict(parse_json(blobs["graph.json"], "graph.json"))
    return graph, WeightSet.from_files(blobs, graph), parse_json(blobs["specialist.json"], "specialist.json")


@dataclass
class Specialist(OfGraph):
    """One answering model.

    facts      free-form notes that travel with it (task text, data hash, seed)
    training   fingerprints of the rows that it learnt from, sorted (`fingerprints` of their content keys)
    """

    name: str
    encoder: Encoder
    target: TargetEncoder
    model: Model
    facts: Mapping[str, Any]
    training: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    def keys(self, table: Table) -> np.ndarray:
        """The content key of every row, over the columns that the model reads."""
        return row_keys(table, self.encoder.features)

    def learnt_from(self, keys: np.ndarray) -> np.ndarray:
        """For each content key whether the model was trained on such a row."""
        return np.isin(fingerprints(keys), self.training)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.target.classes

    def predict_raw(self, table: Table) -> np.ndarray:
        """Probabilities [rows, classes] for classification, values [rows] for regression, float64."""
        x = self.encoder.transform(table.cast(self.encoder.kinds))
        name = self.graph.inputs[0].name
        parts = [
            next(iter(self.model.forward({name: x[i : i + BLOCK_ROWS]}).values())) for i in range(0, len(x), BLOCK_ROWS)
        ]
        width = len(self.classes) or 1
        y = np.concatenate(parts).astype(np.float64) if parts else np.zeros((0, width))
        return self.target.decode(y)

    def predict(self, table: Table) -> np.ndarray:
        """Class labels (str) or values."""
        raw = self.predict_raw(table)
        return np.asarray(self.classes, dtype=object)[raw.argmax(axis=1)] if self.classes else raw

    def latency_p95(self, table: Table, calls: int = 100) -> float:
        """Seconds that 95 % of single raw rows stay under, encoding included, measured on `calls` rows."""
        return latency_p95(self.predict_raw, table, calls)

    def to_blobs(self) -> dict[str, bytes]:
        """The artifact's files; equal specialists give equal bytes."""
        body = {"schema": 1, "encoder": self.encoder.to_dict(), "target": self.target.to_dict()}
        return {**self.files(body), TRAINING: tensors_bytes({"fingerprints": self.training})}

    @classmethod
    def from_blobs(cls, blobs: Mapping[str, bytes], *, backend: str = "auto", threads: int = 1) -> Specialist:
        """The inverse of `to_blobs`; WeightsError or StorageError when the files do not belong together."""
        try:
            graph, weights, body = read_files(blobs)
            encoder, target = Encoder.from_dict(body["encoder"]), TargetEncoder.from_dict(body["target"])
            training = read_tensors(blobs[TRAINING], TRAINING)[0]["fingerprints"]
        except KeyError as error:
            raise StorageError(f"the artifact has no {error.args[0]!r}") from error
        model = bind(graph, backend, weights=weights, threads=threads)
        return cls(body["name"], encoder, target, model, body["facts"], training)


def latency_p95(predict: Callable[[Table], np.ndarray], table: Table, calls: int) -> float:
    """Seconds that 95 % of `calls` single rows of `table` take; the first call is not counted."""
    rows = [table.take(np.array([i % table.n_rows])) for i in range(calls)]
    predict(rows[0])
    times = []
    for row in rows:
        began = time.perf_counter()
        predict(row)
        times.append(time.perf_counter() - began)
    return float(np.percentile(times, 95))


def fingerprints(keys: np.ndarray) -> np.ndarray:
    """The first 64 bits of content keys (32 hex digits each), uint64 in their order."""
    return np.array([int(str(key)[:16], 16) for key in keys], dtype=np.uint64)

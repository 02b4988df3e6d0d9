"""A specialist that goes on with a text: a small causal language model with its tokenizer, kept and asked like others.

It is measured on texts that it did not learn from: each position is an item, the next token its class, so that accuracy
and log loss have intervals and two models of one tokenizer can be compared item by item. Files: graph.json, weights and
manifest, tokenizer.json, specialist.json with kind "text".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexandra.backends.base import Model
from alexandra.backends.bind import bind
from alexandra.data.tokens.tokenizer import Encoder
from alexandra.errors import DataError, StorageError
from alexandra.metrics import metric
from alexandra.records import Outcomes, Scorecard
from alexandra.registry.artifact import ModelVersion
from alexandra.registry.store import Registry
from alexandra.statistics import interval
from alexandra.storage import content_hash
from alexandra.tables import Table
from alexandra.train.specialist import OfGraph, latency_p95, read_files

KIND, SCHEMA, COLUMN = "text", 1, "text"
METRICS = ("accuracy", "log_loss")


@dataclass
class TextSpecialist(OfGraph):
    """One answering model.

    tokenizer   its tokenizer.json;  end: the token between documents
    context     how many tokens the model reads;  max_tokens: how many it answers at most
    facts       free-form notes that travel with it (data hash, seed)
    """

    name: str
    tokenizer: bytes
    end: str
    model: Model
    context: int
    facts: Mapping[str, Any]
    max_tokens: int = 24

    def __post_init__(self) -> None:
        self.encoder = Encoder(self.tokenizer, self.end)

    @property
    def classes(self) -> tuple[str, ...]:
        """None: answers are texts."""
        return ()

    def keys(self, table: Table) -> np.ndarray:
        """The content hash of every question."""
        return np.array([content_hash(text.encode())[:32] for text in questions(table)])

    def learnt_from(self, keys: np.ndarray) -> np.ndarray:
        """Not known: a corpus is not kept text by text."""
        return np.zeros(len(keys), dtype=bool)

    def next_token(self, windows: np.ndarray) -> np.ndarray:
        """Probabilities [rows, time, vocabulary] of the token after each position of windows [rows, time]."""
        given = {"tokens": windows.astype(np.int32), "segments": np.ones(windows.shape, dtype=np.int32)}
        names = [node.name for node in self.graph.inputs]
        logits = next(iter(self.model.forward({name: given[name] for name in names}).values())).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=-1, keepdims=True))

    def answers(self, table: Table) -> tuple[list[str], np.ndarray]:
        """The most probable continuation of each text, token by token, and the mean probability of its tokens."""
        found = [self._go_on(text) for text in questions(table)]
        return [text for text, _ in found], np.array([share for _, share in found])

    def _go_on(self, text: str) -> tuple[str, float]:
        tokens = [self.encoder.end, *self.encoder.encode([text])[0][:-1].tolist()]
        first, shares = len(tokens), []
        while len(tokens) < first + self.max_tokens:
            after = self.next_token(np.array([tokens[-self.context :]]))[0, -1]
            tokens.append(int(after.argmax()))
            shares.append(float(after.max()))
            if tokens[-1] == self.encoder.end:
                break
        return self.encoder.decode(tokens[first:]), float(np.mean(shares))

    def predict(self, table: Table) -> np.ndarray:
        """The continuations, an object array of texts."""
        return np.array(self.answers(table)[0], dtype=object)

    def predict_raw(self, table: Table) -> np.ndarray:
        """DataError: a text is no number, so such models are neither averaged nor voted on."""
        raise DataError(f"{self.name} answers texts", hint="ask it alone: answer or predict")

    def latency_p95(self, table: Table, calls: int = 10) -> float:
        """Seconds that 95 % of single questions stay under, measured on `calls` rows."""
        return latency_p95(self.predict, table, calls)

    def to_blobs(self) -> dict[str, bytes]:
        """The artifact's files; equal specialists give equal bytes."""
        limits = {"end": self.end, "context": self.context, "max_tokens": self.max_tokens}
        body = {"schema": SCHEMA, "kind": KIND, **limits}
        return {**self.files(body), "tokenizer.json": self.tokenizer}

    @classmethod
    def from_blobs(cls, blobs: Mapping[str, bytes], *, backend: str = "auto", threads: int = 1) -> TextSpecialist:
        """The inverse of `to_blobs`; WeightsError or StorageError when the files do not belong together."""
        try:
            graph, weights, body = read_files(blobs)
            model = bind(graph, backend, weights=weights, threads=threads)
            rest = (body["end"], model, body["context"], body["facts"], body["max_tokens"])
            return cls(body["name"], blobs["tokenizer.json"], *rest)
        except KeyError as error:
            raise StorageError(f"the artifact has no {error.args[0]!r}") from error


def questions(table: Table) -> list[str]:
    """The texts to go on with; DataError when there is no such column."""
    return [str(text) for text in table[COLUMN].texts().tolist()]


def outcomes_of(specialist: TextSpecialist, texts: Sequence[str], limit: int = 2000) -> Outcomes:
    """The model's answers at up to `limit` positions of `texts`, spread evenly; an item is what stands before it."""
    context, end = specialist.context, specialist.encoder.end
    tokens = np.concatenate([np.array([end]), *specialist.encoder.encode(texts)]).astype(np.int64)
    rows = (len(tokens) - 1) // context
    if not rows:
        raise DataError(f"{len(tokens)} tokens of held-out text are less than one context of {context}")
    windows = tokens[: rows * context].reshape(rows, context)
    targets = tokens[1 : rows * context + 1].reshape(rows, context)
    keys: dict[str, tuple[int, int]] = {}
    for row in range(rows):
        for place in range(context):
            keys.setdefault(content_hash(windows[row, : place + 1].tobytes())[:32], (row, place))
    names = list(keys)[:: max(1, -(-len(keys) // limit))]
    row, place = np.array([keys[name] for name in names]).T
    shares = np.concatenate([specialist.next_token(windows[i : i + 1]) for i in range(rows)])[row, place]
    shares /= shares.sum(axis=1, keepdims=True)
    classes = tuple(map(str, range(shares.shape[1])))
    return Outcomes(np.array(names), targets[row, place], shares, classes)


def measured(specialist: TextSpecialist, texts: Sequence[str], task: str) -> Scorecard:
    """Accuracy and log loss of the next token on held-out texts, with the hash, size and latency of what is stored."""
    outcomes, facts = outcomes_of(specialist, texts), specialist.facts
    seed = int(facts.get("seed", 0))
    blobs = specialist.to_blobs()
    return Scorecard(
        task,
        specialist.name,
        {name: interval(metric(name), outcomes, seed=seed) for name in METRICS},
        outcomes,
        seed,
        str(facts.get("data_hash", "")),
        content_hash(b"".join(blobs[name] for name in sorted(blobs))),
        specialist.num_parameters,
        specialist.latency_p95(Table.from_any({COLUMN: [text[:80] for text in texts[:5]]})),
        sum(len(blob) for blob in blobs.values()),
    )


def register(
    registry: Registry, specialist: TextSpecialist, card: Scorecard, *, baseline: float, tags: Sequence[str] = ("TEXT",)
) -> ModelVersion:
    """A new version, stage `experiment`. Its check: the accuracy's lower bound is above `baseline`, that of always
    answering the most frequent token.
    """
    accuracy = card.metrics["accuracy"]
    words = f"accuracy {accuracy} on {card.n:,} held-out positions, the most frequent token alone {baseline:.3f}"
    lineage = {
        **specialist.facts,
        "metric": "accuracy",
        "spec_hash": specialist.graph.spec_hash,
        "check": {"passed": accuracy.low > baseline, "reasons": [words]},
    }
    return registry.register(card.task, specialist.name, specialist.to_blobs(), card, lineage=lineage, tags=tags)

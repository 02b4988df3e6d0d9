"""A quality classifier trained from the user's labels: hashed words and word pairs, logistic regression.

fastText's supervised recipe in spirit (Joulin et al., 2016) as one sparse linear model: small, deterministic,
torch-free, stored as one safetensors file. The score is the probability that the user would keep the text.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexandra import storage
from alexandra.errors import DataError, StorageError

BUCKETS = 1 << 18
SCHEMA = "quality-1"
MOST_WORDS = 3000
_WORD = re.compile(r"\w+|[^\w\s]")


def features(texts: Sequence[str]) -> Any:
    """A sparse matrix [texts, BUCKETS]: counts of hashed words and pairs, log-scaled, rows of length 1."""
    from scipy.sparse import csr_matrix

    starts, places, values = [0], [], []
    for text in texts:
        words = [word.encode("utf-8", "replace") for word in _WORD.findall(text.lower())[:MOST_WORDS]]
        keys = [zlib.crc32(word) for word in words]
        keys += [zlib.crc32(second, key) for key, second in zip(keys, words[1:], strict=False)]
        found, counts = np.unique(np.array(keys, dtype=np.int64) % BUCKETS, return_counts=True)
        weights = 1.0 + np.log(counts)
        places.append(found)
        values.append(weights / max(np.sqrt((weights**2).sum()), 1e-12))
        starts.append(starts[-1] + len(found))
    return csr_matrix((np.concatenate(values), np.concatenate(places), starts), shape=(len(texts), BUCKETS))


@dataclass(frozen=True)
class QualityModel:
    """Weights of the logistic regression over hashed words."""

    weights: np.ndarray
    intercept: float

    @classmethod
    def train(cls, texts: Sequence[str], labels: Sequence[bool], strength: float = 10.0) -> QualityModel:
        """labels: True for texts to keep. Both kinds are needed."""
        if len(texts) != len(labels) or len(set(labels)) != 2:
            raise DataError(
                "a quality classifier needs texts of both labels, one label a text", hint="label some of each"
            )
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=strength, max_iter=200).fit(features(texts), np.asarray(labels, dtype=bool))
        return cls(fitted.coef_[0].astype(np.float32), float(fitted.intercept_[0]))

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Probability of "keep" for each text."""
        return np.asarray(1.0 / (1.0 + np.exp(-(features(texts) @ self.weights.astype(np.float64) + self.intercept))))

    def save(self, path: Path) -> None:
        tensors = {"weights": self.weights, "intercept": np.array([self.intercept])}
        storage.publish(path, storage.tensors_bytes(tensors, {"schema": SCHEMA}))

    @classmethod
    def load(cls, path: Path) -> QualityModel:
        tensors, notes = storage.read_tensors(storage.read_bytes(path), str(path))
        if notes.get("schema") != SCHEMA:
            raise StorageError(f"{str(path)!r} is not a quality model")
        return cls(tensors["weights"], float(tensors["intercept"][0]))

"""An n-gram language model with interpolated modified Kneser-Ney smoothing (Chen & Goodman, 1998; as KenLM's, 2013).

Trained on the user's reference text, used as a perplexity filter. Tables are sorted arrays of 64-bit hashes with
log-probabilities and back-off weights, so a text is scored with a few vector operations and the file is mapped.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from alexandra import storage
from alexandra.errors import DataError, StorageError

_WORD = re.compile(r"\w+|[^\w\s]")
_MULTIPLY = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
SCHEMA = "ngrams-1"
BEGIN, UNKNOWN = 1, 0
MOST_WORDS = 20_000  # of one document; the rest of a long one says no more


def tokens(text: str) -> list[str]:
    """Lower-case words and signs; digits are one word each length, so that numbers do not look rare."""
    return [f"<{len(word)}>" if word.isdigit() else word for word in _WORD.findall(text.lower())]


@dataclass(frozen=True)
class NgramModel:
    """Per order: sorted hashes, log10 probability, log10 back-off (0 for the highest)."""

    order: int
    words: np.ndarray
    hashes: tuple[np.ndarray, ...]
    log_probabilities: tuple[np.ndarray, ...]
    back_offs: tuple[np.ndarray, ...]

    @classmethod
    def train(cls, texts: Iterable[str], order: int = 5) -> NgramModel:
        """Every word of the reference is known; an unknown one gets what smoothing leaves, so noise scores badly."""
        sentences = [tokens(line) for text in texts for line in text.split("\n") if line.strip()]
        if not any(sentences):
            raise DataError("the reference text of an n-gram model is empty", hint="name files with text")
        every = np.fromiter((_hash_word(word) for line in sentences for word in line), dtype=np.uint64)
        words = np.unique(every)
        rows = [_identify(line, words) for line in sentences if line]
        return cls._estimate(order, words, rows)

    @classmethod
    def _estimate(cls, order: int, words: np.ndarray, rows: list[np.ndarray]) -> NgramModel:
        grams = [_grams(rows, n) for n in range(1, order + 1)]  # per order: identifiers [grams, n], counts
        adjusted = [counts for _, counts in grams]
        for n in range(order - 1):  # below the highest order: in how many contexts an n-gram occurs
            adjusted[n] = _left_contexts(grams[n][0], grams[n + 1][0], adjusted[n])
        hashes: list[np.ndarray] = []
        probabilities: list[np.ndarray] = []
        weights: list[np.ndarray] = [np.empty(0)] * order
        vocabulary = len(words) + 1
        for n in range(order):
            identifiers, counts = grams[n][0], adjusted[n].astype(np.float64)
            discount = _discounts(counts)
            taken = discount[np.minimum(counts, 3).astype(np.int64)]
            _, group = np.unique(_hash_rows(identifiers[:, :-1]), return_inverse=True)
            totals = np.bincount(group, counts)[group]
            left = np.bincount(group, taken)[group] / totals
            lower = 1.0 / vocabulary if n == 0 else _find(hashes[-1], _hash_rows(identifiers[:, 1:]), probabilities[-1])
            probability = (counts - taken) / totals + left * lower
            if n:
                contexts, first = np.unique(_hash_rows(identifiers[:, :-1]), return_index=True)
                found = np.ones(len(hashes[-1]))
                found[np.searchsorted(hashes[-1], contexts)] = left[first]
                weights[n - 1] = found
            else:
                unknown = left[0] / vocabulary
            key = _hash_rows(identifiers)
            order_of = np.argsort(key, kind="stable")
            hashes.append(key[order_of])
            probabilities.append(probability[order_of])
        floor = _hash_rows(np.array([[UNKNOWN]], dtype=np.uint64))[0]
        place = int(np.searchsorted(hashes[0], floor))
        hashes[0] = np.insert(hashes[0], place, floor)
        probabilities[0] = np.insert(probabilities[0], place, unknown)
        weights[0] = np.insert(weights[0] if order > 1 else np.ones(len(words)), place, 1.0)
        logs = tuple(np.log10(values).astype(np.float32) for values in probabilities)
        backs = tuple(np.log10(values).astype(np.float32) for values in weights[:-1])
        return cls(order, words, tuple(hashes), logs, backs)

    def perplexity(self, text: str) -> float:
        """10 to the mean negative log10 probability of the words; infinity for a text without words."""
        rows = [_identify(line, self.words) for line in map(tokens, text.split("\n")) if line]
        if not rows:
            return math.inf
        scores = self._scores(rows)
        return float(10.0 ** -(scores.sum() / len(scores)))

    def _scores(self, rows: list[np.ndarray]) -> np.ndarray:
        """log10 probability of every word after its context; one pass per order, longest match wins."""
        pad = self.order - 1
        line = np.concatenate([np.concatenate([np.full(pad, BEGIN, np.uint64), row]) for row in rows])[:MOST_WORDS]
        real = np.concatenate([np.r_[np.zeros(pad, bool), np.ones(len(row), bool)] for row in rows])[:MOST_WORDS]
        places = np.flatnonzero(real)
        total = np.zeros(len(places))
        done = np.zeros(len(places), bool)
        for n in range(self.order, 0, -1):
            open_places = np.flatnonzero(~done)
            if not len(open_places):
                break
            window = line[places[open_places][:, None] + np.arange(1 - n, 1)]
            found, where = _lookup(self.hashes[n - 1], _hash_rows(window))
            hit = open_places[found]
            total[hit] += self.log_probabilities[n - 1][where[found]]
            done[hit] = True
            if n > 1:
                known, place = _lookup(self.hashes[n - 2], _hash_rows(window[:, :-1]))
                missed = ~found & known
                total[open_places[missed]] += self.back_offs[n - 2][place[missed]]
        return total

    def save(self, path: Path) -> None:
        """One safetensors file."""
        tensors = {"words": self.words}
        for n in range(self.order):
            tensors[f"hashes.{n + 1}"] = self.hashes[n]
            tensors[f"log_probabilities.{n + 1}"] = self.log_probabilities[n]
            if n < self.order - 1:
                tensors[f"back_offs.{n + 1}"] = self.back_offs[n]
        storage.publish(path, storage.tensors_bytes(tensors, {"schema": SCHEMA, "order": str(self.order)}))

    @classmethod
    def load(cls, path: Path) -> NgramModel:
        tensors, notes = storage.read_tensors(storage.read_bytes(path), str(path))
        if notes.get("schema") != SCHEMA:
            raise StorageError(f"{str(path)!r} is not an n-gram model")
        orders = range(1, int(notes["order"]) + 1)
        hashes = tuple(tensors[f"hashes.{n}"] for n in orders)
        logs = tuple(tensors[f"log_probabilities.{n}"] for n in orders)
        return cls(len(hashes), tensors["words"], hashes, logs, tuple(tensors[f"back_offs.{n}"] for n in orders[:-1]))


@lru_cache(maxsize=1 << 18)
def _hash_word(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _identify(line: list[str], words: np.ndarray) -> np.ndarray:
    """Identifiers of words: 2 + place in the sorted vocabulary, UNKNOWN otherwise."""
    hashed = np.fromiter((_hash_word(word) for word in line), dtype=np.uint64, count=len(line))
    found, where = _lookup(words, hashed)
    return np.where(found, where + 2, UNKNOWN).astype(np.uint64)


def _hash_rows(rows: np.ndarray) -> np.ndarray:
    """One 64-bit hash for each row of identifiers."""
    out = np.full(len(rows), rows.shape[1], dtype=np.uint64)
    for column in range(rows.shape[1]):
        out = (out ^ (rows[:, column] + np.uint64(1))) * _MULTIPLY
        out = (out ^ (out >> np.uint64(29))) * _MIX
    return out


def _lookup(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(keys):
        return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.int64)
    where = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return keys[where] == wanted, where


def _find(keys: np.ndarray, wanted: np.ndarray, values: np.ndarray) -> np.ndarray:
    found, where = _lookup(keys, wanted)
    assert found.all(), "the tail of an n-gram is an n-gram"
    return np.asarray(values[where])


def _grams(rows: list[np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct n-grams and their counts; a line is padded with n - 1 beginnings."""
    pad = np.full(n - 1, BEGIN, np.uint64)
    windows = [np.lib.stride_tricks.sliding_window_view(np.concatenate([pad, row]), n) for row in rows]
    every = np.concatenate(windows)
    _, first, counts = np.unique(_hash_rows(every), return_index=True, return_counts=True)
    return every[first], counts


def _left_contexts(lower: np.ndarray, higher: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How many distinct words precede each n-gram; one that begins a line keeps its own count."""
    tails, contexts = np.unique(_hash_rows(higher[:, 1:]), return_counts=True)
    found, where = _lookup(tails, _hash_rows(lower))
    starts = (lower[:, 0] == BEGIN) if lower.shape[1] > 1 else np.zeros(len(lower), bool)
    return np.where(found & ~starts, contexts[where], counts)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Chen and Goodman's three discounts from the counts of counts; [0, D1, D2, D3+]."""
    n1, n2, n3, n4 = (float((counts == k).sum()) for k in (1, 2, 3, 4))
    if not n1 or not n2:
        return np.array([0.0, 0.5, 0.75, 0.9])
    y = n1 / (n1 + 2 * n2)
    raw = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3 if n3 else 1.5]
    return np.array([0.0, *(min(max(value, 0.1), k - 0.05) for k, value in enumerate(raw, 1))])

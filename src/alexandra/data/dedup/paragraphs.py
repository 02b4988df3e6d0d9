"""Paragraphs that repeat across documents, such as licences and notices: the first copy stays, later ones go.

A paragraph is what stands between line ends; short ones are left alone. A document that shrinks below a length is
dropped whole, under its own reason.
"""

from __future__ import annotations

import hashlib

import numpy as np

from alexandra.config import Config


class Paragraphs(Config):
    """min_characters: a shorter paragraph may repeat; max_copies: how many may stay; min_left: of a document's text."""

    min_characters: int = 80
    max_copies: int = 1
    min_left: int = 50


def paragraph_hashes(text: str, settings: Paragraphs) -> np.ndarray:
    """uint64, one for each paragraph that is long enough, in order."""
    out = [_hash(part) for part in text.split("\n") if len(part) >= settings.min_characters]
    return np.array(out, dtype=np.uint64)


def _hash(paragraph: str) -> int:
    words = " ".join(paragraph.lower().split())
    return int.from_bytes(hashlib.blake2b(words.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def surplus(parts: list[np.ndarray], settings: Paragraphs) -> list[np.ndarray]:
    """For each array of hashes, in corpus order: True where the paragraph has occurred max_copies times already."""
    every = np.concatenate([np.empty(0, np.uint64), *parts])
    order = np.argsort(every, kind="stable")
    ranked = every[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.empty(0, np.int64)
    rank = np.arange(len(ranked)) - np.repeat(starts, np.diff(np.r_[starts, len(ranked)]))
    over = np.zeros(len(every), dtype=bool)
    over[order] = rank >= settings.max_copies
    return np.split(over, np.cumsum([len(part) for part in parts])[:-1])


def without(text: str, gone: np.ndarray, settings: Paragraphs) -> str:
    """`text` without the paragraphs marked in `gone`, which lines up with `paragraph_hashes`."""
    marks = iter(gone.tolist())
    kept = [part for part in text.split("\n") if len(part) < settings.min_characters or not next(marks)]
    return "\n".join(kept).strip("\n")

"""Texts as hashed counts of words and word pairs, and of words that a prompt and an answer share; no vocabulary.

A text with the separator is a prompt and an answer: each side has its own features, and so has what they have in common
(Weinberger et al. 2009 for the hashing). What a scorer reads where no pretrained weights are at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

SEPARATOR = " [SEP] "
WIDTH = 1 << 13
NEGATIONS = frozenset(("no", "not", "never", "none", "nothing", "cannot", "n't"))


@cache
def _hashing() -> Any:
    from sklearn.feature_extraction import FeatureHasher

    return FeatureHasher(WIDTH, input_type="string")


def _tokens(text: str) -> list[str]:
    prompt, found, answer = text.lower().partition(SEPARATOR.lower())
    if not found:
        prompt, answer = "", prompt
    words, asked = answer.split()[:2000], prompt.split()[:2000]
    out = [f"a:{word}" for word in words] + [f"b:{x}_{y}" for x, y in zip(words, words[1:], strict=False)]
    out += [f"q:{word}" for word in asked]
    shared = set(words) & set(asked)
    out += [f"s:{word}" for word in shared] + [
        f"new:{len(set(words) - shared) // 2}",
        f"length:{len(words).bit_length()}",
    ]
    negated = sum(word in NEGATIONS for word in words) % 2, sum(word in NEGATIONS for word in asked) % 2
    return [*out, f"negation:{negated}"]


def features(texts: Sequence[str]) -> np.ndarray:
    """float32 [texts, WIDTH], each row of length 1."""
    counts = _hashing().transform(_tokens(text) for text in texts).toarray()
    signed = np.sign(counts) * np.log1p(np.abs(counts))
    norms = np.linalg.norm(signed, axis=1, keepdims=True)
    return np.ascontiguousarray(signed / np.where(norms > 0, norms, 1), dtype=np.float32)

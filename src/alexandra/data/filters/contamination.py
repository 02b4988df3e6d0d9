"""Decontamination: drop documents that share a long run of words with a named evaluation set.

Words are lower-case letters and digits only, so quotes and layout do not hide a copy; 13 words by default, as in
GPT-3's report. An item shorter than that is looked for whole. The reason names the set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_WORD = re.compile(r"[^\W_]+")
RUN_WORDS = 13
MIN_WORDS = 6


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


class Contamination:
    """The runs of words of evaluation sets."""

    def __init__(self, sets: Mapping[str, Iterable[str]], run_words: int = RUN_WORDS) -> None:
        self._runs: dict[int, dict[int, str]] = {}
        self.skipped_items = 0
        for name, items in sets.items():
            for item in items:
                words = words_of(item)
                size = min(run_words, len(words))
                if size < MIN_WORDS:  # "yes" and "42" are everywhere
                    self.skipped_items += 1
                    continue
                runs = self._runs.setdefault(size, {})
                for start in range(len(words) - size + 1):
                    runs.setdefault(hash(tuple(words[start : start + size])), name)
        self.run_words = run_words

    def found(self, text: str) -> str:
        """The name of the first set that `text` shares a run with, or ""."""
        words = words_of(text)
        for size, runs in sorted(self._runs.items(), reverse=True):
            for start in range(len(words) - size + 1):
                name = runs.get(hash(tuple(words[start : start + size])))
                if name is not None:
                    return name
        return ""

"""Gopher's quality and repetition rules (Rae et al., "Scaling Language Models", 2021, section A1.1).

Decisions and reasons equal datatrove's filters of the same names on English text; docs/data.md lists the two intended
differences. Pure functions of a text: "" means keep, anything else is the reason to drop it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import cast

import numpy as np

from alexandra.config import Config
from alexandra.data.filters.words import english

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
TERMINALS = (
    "!.?\u0589\u061d\u061e\u061f\u06d4\u0700\u0701\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362\u1367\u1368"
    "\u166e\u1735\u1736\u17d4\u17d5\u17d6\u17d9\u17da\u1803\u1809\u1944\u1945\u1aa8\u1aa9\u1aaa\u1aab\u1b5a\u1b5b\u1b5e\u1b5f"
    "\u1b7d\u1b7e\u1c3b\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047\u2048\u2049\u2e2e\u2e3c\u2e53\u2e54\u3002\ua4ff\ua60e\ua60f\ua6f3"
    "\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d\uaa5e\uaa5f\uaaf0\uaaf1\uabeb\ufe52\ufe56\ufe57\uff01\uff0e\uff1f"
    "\uff61\U00010a56\U00010a57\U00010f55\U00010f56\U00010f57\U00010f58\U00010f59\U00010f86\U00010f87\U00010f88\U00010f89"
    "\U00011047\U00011048\U000110be\U000110bf\U000110c0\U000110c1\U00011141\U00011142\U00011143\U000111c5\U000111c6\U000111cd"
    "\U000111de\U000111df\U00011238\U00011239\U0001123b\U0001123c\U000112a9\U0001144b\U0001144c\U000115c2\U000115c3\U000115c9"
    "\U000115ca\U000115cb\U000115cc\U000115cd\U000115ce\U000115cf\U000115d0\U000115d1\U000115d2\U000115d3\U000115d4\U000115d5"
    "\U000115d6\U000115d7\U00011641\U00011642\U0001173c\U0001173d\U0001173e\U00011944\U00011946\U00011a42\U00011a43\U00011a9b"
    "\U00011a9c\U00011c41\U00011c42\U00011ef7\U00011ef8\U00011f43\U00011f44\U00016a6e\U00016a6f\U00016af5\U00016b37\U00016b38"
    "\U00016b44\U00016e98\U0001bc9f\U0001da88"
)
SIGNS = frozenset(
    TERMINALS
    + "\"#$%&'()*+,-/:;<=>@[\\]^_`{|}~\xab\xb4\xbb\u2013\u2014\u2019\u201c\u201d\u201e\u2026\u2236\u2501\u25ba"
    "\u3001\u3008\u3009\u300a\u300b\u300c\u300d\u3010\u3011\uff05\uff08\uff09\uff0c\uff11\uff1a\uff1b\uff5e"
    + "".join(chr(code) for code in (*range(9), *range(11, 32), *range(127, 160)))
)
_PARAGRAPHS = re.compile(r"\n{2,}")
_LINES = re.compile(r"\n+")
SHORT = 200  # words; below it counting one by one is faster than sorting numbers
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64


class GopherQuality(Config):
    """Thresholds; None switches a rule off."""

    min_words: int | None = 50
    max_words: int | None = 100_000
    min_mean_word_length: float | None = 3
    max_mean_word_length: float | None = 10
    max_symbol_ratio: float | None = 0.1
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic_words: float | None = 0.8
    min_stop_words: int | None = 2
    stop_words: tuple[str, ...] = STOP_WORDS

    def reason(self, text: str) -> str:
        words = english().words(text)
        lengths = [len(word) for word in words if word[0] not in SIGNS or any(sign not in SIGNS for sign in word)]
        if self.min_words and len(lengths) < self.min_words:
            return "gopher_short_doc"
        if self.max_words and len(lengths) > self.max_words:
            return "gopher_long_doc"
        if not lengths:
            return "gopher_short_doc"
        mean = sum(lengths) / len(lengths)
        if self.min_mean_word_length and mean < self.min_mean_word_length:
            return "gopher_below_avg_threshold"
        if self.max_mean_word_length and mean > self.max_mean_word_length:
            return "gopher_above_avg_threshold"
        return self._symbols(text, len(words)) or self._lines(text) or self._vocabulary(words)

    def _symbols(self, text: str, num_words: int) -> str:
        if not self.max_symbol_ratio:
            return ""
        if text.count("#") / num_words > self.max_symbol_ratio:
            return "gopher_too_many_hashes"
        ellipses = text.count("...") + text.count("…")
        return "gopher_too_many_ellipsis" if ellipses / num_words > self.max_symbol_ratio else ""

    def _lines(self, text: str) -> str:
        lines = text.splitlines()
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
        if self.max_bullet_lines and bullets / len(lines) > self.max_bullet_lines:
            return "gopher_too_many_bullets"
        trailing = sum(line.rstrip().endswith(("...", "…")) for line in lines)
        if self.max_ellipsis_lines and trailing / len(lines) > self.max_ellipsis_lines:
            return "gopher_too_many_end_ellipsis"
        return ""

    def _vocabulary(self, words: list[str]) -> str:
        alphabetic = sum(word[0].isalpha() or any(map(str.isalpha, word)) for word in words)
        if self.min_alphabetic_words and alphabetic / len(words) < self.min_alphabetic_words:
            return "gopher_below_alpha_threshold"
        if self.min_stop_words and len(set(self.stop_words).intersection(words)) < self.min_stop_words:
            return "gopher_enough_stop_words"
        return ""


def duplicates(parts: Iterable[str]) -> tuple[int, int]:
    """How many parts occurred before, and their characters."""
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count += 1
            characters += len(part)
        else:
            seen.add(part)
    return count, characters


class GopherRepetition(Config):
    """Table A1 of the paper; None or 0 switches a rule off."""

    max_duplicate_lines: float | None = 0.3
    max_duplicate_paragraphs: float | None = 0.3
    max_duplicate_line_characters: float | None = 0.2
    max_duplicate_paragraph_characters: float | None = 0.2
    top_grams: tuple[float, ...] = (0.2, 0.18, 0.16)
    duplicate_grams: tuple[float, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)

    def reason(self, text: str) -> str:
        if not text:
            return "empty"
        return self._parts(text) or self._grams(text)

    def _parts(self, text: str) -> str:
        paragraphs = _PARAGRAPHS.split(text.strip())
        count, characters = duplicates(paragraphs)
        if self.max_duplicate_paragraphs and count / len(paragraphs) > self.max_duplicate_paragraphs:
            return "dup_para_frac"
        if self.max_duplicate_paragraph_characters and characters / len(text) > self.max_duplicate_paragraph_characters:
            return "dup_para_char_frac"
        lines = _LINES.split(text)
        count, characters = duplicates(lines)
        if self.max_duplicate_lines and count / len(lines) > self.max_duplicate_lines:
            return "dup_line_frac"
        if self.max_duplicate_line_characters and characters / len(text) > self.max_duplicate_line_characters:
            return "dup_line_char_frac"
        return ""

    def _grams(self, text: str) -> str:
        words = english().words(text)
        for limit, (gram, times) in zip(self.top_grams, _tops(words), strict=False):
            if (sum(map(len, gram)) + len(gram) - 1) * times / len(text) > limit:
                return f"top_{len(gram)}_gram"
        joined = _Joined(words)
        for n, limit in enumerate(self.duplicate_grams, 5):
            if joined.repeated(n) / len(text) > limit:
                return f"duplicated_{n}_n_grams"
        return ""


def _tops(words: Sequence[str]) -> Iterator[tuple[Sequence[str], int]]:
    """The most frequent n-gram of words (of several the one seen first) and how often it is there, for n = 2, 3, ..."""
    if len(words) < SHORT:
        for n in range(2, len(words) + 1):
            yield max(Counter(zip(*(words[i:] for i in range(n)), strict=False)).items(), key=itemgetter(1))
        return
    known: dict[str, int] = {}
    numbers = np.fromiter((known.setdefault(word, len(known)) for word in words), np.int64, len(words))
    grams = numbers  # an n-gram's number is that of the pair of its first n - 1 words and its last
    for n in range(2, len(words) + 1):
        pairs = grams[:-1] * len(words) + numbers[n - 1 :]
        _, first, grams, times = np.unique(pairs, return_index=True, return_inverse=True, return_counts=True)
        most = times.max()
        place = int(first[times == most].min())
        yield words[place : place + n], int(most)


class _Joined:
    """Words without what is between them; in long texts a hash tells which runs of them can be equal."""

    def __init__(self, words: Sequence[str]) -> None:
        self._text = "".join(words)
        self._places = list(accumulate(map(len, words), initial=0))
        self._hashed = len(words) >= SHORT
        if self._hashed:
            codes = np.frombuffer(self._text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
            self._edges = np.asarray(self._places)
            with np.errstate(over="ignore"):
                self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * _powers(_BASE, len(codes)))])
                self._shifts = _powers(pow(_BASE, -1, 2**64), len(codes) + 1)

    def repeated(self, n: int) -> int:
        """Characters in n-grams that occurred before, each counted once: a repeated one is stepped over whole."""
        seen: set[str] = set()
        repeated = free = 0
        for place in self._candidates(n) if self._hashed else range(len(self._places) - n):
            if place < free:
                continue
            gram = self._text[self._places[place] : self._places[place + n]]
            if gram in seen:
                repeated, free = repeated + len(gram), place + n
            else:
                seen.add(gram)
        return repeated

    def _candidates(self, n: int) -> Iterable[int]:
        """Where n-grams begin whose hash another has too; the others occur once."""
        starts, ends = self._edges[:-n], self._edges[n:]
        with np.errstate(over="ignore"):
            hashes = (self._sums[ends] - self._sums[starts]) * self._shifts[starts]
        _, ids, times = np.unique(hashes, return_inverse=True, return_counts=True)
        return cast(Iterable[int], np.flatnonzero(times[ids] > 1).tolist())


def _powers(base: int, count: int) -> np.ndarray:
    """1, base, base^2, ... modulo 2^64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)

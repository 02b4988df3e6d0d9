"""Words and sentences of English text, split as spaCy's blank English pipeline splits them, without spaCy.

The published thresholds of Gopher, C4 and FineWeb filters are for words of this kind, so counts must agree to the word.
The algorithm is spaCy's (affixes, exceptions, infixes, then exceptions again); its patterns are data in english.json.
A piece between blanks is split once and remembered, which makes it several times faster.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Set
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

REMEMBERED = 300_000
LONGEST_SUFFIX = 5  # characters of the longest sign at a word's end in english.json, rows of full stops apart
LONGEST_PIECE = 300  # a longer piece without a blank is one word: taking signs off one by one would be quadratic
_PIECES = re.compile(r"\S+|\s+")


class Splitter:
    """Splits text with the patterns in `table`; keeps the words of the last text, which filters ask for in turn."""

    def __init__(self, table: dict[str, Any]) -> None:
        self._prefix = re.compile(table["prefix"]).match
        self._ending = re.compile(table["suffix"]).search
        self._infix = re.compile(f"({table['infix']})")
        self._url = re.compile(table["url"]).match
        self._rules: dict[str, list[str]] = {key: joined.split("\0") for key, joined in table["split"].items()}
        self._rules.update({key: [key] for key in table["whole"]})
        self._ends = frozenset(table["sentence_ends"])
        self._known: dict[str, list[str]] = {}
        self._joined: dict[str, list[str]] = {}  # pieces with exceptions that affixes took apart -> their tokens
        self._last: tuple[str, list[str]] = ("", [])
        self._sequences = self._exception_sequences()

    def words(self, text: str) -> list[str]:
        """The words and signs of `text`, in order, without white space."""
        if text is self._last[0]:
            return self._last[1]
        known, out, joined = self._known, [], self._joined
        alone = True
        for piece in text.split():
            found = known.get(piece)
            out += found if found is not None else self._learn(piece)
            alone = alone and piece not in joined
        out = out if alone else self._words_in_context(text)
        self._last = (text, out)
        return out

    def count_sentences(self, text: str) -> int:
        """Sentences that hold more than white space; one ends before the first word after a full stop or the like."""
        count, ended, filled = 0, False, False
        ends = self._ends
        for number, piece in enumerate(_PIECES.findall(text)):
            if piece.isspace():
                # A single blank belongs to the word before it; more white space is a token of its own.
                rest = piece[1:] if number and piece[0] == " " else piece
                tokens = [rest] if rest else []
            else:
                known = self._known.get(piece)
                tokens = known if known is not None else self._learn(piece)
            for token in tokens:
                end = token in ends
                if ended and not end and not _is_punctuation(token):
                    count += filled
                    ended = filled = False
                elif end:
                    ended = True
                filled = filled or not token.isspace()
        return count + filled

    def _learn(self, piece: str) -> list[str]:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
            self._joined.clear()
        tokens = self._split(piece, True)
        found = self._joined_exceptions(tokens)
        if found != tokens:
            self._joined[piece] = tokens
        if len(piece) <= LONGEST_PIECE:
            self._known[piece] = found
        return found

    def _split(self, piece: str, exceptions: bool) -> list[str]:
        rules = self._rules
        if exceptions and piece in rules:
            return rules[piece]
        if len(piece) > LONGEST_PIECE:
            return [piece]
        prefixes: list[str] = []
        suffixes: list[str] = []
        last = 0
        while piece and len(piece) != last:
            if exceptions and piece in rules:
                break
            last = len(piece)
            match = self._prefix(piece)
            before = match.end() - match.start() if match else 0
            if before and exceptions and piece[before:] in rules:
                prefixes.append(piece[:before])
                piece = piece[before:]
                break
            after = self._suffix(piece[before:])
            if after and exceptions and piece[:-after] in rules:
                suffixes.append(piece[-after:])
                piece = piece[:-after]
                break
            if before and after and before + after <= len(piece):
                prefixes.append(piece[:before])
                suffixes.append(piece[-after:])
                piece = piece[before:-after]
            elif before:
                prefixes.append(piece[:before])
                piece = piece[before:]
            elif after:
                suffixes.append(piece[-after:])
                piece = piece[:-after]
        return prefixes + (self._middle(piece, exceptions) if piece else []) + suffixes[::-1]

    def _suffix(self, piece: str) -> int:
        """Characters of the sign at the end of `piece`."""
        match = self._ending(piece, 0 if piece.endswith("..") else max(0, len(piece) - LONGEST_SUFFIX))
        return match.end() - match.start() if match else 0

    def _middle(self, piece: str, exceptions: bool) -> list[str]:
        if exceptions and piece in self._rules:
            return self._rules[piece]
        if piece.isascii() and piece.isalpha():
            return [piece]
        if self._url(piece):
            return [piece]
        parts = self._infix.split(piece)
        if not parts[0]:  # a sign at the very beginning stays with what follows it
            parts[:3] = ["".join(parts[:3])]
        return [part for part in parts if part]

    def _exception_sequences(self) -> dict[tuple[str, str], list[list[str]]]:
        """Exceptions that have affixes, as the tokens that they are split into without exceptions, by the first two."""
        out: dict[tuple[str, str], list[list[str]]] = {}
        for key in self._rules:
            if not key.isspace() and (self._prefix(key) or self._suffix(key) or self._infix.search(key)):
                tokens = self._split(key, False)
                if len(tokens) > 1:
                    out.setdefault((tokens[0], tokens[1]), []).append(tokens)
        return out

    def _words_in_context(self, text: str) -> list[str]:
        """The words of a text some of whose pieces hold exceptions that affixes took apart.

        spaCy looks for those over the whole text, and also across a single blank. What it finds across a blank it does
        not join, but it joins nothing either that overlaps with it.
        """
        tokens: list[str] = []
        first: set[int] = set()
        for piece in _PIECES.findall(text):
            if piece.isspace():
                tokens += [] if piece == " " else [piece]  # more white space than a blank is a token of its own
            else:
                first.add(len(tokens))
                tokens += self._joined.get(piece) or self._known.get(piece) or self._learn(piece)
        return [token for token in self._joined_exceptions(tokens, first) if not token.isspace()]

    def _joined_exceptions(self, tokens: list[str], first: Set[int] = frozenset()) -> list[str]:
        """Put exceptions together again that affixes took apart, the longest first; none over a token in `first`."""
        if self._sequences.keys().isdisjoint(pairwise(tokens)):
            return tokens
        found = []
        for start, pair in enumerate(pairwise(tokens)):
            for sequence in self._sequences.get(pair, ()):
                if tokens[start : start + len(sequence)] == sequence:
                    found.append((start, start + len(sequence)))
        if not found:
            return tokens
        seen: set[int] = set()
        chosen: dict[int, int] = {}
        for start, end in sorted(found, key=lambda span: (span[0] - span[1], span[0])):
            if start not in seen and end - 1 not in seen:
                chosen[start] = end
            seen.update(range(start, end))
        out, place = [], 0
        while place < len(tokens):
            end = chosen.get(place, 0)
            end = 0 if first and any(inner in first for inner in range(place + 1, end)) else end
            out += self._rules["".join(tokens[place:end])] if end else [tokens[place]]
            place = end or place + 1
        return out


@cache
def _is_punctuation(token: str) -> bool:
    return all(unicodedata.category(character)[0] == "P" for character in token)


@cache
def english() -> Splitter:
    """The splitter for English, made once in a process."""
    return Splitter(json.loads(files("alexandra.data.filters").joinpath("english.json").read_text(encoding="utf-8")))

"""Best-fit packing: documents into rows of one length, with their boundaries (Ding et al., "Fewer Truncations", 2024).

A document longer than a row is cut into whole rows and a rest; rests and shorter documents go, longest first, into the
fullest row that still has room. Nothing is truncated away. Documents come in windows, so memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alexandra.errors import ConfigError

WINDOW_PIECES = 200_000


@dataclass(frozen=True)
class Piece:
    """tokens start .. start + length of document number `document` (its place in the order that was packed)."""

    document: int
    start: int
    length: int


@dataclass(frozen=True)
class Packing:
    """rows: the pieces of each row, in order."""

    length: int
    rows: list[list[Piece]]

    @property
    def filled(self) -> float:
        """The share of token positions that hold a token."""
        used = sum(piece.length for row in self.rows for piece in row)
        return used / max(1, len(self.rows) * self.length)


def pack(lengths: np.ndarray, length: int, window: int = WINDOW_PIECES) -> Packing:
    """Pack documents of `lengths` tokens into rows of `length`, one window of pieces after the other."""
    if length < 2:
        raise ConfigError(f"a row needs at least 2 tokens, not {length}")
    rows: list[list[Piece]] = []
    waiting: list[Piece] = []
    for piece in _pieces(lengths, length):
        if piece.length == length:
            rows.append([piece])
            continue
        waiting.append(piece)
        if len(waiting) >= window:
            rows += _best_fit(waiting, length)
            waiting = []
    return Packing(length, rows + _best_fit(waiting, length))


def _pieces(lengths: np.ndarray, length: int) -> Iterator[Piece]:
    for document, size in enumerate(lengths.tolist()):
        for start in range(0, size, length):
            yield Piece(document, start, min(length, size - start))


def _best_fit(pieces: list[Piece], length: int) -> list[list[Piece]]:
    """Best-fit decreasing; equal lengths keep their order. `room` has a bit for each amount that some row has left."""
    rows: list[list[Piece]] = []
    by_room: list[list[int]] = [[] for _ in range(length + 1)]
    room = 0
    for piece in sorted(pieces, key=lambda one: -one.length):
        fitting = room >> piece.length
        if fitting:
            left = piece.length + (fitting & -fitting).bit_length() - 1
            number = by_room[left].pop()
            if not by_room[left]:
                room &= ~(1 << left)
            rows[number].append(piece)
            left -= piece.length
        else:
            number, left = len(rows), length - piece.length
            rows.append([piece])
        if left:
            by_room[left].append(number)
            room |= 1 << left
    return rows

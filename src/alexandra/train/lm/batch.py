"""Token rows to arrays: padded or packed, each position with its target, its mask and its document.

Position t of a row reads token t and predicts token t + 1; `mask_BT` is 1 where that next token is learnt. Packing puts
several documents into one row: `segments_BT` numbers them from 1 (0 is padding), and a network that reads them keeps
attention inside a document, so a packed batch gives the losses of the unpacked one. Suffixes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alexandra.errors import DataError

I32 = npt.NDArray[np.int32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One sequence: its tokens, and 1 for each token that is learnt (never the first: nothing predicts it)."""

    tokens: Sequence[int]
    mask: Sequence[int]
    key: str = ""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.mask):
            raise DataError(f"a row has {len(self.tokens)} tokens and a mask of {len(self.mask)}")

    @property
    def positions(self) -> int:
        return max(0, len(self.tokens) - 1)


@dataclass(frozen=True)
class TokenBatch:
    """[B, T] arrays; `rows` counts documents, `places` says where document i stands: (row, first, last + 1)."""

    tokens_BT: I32
    targets_BT: I32
    mask_BT: F64
    segments_BT: I32
    places: tuple[tuple[int, int, int], ...]

    @property
    def rows(self) -> int:
        return len(self.places)

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name."""
        return {
            "tokens": self.tokens_BT,
            "targets": self.targets_BT,
            "mask": self.mask_BT,
            "segments": self.segments_BT,
        }

    def split(self, values_BT: F64) -> list[F64]:
        """Values per document, in the documents' order."""
        return [values_BT[row, first:last] for row, first, last in self.places]


def padded(rows: Sequence[Row], *, pad: int, length: int = 0, left: bool = False) -> TokenBatch:
    """One document a row, padded to the longest (or to `length` positions)."""
    longest = max((row.positions for row in rows), default=0)
    if length and longest > length:
        raise DataError(f"a row has {longest} positions, the batch {length}", hint="cut the rows first: cut(rows, n)")
    width = length or longest
    places = tuple((i, width - row.positions, width) if left else (i, 0, row.positions) for i, row in enumerate(rows))
    return _filled(rows, places, len(rows), width, pad)


def packed(rows: Sequence[Row], *, pad: int, length: int) -> TokenBatch:
    """Documents side by side in rows of `length` positions, best fit decreasing; the order of `places` is the rows'."""
    space: list[int] = []
    where: dict[int, tuple[int, int, int]] = {}
    for i in sorted(range(len(rows)), key=lambda i: (-rows[i].positions, i)):
        need = rows[i].positions
        if need > length:
            raise DataError(f"document {i} has {need} positions, a packed row {length}", hint="cut the rows first")
        fits = [(left, row) for row, left in enumerate(space) if left >= need]
        if fits:
            row = min(fits)[1]
        else:
            row = len(space)
            space.append(length)
        first = length - space[row]
        where[i] = (row, first, first + need)
        space[row] -= need
    return _filled(rows, tuple(where[i] for i in range(len(rows))), len(space), length, pad)


def _filled(
    rows: Sequence[Row], places: tuple[tuple[int, int, int], ...], count: int, width: int, pad: int
) -> TokenBatch:
    tokens = np.full((count, width), pad, np.int32)
    targets = np.full((count, width), pad, np.int32)
    mask = np.zeros((count, width))
    segments = np.zeros((count, width), np.int32)
    inside = [0] * count
    for row, (at, first, last) in zip(rows, places, strict=True):
        inside[at] += 1
        tokens[at, first:last] = row.tokens[:-1] if last > first else []
        targets[at, first:last] = row.tokens[1 : 1 + last - first]
        mask[at, first:last] = row.mask[1 : 1 + last - first]
        segments[at, first:last] = inside[at]
    return TokenBatch(tokens, targets, mask, segments, places)


def cut(rows: Sequence[Row], length: int) -> list[Row]:
    """Rows of at most `length` positions: a longer one keeps its beginning; one that learns nothing then stays out."""
    found = []
    for row in rows:
        short = Row(row.tokens[: length + 1], row.mask[: length + 1], row.key)
        if any(short.mask[1:]):
            found.append(short)
    return found

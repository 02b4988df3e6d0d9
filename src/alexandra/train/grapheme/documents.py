"""What the network reads: derivations of training items as token rows, chunk after chunk, and an epoch's batches.

Chunk n of a level is a pure function of (seed, level, n): its candidates are drawn, those of the training split are
kept, each becomes a document. So items are made while training goes on, none of a held-out split is ever among them,
and a resumed run goes on at the chunk and document where it was. Documents are packed several to a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from alexandra.curriculum.derivation import derivation
from alexandra.curriculum.edge_cases import edge_keys
from alexandra.curriculum.items import TRAIN, split_of
from alexandra.curriculum.levels import level_of
from alexandra.curriculum.questions import question_key
from alexandra.errors import DataError
from alexandra.rng import derive
from alexandra.train.grapheme.tokens import PAD, document
from alexandra.train.lm.batch import Row, TokenBatch, packed

CANDIDATES = 256  # of a chunk
LENGTHS = (64, 160, 320)  # positions of a row; a document goes into the shortest row that holds it


def chunk(seed: int, level: int, number: int) -> list[Row]:
    """The documents of chunk `number`; tokens of the question are not learnt."""
    row = level_of(level)
    held, found = edge_keys(), []
    for question in row.draw(seed, number * CANDIDATES, (number + 1) * CANDIDATES):
        if question is None:
            continue
        name = question_key(question.expr, question.bindings)
        if name in held or split_of(name) != TRAIN:
            continue
        try:
            tokens, asked = document(question, derivation(question, question.hint))
        except DataError:  # a number on the way is longer than the network's
            continue
        if len(tokens) <= LENGTHS[-1]:
            found.append(Row(tokens, [0] * asked + [1] * (len(tokens) - asked), name))
    return found


@dataclass
class Stream:
    """A level's documents in order; the next chunk is made ahead in a thread while the engine works."""

    seed: int
    level: int
    place: tuple[int, int] = (0, 0)  # the chunk, and the document in it, that comes next
    _ahead: dict[int, Future[list[Row]]] = field(default_factory=dict)
    _now: tuple[int, list[Row]] = (-1, [])

    def take(self, tokens: int, maker: ThreadPoolExecutor) -> list[Row]:
        """The next documents until there are that many tokens."""
        found: list[Row] = []
        while tokens > 0:
            number, first = self.place
            rows = self._chunk(number, maker)
            if first >= len(rows):
                self.place = number + 1, 0
                continue
            found.append(rows[first])
            tokens -= rows[first].positions
            self.place = number, first + 1
        return found

    def prepare(self, count: int, maker: ThreadPoolExecutor) -> None:
        """Make the next `count` chunks in the background."""
        first = self.place[0]
        for number in range(first, first + count):
            if number not in self._ahead and number != self._now[0]:
                self._ahead[number] = maker.submit(chunk, self.seed, self.level, number)

    def _chunk(self, number: int, maker: ThreadPoolExecutor) -> list[Row]:
        if self._now[0] != number:
            future = self._ahead.pop(number, None)
            self._now = number, future.result() if future else chunk(self.seed, self.level, number)
            self._ahead = {n: one for n, one in self._ahead.items() if n > number}
        return self._now[1]


def batches(rows: Sequence[Row], height: int, seed: int, epoch: int) -> list[TokenBatch]:
    """Every document once, packed into batches of `height` rows, in an order of the epoch's own."""
    found: list[TokenBatch] = []
    order = derive(seed, "grapheme", "order").at(epoch).permutation(len(rows))
    shuffled = [rows[i] for i in order]
    shortest = 0
    for length in LENGTHS:
        fitting = [row for row in shuffled if shortest < row.positions <= length]
        found += _packed(fitting, length, height)
        shortest = length
    turns = derive(seed, "grapheme", "batches").at(epoch).permutation(len(found))
    return [found[i] for i in turns]


def _packed(rows: list[Row], length: int, count: int) -> list[TokenBatch]:
    """Batches of `count` rows; documents that do not fit into one go to the next."""
    found: list[TokenBatch] = []
    waiting = list(reversed(rows))
    while waiting:
        chosen: list[Row] = []
        room = count * length
        while waiting and waiting[-1].positions <= room:
            chosen.append(waiting.pop())
            room -= chosen[-1].positions
        batch = packed(chosen, pad=PAD, length=length)
        while len(batch.tokens_BT) > count:
            waiting.append(chosen.pop())
            batch = packed(chosen, pad=PAD, length=length)
        found.append(_filled(batch, count))
    return found


def _filled(batch: TokenBatch, count: int) -> TokenBatch:
    """The batch with empty rows at its end, `count` in all: the engine's plan is for one shape."""
    missing = count - len(batch.tokens_BT)
    if not missing:
        return batch
    grown = [np.pad(array, ((0, missing), (0, 0))) for array in batch.arrays().values()]
    return TokenBatch(grown[0], grown[1], grown[2], grown[3], batch.places)

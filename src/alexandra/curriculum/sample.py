"""Distinct items of a level in order: candidates drawn in blocks, each canonical key taken once, split by its key.

Item i of a sample depends on seed, level and split alone: asking for more items only adds to the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from alexandra.curriculum.edge_cases import edge_keys
from alexandra.curriculum.items import SPLITS, TEST_OOD, Item, split_of
from alexandra.curriculum.levels import level_of
from alexandra.curriculum.pins import Level
from alexandra.curriculum.questions import Question, question_key
from alexandra.errors import DataError, suggest

BLOCK = 2_000  # candidates drawn at a time
DRAWS_PER_ITEM = 200  # in vain, before a sample is given up


@dataclass(frozen=True)
class Sample:
    """`count` distinct items of one level, the same in every iteration; `split` "" is all but test_ood."""

    level: Level
    count: int
    seed: int = 0
    split: str = ""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        level, ood = self.level, self.split == TEST_OOD
        made = 0
        for question, item_key in distinct(level, self.seed, ood):
            if made == self.count:
                return
            split = TEST_OOD if ood else split_of(item_key)
            if self.split in ("", split):
                made += 1
                yield make_item(level, question, item_key, split, made)
        if made < self.count:
            raise DataError(f"level {level.number} has only {made:,} items here, {self.count:,} were asked")

    def check(self, answer: object, item: Item) -> bool:
        """Whether `answer` is right for `item`, in any form that the level accepts; never raises on an answer."""
        return self.level.check(answer, item.question, item.expected)


def level(number: int, count: int | None = None, seed: int = 0, split: str = "", *, pins: int | None = None) -> Sample:
    """A sample of level `number`; `count` defaults to the seed's size of the level.

    split   "" (whatever is in distribution), "train", "val", "test_iid" or "test_ood"
    pins    an earlier version of the level's pins (level 1 has two), by default the newest
    DataError when the level does not have that many distinct items.
    """
    row = level_of(number, pins)
    count = row.size if count is None else count
    if split and split not in SPLITS:
        raise DataError(f"no split {split!r}", hint=suggest(split, SPLITS))
    if count < 0:
        raise DataError(f"{count} items cannot be drawn", hint="ask for 0 or more")
    most = available(row, split)
    if count > most:
        where = f"level {number}" + (f", split {split}," if split else "")
        raise DataError(f"{where} has {most:,} distinct items, {count:,} were asked", hint=f"ask for {most:,} at most")
    return Sample(row, count, seed, split)


def available(row: Level, split: str) -> int:
    """How many distinct items can be asked for: exact where a level is finite, else the proven count shared out."""
    if split in ("", TEST_OOD):
        return row.distinct_ood if split else row.distinct
    if row.finite:
        return _finite_shares(row.number, row.version)[split]
    return row.distinct // 20


@lru_cache(maxsize=4)
def _finite_shares(number: int, pins: int) -> dict[str, int]:
    row = level_of(number, pins)
    splits = [split_of(item_key) for _, item_key in distinct(row, 0, False)]
    return {name: splits.count(name) for name in SPLITS}


def make_item(row: Level, question: Question, item_key: str, split: str, number: int) -> Item:
    """Item `number` (from 1) of a sample, with the exact answer that it was made from or that is worked out."""
    answer = row.answer(question) if question.hint is None else question.hint
    return Item(
        name_of(row.number, split, number), row.number, question.expr, answer, item_key, split, question.bindings
    )


def name_of(level: int, split: str, number: int) -> str:
    """The id of item `number`."""
    return f"L{level}-{'ood-' if split == TEST_OOD else ''}{number:05d}"


def distinct(row: Level, seed: int, ood: bool) -> Iterator[tuple[Question, str]]:
    """Inputs with their keys, each key once, in the order of the candidates; ends when a finite level is used up."""
    seen: set[str] = set()
    in_vain = 0
    for block in blocks(row, seed, ood):
        for question, item_key in block:
            if item_key in seen:
                in_vain += 1
                continue
            seen.add(item_key)
            yield question, item_key
        if in_vain > DRAWS_PER_ITEM * (len(seen) + BLOCK):
            raise DataError(
                f"level {row.number}: {in_vain:,} draws in a row gave nothing new after {len(seen):,} items"
            )


Block = list[tuple[Question, str]]


def blocks(row: Level, seed: int, ood: bool, get: Callable[[int], Block] | None = None) -> Iterator[Block]:
    """Block after block of valid candidates with their keys; `get` replaces drawing (a file, a worker)."""
    number = 0
    while ood or not row.finite or number * BLOCK < row.distinct:
        yield get(number) if get else block_of(row, seed, ood, number)
        number += 1


def block_of(row: Level, seed: int, ood: bool, number: int) -> Block:
    """The valid candidates of block `number`, a pure function of its arguments."""
    draw = row.draw_ood if ood else row.draw
    held = frozenset() if row.finite else edge_keys()
    drawn = draw(seed, number * BLOCK, (number + 1) * BLOCK)
    found = [(one, question_key(one.expr, one.bindings)) for one in drawn if one is not None]
    return [pair for pair in found if pair[1] not in held and (ood or _taken(row, seed, *pair))]


def _taken(row: Level, seed: int, question: Question, item_key: str) -> bool:
    """Whether a sample has room for an input: of the common ones it takes one key in four, others for every seed."""
    if row.common is None or not row.common(question):
        return True
    return hashlib.blake2b(f"{seed} {item_key}".encode(), digest_size=1).digest()[0] % 4 == 0

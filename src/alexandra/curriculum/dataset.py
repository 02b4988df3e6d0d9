"""Data sets in files: each level's splits as JSON lines with a manifest; one seed gives the same bytes every time.

Candidates are drawn in blocks, on several processes if asked; a finished block is published at once in a hidden folder,
so that an interrupted command goes on from there, and two commands in one folder do no harm. What is complete is left
as it is. proof.py checks such files; nothing here reads items back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alexandra.curriculum.items import SPLITS, TEST_OOD, TRAIN, Item, split_of
from alexandra.curriculum.levels import Level, level_of
from alexandra.curriculum.sample import BLOCK, Block, available, block_of, make_item
from alexandra.errors import DataError, StorageError
from alexandra.maths import parse
from alexandra.storage import content_hash, publish, publish_json, read_bytes, read_json
from alexandra.workers import Pool, values

SCHEMA = 1
MANIFEST = "manifest.json"
HELD_OUT = 10  # val, test_iid and test_ood are a tenth each, train the rest

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DataSet:
    """What was written: one level's folder, its items per split, and whether it was complete before."""

    level: int
    folder: Path
    counts: dict[str, int]
    reused: bool


def quotas(count: int) -> dict[str, int]:
    """How many of `count` items go to each split."""
    tenth = count // HELD_OUT
    return {name: count - 3 * tenth if name == TRAIN else tenth for name in SPLITS}


def generate(
    levels: Sequence[int],
    count: int | None,
    out: str | Path,
    *,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> list[DataSet]:
    """Write `count` distinct items of each level (default: the seed's size) to out/level_N/SPLIT.jsonl.

    DataError when a level does not have that many items, or when the folder holds another data set.
    """
    rows = [level_of(number) for number in levels]
    jobs = [_Job(row, row.size if count is None else count, seed, Path(out) / f"level_{row.number}") for row in rows]
    for job in jobs:
        job.refuse()
    with ExitStack() as stack:
        pool = stack.enter_context(Pool(workers)) if workers > 1 else None
        return [_write(job, pool, workers, progress) for job in jobs]


@dataclass(frozen=True)
class _Job:
    row: Level
    count: int
    seed: int
    folder: Path

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that decides the bytes of the files."""
        pins = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.row.pins).items()
        }
        return {"schema": SCHEMA, "level": self.row.number, "count": self.count, "seed": self.seed, "pins": pins}

    @property
    def blocks_folder(self) -> Path:
        decided = {**self.facts, "count": 0}
        return self.folder / f".blocks-{content_hash(json.dumps(decided, sort_keys=True).encode())[:12]}"

    def refuse(self) -> None:
        """Say early what cannot be done."""
        if self.count < 1:
            raise DataError(f"{self.count} items cannot be generated", hint="ask for 1 or more")
        for split, wanted in quotas(self.count).items():
            most = available(self.row, split)
            if wanted > most:
                raise DataError(
                    f"level {self.row.number} has {most:,} distinct items for {split}, {wanted:,} of {self.count:,} "
                    "were asked",
                    hint=f"level {self.row.number} has {self.row.distinct:,} in distribution; the seed asks for "
                    f"{self.row.size:,}",
                )
        path = self.folder / MANIFEST
        if path.is_file():
            found = read_json(path)
            if not isinstance(found, dict):
                raise DataError(f"{str(path)!r} is no manifest of a data set", hint="choose another folder")
            other = {name: value for name, value in self.facts.items() if found.get(name) != value}
            if other:
                name = next(iter(other))
                raise DataError(
                    f"{str(self.folder)!r} holds another data set: {name} is {found.get(name)!r}, not {other[name]!r}",
                    hint="choose another folder, or remove that one",
                )

    def is_complete(self) -> bool:
        """The manifest is there and every file is what it says."""
        path = self.folder / MANIFEST
        if not path.is_file():
            return False
        try:
            files = read_json(path)["files"]
            return all(content_hash(read_bytes(self.folder / name)) == notes["sha256"] for name, notes in files.items())
        except (StorageError, KeyError, TypeError, AttributeError):
            return False


def _write(job: _Job, pool: Pool | None, workers: int, progress: Progress) -> DataSet:
    wanted = quotas(job.count)
    if job.is_complete():
        return DataSet(job.row.number, job.folder, wanted, True)
    items: dict[str, list[Item]] = {name: [] for name in SPLITS}
    what = f"level {job.row.number}"
    for ood in (False, True):
        names = [name for name in SPLITS if (name == TEST_OOD) == ood]
        for item in _fill(job, {name: wanted[name] for name in names}, ood, _Blocks(job, ood, pool, workers)):
            items[item.split].append(item)
            done = sum(map(len, items.values()))
            if done % BLOCK == 0 or done == job.count:
                progress(what, done, job.count)
    files = {}
    for name, part in items.items():
        lines = "".join(json.dumps(item.record(), ensure_ascii=False, allow_nan=False) + "\n" for item in part).encode()
        publish(job.folder / f"{name}.jsonl", lines)
        files[f"{name}.jsonl"] = {"items": len(part), "sha256": content_hash(lines)}
    publish_json(job.folder / MANIFEST, {**job.facts, "files": files})
    _clear(job.blocks_folder)
    return DataSet(job.row.number, job.folder, wanted, False)


def _fill(job: _Job, wanted: dict[str, int], ood: bool, source: _Blocks) -> Iterator[Item]:
    """Items in the order of their candidates until every split has its share."""
    left, made, in_vain = dict(wanted), 0, 0
    seen: set[str] = set()
    for block in source.until(lambda: sum(left.values())):
        in_vain += 1
        for expr, item_key in block:
            split = TEST_OOD if ood else split_of(item_key)
            if item_key in seen or not left[split]:
                continue
            seen.add(item_key)
            left[split] -= 1
            made += 1
            in_vain = 0
            yield make_item(job.row, expr, item_key, split, made)
        if in_vain > 1000:
            break
    if any(left.values()):
        raise DataError(f"level {job.row.number} ran out of items: {left} are missing")


class _Blocks:
    """Blocks in order: from the hidden folder, else drawn (on the pool, a round at a time) and kept there."""

    def __init__(self, job: _Job, ood: bool, pool: Pool | None, workers: int) -> None:
        self.job, self.ood, self.pool, self.workers = job, ood, pool, workers

    def until(self, missing: Callable[[], int]) -> Iterator[Block]:
        """Blocks number 0, 1, 2 ... while `missing()` items are wanted and the level has more."""
        row = self.job.row
        last = -(-row.distinct // BLOCK) if row.finite and not self.ood else None
        number = 0
        while missing() and (last is None or number < last):
            end = number + min(4 * self.workers, -(-missing() // BLOCK))
            end = end if last is None else min(end, last)
            yield from self._get(range(number, end))
            number = end

    def _get(self, numbers: range) -> list[Block]:
        kind = "ood" if self.ood else "pool"
        paths = {number: self.job.blocks_folder / f"{kind}-{number:06d}.json" for number in numbers}
        found = {number: _read_block(path) for number, path in paths.items()}
        lacking = [number for number, block in found.items() if block is None]
        tasks = [(self.job.row.number, self.job.seed, self.ood, number) for number in lacking]
        made = map(_draw_block, tasks) if self.pool is None or not tasks else values(self.pool.map(_draw_block, tasks))
        for number, block in zip(lacking, made, strict=True):
            found[number] = block
            _keep(paths[number], block)
        return [[(parse(text), item_key) for text, item_key in found[number] or []] for number in numbers]


def _draw_block(task: tuple[int, int, bool, int]) -> list[tuple[str, str]]:
    """Runs in a worker: the texts and keys of one block."""
    number, seed, ood, block = task
    return [(expr.text(), item_key) for expr, item_key in block_of(level_of(number), seed, ood, block)]


def _keep(path: Path, block: list[tuple[str, str]]) -> None:
    body = json.dumps(block)
    publish(path, json.dumps({"sha256": content_hash(body.encode()), "block": body}).encode())


def _read_block(path: Path) -> list[tuple[str, str]] | None:
    """A block that an earlier run kept; None when there is none or it is damaged."""
    if not path.is_file():
        return None
    try:
        kept = read_json(path)
        if content_hash(kept["block"].encode()) != kept["sha256"]:
            return None
        return [(str(text), str(item_key)) for text, item_key in json.loads(kept["block"])]
    except (StorageError, ValueError, KeyError, TypeError):
        return None


def _clear(folder: Path) -> None:
    """Remove the blocks of a finished data set; another command may be doing the same."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError:
            pass

"""Data sets in files: each level's splits as JSON lines and Parquet with a manifest; one seed gives the same bytes.

Candidates are drawn and answered in blocks, on several processes if asked; a finished block is published at once in a
hidden folder, so that an interrupted command goes on from there, and two commands in one folder do no harm. What is
complete is left as it is. proof.py checks such files; nothing here reads items back.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexandra.curriculum.edge_cases import edge_cases
from alexandra.curriculum.items import FIELDS, SHARES, SPLITS, TEST_OOD, TRAIN, columns, line, split_of
from alexandra.curriculum.levels import level_of
from alexandra.curriculum.pins import Level
from alexandra.curriculum.sample import BLOCK, available, block_of, make_item, name_of
from alexandra.errors import DataError, StorageError
from alexandra.storage import content_hash, publish, publish_json, read_bytes, read_json
from alexandra.workers import Pool, values

SCHEMA = 2
MANIFEST = "manifest.json"
HELD_OUT = 10  # val, test_iid and test_ood are a tenth each, train the rest
FORMATS = ("jsonl", "parquet")
EDGE_FILE = Path("edge_cases", "test_hard.jsonl")

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
    formats: Sequence[str] = FORMATS,
    progress: Progress = lambda what, done, total: None,
) -> list[DataSet]:
    """Write `count` distinct items of each level (default: the seed's size) to out/level_N/SPLIT.jsonl and .parquet,
    and the levels' edge cases to out/edge_cases/test_hard.jsonl.

    DataError when a level does not have that many items, or when the folder holds another data set.
    """
    if not formats or set(formats) - set(FORMATS):
        raise DataError(f"no format {', '.join(formats)!r}", hint=f"formats: {', '.join(FORMATS)}")
    rows = [level_of(number) for number in levels]
    jobs = [
        _Job(row, row.size if count is None else count, seed, Path(out) / f"level_{row.number}", tuple(formats))
        for row in rows
    ]
    for job in jobs:
        job.refuse()
    with ExitStack() as stack:
        pool = stack.enter_context(Pool(workers)) if workers > 1 else None
        made = [_write(job, pool, progress) for job in jobs]
    _write_edge_cases(Path(out), [row.number for row in rows])
    return made


def _write_edge_cases(out: Path, levels: list[int]) -> None:
    items = [item for number in levels for item in edge_cases(number)]
    lines = "".join(line(item.id, item.level, item.split, columns(item)) + "\n" for item in items)
    publish(out / EDGE_FILE, lines.encode())


@dataclass(frozen=True)
class _Job:
    row: Level
    count: int
    seed: int
    folder: Path
    formats: tuple[str, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that decides the bytes of the files."""
        row = self.row
        pins = {name: list(value) if isinstance(value, tuple) else value for name, value in row.pins.items()}
        decided = {"level": row.number, "version": row.version, "count": self.count, "seed": self.seed, "pins": pins}
        return {"schema": SCHEMA, **decided, "formats": list(self.formats)}

    @property
    def blocks_folder(self) -> Path:
        decided = {**self.facts, "count": 0, "formats": []}
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


# key and the JSON texts of items.FIELDS
_Made = tuple[str, tuple[str, ...]]
_Row = tuple[str, tuple[str, ...]]  # id and the same texts


def _write(job: _Job, pool: Pool | None, progress: Progress) -> DataSet:
    wanted = quotas(job.count)
    if job.is_complete():
        return DataSet(job.row.number, job.folder, wanted, True)
    rows: dict[str, list[_Row]] = {name: [] for name in SPLITS}
    what, done = f"level {job.row.number}", 0
    for ood in (False, True):
        names = [name for name in SPLITS if (name == TEST_OOD) == ood]
        for split, row in _fill(job, {name: wanted[name] for name in names}, ood, _Blocks(job, ood, pool)):
            rows[split].append(row)
            done += 1
            if done % BLOCK == 0 or done == job.count:
                progress(what, done, job.count)
    files = {}
    for name, part in rows.items():
        for suffix in job.formats:
            body = _jsonl(job, name, part) if suffix == "jsonl" else _parquet(job, name, part)
            publish(job.folder / f"{name}.{suffix}", body)
            files[f"{name}.{suffix}"] = {"items": len(part), "sha256": content_hash(body)}
    publish_json(job.folder / MANIFEST, {**job.facts, "files": files})
    _clear(job.blocks_folder)
    return DataSet(job.row.number, job.folder, wanted, False)


def _jsonl(job: _Job, split: str, rows: list[_Row]) -> bytes:
    return "".join([line(name, job.row.number, split, parts) + "\n" for name, parts in rows]).encode()


def _parquet(job: _Job, split: str, rows: list[_Row]) -> bytes:
    """The same columns; trees and bindings as JSON text."""
    import polars

    table: dict[str, list[Any]] = {"id": [name for name, _ in rows]}
    table["level"] = [job.row.number] * len(rows)
    table["split"] = [split] * len(rows)
    for place, field in enumerate(FIELDS):
        texts = [parts[place] for _, parts in rows]
        if field in ("input_polish", "expected_exact", "key"):
            table[field] = [text[1:-1] for text in texts]
        elif field == "expected_result":
            table[field] = [None if text == "null" else float(text) for text in texts]
        else:
            table[field] = [None if text == "null" else text for text in texts]
    kinds = {"level": polars.Int32, "expected_result": polars.Float64}
    frame = polars.DataFrame(table, schema={name: kinds.get(name, polars.String) for name in table})
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1)
    return buffer.getvalue()


def _fill(job: _Job, wanted: dict[str, int], ood: bool, source: _Blocks) -> Iterator[tuple[str, _Row]]:
    """Items in the order of their candidates until every split has its share."""
    left, made, in_vain = dict(wanted), 0, 0
    seen: set[str] = set()

    def missing() -> float:
        """Candidates that are still wanted, by the split that lacks most for its share of the keys."""
        shares = {name: SHARES[name] - (SHARES[SPLITS[i - 1]] if i else 0) for i, name in enumerate(SHARES)}
        return max([count / shares.get(name, 1.0) for name, count in left.items()])

    for block in source.until(missing):
        in_vain += 1
        for item_key, parts in block:
            split = TEST_OOD if ood else split_of(item_key)
            if item_key in seen or not left[split]:
                continue
            seen.add(item_key)
            left[split] -= 1
            made += 1
            in_vain = 0
            yield split, (name_of(job.row.number, split, made), parts)
        if in_vain > 1000:
            break
    if any(left.values()):
        raise DataError(f"level {job.row.number} ran out of items: {left} are missing")


class _Blocks:
    """Blocks in order: from the hidden folder, else drawn (on the pool, many at a time) and kept there."""

    def __init__(self, job: _Job, ood: bool, pool: Pool | None) -> None:
        self.job, self.ood, self.pool = job, ood, pool
        self.share = 1.0  # of the candidates that were items so far

    def until(self, missing: Callable[[], float]) -> Iterator[list[_Made]]:
        """Blocks number 0, 1, 2 ... while `missing()` candidates are wanted and the level has more."""
        row = self.job.row
        last = -(-row.distinct // BLOCK) if row.finite and not self.ood else None
        number, candidates = 0, 0
        while missing() and (last is None or number < last):
            end = number + max(1, math.ceil(missing() / (BLOCK * self.share)))
            end = end if last is None else min(end, last)
            for block in self._get(range(number, end), missing):
                candidates += len(block)
                number += 1
                self.share = max(0.05, candidates / (number * BLOCK))
                yield block

    def _get(self, numbers: range, missing: Callable[[], float]) -> Iterator[list[_Made]]:
        """Blocks in order; none is begun once nothing is missing."""
        kind = "ood" if self.ood else "pool"
        paths = {number: self.job.blocks_folder / f"{kind}-{number:06d}.txt" for number in numbers}
        found = {number: _read_block(path) for number, path in paths.items()}
        lacking = [number for number, block in found.items() if block is None]
        row = self.job.row
        tasks = ((row.number, self.job.seed, self.ood, n, row.version, str(paths[n])) for n in lacking if missing())
        made = self._made(tasks)
        waiting: dict[int, str] = {}
        for number in numbers:
            body = found[number]
            place = 0 if body is not None else lacking.index(number)
            while body is None:
                if place in waiting:
                    body = waiting.pop(place)
                    break
                following = next(made, None)
                if following is None:
                    return
                waiting[following[0]] = following[1]
            yield _parts(body)
        for _ in made:
            pass

    def _made(self, tasks: Iterator[tuple[int, int, bool, int, int, str]]) -> Iterator[tuple[int, str]]:
        if self.pool is None:
            yield from ((place, _draw_block(task)) for place, task in enumerate(tasks))
        else:
            yield from ((result.index, values([result])[0]) for result in self.pool.stream(_draw_block, tasks))


def _draw_block(task: tuple[int, int, bool, int, int, str]) -> str:
    """Runs in a worker: the keys and columns of one block, also kept in a file."""
    number, seed, ood, block, version, path = task
    row = level_of(number, version)
    lines = []
    for question, item_key in block_of(row, seed, ood, block):
        lines.append("\t".join((item_key, *columns(make_item(row, question, item_key, "", 0)))))
    body = "\n".join(lines)
    publish(Path(path), f"{content_hash(body.encode())}\n{body}".encode())
    return body


def _parts(body: str) -> list[_Made]:
    rows = [text.split("\t") for text in body.split("\n") if text]
    return [(row[0], tuple(row[1:])) for row in rows]


def _read_block(path: Path) -> str | None:
    """A block that an earlier run kept; None when there is none or it is damaged."""
    if not path.is_file():
        return None
    try:
        kept, _, body = read_bytes(path).decode().partition("\n")
        return body if content_hash(body.encode()) == kept else None
    except (StorageError, ValueError):
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

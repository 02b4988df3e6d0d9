"""What a data set holds, worked out again from its inputs: nothing that a file says about itself is believed.

Every line is parsed, evaluated exactly, keyed and placed anew. The result counts what is right and names what is not:
wrong answers, inputs outside their level's pins, lines in the wrong split, repeated inputs, inputs that occur in two
splits (leaks), lines that cannot be read, files that differ from their manifest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexandra.curriculum.dataset import MANIFEST
from alexandra.curriculum.items import SPLITS, TEST_OOD, Item, as_float, split_of
from alexandra.curriculum.levels import LEVELS
from alexandra.errors import AlexandraError, DataError, StorageError
from alexandra.storage import content_hash, read_bytes, read_json
from alexandra.workers import Pool, values

SHOWN = 20
LINES = 2_000  # proved at a time
FAULTS = ("malformed", "wrong", "outside", "misplaced", "duplicates", "leaks", "damaged")


@dataclass(frozen=True)
class Validation:
    """`counts`: level -> split -> distinct right items. `faults`: each of FAULTS -> how many. `problems`: the first
    SHOWN of them, with file and line."""

    path: Path
    rows: int
    counts: Mapping[int, Mapping[str, int]]
    faults: Mapping[str, int]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not any(self.faults.values())


def validate(
    path: str | Path, *, workers: int = 1, progress: Callable[[str, int, int], None] = lambda what, done, total: None
) -> Validation:
    """Prove every .jsonl file at or below `path`; DataError when there is none."""
    place = Path(path)
    files = [place] if place.is_file() else sorted(place.rglob("*.jsonl"))
    if not files:
        raise DataError(f"no .jsonl file at {str(place)!r}", hint="alexandra generate --level 1 --out DIR writes some")
    book = _Book()
    for file in files:
        with _Prover(workers) as prover:
            for number, (item_key, fault, words) in enumerate(prover.prove(file), 1):
                book.enter(file, number, item_key, fault, words)
                if number % LINES == 0:
                    progress(f"{file.parent.name}/{file.name}", number, number)
    for manifest in sorted(place.rglob(MANIFEST)) if place.is_dir() else []:
        book.compare(manifest)
    return Validation(place, book.rows, book.table(), dict(book.faults), tuple(book.problems))


class _Book:
    """What has been seen over all files."""

    def __init__(self) -> None:
        self.rows = 0
        self.faults: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self.problems: list[str] = []
        self.places: dict[str, tuple[int, str]] = {}
        self.right: Counter[tuple[int, str]] = Counter()

    def enter(self, file: Path, line: int, place: tuple[str, int, str] | None, fault: str, words: str) -> None:
        """One line: where its item belongs (key, level, split) or None, and what is wrong with it ("" for nothing)."""
        self.rows += 1
        if fault:
            self.note(fault, f"{file}:{line}: {words}")
        if place is None:
            return
        item_key, level, split = place
        if file.stem in SPLITS and split != file.stem:
            if not fault:
                fault = "misplaced"
                self.note(fault, f"{file}:{line}: the line says {split!r}")
            split = file.stem
        if item_key not in self.places:
            self.places[item_key] = (level, split)
            self.right[level, split] += not fault
            return
        other = self.places[item_key]
        fault = "duplicates" if other == (level, split) else "leaks"
        where = "again" if fault == "duplicates" else f"also in level {other[0]} {other[1]}"
        self.note(fault, f"{file}:{line}: this input (up to order and names) occurs {where}")

    def note(self, fault: str, words: str) -> None:
        self.faults[fault] += 1
        if len(self.problems) < SHOWN:
            self.problems.append(f"{fault}: {words}")

    def compare(self, manifest: Path) -> None:
        """Files against the hashes and counts that their manifest keeps."""
        try:
            files = dict(read_json(manifest)["files"])
            for name, notes in files.items():
                if content_hash(read_bytes(manifest.parent / name)) != notes["sha256"]:
                    self.note("damaged", f"{manifest.parent / name} is not the file that was generated")
        except (StorageError, KeyError, TypeError, ValueError) as error:
            self.note("damaged", f"{manifest}: {error}")

    def table(self) -> dict[int, dict[str, int]]:
        levels = sorted({level for level, _ in self.right})
        return {level: {split: self.right[level, split] for split in SPLITS} for level in levels}


_Proof = tuple[tuple[str, int, str] | None, str, str]


class _Prover:
    """Proves a file's lines in chunks, here or on a pool's processes; results in the order of the lines."""

    def __init__(self, workers: int) -> None:
        self.pool = Pool(workers) if workers > 1 else None
        self.workers = workers

    def __enter__(self) -> _Prover:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.close()

    def prove(self, file: Path) -> Iterator[_Proof]:
        lines = read_bytes(file).split(b"\n")
        lines = lines[:-1] if not lines[-1] else lines
        chunks = [lines[i : i + LINES] for i in range(0, len(lines), LINES)]
        if self.pool is None:
            for chunk in chunks:
                yield from prove_lines(chunk)
        else:
            for proofs in values(self.pool.map(prove_lines, chunks)):
                yield from proofs


def prove_lines(lines: list[bytes]) -> list[_Proof]:
    """For each line the item's place (None when it has none), its fault ("" when right) and the fault in words."""
    return [_proved(line) for line in lines]


def _proved(line: bytes) -> _Proof:
    try:
        record = json.loads(line.decode())
        if not isinstance(record, dict):
            return None, "malformed", "the line is not a JSON object"
        item = Item.of_record(record)
    except (ValueError, RecursionError, AlexandraError) as error:
        return None, "malformed", " ".join(str(error).split())
    place = (item.key, item.level, item.split)
    return place, *_fault(item, record)


def _fault(item: Item, record: dict[str, Any]) -> tuple[str, str]:
    if item.level not in LEVELS:
        return "outside", f"there is no level {item.level}"
    if item.split not in SPLITS:
        return "misplaced", f"there is no split {item.split!r}"
    level = LEVELS[item.level]
    ood = item.split == TEST_OOD
    if not level.holds(item.expr, ood):
        return "outside", f"{item.input} is not an input of level {item.level}{' test_ood' if ood else ''}"
    right = level.answer(item.expr)
    if item.expected != right or record["expected_exact"] != str(right):
        return "wrong", f"{item.input} is {right}, not {record['expected_exact']}"
    if record.get("expected_result") != as_float(right):
        return "wrong", f"expected_result is {record.get('expected_result')!r}, not {as_float(right)!r}"
    if record.get("key") != item.key:
        return "malformed", f"the key of {item.input} is {item.key}, not {record.get('key')!r}"
    if not ood and split_of(item.key) != item.split:
        return "misplaced", f"{item.input} belongs to {split_of(item.key)}, not {item.split}"
    return "", ""

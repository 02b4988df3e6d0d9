"""What a data set holds, worked out again from its inputs: nothing that a file says about itself is believed.

Every line is parsed, answered exactly, keyed and placed anew. The result counts what is right and names what is not:
wrong answers, inputs outside their level's pins, lines in the wrong split, repeated inputs, inputs that occur in two
splits (leaks), lines that cannot be read, files that differ from their manifest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexandra.curriculum.dataset import MANIFEST
from alexandra.curriculum.edge_cases import EDGE, edge_keys
from alexandra.curriculum.items import SPLITS, TEST_OOD, Item, as_float, split_of
from alexandra.curriculum.levels import LEVELS
from alexandra.curriculum.pins import Level
from alexandra.errors import AlexandraError, DataError, StorageError
from alexandra.storage import content_hash, read_bytes, read_json
from alexandra.workers import Closable, Pool, values

SHOWN = 20
LINES = 2_000  # proved at a time
FAULTS = ("malformed", "wrong", "outside", "misplaced", "duplicates", "leaks", "damaged")


@dataclass(frozen=True)
class Validation:
    """`counts`: level -> split -> distinct right items. `faults`: each of FAULTS -> how many. `problems`: the first
    SHOWN of them, with file and line. `statistics`: level -> figures over its right lines."""

    path: Path
    rows: int
    counts: Mapping[int, Mapping[str, int]]
    faults: Mapping[str, int]
    problems: tuple[str, ...]
    statistics: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not any(self.faults.values())


def validate(
    path: str | Path, *, workers: int = 1, progress: Callable[[str, int, int], None] = lambda what, done, total: None
) -> Validation:
    """Prove every .jsonl file at or below `path`; DataError when there is none."""
    place = Path(path)
    files = files_of(place)
    book = _Book()
    with _Prover(workers) as prover:
        for file in files:
            for number, proof in enumerate(prover.prove(file), 1):
                book.enter(file, number, proof)
                if number % LINES == 0:
                    progress(f"{file.parent.name}/{file.name}", number, number)
    for manifest in sorted(place.rglob(MANIFEST)) if place.is_dir() else []:
        book.compare(manifest)
    return Validation(place, book.rows, book.table(), dict(book.faults), tuple(book.problems), book.statistics())


def files_of(place: Path) -> list[Path]:
    """The .jsonl files at or below a place; DataError when there is none."""
    files = [place] if place.is_file() else sorted(place.rglob("*.jsonl"))
    if not files:
        raise DataError(f"no .jsonl file at {str(place)!r}", hint="alexandra generate --level 1 --out DIR writes some")
    return files


class _Book:
    """What has been seen over all files."""

    def __init__(self) -> None:
        self.rows = 0
        self.faults: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self.problems: list[str] = []
        self.places: dict[str, tuple[int, str]] = {}
        self.right: Counter[tuple[int, str]] = Counter()
        self.sums: dict[int, list[int]] = {}

    def enter(self, file: Path, line: int, proof: _Proof) -> None:
        """One line: where its item belongs (key, level, split) or None, and what is wrong with it ("" for nothing)."""
        place, fault, words, facts = proof
        self.rows += 1
        if fault:
            self.note(fault, f"{file}:{line}: {words}")
        if place is None:
            return
        item_key, level, split = place
        if not fault:
            sums = self.sums.setdefault(level, [0] * 7)
            added = (sums[0] + 1, *[total + value for total, value in zip(sums[1:4], facts, strict=True)])
            sums[:] = [*added, *[max(most, value) for most, value in zip(sums[4:], facts, strict=True)]]
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

    def statistics(self) -> dict[int, dict[str, float]]:
        """Means and maxima per level."""
        names = ("depth", "nodes", "answer_characters")
        found: dict[int, dict[str, float]] = {}
        for level, sums in sorted(self.sums.items()):
            means = {f"mean_{name}": round(total / sums[0], 2) for name, total in zip(names, sums[1:4], strict=True)}
            found[level] = {**means, **{f"most_{name}": most for name, most in zip(names, sums[4:], strict=True)}}
        return found

    def table(self) -> dict[int, dict[str, int]]:
        levels = sorted({level for level, _ in self.right})
        return {level: {split: self.right[level, split] for split in SPLITS} for level in levels}


# place (key, level, split), fault, words, and depth, nodes and characters of the answer
_Proof = tuple[tuple[str, int, str] | None, str, str, tuple[int, int, int]]
_NO_FACTS = (0, 0, 0)


class _Prover(Closable):
    """Proves a file's lines in chunks, here or on a pool's processes; results in the order of the lines."""

    def __init__(self, workers: int) -> None:
        self.pool = Pool(workers) if workers > 1 else None
        self.workers = workers

    def close(self) -> None:
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
            waiting: dict[int, list[_Proof]] = {}
            due = 0
            for result in self.pool.stream(prove_lines, chunks):
                waiting[result.index] = values([result])[0]
                while due in waiting:
                    yield from waiting.pop(due)
                    due += 1


def prove_lines(lines: list[bytes]) -> list[_Proof]:
    """For each line the item's place (None when it has none), its fault ("" when right) and the fault in words."""
    return [_proved(line) for line in lines]


def _proved(line: bytes) -> _Proof:
    try:
        record = json.loads(line.decode())
        if not isinstance(record, dict):
            return None, "malformed", "the line is not a JSON object", _NO_FACTS
        item = Item.of_record(record)
    except (ValueError, RecursionError, AlexandraError) as error:
        return None, "malformed", " ".join(str(error).split()), _NO_FACTS
    place = (item.key, item.level, item.split)
    fault, words = _fault(item, record)
    return place, fault, words, (item.expr.depth, item.expr.size, len(record["expected_exact"]))


def _fault(item: Item, record: dict[str, Any]) -> tuple[str, str]:
    if item.level not in LEVELS:
        return "outside", f"there is no level {item.level}"
    if item.split not in (*SPLITS, EDGE):
        return "misplaced", f"there is no split {item.split!r}"
    level = LEVELS[item.level]
    ood = item.split == TEST_OOD
    is_edge = item.key in edge_keys()
    if is_edge != (item.split == EDGE):
        return "misplaced", f"{item.input} is {'an' if is_edge else 'no'} edge case"
    if not is_edge and not level.holds(item.question, ood):
        return "outside", f"{item.input} is not an input of level {item.level}{' test_ood' if ood else ''}"
    if record["expected_exact"] != item.answer or not _proves(level, item):
        return "wrong", f"{item.input} is {_right(level, item)}, not {record['expected_exact']}"
    number = as_float(item.expected)
    if record.get("expected_result") != number:
        return "wrong", f"expected_result is {record.get('expected_result')!r}, not {number!r}"
    if record.get("key") != item.key:
        return "malformed", f"the key of {item.input} is {item.key}, not {record.get('key')!r}"
    if not ood and not is_edge and split_of(item.key) != item.split:
        return "misplaced", f"{item.input} belongs to {split_of(item.key)}, not {item.split}"
    return "", ""


def _proves(level: Level, item: Item) -> bool:
    try:
        return level.proves(item.question, item.expected)
    except AlexandraError:
        return False


def _right(level: Level, item: Item) -> str:
    try:
        return str(level.answer(item.question))
    except AlexandraError as error:
        return f"without an answer ({error})"

"""One large file as several pieces of work: where it may be cut, so that the parts' records are the whole's, in order.

Cuts stand between records as the format's reader finds them: after a line end, between row groups, where a WARC record
or its gzip member begins. A part knows how many lines or rows come before it, so names and positions do not depend on
the cuts. What is packed as one stream (.jsonl.gz), CSV (a quoted field may hold line ends) and documents stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from alexandra.data.formats.columnar import row_groups
from alexandra.data.formats.options import Part, ReadOptions
from alexandra.data.formats.streams import BLOCK, GZIP, ZSTD
from alexandra.data.formats.warc import record_offsets


@dataclass(frozen=True)
class _Mark:
    """A place between two records: `offset` in the file (or row group), `size` bytes and `records` before it."""

    offset: int
    size: int
    records: int = 0


def cuts(path: Path, kind: str, options: ReadOptions, part_bytes: int) -> list[Part]:
    """The parts of a file, each of about `part_bytes` or one record more; one whole part where it cannot be cut."""
    marks = _CUTTERS.get(kind)
    if marks is None or (kind == "text" and options.split != "line") or path.stat().st_size <= part_bytes:
        return [Part()]
    parts = [Part()]
    last = 0
    for mark in marks(path, options, part_bytes):
        if mark.offset > parts[-1].start and mark.size - last >= part_bytes:
            parts[-1] = replace(parts[-1], end=mark.offset)
            parts.append(Part(mark.offset, None, mark.records))
            last = mark.size
    return parts


def _line_marks(path: Path, options: ReadOptions, part_bytes: int) -> Iterator[_Mark]:
    """The first line begin at or after every multiple of `part_bytes`; none for a packed file."""
    with path.open("rb") as file:
        magic = file.read(4)
        if magic[:2] == GZIP or magic == ZSTD:
            return
        file.seek(0)
        offset = number = 0
        wanted = part_bytes
        size = path.stat().st_size
        while block := file.read(BLOCK):
            start = 0
            while offset + len(block) >= wanted:
                end = block.find(b"\n", max(start, wanted - 1 - offset)) + 1
                if not end:
                    break
                number += block.count(b"\n", start, end)
                start = end
                if offset + end < size:
                    yield _Mark(offset + end, offset + end, number)
                wanted = offset + end + part_bytes
            number += block.count(b"\n", start)
            offset += len(block)


def _group_marks(path: Path, options: ReadOptions, part_bytes: int) -> Iterator[_Mark]:
    size = rows = 0
    for number, (group_bytes, group_rows) in enumerate(row_groups(path)):
        if number:
            yield _Mark(number, size, rows)
        size, rows = size + group_bytes, rows + group_rows


def _record_marks(path: Path, options: ReadOptions, part_bytes: int) -> Iterator[_Mark]:
    for offset in record_offsets(path, options):
        yield _Mark(offset, offset)


_CUTTERS: dict[str, Callable[[Path, ReadOptions, int], Iterator[_Mark]]] = {
    "jsonl": _line_marks,
    "text": _line_marks,
    "parquet": _group_marks,
    "warc": _record_marks,
}

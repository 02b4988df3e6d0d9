"""Columns: Parquet, and Arrow files such as a Hugging Face data set keeps in its folder. Row groups that cannot be
read are quarantined one by one; nothing is ever unpickled, and no code in the folder is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alexandra.data.flow import Broken, Record
from alexandra.data.formats.lines import row_document
from alexandra.data.formats.options import ReadOptions
from alexandra.errors import missing_extra

BATCH_ROWS = 1024


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise missing_extra("reading Parquet and Arrow files", "data") from error
    return pyarrow


def read_parquet(path: Path, options: ReadOptions) -> Iterator[Record]:
    """Rows in their order, one row group in memory at a time."""
    arrow = _arrow()
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        yield Broken(path.name, "file", f"not Parquet: {str(error)[:120]}")
        return
    row, part = options.part.records, options.part
    with file:
        for group in range(part.start, file.num_row_groups if part.end is None else part.end):
            first, row = row, row + file.metadata.row_group(group).num_rows
            if file.metadata.row_group(group).total_byte_size > 64 * max(options.max_record_bytes, 1 << 26):
                yield Broken(path.name, f"row group {group}", "row group too large: a compression bomb")
                continue
            try:
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group]):
                    yield from _rows(batch, path.name, first, options)
                    first += batch.num_rows
            except (arrow.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
                yield Broken(path.name, f"row group {group}", f"damaged row group: {str(error)[:120]}")


def row_groups(path: Path) -> list[tuple[int, int]]:
    """(bytes, rows) of each row group; empty when the file is not Parquet."""
    arrow = _arrow()
    import pyarrow.parquet

    try:
        about = pyarrow.parquet.read_metadata(path)
    except (arrow.ArrowException, OSError):
        return []
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    return [(int(group.total_byte_size), int(group.num_rows)) for group in groups]


def read_arrow(path: Path, options: ReadOptions) -> Iterator[Record]:
    """An Arrow stream or file."""
    arrow = _arrow()
    row = 0
    try:
        with arrow.memory_map(str(path), "r") as source:
            try:
                batches = iter(arrow.ipc.open_stream(source))
            except arrow.ArrowInvalid:
                opened = arrow.ipc.open_file(source)
                batches = (opened.get_batch(i) for i in range(opened.num_record_batches))
            for batch in batches:
                yield from _rows(batch, path.name, row, options)
                row += batch.num_rows
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        yield Broken(path.name, f"row {row + 1}", f"damaged Arrow data: {str(error)[:120]}")


def _rows(batch: Any, name: str, first: int, options: ReadOptions) -> Iterator[Record]:
    for number, values in enumerate(batch.to_pylist(), first + 1):
        position = f"row {number}"
        record = row_document(values, name, position, options)
        if not isinstance(record, Broken) and len(record.text) > options.max_record_bytes:  # type: ignore[union-attr]
            record = Broken(name, position, f"record too long: more than {options.max_record_bytes} bytes")
        yield record

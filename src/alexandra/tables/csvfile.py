"""CSV and its relatives (TSV, semicolons, bars): layout first, then cells, then types.

The layout pass finds the separator, the header and every row's number of fields in one vectorised scan, so a
ragged row is refused with its line number. Cells are cut by polars when all quotes sit where RFC 4180 puts them,
and by Python's csv module otherwise.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import DataError
from alexandra.tables.bytes_in import read_text
from alexandra.tables.column import EXACT_INTEGER, NUMBER, Column, parse_number
from alexandra.tables.infer import MISSING, column_from_levels, encode

MAX_COLUMNS = 5000
SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_BYTES, _SAMPLE_ROWS = 1 << 18, 50
_NAMED_LINES = 3
_SCAN_BLOCK = 1 << 23


@dataclass(frozen=True)
class CsvOptions:
    """How to read a CSV file; the defaults decide by the file (header: the first line unless it looks like data)."""

    separator: str | None = None
    header: bool | None = None
    max_columns: int = MAX_COLUMNS


def read_csv(
    path: Path, options: CsvOptions = CsvOptions(), kinds: Mapping[str, str] | None = None
) -> tuple[dict[str, Column], list[str]]:
    """Typed columns of a CSV file and notes on what was decided; DataError says what is wrong and in which line."""
    source = str(path)
    chosen: list[str] = []

    def check_head(head: bytes) -> None:
        chosen.append(options.separator or _separator(head))
        first = _cells(_sample(head), chosen[0])[:1]
        _refuse_wide(len(first[0]) if first else 0, options.max_columns, source)

    data, notes = read_text(path, check_head)
    separator = options.separator or _separator(data)
    rows = _cells(_sample(data), separator)
    names, has_header = _names(rows, options.header, source, notes)
    _refuse_wide(len(names), options.max_columns, source)
    columns = _columns(_Text(data, separator, source, len(names), has_header), names, kinds or {}, notes)
    if not len(next(iter(columns.values()))):
        raise DataError(f"{source!r} has a header and no rows", hint="add at least one data row below the header")
    return columns, notes


@dataclass(frozen=True)
class _Text:
    data: bytes
    separator: str
    source: str
    width: int
    has_header: bool


def _refuse_wide(width: int, max_columns: int, source: str) -> None:
    if width > max_columns:
        raise DataError(
            f"{source!r} has {width:,} columns; at most {max_columns:,} are read",
            hint="keep the columns that matter, or raise max_columns",
        )


def _sample(data: bytes) -> str:
    """The first rows as text, cut at a line end when the sample does not hold everything (long headers whole)."""
    cut = len(data)
    if cut > _SAMPLE_BYTES:
        end = data.find(b"\n", _SAMPLE_BYTES)
        cut = end + 1 if end >= 0 else cut
    return data[:cut].decode("utf-8-sig", errors="replace")


def _cells(text: str, separator: str) -> list[list[str]]:
    """The first non-blank rows of a sample."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if not _blank(row):
                rows.append(row)
            if len(rows) == _SAMPLE_ROWS:
                break
    except csv.Error:
        pass
    return rows


def _blank(row: Sequence[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())


def _separator(data: bytes) -> str:
    """The separator under which most sample rows have the first row's number of fields (more fields break ties)."""
    text = _sample(data)
    best, choice = (0.0, 1), ","
    for separator in SEPARATORS:
        rows = _cells(text, separator)
        width = len(rows[0]) if rows else 0
        if width > 1:
            score = (sum(len(row) == width for row in rows) / len(rows), width)
            if score > best:
                best, choice = score, separator
    return choice


def _names(rows: list[list[str]], header: bool | None, source: str, notes: list[str]) -> tuple[list[str], bool]:
    """Column names and whether the first row is a header."""
    cells = [cell.strip() for cell in rows[0]]
    if header is None:
        header = not _is_data(cells, rows[1:])
    if not header:
        notes.append(f"no header line: columns are named column_1 ... column_{len(cells)}")
        return [f"column_{i + 1}" for i in range(len(cells))], False
    names = [cell or f"column_{i + 1}" for i, cell in enumerate(cells)]
    seen: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        if name in seen:
            raise DataError(
                f"{source!r}: column name {name!r} occurs twice (columns {seen[name]} and {position})",
                hint="give every column its own name in the header line",
            )
        seen[name] = position
    return names, True


def _is_data(first: list[str], rows: list[list[str]]) -> bool:
    """Whether a first row is data: only numbers (other than 0, 1, 2 ...), or a word that comes again in its column.

    A header that is repeated further down as a whole is still a header.
    """
    numbers = [parse_number(cell) for cell in first]
    if all(value is not None for value in numbers):
        return not any(numbers == [float(i + start) for i in range(len(first))] for start in (0, 1))
    later = [[cell.strip() for cell in row] for row in rows]
    words = [i for i, number in enumerate(numbers) if number is None and first[i]]
    again = any(i < len(row) and row[i] == first[i] for row in later for i in words)
    return again and first not in later


def _columns(text: _Text, names: list[str], kinds: Mapping[str, str], notes: list[str]) -> dict[str, Column]:
    layout = _scan(text.data, text.separator)
    content = layout.fields[~layout.blank]
    if layout.clean and (content == text.width).all():
        return _by_polars(text, layout, names, kinds, notes)
    return _by_csv_module(text, names, kinds, notes)


@dataclass(frozen=True)
class _Layout:
    """Per row of the file, header and blank rows included: fields, blankness, start offset; `clean`: quotes are."""

    fields: np.ndarray
    blank: np.ndarray
    starts: np.ndarray
    clean: bool


def _scan(data: bytes, separator: str) -> _Layout:
    """Field counts per row by counting separators outside quotes, in blocks."""
    array = np.frombuffer(data, dtype=np.uint8)
    ends, marks_at_end, marks = [], [], 0
    quoted, clean = False, True
    for start in range(0, len(array), _SCAN_BLOCK):
        block = array[start : start + _SCAN_BLOCK]
        is_quote = block == 34
        if quoted or is_quote.any():
            inside = np.bitwise_xor.accumulate(is_quote) ^ quoted
            clean = clean and _quotes_clean(array, start + np.flatnonzero(is_quote), inside[is_quote], ord(separator))
            quoted = bool(inside[-1])
        else:
            inside = is_quote
        hits = np.flatnonzero(((block == ord(separator)) | (block == 10)) & ~inside)
        newline = block[hits] == 10
        ends.append(start + hits[newline])
        marks_at_end.append(marks + np.cumsum(~newline)[newline])
        marks += int((~newline).sum())
    stops, totals = np.concatenate(ends), np.concatenate(marks_at_end)
    if len(array) and array[-1] != 10:
        stops, totals = np.append(stops, len(array)), np.append(totals, marks)
    starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else np.zeros(0, np.int64)
    fields = np.diff(totals, prepend=0) + 1
    lengths = stops - starts
    blank = np.zeros(len(stops), dtype=bool)
    for row in np.flatnonzero((fields == 1) & (lengths <= 64)):
        blank[row] = not data[starts[row] : stops[row]].strip()
    return _Layout(fields, blank, starts, clean and not quoted)


def _quotes_clean(array: np.ndarray, positions: np.ndarray, opens: np.ndarray, separator: int) -> bool:
    """Whether each quote opens after a separator or line end, closes before one, or is one of a doubled pair."""
    before = np.where(positions > 0, array[positions - 1], 10)
    after = np.where(positions + 1 < len(array), array[np.minimum(positions + 1, len(array) - 1)], 10)
    neighbour = np.where(opens, before, after)
    return bool(np.isin(neighbour, (separator, 10, 13, 34)).all())


def _by_polars(
    text: _Text, layout: _Layout, names: list[str], kinds: Mapping[str, str], notes: list[str]
) -> dict[str, Column]:
    import polars as pl

    rows = np.flatnonzero(~layout.blank)[int(text.has_header) :]
    if not len(rows):
        return {name: _typed(name, [], np.zeros(0, np.int64), kinds, text, notes) for name in names}
    body = text.data[int(layout.starts[rows[0]]) :]
    handles = [f"c{i}" for i in range(text.width)]
    try:
        frame = pl.read_csv(
            body,
            has_header=False,
            infer_schema=False,
            separator=text.separator,
            new_columns=handles,
            quote_char='"' if b'"' in body else None,
        )
    except pl.exceptions.PolarsError:
        return _by_csv_module(text, names, kinds, notes)
    kept = rows - rows[0]
    if frame.height != len(layout.fields) - rows[0]:
        return _by_csv_module(text, names, kinds, notes)
    if len(kept) != frame.height:
        frame = frame[kept]
    cells = zip(names, handles, strict=True)
    return {name: _from_series(name, frame[handle], kinds, text, notes) for name, handle in cells}


def _from_series(name: str, series: Any, kinds: Mapping[str, str], text: _Text, notes: list[str]) -> Column:
    """A typed column from a polars string series; plain numbers take a shortcut with the same result."""
    import polars as pl

    series = series.str.strip_chars()
    if kinds.get(name, "number") == "number":
        present = series.set(series.is_in(list(MISSING)), None) if series.is_in(list(MISSING)).any() else series
        if present.null_count() < len(present) and present.drop_nulls().str.contains(NUMBER).all():
            values = present.cast(pl.Float64).to_numpy().astype(np.float64)
            if np.nanmax(np.abs(values)) <= EXACT_INTEGER:
                return Column(name, "number", values, np.isnan(values))
    levels = series.drop_nulls().unique().sort()
    codes = series.cast(pl.Enum(levels)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    return _typed(name, levels.to_list(), codes, kinds, text, notes)


def _by_csv_module(text: _Text, names: list[str], kinds: Mapping[str, str], notes: list[str]) -> dict[str, Column]:
    """Python's csv module decides about unusual quoting; a row of another width is an error with its line."""
    cells: list[list[str]] = [[] for _ in names]
    bad: list[tuple[int, int]] = []
    whole = text.data.decode()
    reader = csv.reader(io.StringIO(whole, newline=""), delimiter=text.separator)
    header_due, line, start, row = text.has_header, 1, 1, [""]
    try:
        for row in reader:
            start, line = line, reader.line_num + 1
            if _blank(row):
                continue
            if header_due:
                header_due = False
            elif len(row) != text.width:
                bad.append((start, len(row)))
            else:
                for cell, column in zip(row, cells, strict=True):
                    column.append(cell)
    except csv.Error as error:
        raise DataError(
            f"{text.source!r} line {line}: {error}", hint="look for a quote that is opened and never closed"
        ) from error
    if _ends_in_quotes(whole, start, row, text.separator):
        raise DataError(
            f"{text.source!r}: a quote that is opened in the row of line {start} is never closed",
            hint="close the quote, or double it if it belongs to the text",
        )
    if bad:
        raise _ragged(text, bad)
    return {
        name: _typed(name, *encode(column, name), kinds, text, notes) for name, column in zip(names, cells, strict=True)
    }


def _ends_in_quotes(whole: str, line: int, row: list[str], separator: str) -> bool:
    """Whether the last row, which starts in `line`, ends inside quotes: then one more quote changes nothing."""
    rest = "".join(itertools.islice(io.StringIO(whole, newline=""), line - 1, None))
    return list(csv.reader(io.StringIO(rest + '"', newline=""), delimiter=separator)) == [row]


def _ragged(text: _Text, bad: list[tuple[int, int]]) -> DataError:
    shown = "; ".join(f"line {line} has {fields}" for line, fields in bad[:_NAMED_LINES])
    more = f"; {len(bad)} such rows in all" if len(bad) > _NAMED_LINES else ""
    name = "tab" if text.separator == "\t" else repr(text.separator)
    return DataError(
        f"{text.source!r}: the {'header' if text.has_header else 'first row'} has {text.width} fields, {shown}{more}",
        hint=f"quote values that hold the separator {name}, close every quote, or remove these rows",
    )


def _typed(
    name: str, levels: Sequence[str], codes: np.ndarray, kinds: Mapping[str, str], text: _Text, notes: list[str]
) -> Column:
    column, said = column_from_levels(name, levels, codes, kinds.get(name), text.separator == ";")
    notes.extend(said)
    return column

"""Typed tables: named columns of equal length, read from files or from what Python programs hold.

A Table is a value: it is never changed, `take` and `drop` give new ones that share arrays. It knows nothing of
targets, models or training.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import DataError, StorageError
from alexandra.storage import publish, read_jsonl
from alexandra.tables.bytes_in import open_file
from alexandra.tables.column import KINDS, Column
from alexandra.tables.convert import from_object
from alexandra.tables.csvfile import MAX_COLUMNS, CsvOptions, read_csv
from alexandra.tables.keys import keys_of

_NAMED_COLUMNS = 20


@dataclass(frozen=True, eq=False)
class Table:
    """`columns` by name in file order; `source` says where they come from; `notes` say what reading decided."""

    columns: dict[str, Column]
    source: str
    notes: tuple[str, ...] = ()

    @staticmethod
    def from_any(
        x: Any,
        kinds: Mapping[str, str] | None = None,
        max_columns: int = MAX_COLUMNS,
        csv_options: CsvOptions | None = None,
    ) -> Table:
        """A table from a path, a pandas, polars or Arrow table, dictionaries, a list of dictionaries or an array.

        `kinds` (column -> kind) forces types, so that new rows are read as the training rows were. A dictionary of
        single values is one row. Raises DataError.
        """
        if isinstance(x, Table):
            return x.cast(kinds or {})
        kinds = dict(kinds or {})
        unknown = next((kind for kind in kinds.values() if kind not in KINDS), None)
        if unknown is not None:
            raise DataError(f"unknown column kind {unknown!r}", hint=f"known: {', '.join(KINDS)}")
        if isinstance(x, (str, Path)):
            return _from_path(Path(x), kinds, max_columns, csv_options)
        columns, source, notes = from_object(x, kinds, max_columns)
        return Table(columns, source, tuple(notes))

    @property
    def n_rows(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    @property
    def kinds(self) -> dict[str, str]:
        """Column name -> kind, what `from_any(..., kinds=)` takes."""
        return {name: column.kind for name, column in self.columns.items()}

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, name: str) -> Column:
        if name not in self.columns:
            raise missing_column(name, self.names, self.source)
        return self.columns[name]

    def take(self, index: np.ndarray | Sequence[int] | slice) -> Table:
        """The rows at `index`: integers, a bool mask or a slice."""
        rows = np.arange(self.n_rows)[index if isinstance(index, slice) else np.asarray(index)]
        return Table({name: column.take(rows) for name, column in self.columns.items()}, self.source, self.notes)

    def select(self, names: Iterable[str]) -> Table:
        """The named columns, in that order."""
        return Table({name: self[name] for name in names}, self.source, self.notes)

    def drop(self, names: Iterable[str]) -> Table:
        """The table without the named columns; DataError when one does not exist."""
        gone = {self[name].name for name in names}
        kept = {name: column for name, column in self.columns.items() if name not in gone}
        return Table(kept, self.source, self.notes)

    def replace(self, name: str, column: Column) -> Table:
        """The table with column `name` holding `column`'s values (a new name is added at the end)."""
        if len(column) != self.n_rows:
            raise DataError(f"{len(column)} values for {self.n_rows} rows", hint="give one value per row")
        columns = {**self.columns, name: Column(name, column.kind, column.values, column.missing)}
        return Table(columns, self.source, self.notes)

    def cast(self, kinds: Mapping[str, str]) -> Table:
        """The table with the named columns turned into the given kinds; names it lacks are ignored."""
        columns = {name: column.cast(kinds.get(name, column.kind)) for name, column in self.columns.items()}
        return Table(columns, self.source, self.notes)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per row: float or int, str, bool, ISO date text, None where missing."""
        cells = [_python_values(column) for column in self.columns.values()]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*cells, strict=True)]

    def content_hash(self) -> str:
        """SHA-256 over names, kinds and rows in order: equal for equal content, whatever the file format."""
        digest = hashlib.sha256(repr(sorted(self.kinds.items())).encode())
        digest.update(row_keys(self).tobytes())
        return digest.hexdigest()

    def to_csv(self, path: Path | str) -> None:
        """Publish as CSV (atomically); missing values are empty."""
        publish(Path(path), self.csv_bytes())

    def csv_bytes(self) -> bytes:
        """The table as CSV text in UTF-8."""
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(zip(*(column.texts().tolist() for column in self.columns.values()), strict=True))
        return out.getvalue().encode()

    def to_parquet(self, path: Path | str) -> None:
        """Publish as Parquet (atomically), typed: Float64, String, Boolean, Datetime."""
        import polars as pl

        series = []
        for name, column in self.columns.items():
            if column.kind in ("number", "date"):
                values = pl.Series(name, column.values)
                series.append(values.set(pl.Series(column.missing), None) if column.kind == "number" else values)
            else:
                dtype = pl.Boolean if column.kind == "boolean" else pl.String
                series.append(pl.Series(name, _python_values(column), dtype=dtype))
        out = io.BytesIO()
        pl.DataFrame(series).write_parquet(out)
        publish(Path(path), out.getvalue())


def row_keys(table: Table, columns: Iterable[str] | None = None) -> np.ndarray:
    """Unicode array [n] of 32 hex digits: the content hash of each row over `columns` (default all), in any order."""
    names = table.names if columns is None else tuple(columns)
    if not names:
        raise DataError("row keys need at least one column", hint="name the feature columns")
    return keys_of([table[name] for name in names])


def missing_column(name: str, names: Sequence[str], source: str) -> DataError:
    """The error for a column that does not exist: what there is (the first twenty) and the nearest name."""
    lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    shown = ", ".join(names[:_NAMED_COLUMNS])
    more = f" and {len(names) - _NAMED_COLUMNS} more" if len(names) > _NAMED_COLUMNS else ""
    suggestion = f" Did you mean {lower[near[0]]!r}?" if near else ""
    return DataError(f"{source!r} has no column {name!r}", hint=f"columns: {shown}{more}.{suggestion}")


def _python_values(column: Column) -> list[Any]:
    if column.kind == "number":
        whole = [int(v) if v == v and abs(v) < 2**53 and v == int(v) else v for v in column.values.tolist()]
        return [None if gone else value for value, gone in zip(whole, column.missing.tolist(), strict=True)]
    texts = column.texts().tolist()
    if column.kind == "boolean":
        return [None if not text else text == "true" for text in texts]
    return [text or None for text in texts]


def _from_path(path: Path, kinds: dict[str, str], max_columns: int, options: CsvOptions | None) -> Table:
    source = str(path)
    with open_file(path) as file:
        magic = file.read(4)
    if magic == b"PAR1":
        return _from_parquet(path, kinds, max_columns)
    if path.suffix == ".jsonl":
        try:
            columns, _, notes = from_object(list(read_jsonl(path)), kinds, max_columns)
        except (StorageError, UnicodeDecodeError) as error:
            raise DataError(str(error)) from error
        return Table(columns, source, tuple(notes))
    if path.suffix == ".parquet":
        hint = "copy or export it again"
        raise DataError(f"{source!r} is not a Parquet file (it does not start with PAR1)", hint=hint)
    if options is None:
        options = CsvOptions("\t" if ".tsv" in path.suffixes else None, None, max_columns)
    columns, notes = read_csv(path, options, kinds)
    return Table(columns, source, tuple(notes))


def _from_parquet(path: Path, kinds: dict[str, str], max_columns: int) -> Table:
    import polars as pl

    source = str(path)
    try:
        width = len(pl.read_parquet_schema(path))
        if width > max_columns:
            raise DataError(
                f"{source!r} has {width:,} columns; at most {max_columns:,} are read",
                hint="keep the columns that matter, or raise max_columns",
            )
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{source!r} is a damaged Parquet file: {error}", hint="copy or export it again") from error
    columns, _, notes = from_object(frame, kinds, max_columns)
    return Table(columns, source, tuple(notes))

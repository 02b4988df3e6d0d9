"""Tables from what Python programs hold: pandas, polars, Arrow, dictionaries, lists of records, NumPy arrays.

Typed columns keep their type; texts and objects go through the same inference as a CSV file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alexandra.errors import DataError
from alexandra.tables.column import EXACT_INTEGER, Column
from alexandra.tables.infer import column_from_levels, encode

_KINDS_HINT = (
    "a table is a path (CSV, TSV, Parquet), a pandas or polars frame, an Arrow table, a dictionary of columns, "
    "a list of dictionaries or a two-dimensional NumPy array"
)
Columns = dict[str, Column]


def from_object(x: Any, kinds: Mapping[str, str], max_columns: int) -> tuple[Columns, str, list[str]]:
    """Columns, a word for where they come from, and notes."""
    origin = type(x).__module__.split(".")[0]
    notes: list[str] = []
    convert: Callable[[str, Any, str | None, list[str]], Column]
    if origin in ("polars", "pyarrow") and hasattr(x, "collect"):
        x = x.collect()
    if origin == "pandas" and hasattr(x, "columns"):
        names = [str(name) for name in x.columns]
        cells = [x.iloc[:, i] for i in range(len(names))] if len(names) <= max_columns else []
        convert, source = _from_pandas, "pandas frame"
    elif origin in ("polars", "pyarrow") and hasattr(x, "columns"):
        frame = _as_polars(x, origin)
        names, cells, convert, source = list(frame.columns), list(frame), _from_polars, f"{origin} table"
    elif isinstance(x, Mapping):
        names, cells = [str(name) for name in x], _equal_lengths(x)
        convert, source = _from_sequence, "dictionary"
    elif isinstance(x, np.ndarray):
        names, cells = _from_array(x)
        convert, source = _from_sequence, "array"
    elif isinstance(x, Sequence) and not isinstance(x, (str, bytes)):
        names, cells = _from_records(x)
        convert, source = _from_sequence, "records"
    else:
        raise DataError(f"cannot read a table from a {type(x).__name__}", hint=_KINDS_HINT)
    _check_names(names, source, max_columns)
    columns = {name: convert(name, cell, kinds.get(name), notes) for name, cell in zip(names, cells, strict=True)}
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"the {source} holds no {'rows' if columns else 'columns'}", hint=_KINDS_HINT)
    return columns, source, notes


def _check_names(names: list[str], source: str, max_columns: int) -> None:
    if len(names) > max_columns:
        raise DataError(
            f"the {source} has {len(names):,} columns; at most {max_columns:,} are read",
            hint="keep the columns that matter, or raise max_columns",
        )
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise DataError(f"the {source} has two columns named {twice!r}", hint="give every column its own name")


def _equal_lengths(x: Mapping[Any, Any]) -> list[Any]:
    """The cells per column; one row when every value is a scalar."""
    scalars = [isinstance(value, (str, bytes)) or not hasattr(value, "__len__") for value in x.values()]
    if all(scalars):
        return [[value] for value in x.values()]
    if any(scalars):
        name = list(x)[scalars.index(True)]
        raise DataError(
            f"column {str(name)!r} is the single value {x[name]!r}, other columns are lists",
            hint="give every column as a list of equal length, or one value per column for a single row",
        )
    lengths = {str(name): len(value) for name, value in x.items()}
    if len(set(lengths.values())) > 1:
        (first, n), (other, m) = next((a, b) for a in lengths.items() for b in lengths.items() if a[1] != b[1])
        raise DataError(f"column {first!r} has {n} rows, column {other!r} has {m}", hint="columns must be equally long")
    return list(x.values())


def _from_array(x: np.ndarray) -> tuple[list[str], list[Any]]:
    if x.dtype.names:
        return list(x.dtype.names), [x[name] for name in x.dtype.names]
    if x.ndim != 2:
        raise DataError(
            f"an array of shape {x.shape} is no table", hint="give rows and columns: reshape to (rows, columns)"
        )
    if x.dtype.kind == "c":
        raise DataError("complex numbers cannot be read as a table", hint="split them into real and imaginary columns")
    return [f"x{i}" for i in range(x.shape[1])], [x[:, i] for i in range(x.shape[1])]


def _from_records(x: Sequence[Any]) -> tuple[list[str], list[Any]]:
    if not x:
        raise DataError("an empty list holds no table", hint=_KINDS_HINT)
    if not all(isinstance(row, Mapping) for row in x):
        if all(isinstance(row, (Sequence, np.ndarray)) and not isinstance(row, str) for row in x):
            widths = sorted({len(row) for row in x})
            if len(widths) == 1:
                return [f"x{i}" for i in range(widths[0])], [list(column) for column in zip(*x, strict=True)]
            raise DataError(f"rows have different lengths: {widths[:5]}", hint="every row needs a value per column")
        odd = next(row for row in x if not isinstance(row, Mapping))
        raise DataError(f"a list holds a {type(odd).__name__} where a row should be", hint=_KINDS_HINT)
    names = list(dict.fromkeys(str(name) for row in x for name in row))
    rows = [{str(name): value for name, value in row.items()} for row in x]
    return names, [[row.get(name) for row in rows] for name in names]


def _as_polars(x: Any, origin: str) -> Any:
    import polars as pl

    if origin == "pyarrow":
        return pl.from_arrow(x)
    return x


def _from_polars(name: str, series: Any, kind: str | None, notes: list[str]) -> Column:
    import polars as pl

    dtype = series.dtype
    if dtype == pl.Boolean:
        return _from_sequence(name, series.to_list(), kind or "boolean", notes)
    if dtype.is_integer() and series.len() and _beyond_exact(series.min(), series.max()):
        return _from_sequence(name, series.to_list(), kind, notes)
    if dtype.is_numeric():
        values = series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return _recast(_number(name, values, notes), kind)
    if dtype in (pl.Date, pl.Datetime):
        zone = getattr(dtype, "time_zone", None)
        utc = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else series
        values = utc.cast(pl.Datetime("us")).to_numpy().astype("datetime64[us]")
        return _recast(Column(name, "date", values, np.isnat(values)), kind)
    if dtype == pl.Duration:
        return _recast(_number(name, series.dt.total_microseconds().cast(pl.Float64).to_numpy() / 1e6, notes), kind)
    if dtype == pl.Categorical or dtype == pl.Enum:
        return _from_sequence(name, series.cast(pl.String).to_list(), kind or "category", notes)
    return _from_sequence(name, series.to_list(), kind, notes)


def _from_pandas(name: str, series: Any, kind: str | None, notes: list[str]) -> Column:
    code = getattr(series.dtype, "kind", "O")
    declared = str(series.dtype)
    if declared == "category":
        return _from_sequence(name, _objects(series.astype(object)), kind or "category", notes)
    if code == "b":
        return _from_sequence(name, _objects(series), kind or "boolean", notes)
    if code in "iu" and _beyond_exact(series.min(), series.max()):
        return _from_sequence(name, _objects(series), kind, notes)
    if code in "iuf":
        return _recast(_number(name, series.to_numpy(dtype=np.float64, na_value=np.nan), notes), kind)
    if code == "M":
        utc = series.dt.tz_convert("UTC").dt.tz_localize(None) if getattr(series.dtype, "tz", None) else series
        values = utc.to_numpy(dtype="datetime64[us]")
        return _recast(Column(name, "date", values, np.isnat(values)), kind)
    if code == "m":
        return _recast(_number(name, series.dt.total_seconds().to_numpy(dtype=np.float64), notes), kind)
    return _from_sequence(name, _objects(series), kind, notes)


def _objects(series: Any) -> list[Any]:
    """Python values with None where missing."""
    missing = series.isna().to_numpy()
    return [None if gone else value for value, gone in zip(series.tolist(), missing.tolist(), strict=True)]


def _from_sequence(name: str, cells: Any, kind: str | None, notes: list[str]) -> Column:
    array = cells if isinstance(cells, np.ndarray) else None
    if array is not None and array.ndim == 1:
        whole = array.dtype.kind in "iu" and len(array) > 0
        if array.dtype.kind in "fiu" and not (whole and _beyond_exact(array.min(), array.max())):
            return _recast(_number(name, array.astype(np.float64), notes), kind)
        if array.dtype.kind == "M":
            dates = array.astype("datetime64[us]")
            return _recast(Column(name, "date", dates, np.isnat(dates)), kind)
        if array.dtype.kind == "S":
            cells = [value.decode() for value in array.tolist()]
    values = cells.tolist() if isinstance(cells, np.ndarray) else list(cells)
    if values and kind is None and all(value is None or type(value) in (int, float) for value in values):
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        if not (np.abs(numbers) > EXACT_INTEGER).any() and not np.isnan(numbers).all():
            return _number(name, numbers, notes)
    levels, codes = encode(values, f"column {name!r}")
    column, said = column_from_levels(name, levels, codes, kind)
    notes.extend(said)
    return column


def _number(name: str, values: np.ndarray, notes: list[str]) -> Column:
    """A number column; infinite values become missing, with a note."""
    infinite = np.isinf(values)
    if infinite.any():
        notes.append(f"column {name!r}: {int(infinite.sum())} infinite values: missing")
        values = np.where(infinite, np.nan, values)
    return Column(name, "number", values, np.isnan(values))


def _recast(column: Column, kind: str | None) -> Column:
    return column.cast(kind) if kind else column


def _beyond_exact(low: Any, high: Any) -> bool:
    """Whether integers leave the range that float64 holds exactly (an all-missing column does not)."""
    try:
        return bool(high > EXACT_INTEGER or low < -EXACT_INTEGER)
    except TypeError:
        return False

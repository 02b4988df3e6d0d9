"""Tables from frames, their way out to files, and the content hashes of their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.errors import DataError
from alexandra.tables import Table, row_keys

ROWS = [
    {"age": 38, "city": "Rome", "member": True, "since": "2020-05-01", "score": 1.5},
    {"age": 27, "city": None, "member": False, "since": "2021-06-02", "score": None},
    {"age": 61, "city": "Oslo", "member": None, "since": None, "score": 2.0},
]
KINDS = {"age": "number", "city": "category", "member": "boolean", "since": "date", "score": "number"}


def columns() -> dict[str, list[Any]]:
    return {name: [row[name] for row in ROWS] for name in ROWS[0]}


def frame() -> pd.DataFrame:
    data = pd.DataFrame(columns())
    data["since"] = pd.to_datetime(data["since"])
    data["city"] = data["city"].astype("category")
    return data


def polars_frame() -> pl.DataFrame:
    return pl.DataFrame(columns()).with_columns(pl.col("since").str.to_date())


SOURCES = {
    "dictionary": columns,
    "records": lambda: ROWS,
    "pandas": frame,
    "pandas objects": lambda: pd.DataFrame(columns(), dtype=object),
    "pandas nullable": lambda: frame().convert_dtypes(),
    "polars": polars_frame,
    "polars lazy": lambda: polars_frame().lazy(),
    "arrow": lambda: pa.Table.from_pylist(ROWS),
    "table": lambda: Table.from_any(ROWS),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_table(source: str) -> None:
    table = Table.from_any(SOURCES[source]())
    assert table.kinds == KINDS
    assert table.rows() == ROWS
    assert row_keys(table).tolist() == row_keys(Table.from_any(ROWS)).tolist()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_written_read_back_equal(tmp_path: Path, suffix: str) -> None:
    table = Table.from_any(ROWS)
    path = tmp_path / f"t.{suffix}"
    getattr(table, f"to_{suffix}")(path)
    again = Table.from_any(path)
    assert again.rows() == ROWS
    assert again.kinds == KINDS
    assert again.content_hash() == table.content_hash()


def test_json_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1, "b": "x"}\n\n{"a": null, "b": "y", "c": true}\n')
    assert Table.from_any(path).rows() == [{"a": 1, "b": "x", "c": None}, {"a": None, "b": "y", "c": True}]
    path.write_text("{]\n")
    with pytest.raises(DataError, match="line 1 is not JSON"):
        Table.from_any(path)


def test_one_dictionary_of_values_is_one_row() -> None:
    table = Table.from_any({"age": 38, "city": "Rome", "score": None})
    assert table.rows() == [{"age": 38, "city": "Rome", "score": None}]


def test_arrays_are_tables_of_numbers() -> None:
    table = Table.from_any(np.array([[1.0, 2.0], [3.0, np.nan]]))
    assert table.names == ("x0", "x1")
    assert table["x1"].missing.tolist() == [False, True]
    assert Table.from_any(np.array([["a", "1"], ["b", "2"]])).kinds == {"x0": "category", "x1": "number"}
    assert Table.from_any([[1, "a"], [2, "b"]]).kinds == {"x0": "number", "x1": "category"}


def test_whole_numbers_beyond_float_precision_stay_exact() -> None:
    for source in (
        {"k": [2**60, 2**60 + 1]},
        pd.DataFrame({"k": [2**60, 2**60 + 1]}),
        pl.DataFrame({"k": [2**60, 2**60 + 1]}),
    ):
        table = Table.from_any(source)
        assert table["k"].values.tolist() == [str(2**60), str(2**60 + 1)]
        assert len(set(row_keys(table).tolist())) == 2


def test_time_zones_come_to_utc() -> None:
    moments = pd.to_datetime(["2020-01-01 12:00"]).tz_localize("Europe/Rome")
    for source in (pd.DataFrame({"t": moments}), pl.DataFrame({"t": moments.to_pydatetime().tolist()})):
        assert Table.from_any(source).rows() == [{"t": "2020-01-01T11:00:00"}]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "the dictionary holds no columns"),
        ([], "an empty list holds no table"),
        (pd.DataFrame({"a": []}), "the pandas frame holds no rows"),
        ({"a": [1, 2], "b": [1]}, "column 'a' has 2 rows, column 'b' has 1"),
        ({"a": [1, 2], "b": 1}, "column 'b' is the single value 1, other columns are lists"),
        (np.zeros(3), r"an array of shape \(3,\) is no table"),
        (np.zeros((2, 2), dtype=complex), "complex numbers"),
        ([1, 2], "a list holds a int where a row should be"),
        ([[1], [1, 2]], r"rows have different lengths: \[1, 2\]"),
        (5, "cannot read a table from a int"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "the pandas frame has two columns named 'a'"),
        (np.zeros((2, 6000)), "the array has 6,000 columns; at most 5,000 are read"),
        (pl.DataFrame({"a": [[1]]}), "column 'a', row 1: a cell holds a list"),
    ],
)
def test_what_is_no_table_is_refused_with_a_way_out(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Table.from_any(source)
    assert caught.value.hint


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    Table.from_any(ROWS).to_parquet(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="is a damaged Parquet file"):
        Table.from_any(path)
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(DataError, match="is not a Parquet file"):
        Table.from_any(path)


def test_an_unknown_column_lists_what_there_is_and_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"has no column 'Age'\ncolumns: age, city, member, since, score. Did you mean 'age'\?"
    ):
        Table.from_any(ROWS)["Age"]
    wide = Table.from_any(np.zeros((1, 100)))
    with pytest.raises(DataError, match="x19 and 80 more"):
        wide["target"]


def test_rows_and_columns_are_taken_without_changing_the_table() -> None:
    table = Table.from_any(ROWS)
    assert table.take(np.array([2, 0])).rows() == [ROWS[2], ROWS[0]]
    assert table.take(np.array([False, True, False])).rows() == [ROWS[1]]
    assert table.take(slice(1, None)).rows() == ROWS[1:]
    assert table.drop(["age"]).names == ("city", "member", "since", "score")
    assert table.select(["score", "age"]).names == ("score", "age")
    assert table.replace("age", table["score"]).rows()[0]["age"] == 1.5
    assert table.rows() == ROWS
    with pytest.raises(DataError, match="no column 'size'"):
        table.drop(["size"])
    with pytest.raises(DataError, match="1 values for 3 rows"):
        table.replace("age", table["age"].take(np.array([0])))


def test_keys_do_not_depend_on_column_order_file_types_or_neighbours() -> None:
    table = Table.from_any({"a": [1, 2, 1], "b": ["x", "y", "x"]})
    keys = row_keys(table)
    assert keys.dtype == np.dtype("<U32")
    assert keys[0] == keys[2] != keys[1]
    assert row_keys(Table.from_any({"b": ["x"], "a": ["1"]}))[0] == keys[0]
    assert row_keys(Table.from_any({"a": ["1", "z"], "b": ["x", "y"]}))[0] == keys[0]
    assert row_keys(table, ["a"])[0] != row_keys(table, ["b"])[0]
    with pytest.raises(DataError, match="at least one column"):
        row_keys(table, [])


cell = st.one_of(
    st.none(), st.floats(-1e6, 1e6), st.integers(-1000, 1000), st.sampled_from(["x", "0", "-0.0", "007", "é"])
)


@given(st.lists(st.tuples(cell, cell), min_size=2, max_size=8))
def test_two_rows_share_a_key_exactly_when_their_cells_are_equal(rows: list[tuple[Any, Any]]) -> None:
    table = Table.from_any({"a": [row[0] for row in rows], "b": [row[1] for row in rows]})
    keys = row_keys(table).tolist()
    shown = [tuple(row.values()) for row in table.rows()]
    for i in range(len(rows)):
        for j in range(i):
            assert (keys[i] == keys[j]) == (shown[i] == shown[j])


def test_a_name_with_a_comma_is_no_two_columns() -> None:
    one = row_keys(Table.from_any({'a", "b': [1], "c": [2]}))[0]
    assert one != row_keys(Table.from_any({"a": [1], 'b", "c': [2]}))[0]

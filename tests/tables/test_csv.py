"""CSV files: what is read, and for each kind of wrong file the one clear error."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.errors import DataError
from alexandra.tables import CsvOptions, Table
from alexandra.tables.infer import MISSING


def read(tmp_path: Path, data: bytes | str, name: str = "t.csv", options: CsvOptions | None = None) -> Table:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return Table.from_any(path, csv_options=options)


def cells(table: Table) -> list[list[object]]:
    return [list(row.values()) for row in table.rows()]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separator_and_line_ends_are_found(tmp_path: Path, separator: str, end: str) -> None:
    lines = [["a", "b c", "d"], ["1", "x, y; z", ""], ["2.5", 'say "hi"', "no"]]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, lineterminator=end).writerows(lines)
    table = read(tmp_path, out.getvalue())
    assert table.names == ("a", "b c", "d")
    assert cells(table) == [[1, "x, y; z", None], [2.5, 'say "hi"', "no"]]


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ("naïve,b\né,1\n".encode("utf-8-sig"), ""),
        ("naïve,b\né,1\n".encode("utf-16"), "read as UTF-16"),
        ("naïve,b\né,1\n".encode("cp1252"), "not UTF-8: read as Windows-1252"),
    ],
)
def test_encodings(tmp_path: Path, data: bytes, note: str) -> None:
    table = read(tmp_path, data)
    assert table.names == ("naïve", "b")
    assert cells(table) == [["é", 1]]
    assert table.notes == ((note,) if note else ())


def test_gzip_is_known_by_its_bytes_and_old_line_ends_are_read(tmp_path: Path) -> None:
    assert cells(read(tmp_path, gzip.compress(b"a,b\r1,2\r3,4\r"), "odd.name")) == [[1, 2], [3, 4]]


def test_blank_lines_are_skipped_and_quoted_lines_are_kept(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b\n\n1,"two\nlines"\n   \n3,x\n\n')
    assert cells(table) == [[1, "two\nlines"], [3, "x"]]


def test_semicolon_files_may_have_decimal_commas(tmp_path: Path) -> None:
    assert cells(read(tmp_path, "a;b\n1,5;x\n1.000,25;y\n")) == [[1.5, "x"], [1000.25, "y"]]


def test_stray_quotes_inside_a_field_are_text(tmp_path: Path) -> None:
    assert cells(read(tmp_path, 'size,n\n5" pipe,1\n6" pipe,2\n')) == [['5" pipe', 1], ['6" pipe', 2]]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_an_odd_number_of_stray_quotes_is_no_open_quote(tmp_path: Path, end: str) -> None:
    assert cells(read(tmp_path, f'n,size\n1,big\n2,5" pipe{end}')) == [[1, "big"], [2, '5" pipe']]
    assert cells(read(tmp_path, f'n,size\n1,big\n2,"5"" pipe"{end}')) == [[1, "big"], [2, '5" pipe']]


def test_a_file_without_header_names_its_columns_and_says_so(tmp_path: Path) -> None:
    table = read(tmp_path, "5.1,3.5,setosa\n4.9,3.0,setosa\n7.0,3.2,virginica\n")
    assert table.names == ("column_1", "column_2", "column_3")
    assert table.n_rows == 3
    assert table.notes == ("no header line: columns are named column_1 ... column_3",)
    assert read(tmp_path, "6,2\n3,4\n").n_rows == 2
    assert read(tmp_path, "ham,hello there\nspam,buy now\nham,see you\n").n_rows == 3


@pytest.mark.parametrize("header", ["0,1,2", "1,2,3", "year,2010,2011", "red,green,blue"])
def test_headers_of_counted_numbers_and_words_are_headers(tmp_path: Path, header: str) -> None:
    table = read(tmp_path, f"{header}\n5,6,7\n8,9,10\n")
    assert table.names == tuple(header.split(","))
    assert table.n_rows == 2


def test_the_header_can_be_forced(tmp_path: Path) -> None:
    assert read(tmp_path, "7,8\n3,4\n", options=CsvOptions(header=True)).names == ("7", "8")
    assert read(tmp_path, "a,b\n3,4\n", options=CsvOptions(header=False)).n_rows == 2
    assert read(tmp_path, "a,b\n3,4\n", options=CsvOptions(separator=";")).names == ("a,b",)


def test_an_unnamed_column_gets_a_name(tmp_path: Path) -> None:
    assert read(tmp_path, ",a\n0,x\n1,y\n").names == ("column_1", "a")


WRONG = {
    "empty": (b"", r"is empty"),
    "blank": (b"  \n \n", r"is empty"),
    "header only": (b"a,b\n", r"has a header and no rows"),
    "NUL": (b"a,b\n1,\x002\n", r"is not a text table: it holds a NUL byte \(at byte 6\)"),
    "noise": (bytes(range(1, 256)) * 40, r"is not a text table: it holds \d+ control characters"),
    "no encoding": (b"a,b\n1,\x81\x8d\n", r"byte 0x81 in line 2 is neither UTF-8 nor Windows-1252"),
    "workbook": (b"PK\x03\x04....", r"is a zip archive or an Excel workbook"),
    "long row": (b"a,b\n1,2\n3,4,5\n", r"the header has 2 fields, line 3 has 3"),
    "short row": (b"a,b\n1\n3,4\n", r"the header has 2 fields, line 2 has 1"),
    "row after a quoted line": (b'a,b\n"x\ny",1\n\n2\n', r"the header has 2 fields, line 5 has 1"),
    "many": (b"a,b\n" + b"1\n" * 9, r"line 2 has 1; line 3 has 1; line 4 has 1; 9 such rows in all"),
    "open quote": (b'a,b\n1,"x\n2,y\n3,z\n', r"a quote that is opened in the row of line 2 is never closed"),
    "two names": (b"a,b,a\n1,2,3\n", r"column name 'a' occurs twice \(columns 1 and 3\)"),
    "gzip": (gzip.compress(b"a,b\n1,2\n" * 100)[:-9], r"is a damaged gzip file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_has_one_clear_error_with_a_way_out(tmp_path: Path, name: str) -> None:
    data, message = WRONG[name]
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, data)
    assert caught.value.hint
    assert "t.csv" in str(caught.value)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"no file '.*custmers.csv'\ndid you mean '.*customers.csv'\?"):
        Table.from_any(tmp_path / "custmers.csv")
    with pytest.raises(DataError, match="is a folder, not a table"):
        Table.from_any(tmp_path)


def test_a_wide_file_is_refused_before_it_costs_memory(tmp_path: Path) -> None:
    row = ",".join(["0.123456"] * 10_000)
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{i}" for i in range(10_000)) + "\n" + f"{row}\n" * 200)
    assert path.stat().st_size > 15e6
    tracemalloc.start()
    with pytest.raises(DataError, match=r"has 10,000 columns; at most 5,000 are read\nkeep the columns that matter"):
        Table.from_any(path)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()
    assert len(Table.from_any(path, max_columns=10_000).names) == 10_000


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cc"]), max_size=6)
quotable = st.one_of(texts, st.sampled_from(['"', '""', ",", "a\nb", ";", " x ", "NA", "1", "1e3", "007", "-", "\t"]))


@given(
    rows=st.lists(st.tuples(quotable, quotable, st.just("end")), min_size=1, max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_every_quoted_table_reads_as_pythons_csv_module_reads_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], end: str
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end)
    writer.writerow(["p", "q", "r"])
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(out.getvalue().encode())
    options = CsvOptions(separator=",", header=True)
    table = Table.from_any(path, {"p": "category", "q": "category"}, csv_options=options)
    for position, name in enumerate(("p", "q")):
        expected = [row[position].strip() for row in rows]
        assert table[name].values.tolist() == ["" if value in MISSING else value for value in expected]


@given(
    st.lists(
        st.sampled_from(["1", "-2.5", "0.10", "1e3", "", "NA", "7", " 8 ", "9007199254740993", "007", "x"]),
        min_size=1,
        max_size=12,
    )
)
def test_a_file_and_a_list_of_texts_give_the_same_column(
    tmp_path_factory: pytest.TempPathFactory, values: list[str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text("a,b\n" + "".join(f"{value},x\n" for value in values))
    from_file, from_list = Table.from_any(path)["a"], Table.from_any({"a": values})["a"]
    assert from_file.kind == from_list.kind
    np.testing.assert_array_equal(from_file.missing, from_list.missing)
    np.testing.assert_array_equal(from_file.values, from_list.values)


def test_a_large_block_boundary_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alexandra.tables import csvfile

    data = "a,b\n" + "".join(f'{i},"q ""{i}"" , x\ny"\n' for i in range(50))
    whole = cells(read(tmp_path, data))
    for size in (1, 2, 7, 64):
        monkeypatch.setattr(csvfile, "_SCAN_BLOCK", size)
        assert cells(read(tmp_path, data)) == whole

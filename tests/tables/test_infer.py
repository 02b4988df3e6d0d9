"""What a column is: numbers with blanks, codes, booleans, dates, texts, and the words for what is missing."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.errors import DataError
from alexandra.tables import Column, Table
from alexandra.tables.column import number_text, parse_dates, parse_number


def column(values: list[object], kind: str | None = None) -> Column:
    return Table.from_any({"c": values}, {"c": kind} if kind else None)["c"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", " ", "-3e2"], "number"),
        (["29.85", " ", "NA", "-"], "number"),
        (["1,200", "35", "1,000,000"], "number"),
        (["$1,200.50", "$35"], "number"),
        (["12%", "7%"], "number"),
        (["0", "1", "1"], "number"),
        ([0, 1, None], "number"),
        ([1.5, float("nan")], "number"),
        (["Yes", "No"], "category"),
        (["01234", "94110"], "category"),
        (["12345678901234567890", "12345678901234567891"], "category"),
        (["1", "2", "x"], "category"),
        (["true", "False", ""], "boolean"),
        ([True, False, None], "boolean"),
        (["2011-01-01", "2011/2/3", ""], "date"),
        (["2011-01-01T10:00:00Z", "2011-01-01 10:00:00+02:00"], "date"),
        (["31.01.2011", "1.2.2011 8:30"], "date"),
        ([datetime.date(2011, 1, 1), None], "date"),
        (["", "NA", None], "category"),
    ],
)
def test_the_kind_of_a_column(values: list[object], kind: str) -> None:
    assert column(values).kind == kind


def test_numeric_texts_with_blanks_become_numbers_with_missing() -> None:
    c = column(["29.85", " ", "1889.5", "n/a"])
    assert c.missing.tolist() == [False, True, False, True]
    assert c.values[[0, 2]].tolist() == [29.85, 1889.5]
    assert np.isnan(c.values[[1, 3]]).all()


def test_a_few_odd_words_among_many_numbers_are_missing_and_said() -> None:
    table = Table.from_any({"c": [str(i) for i in range(100)] + ["refused", "refused"]})
    assert table["c"].kind == "number"
    assert table["c"].missing.sum() == 2
    assert table.notes == ("column 'c': 2 values are no numbers ('refused'): missing",)


@pytest.mark.parametrize("odd", [["7a"], ["007"], ["a", "b", "c", "d"], ["x"] * 10])
def test_numbers_with_codes_or_many_words_among_them_stay_a_category(odd: list[str]) -> None:
    assert column([str(i) for i in range(100)] + odd).kind == "category"


def test_running_text_is_text_and_repeated_phrases_are_categories() -> None:
    assert column([f"this is message number {i}" for i in range(30)]).kind == "text"
    assert column(["Bank transfer (automatic)", "Credit card (automatic) or so"] * 15).kind == "category"


def test_blanks_around_values_do_not_make_new_categories() -> None:
    assert column([" Private", "Private ", "Private"]).levels()[0] == ["Private"]


def test_infinite_numbers_are_missing_and_said() -> None:
    table = Table.from_any({"c": np.array([1.0, np.inf, -np.inf])})
    assert table["c"].missing.tolist() == [False, True, True]
    assert table.notes == ("column 'c': 2 infinite values: missing",)


def test_dates_are_read_in_one_order_over_the_whole_column() -> None:
    assert parse_dates(["01/02/2011", "25/02/2011"])[0] == np.datetime64("2011-02-01")
    assert parse_dates(["01/02/2011", "02/25/2011"])[0] == np.datetime64("2011-01-02")
    assert np.isnat(parse_dates(["2011-13-01"])[0])
    assert parse_dates(["2011-01-01 10:00:00+02:00"])[0] == np.datetime64("2011-01-01T08:00:00")


def test_a_list_in_a_cell_is_refused_with_its_place() -> None:
    with pytest.raises(DataError, match=r"column 'c', row 2: a cell holds a list, '\[1, 2\]'"):
        column([1, [1, 2]])


def test_python_values_have_one_text_each() -> None:
    values = [True, 3, 3.0, decimal.Decimal("2.50"), np.int64(4), np.datetime64("2020-01-02"), None]
    assert column(values, "category").values.tolist() == ["true", "3", "3", "2.5", "4", "2020-01-02", ""]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DataError, match="unknown column kind 'numeric'"):
        column([1], "numeric")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("number", [1.0, 0.0, np.nan]),
        ("category", ["true", "false", ""]),
        ("text", ["true", "false", ""]),
    ],
)
def test_a_boolean_becomes_what_training_saw(kind: str, values: list[object]) -> None:
    cast = column([True, False, None]).cast(kind)
    assert cast.kind == kind
    np.testing.assert_array_equal(cast.values, np.array(values, dtype=cast.values.dtype))


def test_kinds_keep_texts_as_the_training_rows_had_them() -> None:
    row = Table.from_any({"zip": ["01234"], "flag": ["TRUE"], "n": ["1.0"]}, {"flag": "category", "n": "category"})
    assert [row[name].values[0] for name in row.names] == ["01234", "TRUE", "1.0"]
    assert Table.from_any({"c": ["x", "3"]}, {"c": "number"})["c"].missing.tolist() == [True, False]
    assert Table.from_any({"c": ["2011-01-01", "x"]}, {"c": "date"})["c"].missing.tolist() == [False, True]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_reads_back_exactly(value: float) -> None:
    assert float(number_text(value)) == value


@given(st.integers(-(2**53), 2**53))
def test_integers_survive_as_text(value: int) -> None:
    assert parse_number(str(value)) == value
    assert number_text(float(value)) == str(value)


@given(st.text(max_size=8))
def test_parsing_a_number_never_fails_and_is_finite(text: str) -> None:
    value = parse_number(text)
    assert value is None or np.isfinite(value)

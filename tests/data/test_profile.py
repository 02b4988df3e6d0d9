"""A profile reports what it finds in words, leaves out what cannot be learnt from, and names leaks with a figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alexandra.data.profile import Profile, profile, strongest_words
from alexandra.data.readers import BUNDLED, bundled
from alexandra.errors import DataError
from alexandra.tables import Table

N = 400
rng = np.random.default_rng(5)
LABEL = rng.random(N) < 0.3
NOISE = rng.normal(size=N)


def table(**columns: Any) -> Table:
    """A plain table with a fair feature, plus the given columns."""
    y = np.where(LABEL, "Yes", "No").astype(object)
    return Table.from_any(
        {"age": NOISE + 0.5 * LABEL, "city": np.array(["Rome", "Oslo"] * (N // 2), dtype=object), **columns, "y": y}
    )


def leaks(report: Profile) -> dict[str, str]:
    return {leak.column: leak.rule for leak in report.leaks}


def test_a_plain_table_has_no_warnings() -> None:
    report = profile(table(), "y")
    assert report.features == ("age", "city")
    assert report.leaks == () and report.warnings == ()
    assert report.classification
    assert {c.name: c.role for c in report.columns} == {"age": "feature", "city": "feature", "y": "target"}
    assert strongest_words(report).startswith("strongest single column: age (ROC AUC 0.6")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (
            "customerID",
            [f"{i:04d}-ABC" for i in range(N)],
            "it looks like an identifier (400 distinct values in 400 rows)",
        ),
        ("row", list(range(1, N + 1)), "it numbers the rows"),
        ("user_id", (rng.permutation(N) * 7).tolist(), "it looks like an identifier (400 distinct whole numbers)"),
        ("same", ["x"] * N, "it is constant ('x')"),
        ("none", [None] * N, "it is empty"),
    ],
)
def test_what_cannot_be_learnt_from_is_left_out_with_its_reason(name: str, values: list[Any], words: str) -> None:
    report = profile(table(**{name: values}), "y")
    assert report.features == ("age", "city")
    assert report.dropped == {name: words}
    assert f"column {name!r} is left out: {words}" in report.warnings


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("measured", rng.normal(size=N)),
        ("income", (rng.permutation(N) * 7).tolist()),
        ("mostly", ["x"] * (N - 1) + [None]),
        ("note", [f"this is message number {i}" for i in range(N)]),
    ],
)
def test_what_only_resembles_an_identifier_or_a_constant_stays(name: str, values: Any) -> None:
    assert name in profile(table(**{name: values}), "y").features


FLIPPED = LABEL ^ (np.arange(N) % 100 == 0)
COPIES = {
    "renamed": np.where(LABEL, "gone", "stayed").astype(object),
    "permuted": np.where(LABEL, "No", "Yes").astype(object),
    "one percent changed": np.where(FLIPPED, 1, 0),
    "noise on numbers": LABEL + 0.05 * rng.normal(size=N),
    "inverted and scaled": -1000.0 * LABEL + rng.normal(size=N),
    "filled only for one class": np.where(LABEL, rng.normal(size=N), np.nan),
    "two intervals": np.where(LABEL, rng.choice([-5.0, 5.0], size=N), 0.0) + 0.1 * rng.normal(size=N),
    "many codes": np.array([f"{'pq'[int(v)]}{i % 12}" for i, v in enumerate(LABEL)], dtype=object),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_disguised_copy_of_the_target_is_named_with_its_figure(name: str) -> None:
    report = profile(table(code=COPIES[name]), "y")
    assert list(leaks(report)) == ["code"]
    assert report.leaks[0].figure >= 0.95
    assert any(w.startswith("column 'code' gives the target away: it") for w in report.warnings)
    assert "code" in report.features


def test_copies_of_many_classes_and_of_numbers_are_named() -> None:
    digits = bundled("digits")
    words = np.array([f"d{int(v) * 7 % 10}" for v in digits["target"].values], dtype=object)
    with_copy = Table.from_any(
        {**{n: digits[n].values for n in digits.names[:10]}, "code": words, "target": digits["target"].values}
    )
    assert leaks(profile(with_copy, "target")) == {"code": "copy"}
    diabetes = bundled("diabetes")
    y = diabetes["target"].values
    for copy in (y * 2 - 5, np.exp(y / 100), y + 0.5 * rng.normal(size=len(y)), (y - 150) ** 3):
        report = profile(Table.from_any({"bmi": diabetes["bmi"].values, "copy": copy, "target": y}), "target")
        assert leaks(report) == {"copy": "alone"}


def test_the_parts_of_a_sum_are_named() -> None:
    a, b = rng.integers(0, 50, N), rng.integers(0, 60, N)
    report = profile(Table.from_any({"x": NOISE, "casual": a, "registered": b, "count": a + b}), "count")
    assert leaks(report) == {"casual": "sum", "registered": "sum"}
    assert "the target is exactly" in report.leaks[0].reason
    close = profile(Table.from_any({"casual": a, "registered": b, "count": a + b + 0.5 * NOISE}), "count")
    assert close.leaks == ()


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_sets_have_no_leak(name: str) -> None:
    assert profile(bundled(name), "target").leaks == ()


def test_the_perimeter_of_a_tumour_predicts_well_and_is_innocent() -> None:
    best = profile(bundled("breast_cancer"), "target").strongest
    assert best is not None and best.column == "worst perimeter"
    assert 0.96 < best.figure < 0.985


@pytest.mark.parametrize("seed", range(4))
def test_chance_raises_no_alarm_among_many_columns_and_few_rows(seed: int) -> None:
    local = np.random.default_rng(seed)
    noise = {f"n{i}": local.normal(size=60) for i in range(200)}
    codes = {f"c{i}": local.integers(0, 2, 60) for i in range(200)}
    report = profile(Table.from_any({**noise, **codes, "y": local.integers(0, 2, 60)}), "y")
    assert report.leaks == ()
    assert profile(Table.from_any({**noise, "y": local.normal(size=60)}), "y").leaks == ()


def test_too_few_rows_are_not_judged() -> None:
    y = [0, 1] * 20
    report = profile(Table.from_any({"copy": y, "y": y}), "y")
    assert report.leaks == () and report.strongest is None
    assert strongest_words(report) == ""


def test_duplicates_and_conflicting_rows_are_counted() -> None:
    rows = [{"id": f"k{i}", "a": i, "b": "x" if i % 2 else "z", "y": i % 2} for i in range(30)]
    rows += [{**rows[0], "id": "k30"}, {**rows[1], "id": "k31"}, {**rows[1], "id": "k32", "y": 0}]
    report = profile(Table.from_any(rows), "y")
    assert "id" in report.dropped
    assert (report.duplicates, report.conflicting) == (2, 3)
    assert "2 rows repeat an earlier row; equal rows stay in one part of the split" in report.warnings
    assert "3 rows have equal features and different targets; no model can tell them apart" in report.warnings


def test_gaps_rare_classes_and_numbers_read_as_classes_are_said() -> None:
    y = [0] * 60 + [1] * 30 + [2] * 3 + [None] * 2
    half = [1.0, None, None] * 31 + [2.0, 3.0]
    report = profile(Table.from_any({"a": np.arange(95) ** 2 % 7, "half": half, "y": y}), "y")
    assert "target 'y' is missing in 2 rows, which are left out" in report.warnings
    assert "class '2' has 3 rows only" in report.warnings
    assert "target 'y' is read as 3 classes, not as a number" in report.warnings
    assert "column 'half' is missing in 65% of the rows" in report.warnings


def test_a_profile_depends_on_nothing_but_the_table() -> None:
    assert profile(table(), "y") == profile(table(), "y")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            {"a": [1, 2], "Churn": ["x", "y"]},
            "churn",
            r"has no column 'churn'\ncolumns: a, Churn. Did you mean 'Churn'\?",
        ),
        ({"a": [1, 2], "y": ["x", "x"]}, "y", "has one class only: 'x'"),
        ({"y": [0, 1]}, "y", "has no column beside the target 'y'"),
        (
            {"a": [1, 1], "b": ["", ""], "y": [0, 1]},
            "y",
            r"can be learnt from: a: it is constant \('1'\); b: it is empty",
        ),
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_refused(source: Any, target: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        profile(Table.from_any(source), target)

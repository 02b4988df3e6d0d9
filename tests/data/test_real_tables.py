"""Five public tables as they come: types, identifiers, leaks, and features that a linear model learns well from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from alexandra.data.encoder import Encoder
from alexandra.data.profile import Profile, profile
from alexandra.data.target import TargetEncoder
from alexandra.splits import folds
from alexandra.tables import Table, row_keys

FILES = {
    "telco": ("telco_churn/telco.csv.gz", "Churn"),
    "adult": ("adult_census/adult.csv.gz", "class"),
    "bank": ("bank_marketing/bank.csv.gz", "y"),
    "bike": ("bike_sharing/hour_2011.csv.gz", "cnt"),
    "digits": ("digits/digits.csv.gz", "column_65"),
}


def load(real_data: Path, name: str) -> tuple[Table, Profile]:
    file, target = FILES[name]
    if not (real_data / file).is_file():
        pytest.skip(f"no {file} among the real data")
    table = Table.from_any(real_data / file)
    return table, profile(table, target)


def linear_auc(table: Table, report: Profile, mode: str, num_folds: int = 1) -> float:
    """Mean ROC AUC of logistic regression over the first folds of five."""
    coding = TargetEncoder.fit(table[report.target])
    y = (coding.encode(table[report.target]) == coding.positive).astype(int)
    fold = folds(row_keys(table, report.features), 5, 7, strata=y)
    scores = []
    for number in range(num_folds):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        encoder = Encoder.fit(table.take(train), report.features, mode=mode)
        model = LogisticRegression(max_iter=300).fit(encoder.transform(table.take(train)), y[train])
        scores.append(roc_auc_score(y[test], model.predict_proba(encoder.transform(table.take(test)))[:, 1]))
    return float(np.mean(scores))


def test_telco(real_data: Path) -> None:
    table, report = load(real_data, "telco")
    assert table["TotalCharges"].kind == "number" and int(table["TotalCharges"].missing.sum()) == 7
    assert table["SeniorCitizen"].kind == "number" and table["Partner"].kind == "category"
    assert list(report.dropped) == ["customerID"] and report.leaks == ()
    assert (report.duplicates, report.conflicting) == (9, 20)
    assert linear_auc(table, report, "piecewise", 5) > linear_auc(table, report, "standard", 5) > 0.83


def test_adult(real_data: Path) -> None:
    table, report = load(real_data, "adult")
    assert table["native-country"].missing.any() and report.leaks == () and report.dropped == {}
    some = table.take(np.arange(12_000))
    assert linear_auc(some, report, "piecewise") > linear_auc(some, report, "standard") + 0.01


def test_bank_names_the_column_that_is_known_only_afterwards(real_data: Path) -> None:
    table, report = load(real_data, "bank")
    assert report.leaks == ()
    assert report.strongest is not None and report.strongest.column == "duration"
    assert table["emp.var.rate"].kind == "number"


def test_bike_counts_are_the_sum_of_two_columns(real_data: Path) -> None:
    table, report = load(real_data, "bike")
    assert table["dteday"].kind == "date" and not report.classification
    assert {leak.column for leak in report.leaks} == {"casual", "registered"}
    assert report.dropped == {"instant": "it numbers the rows", "yr": "it is constant ('0')"}


def test_digits_have_no_header_and_no_leak(real_data: Path) -> None:
    table, report = load(real_data, "digits")
    assert len(table.names) == 65 and table.n_rows == 1797
    assert report.leaks == () and report.classification
    assert Encoder.fit(table, report.features).width == len(report.features) == 61


@pytest.mark.parametrize("name", FILES)
def test_a_copy_of_the_target_is_found_in_every_table(real_data: Path, name: str) -> None:
    table, _ = load(real_data, name)
    target = FILES[name][1]
    renamed = np.array([f"code {value}" for value in table[target].texts().tolist()], dtype=object)
    copy = table[target].values * 2.0 + 1.0 if name == "bike" else renamed
    leaking = Table.from_any(
        {**{n: table[n].values for n in table.names if n not in ("casual", "registered")}, "ward": copy}
    )
    assert [leak.column for leak in profile(leaking, target).leaks] == ["ward"]

"""Behaviour features see the past only, labels the future only, encodings the other folds only."""

from __future__ import annotations

import numpy as np
import pytest

from alexandra.data.behaviour import Behaviour, TargetEncoding, behaviour, encode_target, with_label
from alexandra.errors import ConfigError, DataError
from alexandra.rng import derive
from alexandra.tables import Table

STEPS = Behaviour(entity="who", time="when", amount="paid", cutoff="2024-03-01", windows=(30,), distinct=("what",))


def events(*rows: tuple[str, str, float, str]) -> Table:
    names = ("who", "when", "paid", "what")
    return Table.from_any({name: [row[i] for row in rows] for i, name in enumerate(names)})


PAST = (
    ("ann", "2024-01-01", 10.0, "tea"),
    ("ann", "2024-02-20", 30.0, "tea"),
    ("ann", "2024-02-25", 20.0, "milk"),
    ("bob", "2023-12-01", 5.0, "tea"),
)
FUTURE = (("ann", "2024-03-01", 99.0, "rum"), ("cyd", "2024-03-20", 7.0, "tea"), ("dan", "2024-05-30", 1.0, "tea"))


def test_recency_frequency_monetary_value_and_windows() -> None:
    rows = {row["who"]: row for row in behaviour(events(*PAST, *FUTURE), STEPS).rows()}
    assert set(rows) == {"ann", "bob"}
    ann = rows["ann"]
    assert (ann["recency_days"], ann["tenure_days"], ann["frequency"]) == (5, 60, 3)
    assert (ann["monetary_total"], ann["monetary_mean"], ann["monetary_largest"]) == (60, 20, 30)
    assert (ann["events_30d"], ann["monetary_30d"], ann["events_change_30d"], ann["distinct_what"]) == (2, 50, 1, 2)
    assert rows["bob"]["events_30d"] == 0


def test_the_future_changes_no_feature_and_the_past_no_label() -> None:
    with_future, without = behaviour(events(*PAST, *FUTURE), STEPS), behaviour(events(*PAST), STEPS)
    assert with_future.rows() == without.rows()
    labelled = with_label(with_future, events(*PAST, *FUTURE), STEPS, 90)
    assert {row["who"]: row["churned"] for row in labelled.rows()} == {"ann": "no", "bob": "yes"}


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(DataError, match="before the 90 days after 2024-03-01 are over"):
        with_label(behaviour(events(*PAST), STEPS), events(*PAST), STEPS, 90)
    with pytest.raises(DataError, match="no event is before the cutoff"):
        behaviour(events(*FUTURE), STEPS)
    with pytest.raises(ConfigError, match="'soon' is not a date"):
        behaviour(events(*PAST), STEPS.model_copy(update={"cutoff": "soon"}))


def test_target_encoding_does_not_leak() -> None:
    """A category with one row each tells nothing: naive means would be the target itself."""
    n = 400
    target = derive(0, "y").below(2, n).astype(float)
    table = Table.from_any({"id": [f"c{i}" for i in range(n)], "big": ["even" if i % 2 else "odd" for i in range(n)]})
    encoded, fitted = encode_target(table, target, TargetEncoding(columns=("id", "big"), prior=1.0))
    assert abs(np.corrcoef(encoded["id"].numbers(), target)[0, 1]) < 0.2
    naive = fitted.transform(table)["id"].numbers()
    assert np.corrcoef(naive, target)[0, 1] > 0.9
    new = Table.from_any({"id": ["unseen"], "big": ["odd"]})
    assert fitted.transform(new)["id"].numbers()[0] == pytest.approx(target.mean())
    odd = target[::2].mean()
    assert fitted.transform(new)["big"].numbers()[0] == pytest.approx(odd, abs=0.01)


def test_copies_of_a_row_share_a_fold() -> None:
    table = Table.from_any({"id": ["a", "a", "b", "b", "c", "c", "d", "d"] * 10})
    target = np.array([1, 1, 0, 0, 1, 1, 0, 0] * 10, dtype=float)
    encoded, _ = encode_target(table, target, TargetEncoding(columns=("id",)))
    for level in "abcd":
        rows = [i for i, row in enumerate(table.rows()) if row["id"] == level]
        assert len({encoded["id"].numbers()[i] for i in rows}) == 1

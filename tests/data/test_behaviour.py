"""Behaviour features see the past only, labels the future only; a task declares them, its specialist reads events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alexandra.data.behaviour import Behaviour, behaviour, holds_events, rows_now, task_rows, with_label
from alexandra.errors import DataError, TaskError, UsageError
from alexandra.tables import Table

STEPS = Behaviour(
    entity="who", time="when", amount="paid", cutoff="2024-03-01", windows=(30,), distinct=("what",), ahead=90
)


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


def test_the_last_value_is_that_of_the_latest_event_before_the_cutoff_in_any_order_of_rows() -> None:
    steps = replace(STEPS, latest=("what",))
    for order in (PAST + FUTURE, (*FUTURE, *reversed(PAST))):
        rows = {row["who"]: row["what"] for row in behaviour(events(*order), steps).rows()}
        assert rows == {"ann": "milk", "bob": "tea"}


def test_the_future_changes_no_feature_and_the_past_no_label() -> None:
    with_future, without = behaviour(events(*PAST, *FUTURE), STEPS), behaviour(events(*PAST), STEPS)
    assert with_future.rows() == without.rows()
    labelled = with_label(with_future, events(*PAST, *FUTURE), STEPS)
    assert {row["who"]: row["churned"] for row in labelled.rows()} == {"ann": "no", "bob": "yes"}
    spent = task_rows(events(*PAST, *FUTURE), STEPS, "spent")
    assert {row["who"]: row["spent"] for row in spent.rows()} == {"ann": 99, "bob": 0}
    assert "churned" not in spent.names


def test_events_without_an_entity_are_left_out_and_said() -> None:
    table = behaviour(events(*PAST, ("", "2024-01-05", 3.0, "tea")), STEPS)
    assert table["who"].texts().tolist() == ["ann", "bob"]
    assert table.notes[-1] == "1 events have no 'who' and are left out"


def test_events_are_looked_at_from_the_day_after_the_last() -> None:
    table, date = rows_now(events(*PAST, *FUTURE), STEPS)
    assert date == "2024-05-31" and table.n_rows == 4
    assert {row["who"]: row["recency_days"] for row in table.rows()}["dan"] == 1
    assert holds_events(events(*PAST), STEPS) and not holds_events(table, STEPS)


def test_as_of_a_moment_later_events_change_nothing() -> None:
    for moment, rows in (("2024-02-25", 2), ("2024-02-25 12:00", 2), ("2024-03-20", 2), ("2024-03-21", 3)):
        whole, said = rows_now(events(*PAST, *FUTURE), STEPS, moment)
        seen = [row for row in (*PAST, *FUTURE) if np.datetime64(row[1]) < np.datetime64(moment.replace(" ", "T"))]
        alone, _ = rows_now(events(*seen), STEPS, moment)
        assert said == moment and whole.n_rows == rows and list(whole.rows()) == list(alone.rows())
    early, _ = rows_now(events(*PAST, *FUTURE), STEPS, "2024-02-25")
    assert {row["who"]: row["frequency"] for row in early.rows()} == {"ann": 2, "bob": 1}
    with pytest.raises(TaskError, match="'soon' is not a date"):
        rows_now(events(*PAST), STEPS, "soon")


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(DataError, match="before the 90 days after 2024-03-01 are over"):
        with_label(behaviour(events(*PAST), STEPS), events(*PAST), STEPS)
    with pytest.raises(DataError, match="no event is before the cutoff"):
        behaviour(events(*FUTURE), STEPS)
    with pytest.raises(DataError, match="the amount 'what' holds"):
        behaviour(events(*PAST), replace(STEPS, amount="what"))
    with pytest.raises(DataError, match="'paid' holds numbers, not dates"):
        behaviour(events(*PAST), replace(STEPS, time="paid"))
    with pytest.raises(DataError, match="has no column 'whom'"):
        behaviour(events(*PAST), replace(STEPS, entity="whom"))
    with pytest.raises(DataError, match="'recency_days' has the name of a feature"):
        odd = events(*PAST).replace("recency_days", events(*PAST)["what"])
        behaviour(odd, replace(STEPS, latest=("recency_days",)))
    with pytest.raises(TaskError, match="'soon' is not a date"):
        replace(STEPS, cutoff="soon")


def test_a_task_over_events_ends_in_a_specialist_that_reads_events(repository: Path, tmp_path: Path) -> None:
    """The example's task: solved, registered, asked about rows of the task and about new events."""
    import alexandra as ax
    from alexandra.api import operations

    example = repository / "examples/data"
    purchases(example).to_csv(tmp_path / "purchases.csv")
    task = tmp_path / "leavers.task"
    task.write_text((example / "leavers.task").read_text())
    solution = ax.solve(str(task), registry=str(tmp_path / "registry"), runs=tmp_path / "runs", budget="20s")
    assert "customer" not in solution.data.features and "country" in solution.data.features
    assert solution.winner.metric("roc_auc").value > 0.7
    reply = operations.ask("leavers", row=3, stage="experiment", registry=tmp_path / "registry")
    assert reply.truth[0] in ("no", "yes")
    out = tmp_path / "scored.csv"
    asked = operations.ask(
        "leavers", file=tmp_path / "purchases.csv", out=out, stage="experiment", registry=tmp_path / "registry"
    )
    scored = Table.from_any(out)
    assert scored.n_rows == len(asked.answers) and set(scored["answer"].texts().tolist()) == {"no", "yes"}
    assert any("one a customer, as of 2024-01-01" in note for note in asked.notes)
    _check_as_of(tmp_path)
    gone = scored["recency_days"].numbers()
    left = np.array([answer.value == "yes" for answer in asked.answers])
    assert gone[left].mean() > 2 * gone[~left].mean()


def _check_as_of(folder: Path) -> None:
    """Answers as of a moment are those of a file that ends before it, on the command line and in Python."""
    import alexandra as ax
    from alexandra.api import operations

    store, moment = folder / "registry", "2023-07-01"
    table = Table.from_any(folder / "purchases.csv")
    before = np.asarray(table["date"].values) < np.datetime64(moment)
    table.take(np.flatnonzero(before)).to_csv(folder / "early.csv")
    names = ("purchases.csv", "early.csv")
    then, early = (
        operations.ask("leavers", file=folder / name, as_of=moment, stage="experiment", registry=store)
        for name in names
    )
    assert [one.value for one in then.answers] == [one.value for one in early.answers]
    assert len(then.answers) > 0 and f"as of {moment}" in then.notes[0]
    loaded = ax.load("leavers@experiment", registry=store)
    raw = [loaded.predict_proba(folder / name, as_of=moment) for name in names]
    assert np.array_equal(*raw) and len(raw[0]) == len(then.answers)
    assert not np.array_equal(raw[0], loaded.predict_proba(folder / "purchases.csv")[: len(raw[0])])
    with pytest.raises(UsageError, match="as-of 'soon' is not a date"):
        loaded.predict(folder / "purchases.csv", as_of="soon")
    with pytest.raises(DataError, match="no event is before 1999-01-01"):
        loaded.predict(folder / "purchases.csv", as_of="1999-01-01")
    with pytest.raises(UsageError, match="was asked about rows, not about events"):
        operations.ask("leavers", row=3, as_of=moment, stage="experiment", registry=store)


def purchases(folder: Path) -> Table:
    """The events of examples/data/table.py."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("table_example", folder / "table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table: Table = module.purchases()
    return table

"""Customer behaviour from a table of events, as declared steps: recency, frequency, monetary value, windows.

    steps = Behaviour(entity="customer", time="date", amount="paid", cutoff="2023-10-01", windows=(30, 90), ahead=90)
    table = with_label(behaviour(events, steps), events, steps)      # one row an entity; "churned": "yes" or "no"
    table = task_rows(events, steps, "spent")                        # the same for a task's target

A feature never sees an event at or after the cutoff, and a label never one before it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from alexandra.errors import DataError
from alexandra.lang.task_steps import CHURNED, LABELS, SPENT, Behaviour
from alexandra.tables import Table

DAY = np.timedelta64(86_400, "s")


def _moment(text: str) -> Any:
    return np.datetime64(text).astype("datetime64[s]")


def _times(events: Table, steps: Behaviour) -> np.ndarray:
    column = events[steps.time]
    if column.kind != "date":
        raise DataError(f"the column {steps.time!r} holds {column.kind}s, not dates", hint="cast it, or name another")
    if bool(column.missing.any()):
        raise DataError(f"{int(column.missing.sum())} events have no {steps.time!r}", hint="drop or mend them first")
    return np.asarray(column.values.astype("datetime64[s]"))


def _amounts(events: Table, steps: Behaviour) -> np.ndarray:
    column = events[steps.amount]
    if column.kind != "number":
        raise DataError(f"the amount {steps.amount!r} holds {column.kind}s, not numbers", hint="name another column")
    return np.asarray(np.nan_to_num(column.numbers()))


def behaviour(events: Table, steps: Behaviour) -> Table:
    """One row for each entity that has an event before the cutoff, sorted by entity."""
    cutoff, times = _moment(steps.cutoff), _times(events, steps)
    nameless = events[steps.entity].missing
    before = np.flatnonzero((times < cutoff) & ~nameless)
    if not len(before):
        raise DataError(f"no event is before the cutoff {steps.cutoff}", hint="choose a later cutoff")
    names, group = np.unique(events[steps.entity].texts()[before].astype(str), return_inverse=True)
    n = len(names)
    ages: np.ndarray = (cutoff - times[before]) / DAY
    columns: dict[str, np.ndarray] = {steps.entity: names.astype(object)}
    columns["recency_days"] = _least(group, ages, n)
    columns["tenure_days"] = -_least(group, -ages, n)
    columns["frequency"] = np.bincount(group, minlength=n).astype(np.float64)
    span = columns["tenure_days"] - columns["recency_days"]
    columns["mean_gap_days"] = span / np.maximum(columns["frequency"] - 1, 1)
    amounts = _amounts(events, steps)[before] if steps.amount else None
    if amounts is not None:
        columns["monetary_total"] = np.bincount(group, amounts, n)
        columns["monetary_mean"] = columns["monetary_total"] / columns["frequency"]
        columns["monetary_largest"] = -_least(group, -amounts, n)
    for days in steps.windows:
        inside = ages <= days
        columns[f"events_{days}d"] = np.bincount(group[inside], minlength=n).astype(np.float64)
        earlier = (ages > days) & (ages <= 2 * days)
        columns[f"events_change_{days}d"] = columns[f"events_{days}d"] - np.bincount(group[earlier], minlength=n)
        if amounts is not None:
            columns[f"monetary_{days}d"] = np.bincount(group[inside], amounts[inside], n)
    for name in steps.distinct:
        levels = np.unique(events[name].texts()[before].astype(str), return_inverse=True)[1]
        pairs = np.unique(np.stack([group, levels]), axis=1)
        columns[f"distinct_{name}"] = np.bincount(pairs[0], minlength=n).astype(np.float64)
    made = Table.from_any(columns, kinds={steps.entity: "category"}).columns
    order = np.argsort(times[before], kind="stable")
    last = np.zeros(n, dtype=np.int64)
    last[group[order]] = before[order]
    taken = {name: events[name].take(last) for name in steps.latest}
    clash = next((name for name in taken if name in made), "")
    if clash:
        raise DataError(f"the events' column {clash!r} has the name of a feature", hint="rename it in the data")
    left_out = f"{int(nameless.sum()):,} events have no {steps.entity!r} and are left out"
    notes = (*events.notes, *([left_out] if nameless.any() else []))
    return Table({**made, **taken}, f"behaviour of {steps.entity}", notes)


def _least(group: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    out = np.full(n, np.inf)
    np.minimum.at(out, group, values)
    return out


def with_label(table: Table, events: Table, steps: Behaviour, target: str = CHURNED) -> Table:
    """`table` with its label: `churned`, "yes" for an entity without an event within `steps.ahead` days from the cutoff
    on, or `spent`, the sum of the amounts within them.
    """
    steps.check_target(target)
    cutoff, times = _moment(steps.cutoff), _times(events, steps)
    end = cutoff + steps.ahead * DAY
    if times.max() < end - DAY:
        raise DataError(
            f"the events end on {times.max()}, before the {steps.ahead} days after {steps.cutoff} are over",
            hint="choose an earlier cutoff, or look fewer days ahead",
        )
    inside = (times >= cutoff) & (times < end)
    names = table[steps.entity].texts().astype(str)
    active = events[steps.entity].texts()[inside].astype(str)
    if target == CHURNED:
        label: Any = np.where(np.isin(names, active), "no", "yes").astype(object)
    else:
        order = np.argsort(names)
        place = order[np.minimum(np.searchsorted(names, active, sorter=order), len(names) - 1)]
        known = names[place] == active
        amounts = _amounts(events, steps)[inside]
        label = np.bincount(place[known], amounts[known], len(names))
    return table.replace(target, Table.from_any({target: label})[target])


def task_rows(events: Table, steps: Behaviour, target: str) -> Table:
    """The rows that a task with these steps learns from: one an entity, with its target."""
    table = behaviour(events, steps)
    return with_label(table, events, steps, target) if target in LABELS else table


def rows_now(events: Table, steps: Behaviour, as_of: str = "") -> tuple[Table, str]:
    """One row an entity, and the moment that the events are looked at from: `as_of`, else the day after the last.

    An event at or after that moment is not seen; an entity without one before it has no row. TaskError for no date.
    """
    last = str(_times(events, steps).max().astype("datetime64[D]") + np.timedelta64(1, "D"))
    chosen = replace(steps, cutoff=as_of or last)
    return behaviour(events, chosen), chosen.cutoff


def holds_events(table: Table, steps: Behaviour) -> bool:
    """Whether a table holds events rather than rows that were made from them."""
    return steps.entity in table.columns and steps.time in table.columns and "recency_days" not in table.columns


__all__ = ["CHURNED", "SPENT", "Behaviour", "behaviour", "holds_events", "rows_now", "task_rows", "with_label"]

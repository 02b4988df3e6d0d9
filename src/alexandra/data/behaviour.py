"""Customer behaviour from a table of events, as declared steps: recency, frequency, monetary value, windows, and target
encoding without leakage.

    steps = Behaviour(entity="customer", time="date", amount="price", cutoff="2011-09-01", windows=(30, 90))
    table = behaviour(events, steps)                       # one row an entity; only events before the cutoff count
    table = with_label(table, events, steps, days=90)      # "churned": no event in the 90 days from the cutoff on

A feature never sees an event at or after the cutoff, and a label never one before it. `TargetEncoding` gives a
training row
the mean target of the other folds; rows with equal content share a fold, so no copy of a row tells on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexandra.config import Config
from alexandra.errors import ConfigError, DataError
from alexandra.rng import derive
from alexandra.tables import Table, row_keys

CHURNED = "churned"
DAY = np.timedelta64(86_400, "s")


class Behaviour(Config):
    """The columns of the events; cutoff: an ISO date; windows: days before the cutoff; distinct: columns to count."""

    entity: str
    time: str
    cutoff: str
    amount: str = ""
    windows: tuple[int, ...] = (30, 90, 365)
    distinct: tuple[str, ...] = ()


def _moment(text: str) -> Any:
    try:
        return np.datetime64(text).astype("datetime64[s]")
    except ValueError as error:
        raise ConfigError(f"cutoff = {text!r} is not a date", hint="write it as 2011-09-01") from error


def _times(events: Table, steps: Behaviour) -> np.ndarray:
    column = events[steps.time]
    if column.kind != "date":
        raise DataError(f"the column {steps.time!r} holds {column.kind}s, not dates", hint="cast it, or name another")
    if bool(column.missing.any()):
        raise DataError(f"{int(column.missing.sum())} events have no {steps.time!r}", hint="drop or mend them first")
    return np.asarray(column.values.astype("datetime64[s]"))


def behaviour(events: Table, steps: Behaviour) -> Table:
    """One row for each entity that has an event before the cutoff, sorted by entity."""
    cutoff = _moment(steps.cutoff)
    times = _times(events, steps)
    before = np.flatnonzero(times < cutoff)
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
    amounts = events[steps.amount].numbers()[before] if steps.amount else None
    if amounts is not None:
        amounts = np.nan_to_num(amounts)
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
    return Table(Table.from_any(columns).columns, f"behaviour of {steps.entity}")


def _least(group: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    out = np.full(n, np.inf)
    np.minimum.at(out, group, values)
    return out


def with_label(table: Table, events: Table, steps: Behaviour, days: int) -> Table:
    """`table` with the column `churned`: "yes" for an entity without an event within `days` from the cutoff on."""
    cutoff = _moment(steps.cutoff)
    times = _times(events, steps)
    last = times.max()
    if last < cutoff + days * DAY - DAY:
        raise DataError(f"the events end on {last}, before the {days} days after {steps.cutoff} are over")
    inside = (times >= cutoff) & (times < cutoff + days * DAY)
    active = set(events[steps.entity].texts()[inside].astype(str).tolist())
    label = np.array(["no" if name in active else "yes" for name in table[steps.entity].texts().tolist()], dtype=object)
    return Table({**table.columns, **Table.from_any({CHURNED: label}).columns}, table.source)


class TargetEncoding(Config):
    """columns: categories to replace by the mean target; prior: so many rows of the overall mean are mixed in."""

    columns: tuple[str, ...]
    prior: float = 20.0
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True)
class FittedEncoding:
    """means: column -> level -> encoded value; `overall` is for levels that training had not."""

    settings: TargetEncoding
    means: Mapping[str, Mapping[str, float]]
    overall: float

    def transform(self, table: Table) -> Table:
        """New rows: every column replaced by the means over all training rows."""
        columns = dict(table.columns)
        for name in self.settings.columns:
            known = self.means[name]
            values = np.array([known.get(str(level), self.overall) for level in table[name].texts()])
            columns[name] = Table.from_any({name: values}).columns[name]
        return Table(columns, table.source)


def encode_target(table: Table, target: np.ndarray, settings: TargetEncoding) -> tuple[Table, FittedEncoding]:
    """Training rows with out-of-fold encodings, and the encoding for new rows. target: float [rows]."""
    if len(target) != table.n_rows:
        raise DataError(f"{len(target)} targets for {table.n_rows} rows")
    salt = derive(settings.seed, "target encoding").key
    keys = row_keys(table)
    fold = np.array([(int(key[:15], 16) ^ salt) % settings.folds for key in keys.tolist()])
    columns = dict(table.columns)
    means: dict[str, dict[str, float]] = {}
    for name in settings.columns:
        texts = table[name].texts().astype(str)
        names, level = np.unique(texts, return_inverse=True)
        every = _smoothed(level, target, len(names), settings.prior)
        means[name] = dict(zip(names.tolist(), every.tolist(), strict=True))
        values = np.empty(table.n_rows)
        for number in range(settings.folds):
            out, rest = fold == number, fold != number
            if not rest.any():
                values[out] = float(np.mean(target))
            else:
                values[out] = _smoothed(level[rest], target[rest], len(names), settings.prior)[level[out]]
        columns[name] = Table.from_any({name: values}).columns[name]
    return Table(columns, table.source), FittedEncoding(settings, means, float(np.mean(target)))


def _smoothed(level: np.ndarray, target: np.ndarray, n: int, prior: float) -> np.ndarray:
    overall = float(np.mean(target))
    return (np.bincount(level, target, n) + prior * overall) / (np.bincount(level, minlength=n) + prior)

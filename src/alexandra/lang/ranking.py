"""A rule applied to many models at once: which of them fit, and in what order.

`compile_rule(rule)` returns a function over columns, one row a model, without a Python loop over the models. It
decides as conditions.py does for one model: bounds by intervals, NOT by the turned comparison, what is unknown
does not fit. A score is computed from point values; a model whose score is not a finite number is not ranked.

Columns: a fact's canonical text -> float array [n], or [n, 3] with value, low, high (NaN: not measured); "stage"
and "role" -> text array [n]; "tag:NAME" -> bool array [n] for `model HAS NAME`; "metric_name" -> a str.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alexandra.lang.conditions import FactValue, bounds_of, points
from alexandra.lang.expr import And, Compare, Condition, Expr, Fact, Gap, Has, Not, Or, Word
from alexandra.lang.facts import METRIC_NAME
from alexandra.lang.measure import OPPOSITE, Bounds, measure, proven
from alexandra.lang.rules_spec import Fallback, Rule, Select
from alexandra.records import Interval

Columns = Mapping[str, np.ndarray | str]


@dataclass(frozen=True)
class Ranking:
    """What a rule makes of n models: `fits` [n] bool, `score` [n] float64 (NaN: it could not be computed)."""

    fits: np.ndarray
    score: np.ndarray

    def order(self, count: int | None = None) -> np.ndarray:
        """Indices of the models that fit and have a score, best first, equal scores in the given order."""
        rows = np.flatnonzero(self.fits & np.isfinite(self.score))
        return rows[np.argsort(-self.score[rows], kind="stable")][:count]


Compiled = Callable[[Columns, Collection[str]], Ranking]


def compile_rule(rule: Rule | Fallback) -> Compiled:
    """The rule as a function of (columns, the task's tags)."""
    when = rule.when if isinstance(rule, Rule) else None
    condition = None if when is None else _condition(when, False)

    def run(columns: Columns, tags: Collection[str] = ()) -> Ranking:
        table = _Table(columns, frozenset(tags))
        fits = np.ones(table.n, dtype=bool) if condition is None else np.broadcast_to(condition(table)[0], table.n)
        return Ranking(fits, table.score(rule.ranking))

    return run


def select(rule: Rule | Fallback, columns: Columns, tags: Collection[str] = ()) -> np.ndarray:
    """Indices of the models that a rule with SELECT n takes, best first."""
    assert isinstance(rule.select, Select), "a named pipeline selects by name"
    return compile_rule(rule)(columns, tags).order(rule.select.count)


class _Table:
    """The columns of one call, as bounds."""

    def __init__(self, columns: Columns, tags: frozenset[str]) -> None:
        self.columns = columns
        self.tags = tags
        self.n = next((len(column) for column in columns.values() if isinstance(column, np.ndarray)), 0)

    def lookup(self, fact: Fact | Gap) -> tuple[Bounds, bool]:
        column = self.columns.get(fact.key)
        in_points = points(fact, self.columns.get(METRIC_NAME))
        if not isinstance(column, np.ndarray):
            return Bounds.exact(np.full(self.n, np.nan)), in_points
        if column.ndim == 1:
            return Bounds.exact(column), in_points
        return Bounds(column[:, 0], column[:, 1], column[:, 2]), in_points

    def value(self, fact: Fact | Gap) -> tuple[Bounds, bool]:
        """The point value of a fact, for scores."""
        bounds, in_points = self.lookup(fact)
        return Bounds.exact(bounds.value), in_points

    def score(self, node: Expr) -> np.ndarray:
        return np.broadcast_to(measure(node, self.value).value, self.n)


# (true [n], known [n]) of a condition; a truth value is only meant where it is known
_Truth = tuple[np.ndarray, np.ndarray]


def _condition(node: Condition, negated: bool) -> Callable[[_Table], _Truth]:
    match node:
        case Not(operand):
            return _condition(operand, not negated)
        case And(items) | Or(items):
            parts = [_condition(item, negated) for item in items]
            return _any_of(parts) if isinstance(node, Or) is not negated else _all_of(parts)
        case Compare(left, op, right):
            return _compare(left, OPPOSITE[op] if negated else op, right)
        case Has(subject, tag):
            return _has(subject, tag, negated)
    return lambda table: (np.zeros(table.n, dtype=bool), np.zeros(table.n, dtype=bool))


def _all_of(parts: Sequence[Callable[[_Table], _Truth]]) -> Callable[[_Table], _Truth]:
    def run(table: _Table) -> _Truth:
        found = [part(table) for part in parts]
        refuted = np.logical_or.reduce([known & ~true for true, known in found])
        true = np.logical_and.reduce([true for true, _ in found])
        return true, refuted | np.logical_and.reduce([known for _, known in found])

    return run


def _any_of(parts: Sequence[Callable[[_Table], _Truth]]) -> Callable[[_Table], _Truth]:
    def run(table: _Table) -> _Truth:
        found = [part(table) for part in parts]
        true = np.logical_or.reduce([true for true, _ in found])
        return true, true | np.logical_and.reduce([known for _, known in found])

    return run


def _compare(left: Expr, op: str, right: Expr) -> Callable[[_Table], _Truth]:
    if isinstance(left, Word) or isinstance(right, Word):
        fact, word = (left, right) if isinstance(right, Word) else (right, left)
        assert isinstance(fact, Fact) and isinstance(word, Word)
        return _compare_words(fact.key, op, word.value)

    def run(table: _Table) -> _Truth:
        a, b = measure(left, table.lookup), measure(right, table.lookup)
        known = np.broadcast_to(~(np.isnan(a.value) | np.isnan(b.value)), table.n)
        return np.broadcast_to(proven(a, op, b), table.n), known

    return run


def _compare_words(key: str, op: str, word: str) -> Callable[[_Table], _Truth]:
    def run(table: _Table) -> _Truth:
        column = table.columns.get(key)
        if not isinstance(column, np.ndarray):
            return np.zeros(table.n, dtype=bool), np.zeros(table.n, dtype=bool)
        known = column != ""
        return ((column == word) if op == "==" else (column != word)) & known, known

    return run


def _has(subject: str, tag: str, negated: bool) -> Callable[[_Table], _Truth]:
    def run(table: _Table) -> _Truth:
        if subject == "task":
            true = np.full(table.n, tag in table.tags)
        else:
            column = table.columns.get(f"tag:{tag}")
            true = column.astype(bool) if isinstance(column, np.ndarray) else np.zeros(table.n, dtype=bool)
        return true ^ negated, np.ones(table.n, dtype=bool)

    return run


def columns_of(rows: Sequence[Mapping[str, FactValue]], metric_name: str = "") -> dict[str, np.ndarray | str]:
    """Columns of the facts of several models, as `conditions.evaluate` takes them one by one."""
    columns: dict[str, np.ndarray | str] = {METRIC_NAME: metric_name} if metric_name else {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        if key in ("tags", METRIC_NAME):
            continue
        if key == "model_tags":
            owned = [frozenset(value) if isinstance(value, Collection) else frozenset() for value in values]
            for tag in sorted(frozenset().union(*owned)):
                columns[f"tag:{tag}"] = np.array([tag in tags for tags in owned])
        elif any(isinstance(value, str) for value in values):
            columns[key] = np.array([value if isinstance(value, str) else "" for value in values])
        elif any(isinstance(value, Interval) for value in values):
            bounds = [bounds_of(value) for value in values]
            columns[key] = np.array([[b.value, b.low, b.high] for b in bounds], dtype=np.float64)
        else:
            columns[key] = np.array([bounds_of(value).value for value in values], dtype=np.float64)
    columns.setdefault("", np.zeros(len(rows)))  # a rule without conditions still needs the number of models
    return columns

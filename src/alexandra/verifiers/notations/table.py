"""Sentences about a table, read into one aggregate query:

    AGGREGATE [of COLUMN] [where CONDITION (and CONDITION)*] is [at least|at most|more than|less than|not] VALUE

AGGREGATE: count, number of distinct, sum, average, median, minimum, maximum, share (of rows that meet the conditions).
CONDITION: COLUMN = != < <= > >= VALUE. A column of several words stands in double quotes, text in single ones. A
number is met when the result rounds to it at the digits that the sentence gives. The query's values are parameters.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from alexandra.errors import VerifierError, suggest

AGGREGATES = {
    "count": "count(*)",
    "number of distinct": "count(distinct {})",
    "sum": "sum({})",
    "average": "avg({})",
    "median": "median({})",
    "minimum": "min({})",
    "maximum": "max({})",
    "share": "avg(case when {} then 1.0 else 0.0 end)",
}
_COLUMN = r'(?:"(?P<{0}q>[^"]+)"|(?P<{0}w>\w+))'
_VALUE = r"(?:'(?P<{0}t>(?:[^']|'')*)'|(?P<{0}n>-?\d+(?:\.\d+)?))"
_HEAD = re.compile(
    rf"\s*(?P<aggregate>{'|'.join(AGGREGATES)})(?:\s+of\s+{_COLUMN.format('c')})?"
    rf"(?:\s+where\s+(?P<conditions>.*?))?\s+is\s+(?P<how>at least|at most|more than|less than|not|)\s*"
    rf"{_VALUE.format('v')}\s*\.?\s*",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(rf"\s*{_COLUMN.format('c')}\s*(?P<relation><=|>=|!=|<|>|=)\s*{_VALUE.format('v')}\s*")


@dataclass(frozen=True)
class Query:
    """SQL over the table t with `?` for `parameters`; `how` and `value` are the claim; `digits` after the point."""

    sql: str
    parameters: tuple[str | float, ...]
    how: str
    value: str | float
    digits: int


def parse(statement: str, columns: Collection[str]) -> Query:
    """The query of a sentence; VerifierError says what is not understood, with the columns there are."""
    found = _HEAD.fullmatch(statement[:2000])
    if not found:
        hint = "for example: average of price where region = 'north' is 12.5"
        raise VerifierError(f"not a sentence about a table: {statement[:100]!r}", hint=hint)
    aggregate = found["aggregate"].lower()
    column = found["cq"] or found["cw"]
    conditions, parameters = _conditions(found["conditions"] or "", columns)
    if aggregate == "share":
        if not conditions or column:
            raise VerifierError("a share needs conditions and no column", hint="share where churn = 'yes' is 0.25")
        sql = f"select {AGGREGATES[aggregate].format(conditions)} from t"
    elif aggregate == "count":
        sql = "select count(*) from t" + (f" where {conditions}" if conditions else "")
    else:
        if not column:
            raise VerifierError(f"{aggregate} of which column?", hint="columns: " + ", ".join(columns))
        sql = f"select {AGGREGATES[aggregate].format(_name(column, columns))} from t"
        sql += f" where {conditions}" if conditions else ""
    text, number = found["vt"], found["vn"]
    value = text.replace("''", "'") if text is not None else float(number)
    digits = len(number.partition(".")[2]) if number is not None else 0
    return Query(sql, tuple(parameters), found["how"].lower(), value, digits)


def _conditions(text: str, columns: Collection[str]) -> tuple[str, list[str | float]]:
    parts: list[str] = []
    parameters: list[str | float] = []
    place = 0
    while place < len(text):
        found = _CONDITION.match(text, place)
        if not found:
            raise VerifierError(f"not a condition: {text[place : place + 60]!r}", hint="write COLUMN = 'text' or < 3")
        value = found["vt"].replace("''", "'") if found["vt"] is not None else float(found["vn"])
        parts.append(f"{_name(found['cq'] or found['cw'], columns)} {found['relation'].replace('!=', '<>')} ?")
        parameters.append(value)
        place = found.end()
        if place < len(text):
            if not re.match(r"and\b", text[place:], re.IGNORECASE):
                raise VerifierError(f"'and' belongs at {text[place : place + 30]!r}")
            place += 3
    return " and ".join(parts), parameters


def _name(column: str, columns: Collection[str]) -> str:
    if column not in columns:
        raise VerifierError(f"no column {column!r}", hint=suggest(column, columns))
    return '"' + column.replace('"', '""') + '"'


def met(query: Query, result: object) -> bool:
    """Does the result make the sentence true?"""
    if result is None:
        return False
    if isinstance(query.value, str):
        return (str(result) == query.value) != (query.how == "not")
    if isinstance(result, str):
        return query.how == "not"
    number = float(result)  # type: ignore[arg-type]
    near = abs(number - query.value) <= 0.5 * 10.0**-query.digits * (1 + 1e-9)
    if float(number).is_integer() and query.digits == 0:
        near = number == query.value
    return {
        "": near,
        "not": not near,
        "at least": number >= query.value,
        "at most": number <= query.value,
        "more than": number > query.value,
        "less than": number < query.value,
    }[query.how]

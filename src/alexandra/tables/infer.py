"""From texts to typed columns: the rules that decide what a column is.

A column arrives dictionary-encoded: its distinct texts and one index per row (-1 where missing).
1. surrounding blanks go; "", NA, N/A, NaN, null and ? are missing
2. all numbers (1,234 and one currency sign or % allowed) -> number; "-", "none" ... are then missing too, and so
   are up to three odd words among at least 20 distinct numbers and 95 % of the rows (a note says so)
3. true and false -> boolean; all dates -> date; mostly distinct running words -> text; the rest -> category
Leading zeros ("01234") and integers beyond 2^53 make codes, not numbers: category. Two-valued numbers stay numbers.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence

import numpy as np

from alexandra.errors import DataError
from alexandra.tables.column import Column, date_column, date_text, number_text, parse_dates, parse_number

MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "?", "#N/A", "<NA>"})
MISSING_NUMBER = frozenset({"na", "none", "-", "--", ".", "missing", "unknown", "inf", "-inf", "+inf"})
_PREFIXES, _SUFFIXES = ("$", "€", "£", "¥"), ("%", "€")
_ODD_WORDS, _MIN_NUMBERS, _MIN_SHARE = 3, 20, 0.95
_TEXT_ROWS, _TEXT_WORDS, _TEXT_DISTINCT = 20, 3.0, 0.5


def column_from_levels(
    name: str, levels: Sequence[str], codes: np.ndarray, kind: str | None = None, decimal_comma: bool = False
) -> tuple[Column, list[str]]:
    """A typed column, and notes in words on what was decided; `kind` forces the kind instead of inferring it."""
    levels, codes = _strip(levels, codes)
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    if kind is not None:
        return _forced(name, levels, codes, kind, decimal_comma), []
    if not levels:
        return _texts(name, "category", levels, codes), []
    numbers = _numbers(levels, decimal_comma)
    odd = [level for level, value in zip(levels, numbers, strict=True) if value is None]
    if _mostly_numbers(levels, counts, odd):
        column = _number(name, numbers, codes)
        words = [level for level in odd if level.casefold() not in MISSING_NUMBER]
        lost = int(sum(counts[levels.index(word)] for word in words))
        quoted = ", ".join(repr(word) for word in words)
        return column, [f"column {name!r}: {lost} values are no numbers ({quoted}): missing"] if words else []
    if {level.casefold() for level in levels} <= {"true", "false"}:
        return _texts(name, "boolean", [level.casefold() for level in levels], codes), []
    if not np.isnat(np.array(parse_dates(levels), dtype="datetime64[us]")).any():
        return _forced(name, levels, codes, "date", decimal_comma), []
    return _texts(name, "text" if _is_text(levels, counts) else "category", levels, codes), []


def encode(values: Sequence[object], where: str) -> tuple[list[str], np.ndarray]:
    """Dictionary-encode Python values (None and NaN are missing); DataError for a list or object in a cell."""
    index: dict[str, int] = {}
    codes = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        text = value if type(value) is str else cell_text(value, where, row)
        codes[row] = -1 if text is None else index.setdefault(text, len(index))
    return list(index), codes


def cell_text(value: object, where: str, row: int) -> str | None:
    """The text of one Python value, None where missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating, decimal.Decimal)):
        number = float(value)
        return number_text(number) if math.isfinite(number) else None
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, (datetime.date, np.datetime64)):
        if isinstance(value, datetime.datetime) and value.tzinfo is not None:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        moment = np.array([value], dtype="datetime64[us]")[0]
        return None if np.isnat(moment) else date_text(moment)
    raise DataError(
        f"{where}, row {row + 1}: a cell holds a {type(value).__name__}, {str(value)[:60]!r}",
        hint="a cell is a number, a text, a boolean, a date or None; split lists and objects into columns",
    )


def _strip(levels: Sequence[str], codes: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Levels without surrounding blanks and missing words, merged where they became equal; codes follow."""
    index: dict[str, int] = {}
    target = np.full(len(levels) + 1, -1, dtype=np.int64)  # the last entry serves code -1
    for code, level in enumerate(levels):
        text = level.strip()
        if text not in MISSING:
            target[code] = index.setdefault(text, len(index))
    return list(index), target[codes]


def _numbers(levels: list[str], decimal_comma: bool) -> list[float | None]:
    prefix = next((sign for sign in _PREFIXES if all(level.startswith(sign) for level in levels)), "")
    suffix = next((sign for sign in _SUFFIXES if all(level.endswith(sign) for level in levels)), "")
    return [parse_number(level.removeprefix(prefix).removesuffix(suffix), decimal_comma) for level in levels]


def _mostly_numbers(levels: list[str], counts: np.ndarray, odd: list[str]) -> bool:
    if len(odd) == len(levels):
        return False
    strange = {level for level in odd if level.casefold() not in MISSING_NUMBER}
    if not strange:
        return True
    if any(strange_code(level) for level in strange):
        return False
    rows = sum(int(count) for level, count in zip(levels, counts, strict=True) if level in strange)
    enough = len(levels) - len(odd) >= _MIN_NUMBERS and len(strange) <= _ODD_WORDS
    return enough and rows <= (1.0 - _MIN_SHARE) * int(counts.sum())


def strange_code(level: str) -> bool:
    """Whether a text that is no number still looks like a code ("007", "12A", a 20-digit key)."""
    return any(char.isdigit() for char in level)


def _is_text(levels: list[str], counts: np.ndarray) -> bool:
    rows = int(counts.sum())
    if rows < _TEXT_ROWS or len(levels) <= _TEXT_DISTINCT * rows:
        return False
    return sum(len(level.split()) for level in levels) >= _TEXT_WORDS * len(levels)


def _number(name: str, numbers: Sequence[float | None], codes: np.ndarray) -> Column:
    table = np.array([*(np.nan if value is None else value for value in numbers), np.nan], dtype=np.float64)
    values = table[codes]
    return Column(name, "number", values, np.isnan(values))


def _texts(name: str, kind: str, levels: Sequence[str], codes: np.ndarray) -> Column:
    table = np.array([*levels, ""], dtype=object)
    return Column(name, kind, table[codes], codes < 0)


def _forced(name: str, levels: list[str], codes: np.ndarray, kind: str, decimal_comma: bool) -> Column:
    if kind == "number":
        return _number(name, _numbers(levels, decimal_comma), codes)
    if kind == "date":
        dates = date_column(name, [*levels, ""])
        return Column(name, kind, dates.values[codes], dates.missing[codes])
    return _texts(name, "category", levels, codes).cast(kind)

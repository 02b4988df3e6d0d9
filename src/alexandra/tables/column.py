"""One typed column: a name, a kind, a NumPy array and a mask of what is missing.

number    float64, NaN where missing
category  object array of str, "" where missing; so are boolean ("true", "false") and text (running words)
date      datetime64[us], NaT where missing

`texts` and `numbers` are the two canonical views; `cast` turns a column into the kind that a model was
trained with. Arrays in a column are never written to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

KINDS = ("number", "category", "boolean", "date", "text")
# A finite decimal number without leading zeros: "007" and "01234" are codes, not numbers.
NUMBER = r"^[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
EXACT_INTEGER = 2.0**53
_NUMBER = re.compile(NUMBER)
_THOUSANDS = re.compile(r"^[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?$")
_DECIMAL_COMMA = re.compile(r"^[+-]?[0-9]+(?:\.[0-9]{3})*,[0-9]+$")
_INTEGER = re.compile(r"^[+-]?[0-9]+$")
_ISO = re.compile(r"^\d{4}([-/])\d{1,2}\1\d{1,2}(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?(?:Z|[+-]\d{2}:?\d{2})?$")
_DAY_FIRST = re.compile(r"^(\d{1,2})([./-])(\d{1,2})\2(\d{4})((?: \d{1,2}:\d{2}(?::\d{2})?)?)$")


@dataclass(frozen=True, eq=False)
class Column:
    """See the module header; `missing` is a bool array as long as `values`."""

    name: str
    kind: str
    values: np.ndarray
    missing: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: np.ndarray) -> Column:
        """The rows at `index` (integers or a bool mask)."""
        return Column(self.name, self.kind, self.values[index], self.missing[index])

    def texts(self) -> np.ndarray:
        """Canonical text of each value, object array of str, "" where missing: 3.0 is "3", a date is ISO."""
        if self.kind == "number":
            uniques, codes = np.unique(self.values, return_inverse=True)
            words = np.array([number_text(value) for value in uniques.tolist()], dtype=object)
            return np.asarray(words[codes])
        if self.kind == "date":
            words = np.array([date_text(value) for value in self.values], dtype=object)
            return words
        return self.values

    def numbers(self) -> np.ndarray:
        """float64: the numbers, booleans as 0 and 1, dates as days since 1970; NaN where there is none."""
        if self.kind == "number":
            return self.values
        if self.kind == "date":
            days = (self.values - np.datetime64(0, "us")) / np.timedelta64(1, "D")
            return np.asarray(days, dtype=np.float64)
        parsed = {text: _as_number(text) for text in set(self.values.tolist())}
        return np.array([parsed[text] for text in self.values.tolist()], dtype=np.float64)

    def levels(self) -> tuple[list[str], np.ndarray]:
        """The distinct texts in sorted order and each row's index into them (int64, -1 where missing)."""
        texts = self.texts()
        names = sorted(set(texts.tolist()) - {""})
        index = {name: code for code, name in enumerate(names)} | {"": -1}
        return names, np.fromiter(map(index.__getitem__, texts.tolist()), dtype=np.int64, count=len(texts))

    def cast(self, kind: str) -> Column:
        """The same column as `kind`; what cannot be read as a number or a date becomes missing."""
        assert kind in KINDS, kind
        if kind == self.kind:
            return self
        if kind == "number":
            values = self.numbers()
            return Column(self.name, kind, values, np.isnan(values))
        if kind == "date":
            return date_column(self.name, self.texts().tolist())
        texts = self.texts()
        if kind == "boolean":
            texts = np.array([_TRUTH.get(text.casefold(), "") for text in texts.tolist()], dtype=object)
        return Column(self.name, kind, texts, np.array([not text for text in texts.tolist()], dtype=bool))


_TRUTH = {"true": "true", "false": "false", "1": "true", "0": "false", "yes": "true", "no": "false"}


def _as_number(text: str) -> float:
    if text in ("true", "false"):
        return float(text == "true")
    value = parse_number(text)
    return np.nan if value is None else value


def number_text(value: float) -> str:
    """The canonical text of a number: no ".0" on whole numbers, "" for NaN, otherwise shortest exact."""
    if value != value:
        return ""
    if value == int(value) and abs(value) <= EXACT_INTEGER:
        return str(int(value))
    return repr(float(value))


def date_text(value: np.datetime64) -> str:
    """ISO text of a datetime64[us]: the day alone at midnight, otherwise to the second or microsecond; "" for NaT."""
    if np.isnat(value):
        return ""
    text = str(value)
    if text.endswith("T00:00:00.000000"):
        return text[:10]
    return text.removesuffix(".000000")


def parse_number(text: str, decimal_comma: bool = False) -> float | None:
    """A finite number from text, or None. Codes with leading zeros and integers beyond 2^53 are none."""
    text = text.strip()
    if not _NUMBER.match(text):
        if decimal_comma and _DECIMAL_COMMA.match(text):
            text = text.replace(".", "").replace(",", ".")
        elif not decimal_comma and _THOUSANDS.match(text):
            text = text.replace(",", "")
        else:
            return None
    value = float(text)
    if not np.isfinite(value) or (abs(value) > EXACT_INTEGER and _INTEGER.match(text)):
        return None
    return value


def date_column(name: str, texts: Sequence[str]) -> Column:
    """A date column from texts; missing where a text is no date (day-month order decided over all texts)."""
    levels = sorted(set(texts))
    parsed = dict(zip(levels, parse_dates(levels), strict=True))
    values = np.array([parsed[text] for text in texts], dtype="datetime64[us]")
    return Column(name, "date", values, np.isnat(values))


def parse_dates(levels: Sequence[str]) -> list[np.datetime64]:
    """datetime64[us] (UTC) for each text, NaT for what is no date.

    Read: 2011-01-31, 2011/1/31, 2011-01-31T10:00[:00[.5]][Z|+02:00], 31.01.2011, and 31/01/2011 or 01/31/2011;
    of the last two the month comes first unless some first part exceeds 12 (with dots the day always does).
    """
    matches = [_DAY_FIRST.match(level) for level in levels]
    day_first = any(match and (match[2] == "." or int(match[1]) > 12) for match in matches)
    return [_parse_date(level, match, day_first) for level, match in zip(levels, matches, strict=True)]


def _parse_date(level: str, match: re.Match[str] | None, day_first: bool) -> np.datetime64:
    if match:
        day, month = (match[1], match[3]) if day_first else (match[3], match[1])
        level = f"{match[4]}-{int(month):02d}-{int(day):02d}{match[5]}"
    elif not _ISO.match(level):
        return np.datetime64("NaT", "us")
    try:
        head, *clock = re.split("[ T]", level.replace("/", "-"), maxsplit=1)
        year, month, day = head.split("-")[:3]
        day_text = f"{year}-{int(month):02d}-{day.zfill(2)}"
        moment = datetime.fromisoformat("T".join([day_text, *(_clock(text) for text in clock)]))
    except ValueError:
        return np.datetime64("NaT", "us")
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "us")


def _clock(text: str) -> str:
    return text if text[1:2] != ":" else "0" + text

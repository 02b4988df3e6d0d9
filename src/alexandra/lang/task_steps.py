"""The declared steps of a task that make its features: customer behaviour from events, and target encoding.

    BEHAVIOUR entity=customer time=date amount=paid cutoff="2023-10-01" windows=[30d, 90d] ahead=90d
    ENCODE city, plan prior=20

A step refuses what it cannot mean with a TaskError; the reader of a text (task.py) adds the position. What a step
computes stands in data/behaviour.py; nothing here reads data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from alexandra.lang.expr import name_text, number_text
from alexandra.lang.lexis import quote
from alexandra.lang.task_parts import check, repeated

CHURNED, SPENT = "churned", "spent"
LABELS = (CHURNED, SPENT)
MAX_DAYS = 36_525
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2})?)?\Z")


@dataclass(frozen=True)
class Behaviour:
    """One row an entity out of a table of events. Features see events before `cutoff` only, labels only later ones.

    entity, time  the columns that say who and when;  amount: what an event was worth, "" for nothing
    cutoff        an ISO date or moment;  windows, ahead: whole days
    distinct      columns whose different values are counted;  latest: columns whose last value is taken
    ahead         the days from the cutoff on that a label looks at; 0 when the target is one of `latest`
    """

    entity: str
    time: str
    cutoff: str
    amount: str = ""
    windows: tuple[int, ...] = (30, 90, 365)
    distinct: tuple[str, ...] = ()
    latest: tuple[str, ...] = ()
    ahead: int = 0

    def __post_init__(self) -> None:
        for what, value in (("entity", self.entity), ("time", self.time), ("cutoff", self.cutoff)):
            usage = 'BEHAVIOUR entity=customer time=date cutoff="2023-10-01"'
            check(bool(value), f"BEHAVIOUR needs {what}", f"write {usage}")
        check(_is_moment(self.cutoff), f"cutoff {self.cutoff!r} is not a date", 'write it as "2023-10-01"')
        for days in (*self.windows, *((self.ahead,) if self.ahead else ())):
            check(1 <= days <= MAX_DAYS, f"a window is 1 to {MAX_DAYS:,} days long, got {days}")
        for what, values in (("windows", self.windows), ("distinct", self.distinct), ("latest", self.latest)):
            twice = repeated(map(str, values))
            check(twice is None, f"{what} names {twice!r} twice")
            check(all(values), f"{what} holds an empty name")

    def check_target(self, target: str) -> None:
        """Refuse a target that this step does not make."""
        known = (*LABELS, *self.latest)
        hint = "known: " + ", ".join(known) + ". churned: no event within `ahead`; spent: the amounts within it"
        check(target in known, f"BEHAVIOUR makes no column {target!r} to predict", hint)
        if target in LABELS:
            check(bool(self.ahead), f"the target {target} needs the days to look ahead", "write ahead=90d")
        check(target != SPENT or bool(self.amount), "the target spent needs an amount", "write amount= and its column")

    def text(self) -> str:
        """The whole statement."""
        parts = [f"entity={name_text(self.entity)}", f"time={name_text(self.time)}"]
        parts += [f"amount={name_text(self.amount)}"] if self.amount else []
        parts += [f"cutoff={quote(self.cutoff)}", f"windows=[{', '.join(map(_days_text, self.windows))}]"]
        for what, names in (("distinct", self.distinct), ("latest", self.latest)):
            parts += [f"{what}=[{', '.join(map(name_text, names))}]"] if names else []
        parts += [f"ahead={_days_text(self.ahead)}"] if self.ahead else []
        return f"BEHAVIOUR {' '.join(parts)}"


@dataclass(frozen=True)
class TargetEncoding:
    """columns: categories to replace by the mean target; prior: so many rows of the overall mean are mixed in.

    A training row gets the mean over the other of `folds` folds.
    """

    columns: tuple[str, ...]
    prior: float = 20.0
    folds: int = 5

    def __post_init__(self) -> None:
        check(bool(self.columns), "ENCODE needs a column", "write ENCODE city")
        twice = repeated(self.columns)
        check(twice is None, f"ENCODE names {twice!r} twice")
        check(all(self.columns), "ENCODE holds an empty name")
        check(0 <= self.prior <= 1e9, f"prior is a number of rows from 0 up, got {self.prior:g}")
        check(2 <= self.folds <= 100, f"folds must be 2 to 100, got {self.folds}")

    def text(self) -> str:
        """The whole statement."""
        parts = [f"ENCODE {', '.join(map(name_text, self.columns))}"]
        parts += [f"prior={number_text(self.prior)}"] if self.prior != 20.0 else []
        parts += [f"folds={self.folds}"] if self.folds != 5 else []
        return " ".join(parts)


def _is_moment(text: str) -> bool:
    try:
        return bool(_MOMENT.match(text)) and datetime.fromisoformat(text).year >= 1
    except ValueError:
        return False


def _days_text(days: int) -> str:
    return f"{days}d"

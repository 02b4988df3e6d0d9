"""Questions to a specialist whose task says BEHAVIOUR: a table of events becomes the rows that it reads."""

from __future__ import annotations

from alexandra.data.behaviour import Behaviour, holds_events, rows_now
from alexandra.errors import DataError, TaskError, UsageError
from alexandra.lang.task import parse_task
from alexandra.registry.oracle import Choice
from alexandra.tables import Table


def asked_rows(choice: Choice, table: Table, as_of: str = "") -> tuple[Table, list[str]]:
    """The rows to answer and what should be known of them. Events are looked at as of `as_of` (an ISO date or moment),
    by default the day after the last one: features see nothing at or after it. Any other table stays as it is.
    """
    steps = _steps(choice)
    if steps is None or not holds_events(table, steps):
        if as_of:
            what = "makes no features out of events" if steps is None else "was asked about rows, not about events"
            name = choice.members[0].ref
            raise UsageError(f"{name} {what}, so there is no moment to look at them from", hint="leave out as-of")
        return table, []
    try:
        rows, moment = rows_now(table, steps, as_of)
    except TaskError:
        raise UsageError(f"as-of {as_of!r} is not a date", hint="write 2024-03-01, or 2024-03-01 12:00") from None
    except DataError as error:
        if as_of and error.message.startswith("no event is before"):
            raise DataError(f"no event is before {as_of}", hint="choose a later moment") from None
        raise
    return rows, [f"{table.n_rows:,} events became {rows.n_rows:,} rows, one a {steps.entity}, as of {moment}"]


def _steps(choice: Choice) -> Behaviour | None:
    """The BEHAVIOUR of the task that the specialist was made for."""
    text = str(choice.members[0].lineage.get("task", ""))
    return parse_task(text, "<registered task>").behaviour if "BEHAVIOUR" in text else None

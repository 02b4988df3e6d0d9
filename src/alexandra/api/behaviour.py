"""Questions to a specialist whose task says BEHAVIOUR: a table of events becomes the rows that it reads."""

from __future__ import annotations

from alexandra.data.behaviour import holds_events, rows_now
from alexandra.lang.task import parse_task
from alexandra.registry.oracle import Choice
from alexandra.tables import Table


def asked_rows(choice: Choice, table: Table) -> tuple[Table, list[str]]:
    """The rows to answer and what should be known of them. Events are looked at from the day after the last one; any
    other table stays as it is.
    """
    text = str(choice.members[0].lineage.get("task", ""))
    if "BEHAVIOUR" not in text:
        return table, []
    steps = parse_task(text, "<registered task>").behaviour
    if steps is None or not holds_events(table, steps):
        return table, []
    rows, date = rows_now(table, steps)
    return rows, [f"{table.n_rows:,} events became {rows.n_rows:,} rows, one a {steps.entity}, as of {date}"]

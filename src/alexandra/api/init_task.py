"""`alexandra init`: the task of a table with every default spelled out, as a commented file to edit.

What the file says is what solve would do by itself; columns that cannot be learnt from, and those that give the
target away, stand under DROP with the reason. The text is laid out by the formatter, and it parses to the task.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from alexandra.data.profile import Profile, profile, strongest_words
from alexandra.errors import TaskError, UsageError
from alexandra.lang.expr import name_text, text
from alexandra.lang.fmt import format_text
from alexandra.lang.lexis import quote
from alexandra.lang.task import parse_task
from alexandra.lang.task_spec import DataSource, Split, Task
from alexandra.metrics import usable
from alexandra.storage import publish
from alexandra.tables import Table
from alexandra.train.prepare import Prepared, prepare

SHOWN_COLUMNS = 60


@dataclass(frozen=True)
class Draft:
    """The file that was written, the task that it holds, and what was seen in the table."""

    path: Path
    task: Task
    program: str
    profile: Profile
    dropped: Mapping[str, str]


def write(
    source: str | Path, target: str, *, out: str | Path | None = None, positive: str = "", force: bool = False
) -> Draft:
    """Write the task of the table at `source`; `out` defaults to FILE.task beside it.

    UsageError when the file is there already (without `force`), DataError or TaskError when nothing could be solved.
    """
    source = Path(source)
    place = Path(out) if out is not None else source.with_name(source.name.split(".")[0] + ".task")
    if place.suffix != ".task":
        raise UsageError(f"--out {str(place)!r} is no task file", hint=f"write --out {place.with_suffix('.task')}")
    if place.exists() and not force:
        raise UsageError(f"{str(place)!r} is there already", hint="--force writes over it, --out OTHER.task beside it")
    made = draft(source, target, place, positive)
    publish(place, made.program.encode())
    return made


def draft(source: Path, target: str, place: Path, positive: str = "") -> Draft:
    """What `write` would write at `place`; nothing is published."""
    folder = place.parent
    data = replace(DataSource.of(source), location=os.path.relpath(source, folder))
    task = Task(data, target, name=Task.of(source.name, target).name, positive=positive, folder=str(folder))
    table = Table.from_any(source)
    report = profile(table, target)
    dropped = dict(report.dropped)
    seen = report
    while seen.leaks:
        dropped |= {leak.column: f"it gives the target away: {leak.reason}" for leak in seen.leaks}
        if set(dropped) >= set(table.names) - {target}:
            first = seen.leaks[0]
            raise TaskError(
                f"every column gives the target {target!r} away: {first.column!r}, {first.reason}",
                hint="choose another target, or add columns that are known before it",
            )
        seen = profile(table.drop(tuple(dropped)), target)
    prepared = prepare(replace(task, drop=tuple(name for name in table.names if name in dropped)), table)
    task = prepared.task
    if prepared.target.classes and prepared.target.positive >= 0:
        task = replace(task, positive=prepared.target.classes[prepared.target.positive])
    lines = [*_head(place, task, report, dropped), *_statements(task, prepared, dropped)]
    program = format_text("\n".join(lines), "task")
    assert parse_task(program) == task, "the commented text says what the task says"
    return Draft(place, task, program, report, dropped)


def _statements(task: Task, data: Prepared, dropped: Mapping[str, str]) -> list[str]:
    """The statements in their customary order, each under its remark."""
    lines = [f"TASK {task.name}", "BEGIN", f"  TAGS {', '.join(task.tags)}", f"  DATA {task.data.text()}"]
    lines += [f"  TARGET {name_text(task.target)}"]
    if task.positive:
        others = [label for label in data.target.classes if label != task.positive]
        lines += [f"  POSITIVE {quote(task.positive)}  // against {_plain(', '.join(others))}"]
    lines += [f"  // {_plain(name)}: {_plain(dropped[name])}" for name in task.drop]
    lines += [f"  DROP {', '.join(map(name_text, task.drop))}"] if task.drop else []
    strongest = strongest_words(data.profile)
    lines += ["", f"  // {_plain(strongest)}"] if strongest else []
    lines += ["", f"  // {_split_remark(data)}", f"  {_split(task.split)}"]
    metric = text(task.metric) if task.metric else ""
    others = [name for name in usable(len(data.target.classes)) if name != metric]
    lines += ["", f"  // Also: {', '.join(others)}.", f"  METRIC {metric}"]
    lines += ["", f"  VERIFY {', '.join(one.text() for one in task.verify)}"]
    lines += [
        "",
        "  // Compared with the better of a linear model and gradient boosting, on rows that took no part in choosing.",
        f"  // Add what you need, for instance: AND {_bound(data)}",
        f"  ACCEPT {text(task.accept)}" if task.accept else "",
    ]
    lines += ["", "  // 0 layers is the linear model."]
    lines += [f"  NETWORKS {', '.join(one.text() for one in task.networks)}"]
    return [*lines, f"  BUDGET {task.budget.text()}", "END", ""]


def _head(place: Path, task: Task, report: Profile, dropped: Mapping[str, str]) -> list[str]:
    """Remarks on the whole table: what it holds, column by column."""
    lines = [
        "Written by `alexandra init`. Every line is what solve would do by itself; edit it, then:",
        f"    alexandra solve {_plain(place.name)}",
        "",
        f"{_plain(task.data.location)}: {report.rows:,} rows, {len(report.columns):,} columns",
        *(_plain(note) for note in report.warnings if not note.startswith("column ")),
        "",
    ]
    widest = max(len(_plain(one.name)) for one in report.columns[:SHOWN_COLUMNS])
    for one in report.columns[:SHOWN_COLUMNS]:
        role = "target" if one.role == "target" else "left out" if one.name in dropped else ""
        gaps = f"{one.missing_share:.1%} missing" if one.missing_share else ""
        figures = f"{_plain(one.name):<{widest}}  {one.kind:<8}  {one.distinct:>7,} distinct  {gaps:<14}  {role}"
        lines.append(figures.rstrip())
    if len(report.columns) > SHOWN_COLUMNS:
        lines.append(f"and {len(report.columns) - SHOWN_COLUMNS:,} more columns")
    return [f"// {line}".rstrip() for line in lines] + [""]


def _split(split: Split) -> str:
    """The statement with its seed, which the canonical text leaves out when it is 0."""
    return split.text() if split.seed else f"{split.text()} SEED 0"


def _split_remark(data: Prepared) -> str:
    days = [name for name in data.features if data.table[name].kind == "date"]
    if days:
        return f"To keep the order of time: SPLIT time={name_text(days[0])} train=70% validation=15% test=15%"
    return "Equal rows stay in one part. To keep groups together as well: add group=COLUMN"


def _bound(data: Prepared) -> str:
    sign = ">=" if data.metric.higher_is_better else "<="
    return f"{data.metric} {sign} {'0.80' if data.metric.is_share else '...'}"


def _plain(words: str) -> str:
    """Words from the table on one line of a comment."""
    return " ".join(words.split())

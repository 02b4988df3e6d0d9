"""What a person sees on the terminal: the leaderboard, answers, the registry, progress on stderr.

Plain functions from results to rich renderables or text; nothing here computes or decides.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

if TYPE_CHECKING:
    from alexandra.api.init_task import Draft
    from alexandra.curriculum import Validation
    from alexandra.curriculum.dataset import DataSet
    from alexandra.records import Scorecard
    from alexandra.registry.artifact import AuditEntry, ModelVersion
    from alexandra.registry.lifecycle import GateDecision
    from alexandra.serve.engine import Answer, Reply
    from alexandra.train.export import Exported
    from alexandra.train.solve import Row, Solution


def console() -> Console:
    """Results go to stdout; without a terminal lines are wide, so that nothing is cut."""
    return Console(
        file=sys.stdout,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if sys.stdout.isatty() else 160,
        soft_wrap=True,
    )


def count(number: float) -> str:
    """31, 6.2 k, 1.4 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """0.02 ms, 3.1 s, 2 m 05 s."""
    if seconds < 1:
        return f"{seconds * 1e3:.2f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} m {int(seconds % 60):02d} s"


@contextmanager
def progress(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """A progress line on stderr, drawn only on a terminal; yields update(what, done, total)."""
    columns = (
        TextColumn(title),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        handle = bar.add_task(title, total=None, what="")

        def update(what: str, done: int, total: int) -> None:
            bar.update(handle, completed=done, total=total, what=what)

        yield update


def heading(solution: Solution) -> str:
    """task churn   CLASSIFY TABULAR   7043 rows, 22 duplicates   5 folds by content hash, seed 7"""
    data, split = solution.data, solution.task.split
    how = f"{split.folds} folds" if split.folds else "train/validation/test"
    by = f"by time ({split.time})" if split.time else f"by group ({split.group})" if split.group else "by content hash"
    tags = " ".join(solution.task.tags)
    rows = f"{data.table.n_rows:,} rows, {data.profile.duplicates:,} duplicates"
    return f"task {solution.task.name}   {tags}   {rows}   {how} {by}, seed {split.seed}"


def data_sets(found: Sequence[DataSet]) -> list[str]:
    """A line a level: how many items in which splits, where, and what to type next."""
    lines = []
    for one in found:
        parts = ", ".join(f"{split} {number:,}" for split, number in one.counts.items())
        verb = "were there" if one.reused else "written"
        lines.append(f"level {one.level}     {sum(one.counts.values()):,} items {verb}: {parts}   {one.folder}")
    return [*lines, f"prove it    alexandra validate {shlex.quote(str(found[0].folder.parent))}"]


def validation(found: Validation) -> list[str]:
    """What was proved, a line a level; then every kind of fault with the first few of them."""
    lines = []
    for level, splits in found.counts.items():
        parts = ", ".join(f"{split} {number:,}" for split, number in splits.items())
        lines.append(f"level {level}     {sum(splits.values()):,} distinct items proved: {parts}")
        figures = found.statistics.get(level, {})
        if figures:
            lines.append(
                f"            depth {figures['mean_depth']:g} (most {figures['most_depth']:g}), nodes "
                f"{figures['mean_nodes']:g} ({figures['most_nodes']:g}), characters of an answer "
                f"{figures['mean_answer_characters']:g} ({figures['most_answer_characters']:g})"
            )
    lines.append("faults      " + ", ".join(f"{name} {number:,}" for name, number in found.faults.items()))
    return [*lines, *(f"  {problem}" for problem in found.problems)]


def draft(value: Draft) -> list[str]:
    """What `init` wrote, what it left out, and what to type next."""
    lines = [f"wrote {value.path}: {value.profile.rows:,} rows, {len(value.profile.features):,} columns to learn from"]
    lines += [f"left out    {name}: {why}" for name, why in value.dropped.items()]
    return [*lines, f"solve it    alexandra solve {shlex.quote(str(value.path))}"]


def exported(value: Exported) -> list[str]:
    """Where the files are and how far onnxruntime's answers are from the specialist's."""
    found = "not compared: onnxruntime is not installed"
    if value.difference is not None:
        found = f"equal to the specialist's within {value.difference:.1e} on {value.rows} rows"
    return [f"wrote {value.folder}: {', '.join(value.files)}", f"answers     {found}"]


def leaderboard(solution: Solution) -> RichTable:
    """The table of every model that competed, baselines last."""
    metric = str(solution.data.metric)
    n = solution.rows[0].card.n
    table = RichTable(box=None, pad_edge=False)
    for title, right in (
        ("specialist", 0),
        ("epochs", 1),
        (f"{metric}, n={n:,}, 95 %", 0),
        ("params", 1),
        ("p95", 1),
        ("check", 0),
    ):
        table.add_column(title, justify="right" if right else "left", no_wrap=not title.startswith("check"))
    for row in solution.rows:
        table.add_row(*_cells(row, metric))
    return table


def _cells(row: Row, metric: str) -> tuple[str, ...]:
    name = row.name if row.kind == "specialist" else f"baseline {row.name}"
    latency = duration(row.card.latency_p95_seconds) if row.card.latency_p95_seconds else "-"
    epochs = str(row.epochs) if row.epochs else "-"
    return name, epochs, str(row.metric(metric)), count(row.card.parameters), latency, verdict_words(row)


def verdict_words(row: Row) -> str:
    """passes: ..., or what is missing and by how much."""
    if row.decision is None:
        return row.words
    if row.decision.passed:
        return "passes: " + ", ".join(reason.text for reason in row.decision.reasons if reason.passed)
    return "fails: " + "; ".join(str(reason) for reason in row.decision.failed)


def conclusion(solution: Solution) -> list[str]:
    """What became of the best specialist, and what to type next."""
    best, task = solution.winner, solution.task.name
    lines = []
    version = best.version
    if version is not None and solution.gate is not None and solution.gate.passed:
        lines.append(f"production  {task} v{version.version} = {best.name} (gate `production`: all requirements met)")
    elif version is not None:
        why = "its check failed" if not best.passed else "the gate refused it"
        if solution.gate is not None:
            why += ": " + "; ".join(str(reason) for reason in solution.gate.reasons if not reason.passed)
        lines.append(f"experiment  {task} v{version.version} = {best.name} ({why})")
    if solution.report is not None:
        lines.append(f"report      {solution.report}")
    stage = "" if solution.gate is not None and solution.gate.passed else " --stage experiment"
    question = "--row 17" if solution.task.data.kind != "frame" else "--file rows.csv"
    lines.append(f"ask it      alexandra ask {task} {question}{stage}")
    return lines


def notes(solution: Solution) -> list[str]:
    """What reading and preparing decided: dropped columns, leaks kept, files written."""
    return [f"note        {note}" for note in (*solution.data.notes, *solution.notes)]


def versions(found: Sequence[ModelVersion]) -> RichTable:
    """The registry's list."""
    table = _grid("version", "name", "stage", "metric", "n", "params", "p95", "created", "tags")
    for one in found:
        table.add_row(
            one.ref,
            one.name,
            one.stage,
            f"{one.metric} {one.headline}",
            f"{one.samples:,}",
            count(one.parameters),
            duration(one.latency_p95),
            one.created[:19].replace("T", " "),
            " ".join(one.tags),
        )
    return table


def details(one: ModelVersion) -> list[str]:
    """Everything known of one version, a line each."""
    lines = [
        f"{one.ref}  {one.name}  ({one.stage})",
        f"  created     {one.created}",
        f"  tags        {' '.join(one.tags) or '-'}   aliases {' '.join(one.aliases) or '-'}",
        f"  size        {one.size_bytes:,} bytes, {one.parameters:,} parameters, p95 {duration(one.latency_p95)}",
        f"  measured    on {one.samples:,} distinct items",
    ]
    lines += [f"    {name:<32}{value}" for name, value in one.metrics.items()]
    lines += ["  lineage"] + [f"    {name:<12}{_short(value)}" for name, value in one.lineage.items()]
    return lines + ["  files"] + [f"    {name:<22}sha256 {digest}" for name, digest in one.blobs.items()]


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 110 else text[:107] + "..."


def history(entries: Sequence[AuditEntry]) -> list[RichTable]:
    """The audit log, oldest first."""
    table = _grid("time", "who", "what", "version", "from", "to", "reason")
    for one in entries:
        table.add_row(
            one.time[:19].replace("T", " "),
            one.actor,
            one.action,
            f"{one.task}:{one.version}",
            one.origin,
            one.target,
            one.reason,
        )
    return [table]


def gate(ref: str, decision: GateDecision) -> list[str]:
    """The gate's answer with every requirement."""
    marks = {True: "met    ", False: "missed ", None: "unknown"}
    head = f"{ref}: the gate agrees" if decision.passed else f"{ref}: the gate refuses"
    return [head, *(f"  {marks[one.passed]} {one.text}: {one.words}" for one in decision.reasons)]


def card(value: Scorecard) -> list[str]:
    """A scorecard, a line a metric, then the verdicts."""
    lines = [f"{value.model} on {value.task}, n={value.n:,}, 95 % intervals"]
    lines += [f"  {name:<32}{one}" for name, one in value.metrics.items()]
    for verdict in value.verdicts:
        score = "abstains" if verdict.score is None else f"score {verdict.score:.3f}"
        lines.append(f"  verifier {verdict.verifier}: {score} {verdict.reason}")
    return lines


def reply(value: Reply, explain: bool) -> list[str | RichTable]:
    """The answers (the first fifty), where they were written, and on request why these models answered."""
    lines: list[str | RichTable] = []
    if value.out is not None:
        lines.append(f"{len(value.answers):,} rows scored by {value.answers[0].by}, written to {value.out}")
    else:
        lines.append(answers(value.answers[:50], value.truth))
        if len(value.answers) > 50:
            lines.append(f"and {len(value.answers) - 50:,} more: use --file with --out, or --json")
    if value.answers and any(one.seen is not None for one in value.answers):
        lines.append(
            "out of fold: the answer that this row got while it was a test row; the model has since learnt from it"
        )
    lines += [f"note        {note}" for note in value.notes]
    if explain:
        lines += [f"because     {line}" for line in value.choice.explanation]
    return lines


def answers(found: Sequence[Answer], truth: Sequence[str] = ()) -> RichTable:
    """One line an answer."""
    seen = any(one.seen is not None for one in found)
    titles = [
        "row",
        "answer",
        "probability",
        *(["out of fold"] if seen else []),
        *(["truth"] if truth else []),
        "verdict",
        "by",
    ]
    table = _grid(*titles)
    for i, one in enumerate(found):
        cells = [str(one.row), _value(one.value), f"{one.probability:.3f}" if one.probability is not None else "-"]
        cells += [_value(one.seen) if one.seen is not None else "-"] * seen + [truth[i] if truth else ""] * bool(truth)
        table.add_row(*cells, one.verdict, one.by)
    return table


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _grid(*titles: str) -> RichTable:
    table = RichTable(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title)
    return table


def records(rows: Sequence[Mapping[str, object]]) -> RichTable:
    """Plain records as a table; a number with four digits."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = _grid(*names)
    for row in rows:
        cells = (row.get(name, "") for name in names)
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells))
    return table

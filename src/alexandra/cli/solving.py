"""Solve, init, ask, eval, export and the demo. Heavy modules are imported inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from alexandra.cli.options import DEFAULT_STORE, Json, Store, show


def solve(
    source: Annotated[str, typer.Argument(help="A .task file, or a table: .csv, .csv.gz, .parquet.")],
    target: Annotated[str, typer.Option(help="The column to predict (with a table).")] = "",
    positive: Annotated[str, typer.Option(help="The positive class, for instance Yes.")] = "",
    drop: Annotated[list[str] | None, typer.Option(help="A column to leave out; repeat for more.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the task's seed.")] = None,
    budget: Annotated[str, typer.Option(help="Time, for instance 5m.")] = "",
    threads: Annotated[int, typer.Option(help="Candidates trained at once.")] = 2,
    backend: Annotated[str, typer.Option(help="auto, native or reference.")] = "auto",
    keep_leaks: Annotated[
        bool, typer.Option("--keep-leaks", help="Train although a column gives the target away.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier, equal run already trained.")] = False,
    promote: Annotated[bool, typer.Option("--promote/--no-promote", help="Offer the winner to the gate.")] = True,
    runs: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    mlflow: Annotated[str, typer.Option(help="Log the run to this MLflow store: a URL, sqlite:///mlflow.db.")] = "",
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Train, check, register and promote a specialist.

    Example: alexandra solve customers.csv --target Churn
    """
    from alexandra.api import json_records, operations, render

    with render.progress("training") as update:
        solution = operations.solve(
            source,
            target=target,
            positive=positive,
            drop=tuple(drop or ()),
            seed=seed,
            budget=budget,
            threads=threads,
            backend=backend,
            keep_leaks=keep_leaks,
            fresh=fresh,
            promote=promote,
            runs=runs,
            registry=registry,
            mlflow=mlflow,
            progress=update,
        )
    show(
        json_records.solution(solution),
        as_json,
        lambda: [
            render.heading(solution),
            *render.notes(solution),
            render.leaderboard(solution),
            *render.conclusion(solution),
        ],
    )


def init(
    source: Annotated[Path, typer.Argument(help="A table: .csv, .csv.gz, .parquet.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    out: Annotated[Path | None, typer.Option(help="The task file; without it FILE.task beside the table.")] = None,
    positive: Annotated[str, typer.Option(help="The positive class, for instance Yes.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a task file that is there already.")] = False,
    as_json: Json = False,
) -> None:
    """Write the task of a table with every default spelled out, to be edited and solved.

    Example: alexandra init customers.csv --target Churn
    """
    from alexandra.api import init_task, json_records, render

    made = init_task.write(source, target, out=out, positive=positive, force=force)
    show(json_records.draft(made), as_json, lambda: render.draft(made))


def ask(
    task: Annotated[str, typer.Argument(help="A task: churn, churn:3, churn@experiment.")],
    question: Annotated[str, typer.Argument(help="One row as JSON, or - for JSON lines on stdin.")] = "",
    row: Annotated[int | None, typer.Option(help="A row of the task's own data, counted from 0.")] = None,
    file: Annotated[Path | None, typer.Option(help="A table to score.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the scored table here (with --file).")] = None,
    as_of: Annotated[
        str, typer.Option("--as-of", help="See only events before this date or moment, such as 2024-03-01.")
    ] = "",
    stage: Annotated[str, typer.Option(help="production, experiment, quarantine or archived.")] = "",
    rules: Annotated[Path | None, typer.Option(help="A .rules file instead of the default rules.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say which rules fired, on which facts.")] = False,
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Ask the specialist of a task.

    Example: alexandra ask churn '{"tenure": 3, "Contract": "Month-to-month"}'
    """
    from alexandra.api import json_records, operations, render

    given = sys.stdin.read() if question == "-" else question
    reply = operations.ask(
        task, question=given, row=row, file=file, out=out, as_of=as_of, stage=stage, rules=rules, registry=registry
    )
    show(json_records.reply(reply), as_json, lambda: render.reply(reply, explain))


def evaluate(
    model: Annotated[str, typer.Argument(help="A registered model (churn:3) or file.py:function.")],
    task: Annotated[Path, typer.Argument(help="A .task file.")],
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Measure any model on a task's data.

    Example: alexandra eval churn:3 churn.task
    """
    from alexandra.api import json_records, operations, render

    card = operations.evaluate(model, task, registry=registry)
    show(json_records.card(card), as_json, lambda: render.card(card))


def export(
    ref: Annotated[str, typer.Argument(help="A registered model: churn, churn@production, churn:3.")],
    out: Annotated[Path, typer.Option(help="The new folder.")],
    to: Annotated[str, typer.Option(help="onnx.")] = "onnx",
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Write a model for another runtime: the network, its encoder and target, and a README.

    Example: alexandra export churn@production --to onnx --out churn_onnx
    """
    from alexandra.api import export as exporting
    from alexandra.api import json_records, render

    made = exporting.export(ref, out, to=to, registry=registry)
    show(json_records.exported(made), as_json, lambda: render.exported(made))


def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep the demo's files in this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Solve two real data sets, refuse two bad challengers, roll back once, ask a question.

    Example: alexandra demo
    """
    from alexandra.api import demo as script

    result = script.run(keep, quiet=as_json)
    if as_json:
        show(result, True, lambda: "")

"""The command line: a thin adapter on `api.operations`, nothing more.

Every command has --json (one JSON document on stdout, progress on stderr). Exit codes: 0 done, 1 the request
cannot be met (the message says why), 2 wrong usage. Heavy modules are imported inside the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="alexandra",
    help="Describe a task and how to check it; grow a specialist that passes the check, and ask it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
registry_app = typer.Typer(
    help="List, show, promote, quarantine and roll back registered models.", no_args_is_help=True
)
rules_app = typer.Typer(help="The rules that choose and promote.", no_args_is_help=True)
app.add_typer(registry_app, name="registry")
app.add_typer(rules_app, name="rules")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Store = Annotated[str, typer.Option("--registry", envvar="ALEXANDRA_REGISTRY", help="Folder or database URL.")]
DEFAULT_STORE = ".alexandra"


def show(value: Any, as_json: bool, text: Callable[[], Any]) -> None:
    """Print `value` as one JSON document, or what `text()` makes of it for a person."""
    from alexandra.api import json_records, render

    if as_json:
        print(json_records.json_text(value))
        return
    made = text()
    for line in made if isinstance(made, list) else [made]:
        render.console().print(line, markup=False) if isinstance(line, str) else render.console().print(line)


@app.command()
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


@app.command()
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


@app.command()
def ask(
    task: Annotated[str, typer.Argument(help="A task: churn, churn:3, churn@experiment.")],
    question: Annotated[str, typer.Argument(help="One row as JSON, or - for JSON lines on stdin.")] = "",
    row: Annotated[int | None, typer.Option(help="A row of the task's own data, counted from 0.")] = None,
    file: Annotated[Path | None, typer.Option(help="A table to score.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the scored table here (with --file).")] = None,
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
        task, question=given, row=row, file=file, out=out, stage=stage, rules=rules, registry=registry
    )
    show(json_records.reply(reply), as_json, lambda: render.reply(reply, explain))


@app.command(name="eval")
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


@app.command()
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


@app.command(name="compile")
def compile_file(
    path: Annotated[Path, typer.Argument(help="A NureonLang file.")],
    print_as: Annotated[str, typer.Option("--print", help="text, json or dot.")] = "text",
    cost: Annotated[bool, typer.Option("--cost", help="Parameters, FLOPs and memory.")] = False,
    size: Annotated[list[str] | None, typer.Option(help="Bind an AUTO size: x=30; repeat for more.")] = None,
    as_json: Json = False,
) -> None:
    """Check a network and print its graph.

    Example: alexandra compile examples/networks/mlp.nl --size x=30 --size y=3 --cost
    """
    from alexandra.api import programs

    made = programs.compile_file(path, print_as=print_as, cost=cost, sizes=tuple(size or ()))
    show(made.record, as_json, lambda: made.text)


@app.command()
def fmt(
    paths: Annotated[list[Path], typer.Argument(help="Programs in any of the three languages.")],
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when a file would change.")] = False,
    as_json: Json = False,
) -> None:
    """Rewrite programs in the one canonical form.

    Example: alexandra fmt examples/networks/mlp.nl
    """
    from alexandra.api import programs

    changed = programs.format_files(paths, check=check)
    show(
        {"changed": [str(path) for path in changed]},
        as_json,
        lambda: [f"{path}" for path in changed] or "nothing to change",
    )
    if check and changed:
        raise typer.Exit(1)


@app.command()
def generate(
    level: Annotated[list[int] | None, typer.Option(help="A level of the curriculum; repeat for more.")] = None,
    all_levels: Annotated[bool, typer.Option("--all-levels", help="Every level.")] = False,
    count: Annotated[
        int | None, typer.Option("--count", "--samples", help="Distinct items a level; default: the level's size.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "--output", help="The folder; each level gets its own in it.")] = Path(
        "data/generated"
    ),
    seed: Annotated[int, typer.Option(help="Another seed, other items; what is held out stays held out.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that draw; the files do not depend on it.")] = 1,
    as_json: Json = False,
) -> None:
    """Make data sets of the mathematics curriculum, with exact answers and disjoint splits.

    Example: alexandra generate --level 1 --count 10000 --out data/generated
    """
    from alexandra.api import json_records, maths_ops, render
    from alexandra.errors import UsageError

    if bool(level) == all_levels:
        raise UsageError("say which levels", hint="--level N (repeat for more), or --all-levels")
    with render.progress("generating") as update:
        made = maths_ops.generate(out, level or (), count=count, seed=seed, workers=workers, progress=update)
    show([json_records.data_set(one) for one in made], as_json, lambda: render.data_sets(made))


@app.command()
def validate(
    path: Annotated[Path, typer.Argument(help="A .jsonl file, or a folder with such files.")],
    workers: Annotated[int, typer.Option(help="Processes that prove.")] = 1,
    as_json: Json = False,
) -> None:
    """Prove a generated data set: every answer, key and split is worked out again. Exit code 1 when one is wrong.

    Example: alexandra validate data/generated
    """
    from alexandra.api import json_records, maths_ops, render

    with render.progress("proving") as update:
        found = maths_ops.validate(path, workers=workers, progress=update)
    show(json_records.validation(found), as_json, lambda: render.validation(found))
    if not found.ok:
        raise typer.Exit(1)


@rules_app.command("show")
def rules_show(
    path: Annotated[Path | None, typer.Argument(help="A .rules file; without it, the default rules.")] = None,
    as_json: Json = False,
) -> None:
    """Print the rules and gates in force.

    Example: alexandra rules show
    """
    from alexandra.api import programs

    text = programs.rules_text(path)
    show({"rules": text}, as_json, lambda: text)


@registry_app.command("list")
def registry_list(
    task: Annotated[str, typer.Option(help="Only this task.")] = "",
    stage: Annotated[str, typer.Option(help="Only this stage.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; repeat for more.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.")] = 50,
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """List registered models.

    Example: alexandra registry list --stage production
    """
    from alexandra.api import json_records, models, render

    found = models.find(registry, task=task, stage=stage, tags=tuple(tag or ()), limit=limit)
    show([json_records.version(one) for one in found], as_json, lambda: render.versions(found))


@registry_app.command("show")
def registry_show(ref: str, registry: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Everything known of one model.

    Example: alexandra registry show churn@production
    """
    from alexandra.api import json_records, models, render

    version = models.get(ref, registry)
    show(json_records.details(version), as_json, lambda: render.details(version))


@registry_app.command("history")
def registry_history(task: str, registry: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Every move of a task's models: who, when, why.

    Example: alexandra registry history churn
    """
    from alexandra.api import json_records, models, render

    entries = models.history(task, registry)
    show([json_records.audit(entry) for entry in entries], as_json, lambda: render.history(entries))


@registry_app.command("promote")
def registry_promote(
    ref: str,
    reason: Annotated[str, typer.Option(help="Needed with --force; kept in the history.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Promote although the gate refuses.")] = False,
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Put a model into production, if the gate agrees.

    Example: alexandra registry promote churn:3
    """
    from alexandra.api import json_records, models, render

    decision = models.promote(ref, registry, reason=reason, force=force)
    show(json_records.gate(decision), as_json, lambda: render.gate(ref, decision))


@registry_app.command("quarantine")
def registry_quarantine(
    ref: str,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")],
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Take a model out of service.

    Example: alexandra registry quarantine churn:3 --reason "wrong prices in May"
    """
    from alexandra.api import json_records, models

    version = models.quarantine(ref, registry, reason=reason)
    show(json_records.version(version), as_json, lambda: f"{version.task}:{version.version} is in quarantine")


@registry_app.command("rollback")
def registry_rollback(
    task: str,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "",
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Put the previous production model back.

    Example: alexandra registry rollback churn
    """
    from alexandra.api import json_records, models

    version = models.rollback(task, registry, reason=reason)
    show(
        json_records.version(version),
        as_json,
        lambda: f"production of {task} is v{version.version} {version.name} again",
    )


@app.command()
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


def main(argv: list[str] | None = None) -> None:
    """Entry point: user errors end in one message on stderr and their exit code."""
    from alexandra.errors import AlexandraError

    try:
        app(argv)
    except AlexandraError as error:
        print(f"alexandra: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("alexandra: interrupted; what was trained is kept, the same command goes on from there", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None


if __name__ == "__main__":
    main()

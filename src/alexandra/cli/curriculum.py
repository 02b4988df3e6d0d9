"""The mathematics curriculum and the exact calculator. Heavy modules are imported inside the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from alexandra.cli.options import DEFAULT_STORE, Json, Store, show


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
    workers: Annotated[
        int, typer.Option(help="Processes that draw, 0 for every processor; the files do not depend on it.")
    ] = 1,
    form: Annotated[str, typer.Option("--format", help="jsonl, parquet or both.")] = "both",
    as_json: Json = False,
) -> None:
    """Make data sets of the mathematics curriculum, with exact answers and disjoint splits.

    Example: alexandra generate --level 1 --count 10000 --out data/generated
    """
    from alexandra.api import json_records, maths_ops, render
    from alexandra.errors import UsageError

    if bool(level) == all_levels:
        raise UsageError("say which levels", hint="--level N (repeat for more), or --all-levels")
    formats = ("jsonl", "parquet") if form == "both" else (form,)
    with render.progress("generating") as update:
        made = maths_ops.generate(
            out, level or (), count=count, seed=seed, workers=workers, formats=formats, progress=update
        )
    show([json_records.data_set(one) for one in made], as_json, lambda: render.data_sets(made))


def validate(
    path: Annotated[Path | None, typer.Argument(help="A .jsonl file, or a folder with such files.")] = None,
    data: Annotated[Path | None, typer.Option("--data", "--input", help="The same as PATH.")] = None,
    model: Annotated[str, typer.Option(help="The folder of a trained brain: measure its answers instead.")] = "",
    workers: Annotated[int, typer.Option(help="Processes that prove, 0 for every processor.")] = 1,
    as_json: Json = False,
) -> None:
    """Prove a generated data set: every answer, key and split is worked out again. Exit code 1 when one is wrong.

    With --model the brain answers every question by its own decoding: accuracy by level and split, and how many of its
    answers the engine proves.

    Example: alexandra validate data/generated
    """
    from alexandra.api import json_records, maths_ops, render
    from alexandra.errors import UsageError

    place = path or data
    if place is None or (path and data):
        raise UsageError("say what to validate once", hint="alexandra validate PATH, or --data PATH")
    if model:
        from alexandra.api import brain

        with render.progress("asking") as update:
            measured = brain.measure(model, place, update)
        show(brain.measured_record(measured), as_json, lambda: brain.measured_lines(measured))
        return
    with render.progress("proving") as update:
        found = maths_ops.validate(place, workers=workers, progress=update)
    show(json_records.validation(found), as_json, lambda: render.validation(found))
    if not found.ok:
        raise typer.Exit(1)


def repl(
    model: Annotated[str, typer.Option(help="A registered model, or a brain's folder, to answer beside.")] = "",
    execute: Annotated[list[str] | None, typer.Option("--execute", "-e", help="A line to answer; repeatable.")] = None,
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Calculate exactly: expressions, derivatives, integrals, equations; `help` lists what can be typed.

    Example: alexandra repl -e "let x = 3" -e "x^2 + 1/3" -e "solve(2y + 5 = 13, y)"
    """
    import sys

    from alexandra.api import maths_ops
    from alexandra.api.repl import Repl

    session = Repl(ask=maths_ops.asker(model, registry) if model else None)
    given = list(execute or ())
    talks = not given and sys.stdin.isatty()
    answered: list[dict[str, Any]] = []
    for line in given or _lines(talks):
        found = session.answer(line)
        if found is None:
            break
        answered.append({"line": line.strip(), "answer": found})
        for text in [] if as_json else found:
            print(text)
    if as_json:
        show(answered, True, list)


def _lines(talks: bool) -> Iterator[str]:
    """What is typed, or what stands on stdin."""
    import sys

    while True:
        try:
            yield input("> ") if talks else next(sys.stdin)
        except (EOFError, StopIteration):
            return

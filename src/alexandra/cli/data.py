"""Data recipes: run one, look at what it made. Heavy modules are imported inside the commands."""

from __future__ import annotations

from typing import Annotated

import typer

from alexandra.cli.options import Json, show

Set = Annotated[list[str] | None, typer.Option("--set", help="A recipe's key and value, section.key=value; repeat.")]


def data_run(
    recipe: Annotated[str, typer.Argument(help="A recipe in TOML.")],
    overrides: Set = None,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Read, clean, filter, deduplicate, tokenise and pack; goes on where an earlier run stopped.

    Example: alexandra data run recipe.toml --workers 2
    """
    from alexandra.api import data, render
    from alexandra.data.run.run import summary

    settings = (*(overrides or ()), *((f"run.workers={workers}",) if workers is not None else ()))
    with render.progress("data") as update:
        outcome = data.run_recipe(recipe, settings, update)
    body = vars(outcome)
    show(body, as_json, lambda: [*summary(body), f"report: {outcome.output}/report.html"])


def data_inspect(
    place: Annotated[str, typer.Argument(help="A recipe that was run, or its output folder.")],
    overrides: Set = None,
    samples: Annotated[int, typer.Option(help="How many documents to show.")] = 3,
    as_json: Json = False,
) -> None:
    """Rows, histograms, drop reasons and samples of a corpus; checks every shard's hash.

    Example: alexandra data inspect recipe.toml --samples 5
    """
    from alexandra.api import data, data_text

    seen = data.inspect(place, tuple(overrides or ()), samples)
    show(vars(seen), as_json, lambda: data_text.inspection(seen))

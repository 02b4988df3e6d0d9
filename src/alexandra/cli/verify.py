"""Verifying claims: a file in, a table or an evidence page out. Heavy modules are imported inside the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alexandra.cli.options import Json, show


def verify(
    claims: Annotated[Path, typer.Argument(help="A file with one claim a line, as JSON or as text in quotes.")],
    verifier: Annotated[
        list[str] | None, typer.Option(help='A framework or "checks.py:mine"; repeat for more. Default: all six.')
    ] = None,
    scorer: Annotated[
        list[str] | None, typer.Option(help="A scorer's folder, or its model.int8.onnx; repeat for more.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write the evidence as an HTML page.")] = None,
    cache: Annotated[Path | None, typer.Option(help="A folder that keeps answers between runs.")] = None,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Processes; 0 judges in this one.")] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 unless every claim is approved.")] = False,
    as_json: Json = False,
) -> None:
    """Verify claims with solvers, provers, databases, executed tests and text tools; abstain where none applies.

    Example: alexandra verify examples/claims.jsonl --page evidence.html
    """
    from alexandra.api import verify as operations
    from alexandra.api import verify_render

    options = operations.Options(
        tuple(verifier or ()), workers, str(cache or ""), str(page or ""), scorers=tuple(scorer or ())
    )
    found = operations.verify_file(claims, options)
    show(verify_render.plain(found) if as_json else found, as_json, lambda: verify_render.lines(found))
    if strict and found.approved < len(found.claims):
        raise typer.Exit(1)

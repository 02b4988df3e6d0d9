"""What every command shares: --json, --registry, and printing a value for a program or for a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

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

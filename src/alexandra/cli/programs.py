"""Networks and rules as text: compile, format, show. Heavy modules are imported inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alexandra.cli.options import Json, show


def compile_file(
    path: Annotated[Path, typer.Argument(help="A NureonLang file.")],
    print_as: Annotated[str, typer.Option("--print", help="text, json or dot.")] = "text",
    cost: Annotated[bool, typer.Option("--cost", help="Parameters, FLOPs and memory.")] = False,
    developed: Annotated[
        bool, typer.Option("--develop", help="Show the flat program that macros, loops and modules develop into.")
    ] = False,
    size: Annotated[list[str] | None, typer.Option(help="Bind an AUTO size: x=30; repeat for more.")] = None,
    let: Annotated[list[str] | None, typer.Option(help="Another value for a LET: layers=2; repeat for more.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows that the cost's memory is for.")] = 1,
    sequence: Annotated[int, typer.Option(min=0, help="The length of open axes, for the cost.")] = 0,
    devices: Annotated[int, typer.Option(min=0, help="Plan how the parameters lie on so many devices.")] = 0,
    device_gib: Annotated[float, typer.Option(min=0.001, help="Memory of one device in GiB.")] = 80.0,
    inference: Annotated[bool, typer.Option("--inference", help="Plan for running, not for training.")] = False,
    as_json: Json = False,
) -> None:
    """Check a network and print its graph.

    Example: alexandra compile examples/networks/mlp.nl --size x=30 --size y=3 --cost

    Example: alexandra compile examples/networks/foundation.nl --cost --sequence 4096 --devices 256
    """
    from alexandra.api import programs

    asked = programs.CostQuestion(batch, sequence, devices, device_gib, not inference)
    made = programs.compile_file(
        path,
        print_as=print_as,
        cost=asked if cost else False,
        develop=developed,
        sizes=tuple(size or ()),
        constants=tuple(let or ()),
    )
    show(made.record, as_json, lambda: made.text)


def diff(
    first: Annotated[Path, typer.Argument(help="A NureonLang file.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
    size: Annotated[list[str] | None, typer.Option(help="Bind an AUTO size of both: x=30; repeat for more.")] = None,
    let: Annotated[list[str] | None, typer.Option(help="Another value for a LET of both: layers=2.")] = None,
    sequence: Annotated[int, typer.Option(min=0, help="The length of open axes, for the FLOPs.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare two networks: layers added, removed, changed and renamed, parameters and FLOPs.

    Example: alexandra diff examples/networks/mlp.nl examples/networks/tabular_residual.nl --size x=30 --size y=3

    Example: alexandra diff examples/networks/llama3.nl examples/networks/mistral.nl --sequence 1024
    """
    from alexandra.api import compare

    made = compare.compare_files(first, second, sizes=tuple(size or ()), constants=tuple(let or ()), sequence=sequence)
    show(made.record, as_json, lambda: list(made.lines))


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

"""The command line: a thin adapter on `api`, nothing more. One file is one group of commands; the tables attach them.

Every command has --json (one JSON document on stdout, progress on stderr). Exit codes: 0 done, 1 the request
cannot be met (the message says why), 2 wrong usage. Heavy modules are imported inside the commands. To add a
command, write its function in the file of its group and its row here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from alexandra.cli import curriculum, data, exchange, programs, quantize, registry, solving, training, verify

COMMANDS: dict[str, Callable[..., Any]] = {
    "solve": solving.solve,
    "init": solving.init,
    "ask": solving.ask,
    "eval": solving.evaluate,
    "export": solving.export,
    "compile": programs.compile_file,
    "diff": programs.diff,
    "fmt": programs.fmt,
    "generate": curriculum.generate,
    "validate": curriculum.validate,
    "repl": curriculum.repl,
    "train": training.train,
    "doctor": training.doctor,
    "plot": training.plot,
    "table": training.table,
    "verify": verify.verify,
    "quantize": quantize.quantize,
    "demo": solving.demo,
}
# group -> (help, its commands)
GROUPS: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "registry": (
        "List, show, promote, quarantine and roll back registered models.",
        {
            "list": registry.registry_list,
            "show": registry.registry_show,
            "history": registry.registry_history,
            "promote": registry.registry_promote,
            "quarantine": registry.registry_quarantine,
            "rollback": registry.registry_rollback,
        },
    ),
    "data": (
        "Corpora from recipes: run one, look at what it made.",
        {"run": data.data_run, "inspect": data.data_inspect},
    ),
    "recipe": (
        "Recipes of training runs.",
        {"from": training.recipe_from},
    ),
    "huggingface": (
        "Models in from Hugging Face's form and out again.",
        {"import": exchange.import_model, "export": exchange.export_model},
    ),
    "rules": ("The rules that choose and promote.", {"show": programs.rules_show}),
}


def _app(name: str, about: str, commands: dict[str, Callable[..., Any]]) -> typer.Typer:
    made = typer.Typer(
        name=name, help=about, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    for command, function in commands.items():
        made.command(name=command)(function)
    return made


app = _app(
    "alexandra", "Describe a task and how to check it; grow a specialist that passes the check, and ask it.", COMMANDS
)
for _group, (_about, _commands) in GROUPS.items():
    app.add_typer(_app(_group, _about, _commands))


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

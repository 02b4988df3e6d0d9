"""The public surface is frozen: names of `alexandra`, their parameters, commands of the CLI and their options.

surface.json is the snapshot. A change on purpose is written by
    ALEXANDRA_WRITE_SURFACE=1 .venv/bin/python -m pytest tests/house/test_surface.py
and goes into docs and CHANGELOG.md in the same commit. Add names, do not rename them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
from pathlib import Path
from typing import Any

import pytest

import alexandra

SNAPSHOT = Path(__file__).with_name("surface.json")
HOW = """if this is meant, write the new snapshot and say it in CHANGELOG.md:
    ALEXANDRA_WRITE_SURFACE=1 .venv/bin/python -m pytest tests/house/test_surface.py"""


def signature(value: Any) -> str:
    """Parameter names of a function or class of ours, `name=` where there is a default; else what it is."""
    if inspect.ismodule(value):
        return "module"
    if not callable(value):
        return type(value).__name__
    if isinstance(value, type) and issubclass(value, Exception):
        return "error"
    found = inspect.signature(value).parameters.values()
    return "(" + ", ".join(p.name + ("=" if p.default is not p.empty else "") for p in found) + ")"


def python_surface() -> dict[str, str]:
    return {name: signature(getattr(alexandra, name)) for name in sorted(alexandra.__all__)}


def parameter_text(parameter: Any) -> str:
    """`PATH` for an argument, `--target/-t` for an option."""
    return parameter.name.upper() if parameter.param_type_name == "argument" else "/".join(sorted(parameter.opts))


def command_surface() -> dict[str, str]:
    """`solve`, `registry show` ... -> arguments and options; empty in a checkout without a command line."""
    if not Path(alexandra.__file__).with_name("cli").exists():
        return {}
    import typer.main

    cli = importlib.import_module("alexandra.cli")
    found: dict[str, str] = {}

    def walk(command: Any, path: tuple[str, ...]) -> None:
        if not hasattr(command, "commands"):
            texts = sorted(parameter_text(p) for p in command.params if "--help" not in p.opts)
            found[" ".join(path)] = " ".join(texts)
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*path, name))

    walk(typer.main.get_command(cli.app), ())
    return dict(sorted(found.items()))


def test_the_surface_is_the_frozen_one() -> None:
    now = {"python": python_surface(), "commands": command_surface()}
    if os.environ.get("ALEXANDRA_WRITE_SURFACE"):
        SNAPSHOT.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    frozen = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert now["python"] == frozen["python"], HOW
    assert now["commands"] == frozen["commands"], HOW


def test_the_list_the_table_and_the_types_agree() -> None:
    """`__all__`, `_SURFACE` and the imports under TYPE_CHECKING say the same three times."""
    tree = ast.parse(Path(alexandra.__file__).read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If))
    typed = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names:
            typed[alias.asname or alias.name] = f"{node.module.removeprefix('alexandra.')}:{alias.name}"
    table = dict(alexandra._SURFACE)
    table |= {"huggingface": "backends:huggingface", "net": "ir:build"}
    table |= {name: f"alexandra:{name}" for name in ("curriculum", "maths", "train")}
    assert typed == table
    assert set(alexandra.__all__) == set(table) | {"__version__"}
    assert alexandra.__all__ == sorted(alexandra.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'alexandra' has no attribute 'solvee'"):
        _ = alexandra.solvee  # type: ignore[attr-defined]
    assert not hasattr(alexandra, "nonsense")
    assert dir(alexandra) == sorted(alexandra.__all__)


def test_the_version_is_the_distributions(repository: Path) -> None:
    from importlib import metadata

    assert metadata.version("alexandra-foundry") == alexandra.__version__
    assert f"## {alexandra.__version__}" in (repository / "CHANGELOG.md").read_text(encoding="utf-8")

"""From a name in a task to a Verifier: one of the frameworks, or a function in a file, "checks.py:fits".

FRAMEWORKS is the literal table of what ships. A file is imported by its own path, nothing is put on sys.path, and only
the file that the task names is run: it is the task author's code and runs with the user's rights.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from alexandra.errors import MissingExtraError, VerifierError, suggest
from alexandra.records import EMPTY
from alexandra.storage import content_hash
from alexandra.verifiers.base import FunctionVerifier, Verifier, wrap
from alexandra.verifiers.consistency import consistency
from alexandra.verifiers.contextual import contextual
from alexandra.verifiers.empirical import empirical
from alexandra.verifiers.evolution import evolution
from alexandra.verifiers.framework import Ask, Framework, ask_directly
from alexandra.verifiers.power_dynamics import over_claims, power_dynamics
from alexandra.verifiers.tool import Tool
from alexandra.verifiers.utility import utility

FRAMEWORKS: dict[str, Callable[..., Verifier]] = {
    "empirical": empirical,
    "contextual": contextual,
    "consistency": consistency,
    "power_dynamics": power_dynamics,
    "utility": utility,
    "evolution": evolution,
}


def six(ask: Ask = ask_directly) -> list[Framework]:
    """All six frameworks over claims, their tools asked through `ask`."""
    made = (empirical(), contextual(), consistency(), over_claims(), utility(), evolution())
    return [replace(one, ask=ask) for one in made]


def toolbox() -> dict[str, Tool]:
    """Every tool of every framework by its name."""
    return {tool.name: tool for framework in six() for tool in framework.tools()}


def load(name: str, params: Mapping[str, Any] = EMPTY, folder: Path | None = None) -> Verifier:
    """The verifier called `name` with `params`; a file's path is relative to `folder` (the task file's).

    A function gets `params` as keyword arguments beside the claim; a Verifier value in the file takes none.
    """
    if ".py:" in name:
        return _from_file(name, params, folder or Path())
    if name not in FRAMEWORKS:
        raise VerifierError(
            f"unknown verifier {name!r}",
            hint=f'{suggest(name, FRAMEWORKS)} Your own: a function in a file, "checks.py:name".',
        )
    _check_params(name, FRAMEWORKS[name], params)
    return FRAMEWORKS[name](**params)


def _check_params(name: str, function: Callable[..., Any], params: Mapping[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return
    allowed = [one.name for one in parameters if one.default is not one.empty]
    for given in params:
        if given not in allowed:
            known = suggest(given, allowed) if allowed else "it takes none"
            raise VerifierError(f"verifier {name!r} has no parameter {given!r}", hint=known)


def _from_file(reference: str, params: Mapping[str, Any], folder: Path) -> Verifier:
    found = _attribute(reference, folder)
    if isinstance(found, Verifier) and not inspect.isclass(found):
        if params:
            raise VerifierError(f"{reference!r} is a finished verifier and takes no parameters: {', '.join(params)}")
        return replace(found, name=reference) if isinstance(found, FunctionVerifier) else found
    if not callable(found) or inspect.isclass(found):
        raise VerifierError(f"{reference!r} is a {type(found).__name__}, not a function or a verifier")
    _check_params(reference, found, params)
    path = folder / reference.rpartition(":")[0]
    made = wrap(found, reference, version=f"file {content_hash(path.read_bytes())[:12]}")
    return replace(made, function=partial(found, **params)) if params else made


def import_function(reference: str, folder: Path) -> Callable[..., Any]:
    """The function that "file.py:function" names, the file's path relative to `folder`."""
    found = _attribute(reference, folder)
    if not callable(found):
        raise VerifierError(f"{reference!r} is a {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function


def _attribute(reference: str, folder: Path) -> Any:
    file, _, name = reference.rpartition(":")
    path = folder / file
    module = _module(path)
    if name not in vars(module):
        mine = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        known = suggest(name, mine) if mine else "the file defines no function"
        raise VerifierError(f"{str(path)!r} has no function {name!r}", hint=known)
    return vars(module)[name]


def _module(path: Path) -> Any:
    """Run the file as a module of its own; its name comes from path and content, so an edited file is read anew."""
    try:
        source = path.read_bytes()
    except OSError as error:
        near = sorted(str(other) for other in path.parent.glob("*.py")) if path.parent.is_dir() else []
        hint = f"files there: {', '.join(near)}" if near else f"looked in {str(path.parent.absolute())!r}"
        raise VerifierError(f"cannot read {str(path)!r}: {error.strerror}", hint=hint) from error
    name = "alexandra_file_" + content_hash(str(path.absolute()).encode() + source)[:16]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py path has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and worker processes look a class's module up there
    try:
        spec.loader.exec_module(module)
    except MissingExtraError:
        del sys.modules[name]
        raise
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, (Exception, SystemExit)):
            raise
        raise VerifierError(f"cannot import {str(path)!r}: {type(error).__name__}: {error}") from error
    return module

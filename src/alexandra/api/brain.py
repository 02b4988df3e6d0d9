"""Actions on the brain of the mathematics curriculum: train it by its recipe, measure it on a data set, ask it."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexandra.api.html import Html, document, figure, grid, paragraph, section
from alexandra.api.run_report import curves
from alexandra.curriculum.items import Item
from alexandra.curriculum.proof import files_of
from alexandra.curriculum.questions import Question
from alexandra.errors import AlexandraError, DataError, NotFoundError
from alexandra.maths import parse
from alexandra.storage import publish, read_bytes
from alexandra.train.grapheme.brain import Solver
from alexandra.train.grapheme.recipe import SECTIONS
from alexandra.train.grapheme.run import MODEL, BrainRun, load_recipe, run
from alexandra.train.grapheme.score import Answered, Score, answered, score
from alexandra.train.grapheme.seed_log import SeedLog
from alexandra.train.lm.folder import NETWORK, read_model
from alexandra.train.watch import METRICS, read_lines

Tell = Callable[[str, int, int], None]
PAGE = "report.html"
AT_ONCE = 512  # questions that are asked together


@dataclass(frozen=True)
class BrainRequest:
    """`recipe` is a TOML file; `output` replaces its output_dir; `log` its log file; `settings` lie over it."""

    recipe: Path
    output: Path | None = None
    settings: tuple[str, ...] = ()
    resume: bool = False
    log: Path | None = None
    print_log: bool = False


def is_brain_recipe(path: str | Path) -> bool:
    """Whether a TOML file is a recipe of the brain: it has the seed's sections and no stage of a language model."""
    try:
        record = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return "stage" not in record and any(name in record for name in SECTIONS)


def train(request: BrainRequest, tell: Tell | None = None) -> BrainRun:
    """Train by a recipe; relative paths in it are those of the working directory, as in the seed."""
    recipe = load_recipe(request.recipe, request.settings)
    folder = request.output or Path(recipe.paths.output_dir)
    place = request.log or folder / recipe.paths.log_file
    logs = [SeedLog(place, recipe, also=sys.stderr if request.print_log else None)]
    found = run(recipe, folder, base=request.recipe.parent, resume=request.resume, tell=tell, logs=logs)
    write_page(folder, recipe.model_dump_json(indent=1))
    return found


def write_page(folder: Path, recipe: str) -> Path:
    """The learning curves of a run as one self-contained page."""
    epochs = read_lines(folder / METRICS)
    if not epochs:
        raise NotFoundError(f"{str(folder)!r} holds no {METRICS}", hint="name the folder of a training run")
    parts = [
        Html("<h1>brain</h1>"),
        paragraph(f"{len(epochs)} epochs."),
        section("Curves", grid([figure(chart, name) for name, chart in curves(epochs)])),
        section("Recipe", Html(f"<pre>{recipe}</pre>")),
    ]
    place = folder / PAGE
    publish(place, document("brain", "".join(parts)).encode())
    return place


def record(found: BrainRun) -> dict[str, Any]:
    """A run as a JSON record."""
    return {
        "epochs": found.result.steps,
        "stopped": found.result.stopped,
        "resumed_at": found.result.resumed_at,
        "last": found.result.last,
        "measures": [{"epoch": epoch, **numbers} for epoch, numbers in found.result.measures],
        "folder": str(found.folder),
        "model": str(found.model),
        "seconds": found.seconds,
    }


def lines(found: BrainRun) -> list[str]:
    """What a person reads after a run."""
    text = [f"{found.result.steps} epochs ({found.result.stopped}) in {found.seconds:.0f} s"]
    if found.result.measures:
        epoch, numbers = found.result.measures[-1]
        shown = "  ".join(f"{name.removeprefix('eval_')} {value:.3f}" for name, value in numbers.items())
        text.append(f"  epoch {epoch}: {shown}")
    return [*text, f"model {found.model}   report {found.folder / PAGE}"]


# --- asking --------------------------------------------------------------------------------------------------------


def is_brain(model: str) -> bool:
    """Whether `model` names the folder of a run or of its model."""
    return model_folder(model) is not None


def model_folder(model: str) -> Path | None:
    """The folder that holds the network: the one that is named, or `model` in it."""
    for place in (Path(model), Path(model) / MODEL):
        if (place / NETWORK).is_file():
            return place
    return None


def solver(model: str) -> Solver:
    """The brain in a folder, ready to answer. NotFoundError without one."""
    place = model_folder(model)
    if place is None:
        raise NotFoundError(f"{model!r} holds no {NETWORK}", hint="name the folder that alexandra train wrote")
    found = read_model(place)
    if found.weights is None:
        raise NotFoundError(f"{model!r} has no weights", hint="train it: alexandra train RECIPE")
    return Solver(found.graph, found.weights, threads=len(os.sched_getaffinity(0)))


def asker(model: str) -> Callable[[str], str]:
    """A function from a question in prefix form to the brain's answer as text, "" where it has none."""
    brain = solver(model)

    def ask(question: str) -> str:
        try:
            return brain.write([Question(parse(question))])[0].answer
        except AlexandraError:
            return ""

    return ask


# --- measuring -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """One level and split of a data set: what the brain answered rightly, and what the engine proved of it."""

    level: int
    split: str
    right: Score
    verified: int
    verified_wrong: int


def measure(model: str, path: str | Path, tell: Tell | None = None) -> list[Measured]:
    """The brain's own greedy answers on every item of the .jsonl files at or below `path`."""
    brain = solver(model)
    kept: dict[tuple[int, str], list[Answered]] = {}
    items = list(_items(path))
    for first in range(0, len(items), AT_ONCE):
        part = items[first : first + AT_ONCE]
        for one in answered(brain.write, part):
            kept.setdefault((one.item.level, one.item.split), []).append(one)
        if tell is not None:
            tell("asking", first + len(part), len(items))
    found = []
    for (level, split), outcomes in sorted(kept.items()):
        proved = [one for one in outcomes if one.verified]
        found.append(Measured(level, split, score(outcomes), len(proved), sum(not one.right for one in proved)))
    return found


def _items(path: str | Path) -> Iterator[Item]:
    for place in files_of(Path(path)):
        for number, text in enumerate(read_bytes(place).decode().splitlines(), 1):
            try:
                yield Item.of_record(json.loads(text))
            except ValueError as error:
                raise DataError(f"{str(place)!r} line {number} is not JSON: {error}") from error


def measured_record(found: list[Measured]) -> list[dict[str, Any]]:
    """The measures as JSON records."""
    return [
        {
            "level": one.level,
            "split": one.split,
            "n": one.right.n,
            "right": one.right.right,
            "share": one.right.share,
            "interval": list(one.right.interval),
            "verified": one.verified,
            "verified_wrong": one.verified_wrong,
        }
        for one in found
    ]


def measured_lines(found: list[Measured]) -> list[str]:
    """A table for a person."""
    head = f"{'level':>5}  {'split':<9} {'n':>6}  {'exact or equivalent':<26} {'verified':>8} {'of these wrong':>14}"
    rows = [
        f"{one.level:>5}  {one.split:<9} {one.right.n:>6}  {one.right.text():<26} {one.verified:>8} "
        f"{one.verified_wrong:>14}"
        for one in found
    ]
    return [head, *rows]

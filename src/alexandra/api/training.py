"""Actions on training runs of language models: train by a recipe, repeat over seeds and settings, compare, draw."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alexandra.api.html import Html, table
from alexandra.api.run_report import write_report
from alexandra.config import parse_config, validate
from alexandra.errors import UsageError
from alexandra.storage import publish
from alexandra.train.lm.build import Given
from alexandra.train.lm.doctor import diagnose
from alexandra.train.lm.foreign_recipe import SUFFIXES, translate
from alexandra.train.lm.launch import LaunchPlan
from alexandra.train.lm.patient import Diagnosis, Finding
from alexandra.train.lm.recipe import STAGES, Recipe
from alexandra.train.lm.run import Trained, load_recipe, read_recipe, run
from alexandra.train.lm.translation import Translation
from alexandra.train.watch import METRICS, read_lines

Tell = Callable[[str, int, int], None]
_FILES = (".toml", *SUFFIXES)


@dataclass(frozen=True)
class Request:
    """`what` is a recipe's file or a stage's name; the rest lies over it."""

    what: str
    model: str = ""
    data: str = ""
    rewards: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    seeds: int = 1
    lora: int = 0
    runs: Path = Path("runs")
    resume: bool = False


@dataclass(frozen=True)
class Planned:
    """One run that a request asks for."""

    recipe: Recipe
    folder: Path
    base: Path


def plan(request: Request) -> list[Planned]:
    """Every run of a request: one per seed and per combination of settings such as width=64,128."""
    is_file = request.what.endswith(_FILES)
    base = Path(request.what).parent if is_file else Path()
    found = []
    for chosen in _combinations(request.settings):
        recipe = _recipe(request, chosen)
        for seed in range(recipe.seed, recipe.seed + request.seeds):
            one = recipe.model_copy(update={"seed": seed})
            name = Path(request.what).stem if is_file else request.what
            suffix = [text.replace("=", "-").replace("/", "_") for text in chosen if "=" in text and request.settings]
            parts = [name, *(suffix if len(_combinations(request.settings)) > 1 else []), one.settings_hash[:8]]
            found.append(Planned(one, request.runs / "-".join(parts), base))
    return found


def _combinations(settings: Sequence[str]) -> list[tuple[str, ...]]:
    """key=a,b gives two runs; a list or a text keeps its commas in brackets or quotes."""
    choices = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        many = [setting] if not equals or value[:1] in "[\"'" else [f"{key}={part}" for part in value.split(",")]
        choices.append(many)
    return list(itertools.product(*choices))


def _recipe(request: Request, settings: Sequence[str]) -> Recipe:
    extra = [f"model.path={request.model}"] if request.model else []
    extra += [f"data.path={request.data}"] if request.data else []
    extra += [f"model.lora={request.lora}"] if request.lora else []
    if request.rewards:
        names = ", ".join(f'"{name}"' for name in request.rewards)
        extra.append(f"reward.functions=[{names}]")
    if request.what.endswith(".toml"):
        return load_recipe(request.what, [*extra, *settings])
    if request.what.endswith(SUFFIXES):
        made = translate(Path(request.what))
        for key, why in made.left.items():
            warnings.warn(f"{made.source}: not taken over: {key}: {why}", UserWarning, stacklevel=2)
        return parse_config(made.toml(), Recipe, [*extra, *settings], made.source)
    if request.what not in STAGES:
        raise UsageError(
            f"{request.what!r} is no recipe and no stage", hint=f"a .toml file, or one of {', '.join(STAGES)}"
        )
    return parse_config(f'stage = "{request.what}"\n[model]\n[data]\n', Recipe, [*extra, *settings], "the command line")


def train(
    request: Request, tell: Tell | None = None, launch: Callable[[LaunchPlan], None] | None = None
) -> list[Trained]:
    """Train every run of a request, one after the other; each gets its report. `launch` hears of each before it."""
    found = []
    for one in plan(request):
        given = Given(launch=launch)
        trained = run(one.recipe, folder=one.folder, given=given, base=one.base, resume=request.resume, tell=tell)
        write_report(one.folder)
        found.append(trained)
    return found


def doctor(request: Request) -> Diagnosis:
    """Look a recipe over on a few of its own rows; what another tool's file says and a recipe cannot is found too."""
    if not request.what.endswith(SUFFIXES):
        (one, *_) = plan(request)
        return diagnose(one.recipe, Given(), one.base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        (one, *_) = plan(request)
    found, left = diagnose(one.recipe, Given(), one.base), translate(Path(request.what)).left
    fix = f"alexandra recipe from {request.what} writes the recipe: say there what you want"
    more = tuple(Finding("recipe", key, why, fix) for key, why in left.items())
    return replace(found, findings=(*more, *found.findings))


def translated(path: Path, stage: str = "", out: Path | None = None) -> Translation:
    """A configuration of TRL or Axolotl as a recipe, written to `out` where it is given."""
    made = translate(path, stage)
    parse_config(made.toml(), Recipe, (), made.source)
    if out is not None:
        publish(out, made.toml().encode())
    return made


def translation_record(made: Translation) -> dict[str, Any]:
    """A translation as a JSON record."""
    lists = {"taken": made.taken, "no_effect": made.no_effect, "left": made.left}
    return {"source": made.source, "recipe": made.recipe, **lists}


def diagnosis_record(found: Diagnosis) -> dict[str, Any]:
    """A diagnosis as a JSON record."""
    return {
        "findings": [vars(finding) for finding in found.findings],
        "passed": list(found.passed),
        "skipped": dict(found.skipped),
        "seconds": found.seconds,
    }


def diagnosis_lines(found: Diagnosis) -> list[str]:
    """What a person reads: every finding with its place and its way out, then what was looked at."""
    text = []
    for finding in found.findings:
        text += [f"{finding.check}: {finding.where}: {finding.what}", f"    {finding.fix}"]
    text.append(f"sound: {', '.join(found.passed) or 'nothing'}")
    text += [f"not looked at: {name} ({reason})" for name, reason in found.skipped.items()]
    return [*text, f"{len(found.findings)} findings in {found.seconds:.1f} s"]


def record(trained: Trained) -> dict[str, Any]:
    """A run as a JSON record."""
    result = trained.result
    return {
        "stage": trained.recipe.stage,
        "seed": trained.recipe.seed,
        "steps": result.steps,
        "stopped": result.stopped,
        "resumed_at": result.resumed_at,
        "best_step": result.best_step,
        "rows": trained.built.rows,
        "held_out": trained.built.held_out,
        "last": finite(result.last),
        "measures": [{"step": step, **finite(numbers)} for step, numbers in result.measures],
        "folder": str(trained.folder) if trained.folder else None,
        "model": str(trained.model) if trained.model else None,
        "memory_bytes": trained.built.model.memory,
    }


def finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers for JSON: what is not finite is None."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def lines(trained: Trained) -> list[str]:
    """What a person reads after a run."""
    result = trained.result
    text = [f"{trained.recipe.stage}: {result.steps} steps ({result.stopped}), {trained.built.rows} rows"]
    if result.resumed_at:
        text.append(f"resumed at step {result.resumed_at}")
    for step, numbers in (*result.measures[:1], *result.measures[-1:]):
        text.append(f"  step {step:>6}: " + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    if trained.model is not None:
        text.append(f"model {trained.model}   report {trained.folder / 'report.html' if trained.folder else ''}")
    return text


# --- tables -------------------------------------------------------------------------------------------------


def compare(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per run: its stage, seed, settings that differ, and its last measures."""
    recipes = [read_recipe(folder) for folder in folders]
    flat = [_flat(recipe.model_dump(mode="json")) for recipe in recipes]
    varied = [key for key in flat[0] if len({repr(one.get(key)) for one in flat}) > 1]
    rows = []
    for folder, one in zip(folders, flat, strict=True):
        steps = read_lines(folder / METRICS)
        measured = [line for line in steps if any(name.startswith("eval_") for name in line)]
        last = measured[-1] if measured else (steps[-1] if steps else {})
        numbers = {name: value for name, value in last.items() if name.startswith("eval_") or not measured}
        rows.append({"run": folder.name, **{key: one[key] for key in varied}, "steps": len(steps), **numbers})
    return rows


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{before}.{key}" if before else key
        found |= _flat(inner, name) if isinstance(inner, Mapping) else {name: inner}
    return found


def latex(rows: Sequence[Mapping[str, Any]]) -> str:
    """The comparison as a LaTeX table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    escape = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"}

    def cell(value: Any) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return "".join(escape.get(character, character) for character in text)

    body = [" & ".join(cell(row.get(name, "")) for name in names) + r" \\" for row in rows]
    head = " & ".join(map(cell, names)) + r" \\"
    begin = rf"\begin{{tabular}}{{{'l' * len(names)}}}"
    return "\n".join([begin, r"\hline", head, r"\hline", *body, r"\hline", r"\end{tabular}"])


def page_of_runs(rows: Sequence[Mapping[str, Any]]) -> Html:
    """The comparison as a table of HTML."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table(names, [[row.get(name, "") for name in names] for row in rows])


def checked(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values. Raises ConfigError."""
    return validate(values, Recipe, "<values>")

"""train, plot, table: runs of language models. Heavy modules are imported inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alexandra.cli.options import Json, show


def train(
    what: Annotated[str, typer.Argument(help="A recipe (.toml), a stage such as sft, dpo, grpo, or scorer.")] = "",
    config: Annotated[Path | None, typer.Option(help="A recipe of the brain: the seed's train_config.toml.")] = None,
    model: Annotated[
        str,
        typer.Option("--model", "--base", help="A .nl file, an earlier run's model, or transformers' folder or id."),
    ] = "",
    data: Annotated[str, typer.Option(help="JSON lines, Parquet, a folder, or a data set's id.")] = "",
    framework: Annotated[str, typer.Option(help="The verifier framework that a scorer is for.")] = "",
    reward: Annotated[list[str] | None, typer.Option(help="file.py:function; repeat for more.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A key of the recipe: train.lr=0.001; a,b runs both.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "--out", help="The folder of a scorer, or of the brain (output_dir).")
    ] = None,
    log_file: Annotated[Path | None, typer.Option(help="The brain's log (default: log_file in its folder).")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print the brain's log as well.")] = False,
    seeds: Annotated[int, typer.Option(help="So many runs with consecutive seeds.")] = 1,
    lora: Annotated[int, typer.Option(help="Train low-rank adapters (LoRA) of this rank, not the weights.")] = 0,
    runs: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint.")] = False,
    as_json: Json = False,
) -> None:
    """Train a language model by a recipe or a stage's defaults, or a small scorer of claims for a verifier framework.

    Example: alexandra train grpo --model runs/sft/model --data questions.jsonl --reward rewards.py:exact

    Example: alexandra train scorer --framework empirical --data labelled.jsonl --base FOLDER_OR_ID --out scorer
    """
    if what == "scorer":
        _train_scorer((framework, data, model, output), tuple(setting or ()), as_json)
        return
    from alexandra.api import render, training

    chosen = str(config or what)
    if config or (chosen.endswith(".toml") and _is_brain(chosen)):
        settings = (*(setting or ()), *((f'paths.train_data="{data}"',) if data else ()))
        _train_brain((Path(chosen), output, log_file, settings), resume, verbose, as_json)
        return
    request = training.Request(what, model, data, tuple(reward or ()), tuple(setting or ()), seeds, lora, runs, resume)
    with render.progress("training") as update:
        found = training.train(request, update, lambda plan: typer.echo("\n".join(plan.lines()), err=True))
    show(
        [training.record(one) for one in found] if len(found) > 1 else training.record(found[0]),
        as_json,
        lambda: [line for one in found for line in training.lines(one)],
    )


def _is_brain(recipe: str) -> bool:
    from alexandra.api import brain

    return brain.is_brain_recipe(recipe)


def _train_scorer(given: tuple[str, str, str, Path | None], settings: tuple[str, ...], as_json: bool) -> None:
    from alexandra.api import render, scorer_training

    framework, data, base, output = given
    request = scorer_training.Request(framework, data, base, output or Path("scorer"), settings)
    with render.progress("training") as update:
        made = scorer_training.train_scorer(request, update)
    show(scorer_training.record(made), as_json, lambda: scorer_training.lines(made))


def _train_brain(
    given: tuple[Path, Path | None, Path | None, tuple[str, ...]], resume: bool, verbose: bool, as_json: bool
) -> None:
    """Train the brain of the mathematics curriculum."""
    from alexandra.api import brain, render

    recipe, output, log, settings = given
    request = brain.BrainRequest(recipe, output, settings, resume, log, print_log=verbose)
    with render.progress("training") as update:
        found = brain.train(request, update)
    show(brain.record(found), as_json, lambda: brain.lines(found))


def doctor(
    what: Annotated[str, typer.Argument(help="A recipe (.toml; a .yaml of TRL or Axolotl), or a stage.")],
    model: Annotated[str, typer.Option(help="A .nl file, an earlier run's model, or transformers' folder or id.")] = "",
    data: Annotated[str, typer.Option(help="JSON lines, Parquet, a folder, or a data set's id.")] = "",
    reward: Annotated[list[str] | None, typer.Option(help="file.py:function; repeat for more.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="A key of the recipe: train.lr=0.001.")] = None,
    as_json: Json = False,
) -> None:
    """Look a recipe over before it costs anything: masks, splits, resume, sampler, rewards. Exit code 1 on findings.

    Example: alexandra doctor recipes/sft.toml
    """
    from alexandra.api import training

    request = training.Request(what, model, data, tuple(reward or ()), tuple(setting or ()))
    found = training.doctor(request)
    show(training.diagnosis_record(found), as_json, lambda: training.diagnosis_lines(found))
    if found.findings:
        raise typer.Exit(1)


def recipe_from(
    file: Annotated[Path, typer.Argument(help="A YAML or JSON file of TRL or Axolotl.")],
    stage: Annotated[str, typer.Option(help="What a TRL file is for, where it does not show it: sft, dpo ...")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the recipe here.")] = None,
    as_json: Json = False,
) -> None:
    """Write another trainer's configuration as a recipe; keys that cannot be taken over are named in it.

    Example: alexandra recipe from axolotl.yml --out recipe.toml
    """
    from alexandra.api import training

    made = training.translated(file, stage, out)
    show(training.translation_record(made), as_json, lambda: made.toml().rstrip())


def plot(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    as_json: Json = False,
) -> None:
    """Draw a run's curves into its report.html.

    Example: alexandra plot runs/grpo-1a2b3c4d
    """
    from alexandra.api.run_report import write_report

    place = write_report(folder)
    show({"report": str(place)}, as_json, lambda: str(place))


def table(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    as_latex: Annotated[bool, typer.Option("--latex", help="A LaTeX table.")] = False,
    as_json: Json = False,
) -> None:
    """Compare runs: the settings that differ and the last measures.

    Example: alexandra table runs/grpo-* --latex
    """
    from alexandra.api import render, training

    rows = training.compare(folders)
    show(rows, as_json, lambda: training.latex(rows) if as_latex else render.records(rows))

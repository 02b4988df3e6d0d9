"""Train a language model: a recipe (or a stage's name and values) in, a model folder and its numbers out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexandra.config import load_config, validate
from alexandra.errors import ConfigError, UsageError, suggest
from alexandra.ir.weights import WeightSet
from alexandra.storage import publish
from alexandra.train.lm.build import Built, Given, build
from alexandra.train.lm.examples import Record
from alexandra.train.lm.folder import ModelFolder, tokenizer_files, write_model
from alexandra.train.lm.launch import launch_plan
from alexandra.train.lm.recipe import STAGES, Recipe
from alexandra.train.stages import StagePlan, StageResult, run_stage
from alexandra.train.watch import MLflow, Report, TensorBoard, Watcher, WeightsAndBiases

Tell = Callable[[str, int, int], None]
RECIPE = "recipe.json"


@dataclass(frozen=True)
class Trained:
    """A finished run. `model` is the folder that the next stage, `alexandra` and Python read."""

    recipe: Recipe
    result: StageResult
    folder: Path | None
    model: Path | None
    built: Built

    @property
    def weights(self) -> WeightSet:
        return self.built.weights


def train(
    stage: str,
    *,
    model: str | Path | ModelFolder = "",
    data: str | Path | Sequence[Record] = "",
    rewards: Sequence[Any] = (),
    checks: Sequence[Any] = (),
    folder: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Trained:
    """Train with one of the stages of recipe.STAGES: pretrain, sft, dpo, grpo, ...

    model     a .nl file, a model folder, or a ModelFolder;  data: a file, a folder, or a list of dicts
    rewards   functions (TRL's signature, or f(completion, **columns)), verifiers, objects with score_answer
    checks    judge held-out answers and never train: an alarm tells when they fall while the rewards rise
    folder    where the run is kept; without it nothing is written
    settings  the other keys of a recipe, nested: {"train": {"steps": 100}, "rollout": {"group": 16}}

    >>> ax.train("sft", model="net.nl", data=[{"prompt": "2+2=", "completion": "4"}], settings={"train": {"steps": 5}})
    """
    if stage not in STAGES:
        raise UsageError(f"unknown stage {stage!r}", hint=suggest(stage, STAGES))
    record: dict[str, Any] = dict(settings or {})
    record["stage"] = stage
    named_model = "" if isinstance(model, ModelFolder) else str(model)
    named_data = str(data) if isinstance(data, str | Path) else ""
    record["model"] = {**record.get("model", {}), **({"path": named_model} if named_model else {})}
    record["data"] = {**record.get("data", {}), **({"path": named_data} if named_data else {})}
    recipe = validate(record, Recipe, "train")
    given = Given(
        model if isinstance(model, ModelFolder) else None,
        None if isinstance(data, str | Path) else list(data),
        rewards=tuple(rewards),
        checks=tuple(checks),
    )
    return run(recipe, folder=Path(folder) if folder else None, given=given, resume=resume)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe's file, with "section.key=value" laid over it. Raises ConfigError."""
    return load_config(path, Recipe, overrides)


def run(
    recipe: Recipe,
    *,
    folder: Path | None = None,
    given: Given | None = None,
    base: Path | None = None,
    resume: bool = False,
    tell: Tell | None = None,
) -> Trained:
    """Train by a recipe whose paths are relative to `base`. Raises what its parts raise, before the first step.

    `tell` hears of every step, `given.launch` before the first one what is about to run.
    """
    built = build(recipe, given, base)
    if given is not None and given.launch is not None:
        given.launch(launch_plan(built))
    config = recipe.train
    plan = StagePlan(
        config.steps,
        folder,
        config.eval_every,
        config.save_every,
        config.keep,
        resume,
        time.monotonic() + 60 * config.minutes if config.minutes else math.inf,
        recipe.settings_hash,
        recipe.log.samples,
        built.asked.answers if built.asked else None,
        recipe.reward.on_alarm,
        built.norms,
    )
    watchers = _watchers(recipe, folder)
    if tell is not None:
        watchers.append(Report(config.steps, tell))
    if folder is not None:
        _keep_recipe(recipe, folder, resume)
    result = run_stage(built.stage, plan, watchers)
    place = _write(built, folder, result) if folder is not None else None
    return Trained(recipe, result, folder, place, built)


def _keep_recipe(recipe: Recipe, folder: Path, resume: bool) -> None:
    """The recipe beside its numbers, for whoever resumes or repeats the run."""
    place = folder / RECIPE
    if resume or not place.exists():
        publish(place, recipe.model_dump_json(indent=1).encode())


def _watchers(recipe: Recipe, folder: Path | None) -> list[Watcher]:
    log = recipe.log
    settings = {"stage": recipe.stage, "seed": str(recipe.seed), "recipe": recipe.settings_hash[:12]}
    found: list[Watcher] = []
    if log.tensorboard:
        found.append(TensorBoard(Path(log.tensorboard)))
    if log.mlflow:
        found.append(MLflow(log.mlflow, f"alexandra-{recipe.stage}", settings))
    if log.wandb:
        found.append(WeightsAndBiases(log.wandb, folder or Path(), settings))
    return found


def _write(built: Built, folder: Path, result: StageResult) -> Path:
    """The model after the last step, as a folder of its own name per step count."""
    place = folder / ("model" if result.steps == built.recipe.train.steps else f"model-step-{result.steps}")
    if place.exists():
        return place
    lineage = {"stage": built.recipe.stage, "recipe": built.recipe.settings_hash, "steps": str(result.steps)}
    if built.hub is not None:
        own = tokenizer_files(built.tokenizer) if built.recipe.tokenizer.path else {}
        built.model.load(built.weights)
        built.model.inside.save(place, built.hub.files() | own, merged=built.recipe.model.merge)  # type: ignore[attr-defined]
        return place
    write_model(place, built.graph, built.weights, built.tokenizer, lineage)
    return place


def read_recipe(folder: Path) -> Recipe:
    """The recipe that a run's folder was made with."""
    try:
        return Recipe.model_validate_json((folder / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(folder)!r} holds no recipe of a run: {error}") from error

"""Train the brain by its recipe: a folder with checkpoints, curves, the seed's log and the finished model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alexandra.backends.bind import bind
from alexandra.config import load_config
from alexandra.ir.graph import Graph
from alexandra.lang.nureon import compile_network
from alexandra.storage import publish
from alexandra.train.grapheme.brain import packed_graph, starting_weights
from alexandra.train.grapheme.network import NETWORK
from alexandra.train.grapheme.recipe import BrainRecipe
from alexandra.train.grapheme.stage import CurriculumStage
from alexandra.train.lm.folder import write_model
from alexandra.train.stages import StagePlan, StageResult, run_stage
from alexandra.train.watch import Report, Watcher

Tell = Callable[[str, int, int], None]
MEASURE_EVERY = 10  # epochs between looks at every level so far
RECIPE, MODEL = "recipe.json", "model"


@dataclass(frozen=True)
class BrainRun:
    """A finished run: `model` is the folder of the network with its last weights."""

    recipe: BrainRecipe
    result: StageResult
    folder: Path
    model: Path
    seconds: float


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> BrainRecipe:
    """A recipe's file (the seed's train_config.toml is one), with "section.key=value" laid over it."""
    return load_config(path, BrainRecipe, overrides)


def network(recipe: BrainRecipe, base: Path | None = None) -> Graph:
    """The recipe's network, to be bound or to decode with."""
    given = recipe.network
    constants = {"width": given.width, "layers": given.layers, "heads": given.heads, "hidden": given.hidden}
    if not given.path:
        return compile_network(NETWORK, constants=constants)
    return compile_network((base or Path()) / given.path, constants=constants)


def run(
    recipe: BrainRecipe,
    folder: Path,
    *,
    base: Path | None = None,
    resume: bool = False,
    tell: Tell | None = None,
    logs: Sequence[Watcher] = (),
) -> BrainRun:
    """All epochs of `recipe` into `folder`; `logs` are told every epoch's numbers.

    Raises StorageError for a folder that holds another run.
    """
    began = time.monotonic()
    graph = network(recipe, base)
    threads = recipe.hardware.num_threads or len(os.sched_getaffinity(0))
    packed = packed_graph(graph)
    model = bind(packed, backend="native", weights=starting_weights(packed, recipe.training.seed), threads=threads)
    stage = CurriculumStage(recipe, graph, model, threads)
    every, keep = recipe.training.checkpoint_every, recipe.paths.keep
    plan = StagePlan(recipe.epochs, folder, MEASURE_EVERY, every, keep, resume, settings_hash=recipe.settings_hash)
    watchers: list[Watcher] = list(logs)
    if tell is not None:
        watchers.append(Report(recipe.epochs, tell))
    result = run_stage(stage, plan, watchers)
    publish(folder / RECIPE, recipe.model_dump_json(indent=1).encode())
    lineage = {"stage": "curriculum", "recipe": recipe.settings_hash, "epochs": str(result.steps)}
    if not (folder / MODEL).exists():
        write_model(folder / MODEL, graph, model.weights, None, lineage)
    return BrainRun(recipe, result, folder, folder / MODEL, time.monotonic() - began)

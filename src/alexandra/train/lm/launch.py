"""What a run is about to do, before its first step: who trains and samples, what it takes, how fast it may go.

Memory is what the native engine plans for an update (backends/native_memory.py); on other backends the cost model's
upper bound (ir/cost.py), of a transformers model its weights, gradients and moments. Tokens per second are those of a
measured forward over a few rows of the run's length, and a third of it for training, whose backward costs about two
forwards.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexandra.backends.admit import trained_names
from alexandra.backends.base import Model
from alexandra.backends.foreign import Foreign
from alexandra.errors import BackendError
from alexandra.ir import cost
from alexandra.ir.check import param_specs, with_length
from alexandra.objectives.spec import SGD, Program
from alexandra.train.lm.average import Averaged
from alexandra.train.lm.build import Built
from alexandra.train.lm.policy import ends_of
from alexandra.train.lm.recipe import Recipe
from alexandra.train.stages import Stage

SAMPLED = ("grpo", "ppo")
MEASURED_TOKENS = 4096  # of the forward that is timed, at most


@dataclass(frozen=True)
class LaunchPlan:
    """`rows` of `length` tokens a step, `micro` of them at once. `memory_bytes` by tier, on the one device there is."""

    stage: str
    model: str
    update: str
    rollouts: str
    parameters: int
    trained: int
    rows: int
    length: int
    micro: int
    memory_bytes: dict[str, int]
    forward_tokens_per_second: float

    @property
    def training_tokens_per_second(self) -> float:
        return self.forward_tokens_per_second / 3

    def lines(self) -> list[str]:
        """What a person reads before the run."""
        tiers = ", ".join(f"{name} {_bytes(size)}" for name, size in self.memory_bytes.items() if name != "total")
        text = [
            f"{self.stage}: {self.model}, {self.parameters:,} parameters, {self.trained:,} trained",
            f"  a step: {self.rows} rows of {self.length} tokens, {self.micro} rows at once",
            f"  update: {self.update}",
            *([f"  rollouts: {self.rollouts}"] if self.rollouts else []),
            f"  memory: {_bytes(self.memory_bytes['total'])} ({tiers})",
            f"  speed: about {self.training_tokens_per_second:,.0f} tokens/s in training "
            f"({self.forward_tokens_per_second:,.0f} in a forward, measured)",
        ]
        return text


def launch_plan(built: Built) -> LaunchPlan:
    """The plan of a run that is built; times one forward."""
    recipe, model = built.recipe, built.model
    stage = built.stage.stage if isinstance(built.stage, Averaged) else built.stage
    length = int(getattr(getattr(stage, "settings", None), "length", 0)) or 1
    rows = _rows(recipe)
    update_rows = rows // recipe.rollout.minibatches if recipe.stage in SAMPLED else rows
    program = built.updates["grad_norm"].program(update_rows)
    micro = min(program.batch_size, update_rows)
    if isinstance(model, Foreign):
        parameters = sum(p.numel() for p in model.inside.module.parameters())
        trained, words = model.num_parameters, model.words
        device = str(model.inside.device)
        update = f"PyTorch on {device}" + (", LoRA adapters by PEFT" if model.inside.is_adapted else "")
        memory = _foreign_memory(model, isinstance(program.optimizer, SGD))
    else:
        specs = param_specs(model.graph)
        parameters = cost.parameters(model.graph)
        trained = sum(specs[name].size for name in trained_names(program.frozen, specs))
        words = f"network {model.graph.name!r}"
        update = f"{_BACKENDS.get(model.backend, model.backend)}, {recipe.model.threads} thread"
        update += "s" if recipe.model.threads > 1 else ""
        if built.adapted is not None:
            update += f", LoRA adapters of rank {built.adapted.rank} beside {len(built.adapted.pairs)} layers"
        memory = _memory(model, program, max(update_rows, program.batch_size), length, recipe)
    update += "" if recipe.train.precision == "float32" else f", {recipe.train.precision}"
    update += ", activations computed again" if recipe.train.activation_checkpointing else ""
    if recipe.stage in SAMPLED:
        update += "; on-policy steps are one weighted cross-entropy"
    shape = rows, length, micro
    speed = _forward_speed(model, micro, length)
    return LaunchPlan(recipe.stage, words, update, _rollouts(stage, recipe), parameters, trained, *shape, memory, speed)


_BACKENDS = {"native": "native engine", "torch": "PyTorch", "reference": "reference backend (slow)"}


def _rollouts(stage: Stage, recipe: Recipe) -> str:
    """Who samples the answers of this stage; "" where none are sampled."""
    actor, ahead = getattr(stage, "actor", None), recipe.rollout.staleness
    if actor is None:
        return ""
    return str(actor.words) + (f", up to {ahead} updates ahead" if ahead else "")


def _rows(recipe: Recipe) -> int:
    if recipe.stage in SAMPLED:
        return recipe.rollout.prompts * recipe.rollout.group
    return recipe.train.batch * (2 if recipe.stage in ("dpo", "orpo", "kto", "reward") else 1)


def _memory(model: Model, program: Program, rows: int, length: int, recipe: Recipe) -> dict[str, int]:
    graph = with_length(model.graph, length)
    if model.backend == "native":
        from alexandra.backends.native_memory import planned_memory  # the engine is there: it runs the model

        try:
            again = recipe.train.activation_checkpointing
            tiers = planned_memory(graph, program, rows, threads=recipe.model.threads, checkpoint=again)
        except BackendError:  # too long to plan: the upper bound is for any length
            pass
        else:
            del tiers["inference"]
            return {**tiers, "total": sum(tiers.values())}
    moments = 1 if isinstance(program.optimizer, SGD) else 2
    trained = trained_names(program.frozen, param_specs(graph))
    return cost.memory(graph, model.backend, program.batch_size, training=True, moments=moments, trained=trained)


def _foreign_memory(model: Foreign, is_sgd: bool) -> dict[str, int]:
    trained = 4 * model.num_parameters
    tiers = {"weights": model.memory["weights"], "gradients": trained, "optimizer": trained * (1 if is_sgd else 2)}
    return {**tiers, "total": sum(tiers.values())}


def _forward_speed(model: Model, rows: int, length: int) -> float:
    """Tokens a second of a forward, the second of two."""
    ends, rows = ends_of(model), max(1, min(rows, MEASURED_TOKENS // length))
    given: dict[str, Any] = {ends.tokens: np.zeros((rows, length), np.int32)}
    if ends.segments:
        given[ends.segments] = np.ones((rows, length), np.int32)
    model.forward(given)
    start = time.perf_counter()
    model.forward(given)
    return rows * length / max(time.perf_counter() - start, 1e-9)


def _bytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"

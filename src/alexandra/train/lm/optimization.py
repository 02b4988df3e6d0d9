"""From a recipe to what updates the weights: the rule, its schedule, and a backend that has both."""

from __future__ import annotations

from alexandra.backends.base import Execution
from alexandra.objectives.spec import SGD, Adam, AdamW, Muon, Optimizer, Schedule
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.recipe import Recipe


def optimization_of(recipe: Recipe, frozen: tuple[str, ...] = ()) -> Optimization:
    """Optimiser, schedule over all updates of the run, clipping; `frozen` beside what the recipe freezes."""
    train, updates = recipe.train, recipe.train.steps * updates_of(recipe)
    every = max(1, round(train.decay * updates)) if train.schedule == "wsd" else 0
    schedule = Schedule(train.schedule, train.warmup, updates, train.final, every)
    held = (*train.frozen, *frozen)
    return Optimization(_rule(recipe), schedule, train.clip, train.micro, recipe.seed, held, train.fixed_order)


def _rule(recipe: Recipe) -> Optimizer:
    train = recipe.train
    if train.optimizer == "sgd":
        return SGD(train.lr, train.momentum, train.weight_decay)
    kind = Adam if train.optimizer == "adam" else AdamW
    rule = kind(train.lr, train.beta1, train.beta2, weight_decay=train.weight_decay)
    if train.optimizer != "muon":
        return rule
    assert isinstance(rule, AdamW)
    return Muon(train.muon_lr, train.momentum or 0.95, train.weight_decay, rest=rule)


def updates_of(recipe: Recipe) -> int:
    """Optimiser steps in a step of the stage."""
    rollout = recipe.rollout
    return rollout.epochs * rollout.minibatches if recipe.stage in ("grpo", "ppo") else 1


def execution_of(recipe: Recipe) -> Execution:
    """What products are computed in, and which values training keeps."""
    return Execution(recipe.train.activation_checkpointing, recipe.train.precision)


def backend_of(recipe: Recipe) -> str:
    """The backend that a recipe means: "auto" is one that has the recipe's precision."""
    is_plain = recipe.model.backend != "auto" or recipe.train.precision == "float32"
    return recipe.model.backend if is_plain else "torch"

"""What a run is in the engine's numbers: programs, losses, and a run in progress.

Part of the native backend (native.py), which plans networks and holds the weights. The numbers of kinds and norms
are the order of the enums in csrc/plan.h and csrc/trainer.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import alexandra._native as _native
from alexandra.backends.admit import WEIGHTS
from alexandra.backends.noise import noisy
from alexandra.ir.graph import Graph
from alexandra.objectives.spec import KL, MSE, SGD, AdamW, EarlyStop, Muon, Objective, Program, WeightedCrossEntropy
from alexandra.rng import derive

Arrays = dict[str, np.ndarray]
Heads = Mapping[str, tuple[str | None, str]]  # by output: its final activation, the node of its logits
# kind, node, (smoothing, temperature, constant), norm, targets, weights: what _native.Trainer reads of a loss
LossTuple = tuple[int, int, tuple[float, float, float], int, np.ndarray, np.ndarray | None]

_CLASSES, _BITS, _VALUES, _TEACHER, _BIT_TEACHER, _GIVEN = range(6)
_COUNT, _WEIGHTS, _CONSTANT = range(3)
_DECAYS = {"constant": 0, "cosine": 1, "step": 2, "linear": 3, "wsd": 4}


def losses_of(targets: Arrays, objective: Objective, heads: Heads, index: Mapping[str, int]) -> list[LossTuple]:
    """The losses of admitted targets; `index` numbers the nodes of the plan."""
    found: list[LossTuple] = []
    for name, (kind, place, _) in zip(heads, loss_kinds(objective, heads, index), strict=True):
        smoothing, temperature, norm, constant = 0.0, 1.0, _COUNT, 1.0
        if isinstance(objective, KL):
            temperature = objective.temperature
        elif not isinstance(objective, MSE):
            smoothing = objective.label_smoothing
        if isinstance(objective, WeightedCrossEntropy) and objective.normalizer != "count":
            norm = _WEIGHTS if objective.normalizer == "weights" else _CONSTANT
            constant = 1.0 if isinstance(objective.normalizer, str) else float(objective.normalizer)
        kept = np.ascontiguousarray(targets[name], np.int32 if kind == _CLASSES else np.float32)
        found.append((kind, place, (smoothing, temperature, constant), norm, kept, targets.get(name + WEIGHTS)))
    return found


def loss_kinds(objective: Objective, heads: Heads, index: Mapping[str, int]) -> list[tuple[int, int, bool]]:
    """Kind, node and whether its terms are weighted, of the loss of every output: what memory depends on."""
    found = []
    for name, (activation, place) in heads.items():
        sigmoid, weighted = activation == "sigmoid", isinstance(objective, WeightedCrossEntropy)
        if isinstance(objective, MSE):
            kind, place = _VALUES, name
        elif isinstance(objective, KL):
            kind = _BIT_TEACHER if sigmoid else _TEACHER
        else:
            kind = _BITS if sigmoid else _CLASSES
        found.append((kind, index[place], weighted))
    return found


def given_gradients(seeds: Arrays, index: Mapping[str, int]) -> list[LossTuple]:
    """The gradients of some nodes as losses, whose targets they are."""
    return [(_GIVEN, index[name], (0.0, 1.0, 1.0), _COUNT, seed, None) for name, seed in seeds.items()]


def kept_by(losses: Sequence[LossTuple]) -> list[np.ndarray]:
    """The arrays that the engine reads in place."""
    return [array for loss in losses for array in loss[4:] if isinstance(array, np.ndarray)]


def settings_of(program: Program, noise: Graph | None, hidden: Sequence[int] = ()) -> Any:
    """`program` in numbers; `noise`: the planned graph whose dropouts and jitters are on.

    `hidden`: the numbers of the parameters that Muon steps.
    """
    settings, rule, schedule = _native.Program(), program.optimizer, program.schedule
    if isinstance(rule, Muon):
        settings.set_muon(list(hidden), rule.lr, rule.momentum, rule.weight_decay, rule.iterations)
        rule = rule.rest
    settings.set_optimizer(0 if isinstance(rule, SGD) else 2 if isinstance(rule, AdamW) else 1)
    settings.lr, settings.weight_decay = rule.lr, rule.weight_decay
    if isinstance(rule, SGD):
        settings.momentum = rule.momentum
    else:
        settings.beta1, settings.beta2, settings.eps = rule.beta1, rule.beta2, rule.eps
    if isinstance(rule, AdamW):
        settings.l1 = rule.l1
    settings.set_decay(_DECAYS[schedule.kind])
    settings.warmup_steps, settings.total_steps = schedule.warmup_steps, schedule.total_steps
    settings.every, settings.final_factor, settings.decay_factor = (
        max(1, schedule.every),
        schedule.final,
        schedule.decay,
    )
    settings.batch_size, settings.clip_norm, settings.shuffle = program.batch_size, program.clip_norm, program.shuffle
    settings.accumulate = program.accumulate
    if isinstance(program.stop, EarlyStop):
        stop = program.stop
        settings.set_stop(stop.every, stop.patience, stop.min_delta, stop.restore_best)
    order = derive(program.seed, "shuffle")
    settings.set_order(order.key, order.nonce)
    for node in noise.nodes if noise is not None and noisy(noise) else ():
        stream = derive(program.seed, "jitter" if node.op == "top_k_gate" else "dropout", node.name)
        settings.add_dropout(stream.key, stream.nonce)
    return settings

"""Learning the levels in turn: one step is an epoch, then the level is measured on validation items, then decided.

The state that decides the future is weights, moments, the place in every level's documents and the place in the
curriculum, all of it in the arrays of a checkpoint: a run that was killed at any epoch goes on to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import alexandra.curriculum as curriculum
from alexandra.backends.base import Model
from alexandra.curriculum.items import VAL, Item
from alexandra.ir.graph import Graph
from alexandra.objectives.spec import SGD, Adam, AdamW, Optimizer, Schedule, WeightedCrossEntropy
from alexandra.objectives.structural import StructuralLoss
from alexandra.statistics import wilson
from alexandra.train.grapheme.brain import DOCUMENTS, Solver
from alexandra.train.grapheme.documents import LENGTHS, Stream, batches
from alexandra.train.grapheme.recipe import BrainRecipe
from alexandra.train.grapheme.structural_updates import StructuralUpdates
from alexandra.train.lm.batch import TokenBatch
from alexandra.train.lm.fed import FedRun, Optimization
from alexandra.train.stages import Metrics

MEASURE_SEED = 1


class CurriculumStage:
    """A Stage (train/stages.py) whose steps are epochs."""

    name = "curriculum"

    def __init__(self, recipe: BrainRecipe, graph: Graph, model: Model, threads: int = 1) -> None:
        self.recipe, self.graph, self.model, self.threads = recipe, graph, model, threads
        self.updates = _updates(recipe, model)
        self.streams = {level: Stream(recipe.training.seed, level) for level in recipe.levels}
        self.level, self.spent, self.best, self.waited = recipe.levels[0], 0, 0.0, 0
        self.wrong = dict.fromkeys(recipe.levels, 1.0)  # share of wrong answers when it was measured last
        self._maker = ThreadPoolExecutor(1)
        self._items: dict[int, list[Item]] = {}
        self._epoch: list[TokenBatch] = []

    @property
    def finished(self) -> bool:
        """Whether every level has been left: now all of them are learnt together."""
        return self.level > self.recipe.levels[-1]

    def step(self, number: int) -> Metrics:
        """One epoch, the measures after it and the decision."""
        shares = self._shares()
        budget = self.recipe.training.updates * self.recipe.training.batch_tokens
        rows = [
            row for level, share in shares.items() for row in self.streams[level].take(int(share * budget), self._maker)
        ]
        self._epoch = batches(rows, self.recipe.training.rows, self.recipe.training.seed, number)
        if self.recipe.hardware.parallel_batches:
            for level, share in shares.items():
                self.streams[level].prepare(1 + int(share * budget / 8000), self._maker)
        losses = [self.updates.update(*arrays_of(batch)) for batch in self._epoch]
        learnt = sum(int(batch.mask_BT.sum()) for batch in self._epoch)
        found = {
            "loss": float(np.mean(losses)),
            "level": float(min(self.level, self.recipe.levels[-1])),
            "tokens": float(sum(row.positions for row in rows)),
            "learnt_tokens": float(learnt),
            "documents": float(len(rows)),
            "updates": float(len(losses)),
        }
        return found | self._decide()

    def evaluate(self) -> Metrics:
        """The accuracy of every level so far: what was forgotten shows here."""
        last = self.recipe.levels[-1] if self.finished else self.level
        solver = self._solver()
        found = {f"eval_level_{one}": self._accuracy(solver, one) for one in self.recipe.levels if one <= last}
        self.wrong |= {level: 1 - found[f"eval_level_{level}"] for level in self.recipe.levels if level <= last}
        return {**found, "eval_accuracy": float(np.mean(list(found.values())))}

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        return self._epoch[0].arrays() if self._epoch else {}

    def arrays(self) -> dict[str, np.ndarray]:
        places = np.array([[level, *stream.place] for level, stream in self.streams.items()], np.int64)
        place = np.array([self.level, self.spent, self.waited], np.int64)
        known = {"best": np.array([self.best]), "wrong": np.array(list(self.wrong.values()))}
        return {**self.updates.arrays(), "streams": places, "curriculum": place, **known}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.updates.restore(arrays)
        for level, number, first in arrays["streams"].tolist():
            self.streams[level].place = number, first
        self.level, self.spent, self.waited = arrays["curriculum"].tolist()
        self.best = float(arrays["best"][0])
        self.wrong = dict(zip(self.recipe.levels, arrays["wrong"].tolist(), strict=True))

    # --- the curriculum ---------------------------------------------------------------------------------------------

    def _shares(self) -> dict[int, float]:
        """Of an epoch's tokens, by level."""
        levels, config = self.recipe.levels, self.recipe.curriculum
        weights = {level: config.mixture[level - 1] for level in levels}
        if self.finished:
            if config.by_error:
                weights = {level: weight * (0.05 + self.wrong[level]) for level, weight in weights.items()}
            return {level: weights[level] / sum(weights.values()) for level in levels}
        before = [level for level in levels if level < self.level]
        if not before:
            return {self.level: 1.0}
        whole = sum(weights[level] for level in before)
        rest = 1.0 - config.current_share
        return {**{level: rest * weights[level] / whole for level in before}, self.level: config.current_share}

    def _decide(self) -> Metrics:
        """Measure the level that is learnt; go on to the next one when it is known or its time is up."""
        if self.finished:
            return {}
        config, level = self.recipe.curriculum, self.level
        items = self._held_out(level)
        right = self._right(self._solver(), level)
        accuracy, low = right / len(items), wilson(right / len(items), len(items), 0.975)[1]
        self.spent += 1
        epoch = self.spent
        self.waited = 0 if accuracy > self.best else self.waited + 1
        self.best = max(self.best, accuracy)
        passed = low >= config.advance_threshold and self.spent >= config.min_epochs_per_level
        over = self.spent >= self.recipe.training.epochs_per_level or self.waited >= self.recipe.training.patience
        if passed or over:
            self.level, self.spent, self.best, self.waited = level + 1, 0, 0.0, 0
        return {
            "epoch": float(epoch),
            "accuracy": accuracy,
            "accuracy_low": low,
            "advanced": float(passed),
            "left": float(over and not passed),
        }

    def _solver(self) -> Solver:
        return Solver(self.graph, self.model.weights, threads=self.threads)

    def _accuracy(self, solver: Solver, level: int) -> float:
        return self._right(solver, level) / len(self._held_out(level))

    def _right(self, solver: Solver, level: int) -> int:
        items = self._held_out(level)
        check = curriculum.level_of(level).check
        answers = solver.write([item.question for item in items])
        return sum(check(one.answer, item.question, item.expected) for one, item in zip(answers, items, strict=True))

    def _held_out(self, level: int) -> list[Item]:
        if level not in self._items:
            count = self.recipe.curriculum.measured
            self._items[level] = list(curriculum.level(level, count, MEASURE_SEED, VAL))
        return self._items[level]


def arrays_of(batch: TokenBatch) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs and targets as a backend takes them."""
    inputs = {"tokens": batch.tokens_BT, DOCUMENTS: batch.segments_BT}
    return inputs, {"classes": batch.targets_BT.astype(np.int64), "weights": batch.mask_BT.astype(np.float32)}


def _updates(recipe: BrainRecipe, model: Model) -> FedRun | StructuralUpdates:
    given = recipe.loss
    if given.objective == "cross_entropy":
        return FedRun(model, WeightedCrossEntropy(), _optimization(recipe), keep=len(LENGTHS))
    spec = StructuralLoss(
        node_insertion_cost=given.node_insertion_cost,
        node_deletion_cost=given.node_deletion_cost,
        edge_insertion_cost=given.edge_insertion_cost,
        edge_deletion_cost=given.edge_deletion_cost,
        clique_weight=given.clique_weight,
        temperature=given.temperature,
        iterations=given.iterations,
        rounds=given.rounds,
    )
    return StructuralUpdates(model, _optimization(recipe), spec, cross_entropy=given.objective == "both")


def _optimization(recipe: BrainRecipe) -> Optimization:
    training = recipe.training
    steps = recipe.epochs * training.updates
    schedule = Schedule("cosine", training.warmup, steps, training.final)
    return Optimization(_optimizer(recipe), schedule, training.clip, seed=training.seed)


def _optimizer(recipe: BrainRecipe) -> Optimizer:
    rule, rate = recipe.optimizer, recipe.training.learning_rate
    if rule.type == "sgd":
        return SGD(rate, weight_decay=rule.weight_decay)
    kind = Adam if rule.type == "adam" else AdamW
    return kind(rate, rule.beta1, rule.beta2, rule.epsilon, rule.weight_decay)

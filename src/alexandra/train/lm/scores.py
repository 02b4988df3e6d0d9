"""A network that gives each position a number: the reward model and PPO's critic.

Training hands it the derivative of any loss by those numbers (outputs.py). Suffixes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alexandra.backends.base import Model
from alexandra.backends.foreign import Foreign
from alexandra.errors import BackendError, DataError
from alexandra.ir.check import infer, make_graph
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet, initialise
from alexandra.objectives.preference import bradley_terry
from alexandra.objectives.tokens import F64
from alexandra.train.lm.batch import Row, TokenBatch, padded
from alexandra.train.lm.fed import FedRun, Optimization
from alexandra.train.lm.outputs import Outputs
from alexandra.train.lm.policy import ends_of
from alexandra.train.lm.preference_stages import PairRows, PreferenceSettings
from alexandra.train.lm.stage import Metrics, rows_of_step


def score_graph(policy: Graph) -> Graph:
    """The policy's network with one number per position in place of the logits."""
    (output,) = policy.outputs
    attrs = {**output.attrs, "size": 1, "activation": "linear", "bias": True}
    changed = replace(output, attrs=attrs, param="")
    return make_graph(f"{policy.name}_score", [changed if node is output else node for node in policy.nodes])


def score_weights(policy: WeightSet, graph: Graph, seed: int) -> WeightSet:
    """The policy's body, and a head that starts at zero."""
    fresh = initialise(graph, seed)
    head = graph.outputs[0].name
    taken = {
        name: policy[name] if name in policy and policy[name].shape == array.shape else array
        for name, array in fresh.items()
    }
    return WeightSet({n: np.zeros_like(a) if n.startswith(f"{head}.") else a for n, a in taken.items()})


class ScoreModel:
    """A graph on a backend with one int32 input of tokens [T] and one output [T, 1]; `frozen` names parts of it."""

    def __init__(self, model: Model, optimization: Optimization | None = None, frozen: tuple[str, ...] = ()) -> None:
        self.model, output = model, ends_of(model).output
        if not isinstance(model, Foreign) and infer(model.graph)[output].shape[-1:] != (1,):
            raise BackendError(f"a score is one number per position; output {output!r} has more")
        # the whole batch at once, `frozen` of its own: the optimization's settings name parts of the policy
        self._outputs = Outputs(model, replace(optimization or Optimization(), micro_rows=0, frozen=frozen))

    def scores(self, batch: TokenBatch) -> F64:
        """The number of every position, [B, T]: position t has read tokens 0 .. t."""
        return self._outputs.values(batch)[..., 0]

    def update(self, batch: TokenBatch, gradient: Callable[[F64], tuple[float, F64]]) -> float:
        """One optimiser step; `gradient` gives loss and derivative of the scores. Returns the loss."""

        def by_value(values_BT1: F64) -> tuple[float, F64]:
            loss, grad_BT = gradient(values_BT1[..., 0])
            return loss, grad_BT[..., None]

        return self._outputs.update(batch, by_value)

    @property
    def updates(self) -> FedRun:
        return self._outputs.updates

    def arrays(self) -> dict[str, np.ndarray]:
        return self._outputs.updates.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._outputs.updates.restore(arrays)


def whole(row: Row) -> Row:
    """The row with one padding token more, so that its last own token is read by a position."""
    return Row([*row.tokens, 0], [*row.mask, 0], row.key)


@dataclass(frozen=True)
class RewardObjective:
    """`center` keeps scores near zero."""

    center: float = 0.01


class RewardModel:
    """Bradley and Terry: the score after the last token of the better answer should be the higher one."""

    name = "reward"

    def __init__(
        self,
        scorer: ScoreModel,
        pairs: Sequence[PairRows],
        settings: PreferenceSettings,
        objective: RewardObjective | None = None,
        held_out: Sequence[PairRows] = (),
    ) -> None:
        if not pairs:
            raise DataError("there is no pair to learn from")
        self.scorer, self.pairs, self.settings = scorer, list(pairs), settings
        self.objective = objective or RewardObjective()
        self.held_out = list(held_out)

    def step(self, number: int) -> Metrics:
        chosen = rows_of_step(self.settings.seed, len(self.pairs), self.settings.batch_rows, number)
        batch, ends = self._batch([self.pairs[i] for i in chosen])
        found: Metrics = {}

        def gradient(scores_BT: F64) -> tuple[float, F64]:
            better, worse = np.split(scores_BT[ends], 2)
            rows, *by_score = bradley_terry(better, worse, len(better), center=self.objective.center)
            grad_BT = np.zeros_like(scores_BT)
            grad_BT[ends] = np.concatenate(by_score)
            found.update(accuracy=float((better > worse).mean()), margin=float((better - worse).mean()))
            return float(rows.sum()), grad_BT

        return {"loss": self.scorer.update(batch, gradient), **found}

    def evaluate(self) -> Metrics:
        """The share of held-out pairs that are ranked right."""
        if not self.held_out:
            return {}
        better, worse = np.split(self.score([p.chosen for p in self.held_out] + [p.rejected for p in self.held_out]), 2)
        return {"eval_accuracy": float((better > worse).mean()), "eval_margin": float((better - worse).mean())}

    def score(self, rows: Sequence[Row]) -> F64:
        """The score of whole sequences, [rows]."""
        found = []
        for first in range(0, len(rows), 64):
            part = [whole(row) for row in rows[first : first + 64]]
            batch = padded(part, pad=self.settings.pad, length=self.settings.length)
            found.append(self.scorer.scores(batch)[np.arange(len(part)), [row.positions - 1 for row in part]])
        return np.concatenate(found)

    def _batch(self, pairs: Sequence[PairRows]) -> tuple[TokenBatch, tuple[np.ndarray, np.ndarray]]:
        rows = [whole(row) for row in [*(p.chosen for p in pairs), *(p.rejected for p in pairs)]]
        batch = padded(rows, pad=self.settings.pad, length=self.settings.length)
        return batch, (np.arange(len(rows)), np.array([row.positions - 1 for row in rows]))

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        chosen = rows_of_step(self.settings.seed, len(self.pairs), self.settings.batch_rows, number)
        return self._batch([self.pairs[i] for i in chosen])[0].arrays()

    def arrays(self) -> dict[str, np.ndarray]:
        return self.scorer.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.scorer.restore(arrays)

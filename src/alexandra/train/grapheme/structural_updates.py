"""Learning by the structural loss, alone as the seed has it or with cross-entropy beside it.

What the network predicts is read as graphs: while it is shown a derivation, its probabilities at the positions of one
graph are that graph's nodes; that the graph ends where it should (the next token is a step or the end) is the node that
does not exist. An edge to an operand that the shown graph has is there with the probability that the node before it
takes so many operands. Losses are per node. The gradient by the logits is torch's, the network's is the engine's, and
the update is that of backends/reference_optim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexandra.backends.base import Model
from alexandra.backends.reference_optim import clipped, num_moments, schedule_factor, update
from alexandra.ir.weights import WeightSet
from alexandra.objectives.structural import StructuralLoss
from alexandra.train.grapheme.tokens import EOS, PLACES, STEP, VOCABULARY, WORDS, arity
from alexandra.train.lm.fed import Optimization, run_arrays, run_parts

MOST_OPERANDS = 5
MOST_NODES = 96  # a longer graph has its cross-entropy only, or no loss


@dataclass(frozen=True)
class Shown:
    """A graph of a batch: where its first token is predicted (row, position), its tokens, the token that ends it."""

    row: int
    first: int
    tokens: tuple[int, ...]
    end: int


class StructuralUpdates:
    """What FedRun is to an objective of a backend; `cross_entropy` adds that loss per token."""

    def __init__(self, model: Model, optimization: Optimization, spec: StructuralLoss, cross_entropy: bool) -> None:
        self.model, self.optimization, self.spec, self.cross_entropy = model, optimization, spec, cross_entropy
        self.step = 0
        kinds = ("m", "v")[: num_moments(optimization.optimizer)]
        self._moments: dict[str, dict[str, np.ndarray]] = {
            kind: {name: np.zeros_like(array) for name, array in model.weights.items()} for kind in kinds
        }

    def update(self, inputs: Mapping[str, np.ndarray], targets: Any) -> float:
        """One optimiser step; the loss before it."""
        logits = self.model.forward(inputs)["logits"]
        loss, gradient = loss_of(logits, targets["classes"], targets["weights"], self.spec, self.cross_entropy)
        _, grads = self.model.backward(inputs, {"logits": gradient})
        weights = {name: np.array(array) for name, array in self.model.weights.items()}
        rule = self.optimization.optimizer
        rate = rule.lr * schedule_factor(self.optimization.schedule, self.step)
        for name, gradient_of in clipped(grads, self.optimization.clip_norm).items():
            moments = tuple(part[name] for part in self._moments.values())
            update(rule, rate, self.step, weights[name], gradient_of, moments)
        self.model.load(WeightSet({name: array.astype(np.float32) for name, array in weights.items()}))
        self.step += 1
        return loss

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights, moments and step, as "weights/<parameter>" and "run/<name>"."""
        found = {f"{kind}/{name}": array for kind, part in self._moments.items() for name, array in part.items()}
        return run_arrays(self.model.weights, {"step": np.array(self.step, np.int64), **found})

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `arrays()` was taken."""
        weights, moments = run_parts(arrays)
        self.model.load(weights)
        self.step = int(moments["step"])
        for kind, part in self._moments.items():
            for name in part:
                part[name] = np.array(moments[f"{kind}/{name}"])


def loss_of(
    logits_BTV: np.ndarray, targets_BT: np.ndarray, mask_BT: np.ndarray, spec: StructuralLoss, cross_entropy: bool
) -> tuple[float, np.ndarray]:
    """The loss of a batch, per node (and per token), and its gradient by the logits."""
    import torch

    from alexandra.backends.pytorch_structural import structural_losses

    z = torch.tensor(logits_BTV, requires_grad=True)
    log_p = torch.log_softmax(z, -1)
    groups: dict[int, list[Shown]] = {}
    for one in shown(targets_BT, mask_BT):
        groups.setdefault(len(one.tokens), []).append(one)
    total, count = 0.0 * z.sum(), 0
    for size, graphs in groups.items():
        if size > MOST_NODES:
            continue
        labels, edges, wanted, around = _predicted(log_p.exp(), graphs, torch)
        total = total + structural_losses(labels, edges, wanted, around, spec).sum()
        count += size * len(graphs)
    total = total / max(1, count)
    if cross_entropy:
        chosen = log_p.gather(2, torch.tensor(targets_BT)[:, :, None].long())[:, :, 0]
        mask = torch.tensor(mask_BT)
        total = total - (chosen * mask).sum() / mask.sum().clamp(min=1)
    (gradient,) = torch.autograd.grad(total, z)
    return float(total.detach()), gradient.numpy()


def shown(targets_BT: np.ndarray, mask_BT: np.ndarray) -> list[Shown]:
    """The graphs that are learnt, each with the position that predicts its first token."""
    found = []
    for row in range(len(targets_BT)):
        first, tokens = -1, list[int]()
        for place, (token, learnt) in enumerate(zip(targets_BT[row].tolist(), mask_BT[row].tolist(), strict=True)):
            if not learnt:
                first, tokens = -1, []
                continue
            if first < 0:
                first = place
            if token in (STEP, EOS):
                if tokens:
                    found.append(Shown(row, first, tuple(tokens), token))
                first, tokens = -1, []
            else:
                tokens.append(token)
    return found


def edges_of(tokens: tuple[int, ...]) -> np.ndarray:
    """[m, m, operands]: operators to their operands, digits to the next digit."""
    size = len(tokens)
    found = np.zeros((size, size, MOST_OPERANDS), np.float32)
    waiting: list[list[int]] = []  # node, operands so far, operands in all (-1: up to an end)
    for place, token in enumerate(tokens):
        if "@" in WORDS[token] and not WORDS[token].endswith("@0"):
            found[place - 1, place, 0] = 1
            continue
        while waiting and waiting[-1][1] == waiting[-1][2]:
            waiting.pop()
        if waiting:
            node = waiting[-1]
            found[node[0], place, min(node[1], MOST_OPERANDS - 1)] = 1
            node[1] += 1
            if WORDS[token] == "end":
                node[2] = node[1]
        if arity(token):
            waiting.append([place, 0, arity(token)])
    return found


def _takes() -> np.ndarray:
    """[V, operands]: whether a token may have an operand at that place."""
    found = np.zeros((VOCABULARY, MOST_OPERANDS), np.float32)
    for token, word in enumerate(WORDS):
        count = arity(token) if arity(token) >= 0 else MOST_OPERANDS
        found[token, :count] = 1
        if "@" in word and not word.endswith(f"@{PLACES - 1}"):
            found[token, 0] = 1
    return found


TAKES = _takes()


def _predicted(p_BTV: Any, graphs: list[Shown], torch: Any) -> tuple[Any, Any, Any, Any]:
    """Predictions and targets of graphs of one size, as structural_losses takes them."""
    size = len(graphs[0].tokens)
    rows = torch.tensor([one.row for one in graphs])[:, None]
    places = torch.tensor([one.first for one in graphs])[:, None] + torch.arange(size + 1)[None]
    p = p_BTV[rows, places]  # [graphs, size + 1, V]
    ends = torch.tensor([one.end for one in graphs])
    absent = p.gather(2, ends[:, None, None].expand(-1, size + 1, 1))
    real = torch.ones(VOCABULARY).index_fill(0, torch.tensor([STEP, EOS]), 0.0)
    labels = torch.cat([absent, p * real], 2)
    around = torch.tensor(np.stack([edges_of(one.tokens) for one in graphs]))
    takes = p @ torch.tensor(TAKES)  # [graphs, size + 1, operands]
    edges = torch.zeros(len(graphs), size + 1, size + 1, MOST_OPERANDS)
    edges[:, :size, :size] = around * takes[:, :size, None]
    return labels, edges, 1 + torch.tensor([one.tokens for one in graphs]), around

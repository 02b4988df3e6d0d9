"""Updates on rows of several lengths that cost what the rows hold: no padding, nothing twice, nothing for nothing.

A policy's update is a weighted cross-entropy, so a row whose weights are all 0 changes nothing, what stands behind its
last weight neither, and rows that say the same are one whose weights add up. In group-based reinforcement that is most
of a batch once answers agree. Rows are sorted by length and go through the native engine in blocks, each as wide as its
longest row (backends/native_parts.py). The sums are those of the batch as it came, in another order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from alexandra.backends.base import Arrays, Model
from alexandra.ir.graph import Graph
from alexandra.objectives.spec import Program, WeightedCrossEntropy
from alexandra.train.lm.fed import FedRun, Optimization

BLOCK, ROWS = 16, 32  # rows that the engine computes side by side, and that go through the network at once
FEWEST = 4  # what widths are multiples of, at least
# Layers whose value at a position depends on that position alone, or (attention) on it and those before.
POSITIONWISE = {
    *("input", "embedding", "position", "rope", "add", "mul", "scale", "dense", "linear", "output", "ffn"),
    *("rmsnorm", "layernorm", "softmax", "relu", "gelu", "gelu_tanh", "silu", "elu", "leaky_relu", "sigmoid"),
    *("tanh", "softplus"),
}
ATTENTION = ("attention", "sdpa")


def is_causal(graph: Graph) -> bool:
    """Whether no position of `graph` reads later ones or other rows, and sequences may have any length."""
    inputs = {node.name: node.attrs for node in graph.nodes if node.op == "input"}
    shapes = [attrs["shape"] for attrs in inputs.values()]
    if any(not isinstance(shape, tuple) or len(shape) != 1 or not isinstance(shape[0], str) for shape in shapes):
        return False
    for node in graph.nodes:
        if node.op in ATTENTION:
            others = node.inputs[1 if node.op == "attention" else 3 :]  # segments; a memory would be read whole
            if not node.attrs["causal"] or any(inputs.get(name, {}).get("dtype") != "int32" for name in others):
                return False
        elif node.op not in POSITIONWISE:
            return False
    return True


class RaggedRun(FedRun):
    """FedRun on the native engine for a network that `is_causal`, on the cross-entropy of policies."""

    def __init__(self, model: Model, optimization: Optimization) -> None:
        super().__init__(model, WeightedCrossEntropy(normalizer=1.0), optimization)

    def program(self, rows: int) -> Program:
        """What the engine is asked for on a batch of `rows`: in every step ROWS at once, or as many as `micro_rows`."""
        size = min(ROWS, self.optimization.micro_rows or ROWS)
        return replace(super().program(rows), batch_size=size, accumulate=-(-rows // size))

    def update(self, inputs: Arrays, targets: Any) -> float:
        """One optimiser step on these rows; the loss before it."""
        groups = grouped(inputs, targets)
        run: Any = self._runs.get(())
        if run is None:
            from alexandra.backends.native_parts import NativeParts  # the engine is there: it runs the model

            run = NativeParts(self.model, self.program(len(targets["weights"])), groups)  # type: ignore[arg-type]
            if self._restored:
                run.restore(self._restored)
            self._runs, self._restored = {(): run}, {}
        loss = float(run.advance(groups))
        self._tell(run)
        return loss


def grouped(inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> list[tuple[Arrays, Arrays]]:
    """Inputs and targets [B, T] as rows of a few widths, the narrowest first; at least one row, if without weight.

    Every position keeps its weight; equal rows are one, and weights behind which nothing counts are left away.
    """
    weights_BT = np.asarray(targets["weights"], np.float32)
    classes_BT = np.asarray(targets["classes"])
    rows, kind, lengths = _distinct([*inputs.values(), classes_BT], weights_BT)
    summed_KT = np.zeros((len(lengths), weights_BT.shape[1]), np.float32)
    np.add.at(summed_KT, kind, weights_BT[rows])
    firsts = rows[np.unique(kind, return_index=True)[1]]
    order = np.argsort(lengths, kind="stable")
    found: dict[int, list[int]] = {}
    for first in range(0, len(order), BLOCK):
        block = order[first : first + BLOCK].tolist()
        width = min(weights_BT.shape[1], _rounded(int(lengths[block[-1]])))
        found.setdefault(width, []).extend(block)
    groups: list[tuple[Arrays, Arrays]] = []
    for width, own in found.items():
        cut = (firsts[own], slice(width))
        some: Arrays = {name: np.ascontiguousarray(array[cut]) for name, array in inputs.items()}
        weights = np.ascontiguousarray(summed_KT[own, :width])
        groups.append((some, {"classes": np.ascontiguousarray(classes_BT[cut]), "weights": weights}))
    return groups


def _rounded(length: int) -> int:
    """A width for rows of this length, at most an eighth more (FEWEST - 1 for short ones): few plans serve all."""
    step = max(FEWEST, 1 << max(0, length.bit_length() - 4))
    return step * math.ceil(length / step)


def _distinct(arrays: list[np.ndarray], weights_BT: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows that have weight, which kind each is of (numbered as they first come), and how long each kind is."""
    counted = weights_BT != 0
    lengths = np.where(counted.any(1), weights_BT.shape[1] - np.argmax(counted[:, ::-1], axis=1), 0)
    rows = np.flatnonzero(lengths) if lengths.any() else np.zeros(1, np.int64)
    kinds: dict[tuple[bytes, ...], int] = {}
    found, sizes = [], []
    for row in rows.tolist():
        length = max(1, int(lengths[row]))
        key = tuple(np.ascontiguousarray(array[row, :length]).tobytes() for array in arrays)
        if key not in kinds:
            sizes.append(length)
        found.append(kinds.setdefault(key, len(kinds)))
    return rows, np.array(found), np.array(sizes)

"""The noise of a training step, one definition for every backend: dropout's masks and the jitter of gates.

Each is a pure function of (seed, node, step): word index = row_in_update * width + column. Multiply by it.
"""

from __future__ import annotations

from math import prod

import numpy as np

from alexandra.ir.graph import Graph, Node
from alexandra.ir.ops.rules import number
from alexandra.rng import derive


def noisy(graph: Graph) -> list[Node]:
    """The nodes of a primitive graph that multiply by noise in training."""
    return [node for node in graph.nodes if node.op == "dropout" or (node.op == "top_k_gate" and node.attrs["jitter"])]


def noise(seed: int, node: Node, place: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Dropout: 1 / (1 - rate) where uniform >= rate, else 0. A gate: uniform in [1 - jitter, 1 + jitter). float64.

    `place` is the step and the first of these rows within its update.
    """
    (step, first), width = place, prod(shape[1:])
    is_dropout = node.op == "dropout"
    stream = derive(seed, "dropout" if is_dropout else "jitter", node.name)
    uniform = stream.at(step).uniform(prod(shape), first * width).reshape(shape)
    if is_dropout:
        rate = number(node.attrs["rate"])
        return np.where(uniform >= rate, 1.0 / (1.0 - rate), 0.0)
    return np.asarray(1.0 + number(node.attrs["jitter"]) * (2.0 * uniform - 1.0))

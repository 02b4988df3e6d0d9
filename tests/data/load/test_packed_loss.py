"""Training on packed rows gives the losses of training on the documents one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import alexandra as ax
from alexandra.data.load.loader import token_rows
from alexandra.data.tokens.pack import pack
from alexandra.objectives.spec import WeightedCrossEntropy
from alexandra.rng import derive

NETWORK = """
NETWORK packed
BEGIN
  LET vocabulary = 23;
  LET width = 8;
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER INPUT name=segments shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab=vocabulary size=width
  LAYER ATTENTION name=attention heads=2 rope=TRUE
  LAYER OUTPUT name=logits size=vocabulary
  CONNECT tokens -> embed -> attention -> logits
  CONNECT segments -> attention
END
"""


def filled(rows: Sequence[Sequence[np.ndarray]], length: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Rows of documents as the network's inputs and targets."""
    tokens, segments = np.zeros((2, len(rows), length), np.int32)
    for number, row in enumerate(rows):
        flat = np.concatenate(row)
        tokens[number, : len(flat)] = flat
        segments[number, : len(flat)] = np.repeat(np.arange(1, len(row) + 1), [len(one) for one in row])
    batch = token_rows(tokens, segments)
    inputs = {"tokens": batch.tokens, "segments": batch.segments}
    return inputs, {"classes": batch.targets, "weights": batch.mask}


def packed_and_alone(documents: Sequence[np.ndarray], length: int) -> list[list[list[np.ndarray]]]:
    """The rows of the documents packed, and of each in a row of its own."""
    packing = pack(np.array([len(one) for one in documents]), length)
    return [[[documents[piece.document] for piece in row] for row in packing.rows], [[one] for one in documents]]


def test_packed_and_unpacked_losses_agree() -> None:
    documents = [derive(0, "doc", i).below(23, 3 + i % 9) for i in range(20)]
    model = ax.bind(ax.compile(NETWORK), backend="reference", seed=0)
    losses, gradients = [], []
    for rows in packed_and_alone(documents, 12):
        loss, gradient = model.loss_and_grads(*filled(rows, 12), WeightedCrossEntropy(normalizer="weights"))
        losses.append(loss)
        gradients.append(gradient)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for name in gradients[0]:
        assert np.allclose(gradients[0][name], gradients[1][name], atol=1e-5)

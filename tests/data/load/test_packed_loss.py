"""Training on packed rows gives the losses of training on the documents one by one."""

from __future__ import annotations

import numpy as np
import pytest

import alexandra as ax
from alexandra.data.load.loader import token_rows
from alexandra.data.tokens.pack import pack
from alexandra.objectives.spec import WeightedCrossEntropy
from alexandra.rng import derive

VOCABULARY, LENGTH = 23, 12
NETWORK = """
NETWORK packed
BEGIN
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER INPUT name=segments shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab=23 size=8
  LAYER ATTENTION name=attention heads=2 rope=TRUE
  LAYER OUTPUT name=logits size=23
  CONNECT tokens -> embed -> attention -> logits
  CONNECT segments -> attention
END
"""


def test_packed_and_unpacked_losses_agree() -> None:
    documents = [derive(0, "doc", i).below(VOCABULARY, 3 + i % 9) for i in range(20)]
    packing = pack(np.array([len(one) for one in documents]), LENGTH)
    tokens = np.zeros((len(packing.rows), LENGTH), np.int32)
    segments = np.zeros_like(tokens)
    for number, row in enumerate(packing.rows):
        place = 0
        for segment, piece in enumerate(row, 1):
            tokens[number, place : place + piece.length] = documents[piece.document]
            segments[number, place : place + piece.length] = segment
            place += piece.length
    alone = np.zeros((len(documents), LENGTH), np.int32)
    alone_segments = np.zeros_like(alone)
    for number, document in enumerate(documents):
        alone[number, : len(document)] = document
        alone_segments[number, : len(document)] = 1
    model = ax.bind(ax.compile(NETWORK), backend="reference", seed=0)
    losses, gradients = [], []
    for one, two in ((tokens, segments), (alone, alone_segments)):
        batch = token_rows(one, two)
        loss, gradient = model.loss_and_grads(
            {"tokens": batch.tokens, "segments": batch.segments},
            {"classes": batch.targets, "weights": batch.mask},
            WeightedCrossEntropy(normalizer="weights"),
        )
        losses.append(loss)
        gradients.append(gradient)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for name in gradients[0]:
        assert np.allclose(gradients[0][name], gradients[1][name], atol=1e-5)

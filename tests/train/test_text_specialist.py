"""A language model is measured on held-out text position by position, kept, loaded to the byte and asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tokenizers")

import alexandra as ax
from alexandra.api import operations
from alexandra.data.tokens.tokenizer import END, TokenizerSettings, train
from alexandra.errors import DataError, StorageError
from alexandra.objectives.spec import CrossEntropy
from alexandra.registry.store import Registry
from alexandra.serve.engine import read_specialist
from alexandra.tables import Table
from alexandra.train.text_specialist import TextSpecialist, measured, outcomes_of, register

TEXT = "the cat sat on the mat and the dog sat on the cat. " * 30
NETWORK = """
NETWORK tiny
BEGIN
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab=280 size=16
  LAYER OUTPUT name=logits size=280
  CONNECT tokens -> embed -> logits
END
"""


@pytest.fixture(scope="module")
def specialist() -> TextSpecialist:
    """A bigram model: the embedding of a token decides the next one."""
    tokenizer = train([TEXT], TokenizerSettings(vocabulary=280))
    model = ax.bind(ax.compile(NETWORK), backend="native", seed=0)
    made = TextSpecialist("tiny", tokenizer, END, model, 16, {"seed": 3, "data_hash": "d"}, max_tokens=5)
    tokens = np.concatenate([[made.encoder.end], *made.encoder.encode([TEXT])]).astype(np.int64)
    rows = (len(tokens) - 1) // 16
    windows, targets = tokens[: rows * 16].reshape(rows, 16), tokens[1 : rows * 16 + 1].reshape(rows, 16)
    model.fit({"tokens": windows.astype(np.int32)}, targets, objective=CrossEntropy(), epochs=60, batch_size=4, seed=0)
    return made


def test_every_item_is_a_distinct_beginning_with_the_token_that_follows_it(specialist: TextSpecialist) -> None:
    outcomes = outcomes_of(specialist, [TEXT], limit=50)
    assert len(set(outcomes.keys.tolist())) == outcomes.n <= 50
    tokens = np.concatenate([[specialist.encoder.end], *specialist.encoder.encode([TEXT])])
    alone = specialist.next_token(tokens[None, :16])[0]
    np.testing.assert_allclose(outcomes.predictions[0], alone[0], atol=1e-12)
    assert outcomes.targets[0] == tokens[1]
    with pytest.raises(DataError, match="less than one context of 16"):
        outcomes_of(specialist, ["the"])


def test_a_trained_model_beats_the_most_frequent_token_and_a_shuffled_one_does_not(specialist: TextSpecialist) -> None:
    card = measured(specialist, [TEXT], "cats")
    most = np.bincount(card.outcomes.targets).max() / card.n
    assert card.metrics["accuracy"].low > most
    assert card.metrics["log_loss"].value < np.log(280)
    untrained = ax.bind(specialist.graph, backend="native", seed=9)
    other = TextSpecialist("untrained", specialist.tokenizer, END, untrained, 16, {})
    assert measured(other, [TEXT], "cats").metrics["accuracy"].high < most


def test_it_is_registered_with_its_check_and_answers_through_the_oracle(
    specialist: TextSpecialist, tmp_path: Path
) -> None:
    registry = Registry(tmp_path)
    version = register(registry, specialist, measured(specialist, [TEXT], "cats"), baseline=0.2)
    assert version.metric == "accuracy" and version.lineage["check"]["passed"] is True
    reply = operations.ask("cats", question='{"text": "the cat sat"}', stage="experiment", registry=registry)
    assert str(reply.answers[0].value).startswith(" on the")
    assert reply.answers[0].verdict.startswith("experiment; accuracy")
    loaded = ax.load("cats:1", registry=registry)
    assert loaded.predict([{"text": "the cat sat"}]).tolist() == [reply.answers[0].value]
    with pytest.raises(DataError, match="has no column 'text'"):
        loaded.predict([{"words": "the"}])


def test_its_files_make_it_again(specialist: TextSpecialist) -> None:
    blobs = specialist.to_blobs()
    again = read_specialist(blobs)
    assert isinstance(again, TextSpecialist) and again.to_blobs() == blobs
    rows = Table.from_any([{"text": "the dog"}])
    assert again.predict(rows).tolist() == specialist.predict(rows).tolist()
    with pytest.raises(StorageError, match="no 'tokenizer.json'"):
        TextSpecialist.from_blobs({name: blob for name, blob in blobs.items() if name != "tokenizer.json"})
    with pytest.raises(DataError, match="answers texts"):
        specialist.predict_raw(rows)

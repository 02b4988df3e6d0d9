"""Language identification, the n-gram model and the quality classifier."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from alexandra.data.filters.language import MERGED, LanguageFilter
from alexandra.data.filters.ngrams import NgramModel, _hash_rows, _identify, _lookup, tokens
from alexandra.data.filters.quality import QualityModel
from alexandra.errors import DataError, StorageError

REFERENCE = [
    "the cat sat on the mat .\nthe dog sat on the cat .",
    "a cat and a dog ran to the mat .\nthe mat was red .",
] * 3


def test_languages_of_texts_of_a_hundred_characters(real_data: Path) -> None:
    pytest.importorskip("py3langid")
    from alexandra.data.filters.language import language_of

    right = total = 0
    with gzip.open(real_data / "languages/udhr_55_languages.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            text = " ".join(row["text"].split())
            for start in range(0, len(text) - 100, 500):
                right += language_of(text[start : start + 100])[0] == MERGED.get(row["lang"], row["lang"])
                total += 1
    assert total > 700 and right / total >= 0.98


def test_unwanted_and_unsure_languages_are_named() -> None:
    rule = LanguageFilter(languages=("en", "nb"))
    assert [rule.reason(*one) for one in (("en", 0.9), ("no", 0.9), ("de", 0.99), ("en", 0.2))] == [
        "", "", "other_language", "unsure_language"
    ]  # fmt: skip


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_after_any_context_sum_to_one(order: int) -> None:
    model = NgramModel.train(REFERENCE, order)
    words = np.r_[np.uint64(0), np.arange(2, len(model.words) + 2, dtype=np.uint64)]
    for context in ("the", "sat on", "never seen words", "the cat sat on"):
        line = _identify(tokens(context), model.words)[max(0, len(tokens(context)) - order + 1) :] if order > 1 else []
        rows = np.array([[*line, word] for word in words], dtype=np.uint64)
        total, done = np.zeros(len(rows)), np.zeros(len(rows), bool)
        for n in range(rows.shape[1], 0, -1):
            left = np.flatnonzero(~done)
            window = rows[left][:, rows.shape[1] - n :]
            found, where = _lookup(model.hashes[n - 1], _hash_rows(window))
            total[left[found]] += model.log_probabilities[n - 1][where[found]]
            done[left[found]] = True
            if n > 1:
                known, place = _lookup(model.hashes[n - 2], _hash_rows(window[:, :-1]))
                missed = ~found & known
                total[left[missed]] += model.back_offs[n - 2][place[missed]]
        assert done.all() and (10**total).sum() == pytest.approx(1.0, abs=1e-5)


def test_reference_like_text_scores_better_than_shuffled_and_strange_text(tmp_path: Path) -> None:
    model = NgramModel.train(REFERENCE, 3)
    like, shuffled, strange = "the dog sat on the mat .", "mat the . sat dog on the", "qwer asdf zxcv"
    assert model.perplexity(like) < min(model.perplexity(shuffled), model.perplexity(strange))
    assert model.perplexity("") == float("inf")
    model.save(tmp_path / "m.safetensors")
    assert NgramModel.load(tmp_path / "m.safetensors").perplexity(like) == model.perplexity(like)
    with pytest.raises(DataError, match="reference text of an n-gram model is empty"):
        NgramModel.train(["", "\n"])


def test_a_quality_classifier_learns_labels(tmp_path: Path) -> None:
    good = [f"the report number {i} explains how rivers carry sand" for i in range(40)]
    bad = [f"click here to win prize {i} now buy cheap" for i in range(40)]
    model = QualityModel.train(good + bad, [True] * 40 + [False] * 40)
    scores = model.scores(["rivers explain the sand report", "win cheap prize click"])
    assert scores[0] > 0.7 > 0.3 > scores[1]
    model.save(tmp_path / "q.safetensors")
    assert QualityModel.load(tmp_path / "q.safetensors").scores(["rivers"]) == model.scores(["rivers"])
    with pytest.raises(StorageError, match="not an n-gram model"):
        NgramModel.load(tmp_path / "q.safetensors")
    with pytest.raises(DataError, match="both labels"):
        QualityModel.train(good, [True] * 40)

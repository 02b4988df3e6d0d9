"""Fine-tuned scorers: parts are disjoint by prompt, the recipe learns, equal seeds give equal bytes, errors say why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexandra.errors import VerifierError
from alexandra.train.scorer import FAMILIES, Recipe, Size, fine_tune, small, split
from alexandra.verifiers.scorers.ngrams import SEPARATOR

TINY = Size(hidden=32, length=32, vocabulary=300)


def labelled(n: int) -> tuple[list[str], list[int]]:
    """Answers with "sky" to prompts about the sky are right, others are wrong."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n).tolist()
    fillers = rng.choice(["well", "so", "then", "indeed", "there"], (n, 4))
    return [
        f"what is above {i}{SEPARATOR}{' '.join(words)} {'sky' if label else 'floor'}"
        for i, (words, label) in enumerate(zip(fillers, labels, strict=True))
    ], labels


def test_claims_about_one_prompt_lie_in_one_part() -> None:
    texts = [f"prompt {i // 5}{SEPARATOR}answer {i}" for i in range(2000)]
    parts = split(texts)
    prompts = [{texts[i].partition(SEPARATOR)[0] for i in part} for part in (parts.fit, parts.hold, parts.test)]
    assert sum(map(len, prompts)) == 400 and len(set.union(*prompts)) == 400
    assert len(parts.fit) + len(parts.hold) + len(parts.test) == 2000
    assert 0.6 < len(parts.fit) / 2000 < 0.8 and 0.05 < len(parts.hold) / 2000 < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_recipe_learns_from_random_weights_and_stores_what_it_measured(family: str, tmp_path: Path) -> None:
    for name in ("torch", "transformers", "onnx", "onnxruntime"):
        pytest.importorskip(name)
    from alexandra.api.verify_scorer import train_scorer
    from alexandra.verifiers.scorers import folder

    texts, labels = labelled(500)
    first = small(family, texts, tmp_path / "first", TINY)
    recipe = Recipe(epochs=6, learning_rate=3e-3, max_length=32)
    made = train_scorer("contextual", first, texts, labels, tmp_path / "scorer", recipe)
    card = folder.load(tmp_path / "scorer").card
    assert card == made.card and card["n"] == len(split(texts).test) and card["fitted_on"] == len(split(texts).fit)
    assert card["accuracy"] > 0.9 > 0.65 > card["floor"] and card["precision"] > 0.9 and card["recall"] > 0.9
    assert card["int8"]["accuracy"] > 0.9


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes_and_shuffled_labels_teach_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    texts, labels = labelled(300)
    first = small("bert", texts, tmp_path / "first", TINY)
    recipe = Recipe(epochs=2, learning_rate=3e-3, max_length=32)
    for name in ("a", "b"):
        fine_tune(first, tmp_path / name, texts, labels, recipe)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    shuffled = np.random.default_rng(1).permutation(labels).tolist()
    assert min(fine_tune(first, tmp_path / "c", texts, shuffled, recipe).losses) > 0.6


def test_what_cannot_be_tuned_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with pytest.raises(VerifierError, match="unknown family 'bart'"):
        small("bart", ["a"], tmp_path / "a")
    texts, labels = labelled(100)
    with pytest.raises(VerifierError, match="100 texts and 99 labels"):
        fine_tune(tmp_path, tmp_path / "b", texts, labels[:-1])
    with pytest.raises(VerifierError, match="100 labels of 1 kinds"):
        fine_tune(tmp_path, tmp_path / "b", texts, [1] * 100)
    transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(VerifierError, match="is a 'gpt2'"):
        fine_tune(tmp_path / "gpt2", tmp_path / "b", texts, labels)

"""Scorers: a folder in, calibrated probabilities out, in batches; what was measured is stored and bounds its say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alexandra.errors import VerifierError
from alexandra.records import Claim
from alexandra.verifiers.base import run
from alexandra.verifiers.contextual import contextual
from alexandra.verifiers.scorers import folder, ngrams, recipe
from alexandra.verifiers.tool import SOFT

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def labelled(n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Answers with "sky" to prompts about the sky are right, others are wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    fillers = rng.choice(["well", "so", "then", "indeed", "there"], (n, 4))
    texts = [
        f"what is above {i}{ngrams.SEPARATOR}{' '.join(words)} {'sky' if label else 'floor'}"
        for i, (words, label) in enumerate(zip(fillers, labels, strict=True))
    ]
    return texts, labels


def test_the_recipe_learns_and_stores_what_it_measured(tmp_path: Path) -> None:
    texts, labels = labelled(200)
    made = recipe.make(tmp_path / "s", "contextual", texts, labels)
    loaded = folder.load(tmp_path / "s")
    assert loaded.card == made.card and loaded.card["n"] == 200
    assert loaded.card["accuracy"] > 0.95 > 0.6 > loaded.card["floor"] and loaded.card["precision"] > 0.95
    held, truth = labelled(60, 1)
    found = loaded.probabilities(held)
    assert ((found > 0.5) == truth).mean() > 0.95
    assert np.array_equal(found, np.concatenate([loaded.probabilities([text]) for text in held]).round(12)) or (
        np.abs(found - np.concatenate([loaded.probabilities([text]) for text in held])).max() < 1e-6
    )


def test_shuffled_labels_score_at_chance() -> None:
    texts, labels = labelled(200)
    shuffled = np.random.default_rng(5).permutation(labels)
    assert 0.3 < recipe.measured(texts, shuffled)["auc"] < 0.7


def test_claims_about_one_prompt_stay_in_one_fold() -> None:
    """A prompt's label is learnt by heart from its own copies; across folds that must not help."""
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 40), 5)
    texts = [f"prompt {i // 5} word{i // 5}{ngrams.SEPARATOR}same answer" for i in range(200)]
    assert recipe.measured(texts, labels)["auc"] < 0.7


def test_a_framework_has_a_scorer_beside_its_tools_and_works_without(tmp_path: Path) -> None:
    texts, labels = labelled(200)
    made = recipe.make(tmp_path / "s", "contextual", texts, labels)
    claim = Claim("text", "well so then sky", {"prompt": "what is above 3"})
    (alone,) = run(contextual(), [Claim("text", "well so then sky")])
    assert alone.score is None
    (verdict,) = run(folder.with_scorer(contextual(), made), [Claim("text", "well so then sky")])
    (part,) = verdict.parts
    assert part.verifier == "contextual_scorer" and verdict.confidence <= SOFT and not verdict.hard
    assert (
        "precision" in part.reason and "on 200 claims" in part.reason and part.evidence[0].version.startswith("ngrams")
    )
    (right,) = folder.tool(made).verify([claim])
    (wrong,) = folder.tool(made).verify([replace(claim, content="well so then floor")])
    assert right.score > 0.8 > 0.2 > wrong.score


def test_a_scorer_that_was_not_measured_abstains(tmp_path: Path) -> None:
    made = recipe.make(tmp_path / "s", "contextual", *labelled(200))
    (verdict,) = folder.tool(replace(made, card={})).verify([Claim("text", "sky")])
    assert verdict.score is None and "measured on 0 claims" in verdict.reason


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerifierError, match="no scorer in"):
        folder.load(tmp_path)
    made = recipe.make(tmp_path / "s", "contextual", *labelled(200))
    with pytest.raises(VerifierError, match="made for 'contextual', not for 'utility'"):
        from alexandra.verifiers.utility import utility

        folder.with_scorer(utility(), made)
    with pytest.raises(VerifierError, match="too few to fit"):
        recipe.make(tmp_path / "t", "contextual", ["a"], np.array([1]))
    (tmp_path / "s" / "model.onnx").unlink()
    with pytest.raises(VerifierError, match="is missing"):
        folder.load(tmp_path / "s")


TINY = {
    "bert": {"max_position_embeddings": 130, "intermediate_size": 64},
    "roberta": {"max_position_embeddings": 130, "intermediate_size": 64},
    "albert": {"max_position_embeddings": 130, "intermediate_size": 64, "embedding_size": 16},
    "deberta-v2": {"max_position_embeddings": 130, "intermediate_size": 64, "relative_attention": True,
                   "pos_att_type": ["p2c", "c2p"]},
    "longformer": {"max_position_embeddings": 130, "intermediate_size": 64, "attention_window": [4, 4],
                   "sep_token_id": 1},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", list(TINY))
def test_every_family_is_exported_and_answers_as_torch_does(family: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from alexandra.api.verify_scorer import export_scorer, measure

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "sky", "floor", "well", "so", "then", "?"])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4} if family != "t5" else {}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        family, vocab_size=64, num_labels=2, pad_token_id=0, eos_token_id=1, **shape, **TINY[family]
    )
    network = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    network.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    export_scorer(tmp_path / "model", tmp_path / "scorer", "contextual", max_length=32)
    scorer = folder.load(tmp_path / "scorer")
    texts = ["well so then sky", "so floor", "sky", "well well well so so then ? floor sky sky", "floor"]
    found = scorer.raw(texts)
    for text, probability in zip(texts, found, strict=True):
        ids = torch.tensor([made.encode(text).ids])
        with torch.no_grad():
            expected = network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.softmax(-1)[0, 1]
        assert probability == pytest.approx(float(expected), abs=2e-4), text
    assert len({round(float(p), 6) for p in found}) > 1
    small = folder.load(tmp_path / "scorer", int8=True)
    assert np.abs(small.raw(texts) - found).max() < 0.1
    card = measure(tmp_path / "scorer", texts * 30, [i % 2 == 0 for i in range(150)]).card
    assert 50 < card["n"] < 100 and 0 <= card["precision"] <= 1 and folder.load(tmp_path / "scorer").card == card
    both = measure(tmp_path / "scorer", texts * 30, [i % 2 == 0 for i in range(150)], int8=True).card
    assert {name: value for name, value in both.items() if name != "int8"} == card and both["int8"]["n"] == card["n"]

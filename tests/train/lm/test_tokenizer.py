"""Tokenizers: exact both ways, special tokens only where rendering puts them, clear refusals."""

import json
from pathlib import Path

import pytest

from alexandra.errors import DataError, StorageError
from alexandra.train.lm.tokenizer import CharTokenizer, load_tokenizer

ALPHABET = "abc <>pades\n+="


def test_characters_go_both_ways_and_specials_have_the_first_numbers() -> None:
    tokenizer = CharTokenizer("".join(dict.fromkeys(ALPHABET)))
    assert tokenizer.decode(tokenizer.encode("a+b = c\n")) == "a+b = c\n"
    assert (tokenizer.pad, tokenizer.bos, tokenizer.eos) == (0, 1, 2)
    assert min(tokenizer.encode("abc")) >= 3 and tokenizer.vocab_size == 3 + len(set(ALPHABET))


def test_the_spelling_of_a_special_token_in_user_text_is_plain_text() -> None:
    tokenizer = CharTokenizer("".join(dict.fromkeys("<pad>eos")))
    tokens = tokenizer.encode("<eos>")
    assert tokenizer.eos not in tokens and tokenizer.decode(tokens) == "<eos>"


def test_a_character_outside_the_alphabet_is_named_with_its_place() -> None:
    with pytest.raises(DataError, match="character 'z' at position 2"):
        CharTokenizer("abc").encode("abz")
    with pytest.raises(DataError, match="twice"):
        CharTokenizer("aba")


def test_a_tokenizer_is_saved_and_read_again(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.of("hello wörld")
    tokenizer.save(tmp_path / "characters.json")
    assert load_tokenizer(tmp_path) == tokenizer == load_tokenizer(tmp_path / "characters.json")
    with pytest.raises(StorageError, match="no file"):
        load_tokenizer(tmp_path / "nowhere")


def test_a_hugging_face_tokenizer_keeps_special_tokens_out_of_user_text(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>", "<|pad|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(["the cat sat on the mat"] * 10, trainer)
    inner.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="which token ends a text"):
        load_tokenizer(tmp_path)
    names = {"eos_token": "<|end|>", "pad_token": {"content": "<|pad|>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.eos, tokenizer.pad) == (0, 1)
    for text in ("the cat", "a <|end|> b", "<|end|><|pad|>", "ünï"):
        tokens = tokenizer.encode(text)
        assert not {0, 1} & set(tokens) and tokenizer.decode(tokens) == text
    assert tokenizer.special("<|end|>") == 0 and tokenizer.special("<|no|>") is None

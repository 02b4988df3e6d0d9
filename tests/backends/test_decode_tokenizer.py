"""Tokenizers against what others make of the same strings."""

import gzip
import json
from pathlib import Path

import pytest

from alexandra.backends.decode_tokenizer import tokenizer_from_gguf, tokenizer_from_hf
from alexandra.backends.gguf_export import plain_vocabulary
from alexandra.errors import BackendError


def test_awkward_strings_become_the_tokens_that_llama_cpp_expects(real_data: Path, tmp_path: Path) -> None:
    with gzip.open(real_data / "tokenizer" / "gpt-neox-tokenizer.json.gz") as file:
        (tmp_path / "tokenizer.json").write_bytes(file.read())
    tokenizer = tokenizer_from_hf(tmp_path)
    assert tokenizer is not None
    cases = json.loads((real_data / "tokenizer" / "cases_10.json").read_text())
    for case in cases["cases"] if isinstance(cases, dict) else cases:
        text, ids = (case["text"], case["ids"]) if isinstance(case, dict) else case
        assert tokenizer.encode(text) == ids, text
        assert tokenizer.decode(ids) == text


def test_sentencepiece_merges_the_best_score_first_and_falls_back_to_bytes() -> None:
    names = [b"<unk>", b"<s>", b"</s>", *[f"<0x{i:02X}>".encode() for i in range(256)]]
    extra = [("\u2581", -1.0), ("a", -2.0), ("b", -3.0), ("c", -4.0), ("ab", -5.0), ("bc", -4.5), ("\u2581a", -9.0)]
    made = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": names + [name.encode() for name, _ in extra],
        "tokenizer.ggml.scores": [0.0] * 259 + [score for _, score in extra],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(extra),
        "tokenizer.ggml.bos_token_id": 1,
    }
    tokenizer = tokenizer_from_gguf(made)
    assert tokenizer is not None
    spelled = [tokenizer.pieces[i] for i in tokenizer.encode("abc", begin=False)]
    assert spelled == [b" a", b"bc"]  # bc (-4.5) goes before ab (-5)
    ids = tokenizer.encode("a\u00e9 b")
    assert ids[0] == 1 and tokenizer.decode(ids[1:]) == " a\u00e9 b"
    assert tokenizer.encode("a</s>", special=True)[-1] == 2
    assert tokenizer.encode("a</s>")[-1] != 2


def test_the_plain_vocabulary_spells_any_text() -> None:
    tokenizer = tokenizer_from_gguf(plain_vocabulary(300))
    assert tokenizer is not None
    text = "na\u00efve \u4f60\u597d\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_unknown_kinds_are_refused_with_those_that_are_known() -> None:
    with pytest.raises(BackendError, match=r"(?s)'bert' is not known.*gpt2, llama"):
        tokenizer_from_gguf({"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": [b"a"]})
    bad = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": [b"a"], "tokenizer.ggml.pre": "odd"}
    with pytest.raises(BackendError, match=r"(?s)pre-tokenizer 'odd' is not known.*qwen2"):
        tokenizer_from_gguf(bad)
    assert tokenizer_from_gguf({}) is None

"""Byte-level BPE (Sennrich et al., 2016; bytes as in GPT-2, 2019), trained here or brought along in a folder.

The code variant keeps indentation in one token a level or more, splits identifiers at case changes and underscores and
numbers into digits. Training reads texts in the order given and has no other input, so equal texts give equal files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexandra import storage
from alexandra.config import Config
from alexandra.errors import ConfigError, DataError, missing_extra

END = "<|endoftext|>"
PROSE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
CODE = (
    r"\n[ \t]*|[ \t]+(?= )| ?\p{Lu}?\p{Ll}+| ?\p{Lu}+(?!\p{Ll})| ?[\p{L}]+|_+|\p{N}| ?[^\s\p{L}\p{N}_]{1,3}|[ \t]+|\s+"
)
KINDS = {"prose": PROSE, "code": CODE}


class TokenizerSettings(Config):
    """train a tokenizer of `vocabulary` entries on the kept text, up to `characters`, or take the one in `folder`."""

    folder: str = ""
    kind: str = "prose"
    vocabulary: int = 32_000
    min_frequency: int = 2
    characters: int = 200_000_000
    end: str = END


def _library() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are processes already
    try:
        import tokenizers
    except ImportError as error:
        raise missing_extra("training and using tokenizers", "data") from error
    return tokenizers


def train(texts: Iterable[str], settings: TokenizerSettings) -> bytes:
    """The tokenizer.json of a byte-level BPE; every text can be encoded and decoded to the byte."""
    if settings.kind not in KINDS:
        raise ConfigError(f"unknown kind of tokenizer {settings.kind!r}", hint="known: code, prose.")
    if settings.vocabulary < 257:
        raise ConfigError(f"a byte-level vocabulary needs at least 257 entries, not {settings.vocabulary}")
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    split = library.pre_tokenizers.Split(library.Regex(KINDS[settings.kind]), "isolated")
    level = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=settings.min_frequency,
        special_tokens=[settings.end],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_cut(texts, settings.characters), trainer)
    return (str(tokenizer.to_str(pretty=False)) + "\n").encode()


def _cut(texts: Iterable[str], characters: int) -> Iterable[str]:
    left = characters
    for text in texts:
        if left <= 0:
            return
        yield text[:left]
        left -= len(text)


def folder_files(tokenizer_json: bytes, end: str) -> dict[str, bytes]:
    """The files of a tokenizer folder that Hugging Face's libraries and ours open."""
    names = {"eos_token": end, "pad_token": end, "tokenizer_class": "PreTrainedTokenizerFast"}
    return {"tokenizer.json": tokenizer_json, "tokenizer_config.json": storage.json_bytes(names)}


class Encoder:
    """A tokenizer.json ready to encode; `end` is the number of the token that ends a document."""

    def __init__(self, tokenizer_json: bytes, end: str = END) -> None:
        self._inner = _library().Tokenizer.from_str(tokenizer_json.decode("utf-8"))
        self._inner.no_truncation()
        self._inner.no_padding()
        self._inner.encode_special_tokens = True  # one inside a text is plain text
        number = self._inner.token_to_id(end)
        if number is None:
            raise DataError(f"the tokenizer has no token {end!r}", hint="name its end token: [tokenizer] end = ...")
        self.end: int = number
        self.vocabulary: int = self._inner.get_vocab_size(with_added_tokens=True)

    @classmethod
    def from_folder(cls, folder: Path, end: str = "") -> Encoder:
        """A Hugging Face tokenizer folder; its end token is in its configuration unless it is given."""
        config = folder / "tokenizer_config.json"
        named = storage.read_json(config).get("eos_token") if config.exists() else None
        name = named.get("content") if isinstance(named, dict) else named
        return cls(storage.read_bytes(folder / "tokenizer.json"), end or name or END)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<u2") if self.vocabulary <= 1 << 16 else np.dtype("<u4")

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token numbers of each text, with the end token behind; special tokens inside a text are plain text."""
        texts = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self._inner.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array([*one.ids, self.end], dtype=self.dtype) for one in encoded]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._inner.decode(list(tokens), skip_special_tokens=True))

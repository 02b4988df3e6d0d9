"""Tokenizers round-trip, mixtures keep their shares, packing loses nothing, shards hold what was packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.data.tokens.mix import MixSettings, mix
from alexandra.data.tokens.pack import pack
from alexandra.data.tokens.shards import (
    FORMATS,
    check_shards,
    publish_manifest,
    publish_shard,
    read_manifest,
    read_shard,
)
from alexandra.data.tokens.tokenizer import Encoder, TokenizerSettings, folder_files, train
from alexandra.errors import ConfigError, DataError, StorageError
from alexandra.rng import derive

TEXTS = [
    "The harbour was quiet that morning.",
    "The boats lay in their places.",
    "A morning in the harbour, quiet boats.",
] * 5
CODE = [
    "def harbour_name(self):\n    return self.harbourName2\n",
    "class HarbourList:\n    def __init__(self):\n        pass\n",
] * 5


@pytest.mark.parametrize(("kind", "texts"), [("prose", TEXTS), ("code", CODE)])
def test_every_text_decodes_to_itself(kind: str, texts: list[str]) -> None:
    pytest.importorskip("tokenizers")
    made = train(texts, TokenizerSettings(kind=kind, vocabulary=400))
    assert made == train(texts, TokenizerSettings(kind=kind, vocabulary=400))
    encoder = Encoder(made)
    odd = [*texts, "", "  \t\n\n x", "日本語 😀 é", "a <|endoftext|> b", "\x00\x07"]
    for text, ids in zip(odd, encoder.encode(odd), strict=True):
        assert encoder.decode(ids.tolist()) == text and ids[-1] == encoder.end and encoder.end not in ids[:-1]


def test_the_code_tokenizer_keeps_indentation_whole_and_splits_identifiers() -> None:
    pytest.importorskip("tokenizers")
    encoder = Encoder(train(CODE * 20, TokenizerSettings(kind="code", vocabulary=420)))
    pieces = [encoder.decode([one]) for one in encoder.encode(["\n        return harbourName2"])[0][:-1].tolist()]
    assert pieces[0] == "\n        " and pieces[-3:] == [" harbour", "Name", "2"]


def test_a_tokenizer_folder_brings_its_end_token(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    for name, data in folder_files(train(TEXTS, TokenizerSettings(vocabulary=300, end="<end>")), "<end>").items():
        (tmp_path / name).write_bytes(data)
    assert Encoder.from_folder(tmp_path).decode(Encoder.from_folder(tmp_path).encode(["quiet"])[0]) == "quiet"
    with pytest.raises(DataError, match="has no token '</s>'"):
        Encoder.from_folder(tmp_path, "</s>")
    with pytest.raises(ConfigError, match="at least 257"):
        train(TEXTS, TokenizerSettings(vocabulary=100))


def test_shares_of_tokens_follow_the_weights() -> None:
    lengths = derive(0, "lengths").below(900, 6000) + 10
    sources = derive(0, "sources").below(3, 6000)
    weights = {"en": 0.45, "zh": 0.15, "code": 0.2}
    mixture = mix(lengths, sources, ["en", "zh", "code"], MixSettings(weights=weights), 1)
    total = sum(mixture.tokens.values())
    for name, weight in weights.items():
        assert mixture.tokens[name] / total == pytest.approx(weight / 0.8, abs=2e-3)
    assert len(np.unique(mixture.order)) == len(mixture.order)  # one pass: nothing twice
    twice = mix(lengths, sources, ["en", "zh", "code"], MixSettings(weights={"en": 1.0}, max_passes=2.0), 1)
    assert np.bincount(twice.order).max() == 2 and twice.tokens == {
        "en": 2 * int(lengths[sources == 0].sum()),
        "zh": 0,
        "code": 0,
    }
    small = mix(lengths, sources, ["en", "zh", "code"], MixSettings(weights=weights, tokens=50_000), 1)
    assert sum(small.tokens.values()) == pytest.approx(50_000, rel=0.03)
    with pytest.raises(ConfigError, match="'eng'.*\n.*Did you mean 'en'"):
        mix(lengths, sources, ["en", "zh", "code"], MixSettings(weights={"eng": 1.0}), 1)


@given(st.lists(st.integers(1, 70), max_size=60), st.integers(2, 20), st.integers(1, 50))
def test_packing_holds_every_token_once_and_no_row_overflows(lengths: list[int], length: int, window: int) -> None:
    packing = pack(np.array(lengths, dtype=np.int64), length, window)
    assert all(sum(piece.length for piece in row) <= length for row in packing.rows)
    covered = {(p.document, p.start + i) for row in packing.rows for p in row for i in range(p.length)}
    assert covered == {(d, i) for d, size in enumerate(lengths) for i in range(size)}
    assert sum(p.length for row in packing.rows for p in row) == sum(lengths)


@pytest.mark.parametrize("length", [512, 2048])
def test_more_than_99_percent_of_positions_are_used(length: int) -> None:
    lengths = np.exp(derive(0, "sizes").normal(8000) * 1.2 + 6).astype(np.int64) + 2
    assert pack(lengths, length).filled >= 0.99


def test_the_three_formats_hold_equal_arrays_and_damage_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("h5py")
    tokens = derive(0, "tokens").below(60_000, 40 * 16).reshape(40, 16).astype("<u2")
    segments = np.repeat(np.arange(1, 5), 4)[None].repeat(40, 0)
    for kind in FORMATS:
        folder = tmp_path / kind
        row = publish_shard(folder, 0, tokens, segments, kind)
        assert publish_shard(folder, 0, tokens, segments, kind) == row
        publish_manifest(folder, [row], {"hash": "h"})
        check_shards(folder)
        assert read_manifest(folder)["shards"][0]["tokens"] == 640
        found = read_shard(folder / row["file"])
        assert np.array_equal(found[0], tokens) and np.array_equal(found[1], segments)
        other = publish_shard(folder, 0, tokens[:20], segments[:20], kind)
        publish_manifest(folder, [other], {"hash": "g"})
        assert not (folder / row["file"]).exists()
        path = folder / other["file"]
        path.write_bytes(path.read_bytes()[:-1] + b"\x55")
        with pytest.raises(StorageError, match="is damaged: its hash is"):
            check_shards(folder)

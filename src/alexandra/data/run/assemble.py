"""The last stages: train or take the tokenizer, mix the sources, pack rows, publish shards and their manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexandra import storage
from alexandra.data.dedup.paragraphs import Paragraphs
from alexandra.data.run.folders import new_folder, open_array
from alexandra.data.run.recipe import Recipe
from alexandra.data.run.stages import kept_documents
from alexandra.data.tokens.mix import Mixture, mix
from alexandra.data.tokens.pack import Packing, Piece, pack
from alexandra.data.tokens.shards import publish_manifest, publish_shard
from alexandra.data.tokens.tokenizer import Encoder, TokenizerSettings, folder_files, train
from alexandra.rng import derive

SAMPLE_FILES = 4096


def make_tokenizer(
    settings: TokenizerSettings,
    files: Sequence[Sequence[tuple[Path, Path]]],
    paragraphs: Paragraphs | None,
    final: Path,
    seed: int,
) -> None:
    """Publish a tokenizer folder, trained on kept documents: `files` in a shuffled order, each its (unit, drops)."""
    if final.is_dir():
        return

    def texts() -> Iterator[str]:
        for number in derive(seed, "tokenizer").permutation(len(files)).tolist():
            for unit, drops in files[number]:
                for document in kept_documents(unit, drops, paragraphs):
                    yield document.text

    made = folder_files(train(texts(), settings), settings.end)
    with new_folder(final) as folder:
        for name, data in made.items():
            (folder / name).write_bytes(data)


@dataclass(frozen=True)
class Tokenised:
    """All documents of a corpus: where their tokens are. starts, lengths, units, sources: one entry a document."""

    tokens: list[np.ndarray]
    units: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    sources: np.ndarray

    @classmethod
    def open(cls, folders: Sequence[Path], sources: Sequence[int], dtype: str) -> Tokenised:
        lengths = [np.asarray(open_array(folder / "lengths", "<i8")) for folder in folders]
        counts = [len(one) for one in lengths]
        starts = [np.concatenate([[0], np.cumsum(one)])[:-1] for one in lengths]
        empty = np.empty(0, np.int64)
        return cls(
            [open_array(folder / "tokens", dtype) for folder in folders],
            np.repeat(np.arange(len(folders)), counts),
            np.concatenate([empty, *starts]).astype(np.int64),
            np.concatenate([empty, *lengths]),
            np.repeat(np.asarray(sources, dtype=np.int64), counts),
        )

    def piece(self, document: int, start: int, length: int) -> np.ndarray:
        begin = int(self.starts[document]) + start
        return self.tokens[int(self.units[document])][begin : begin + length]


@dataclass(frozen=True)
class Written:
    """What `write_shards` made."""

    shards: list[dict[str, Any]]
    mixture: Mixture
    packing: Packing


def write_shards(
    recipe: Recipe, tokenised: Tokenised, encoder: Encoder, output: Path, progress: Callable[[int, int], None]
) -> Written:
    """Mix, pack and publish the shards; rows are shuffled, so that each shard is a sample of the corpus."""
    names = [source.name for source in recipe.sources]
    mixture = mix(tokenised.lengths, tokenised.sources, names, recipe.mix, recipe.seed)
    packing = pack(tokenised.lengths[mixture.order], recipe.shards.length)
    order = derive(recipe.seed, "rows").permutation(len(packing.rows))
    shards = []
    for number, first in enumerate(range(0, len(order), recipe.shards.rows)):
        rows = [packing.rows[row] for row in order[first : first + recipe.shards.rows].tolist()]
        tokens, segments = _rows(rows, mixture, tokenised, packing.length, encoder)
        shards.append(publish_shard(output, number, tokens, segments, recipe.shards.format))
        progress(number + 1, -(-len(order) // recipe.shards.rows))
    return Written(shards, mixture, packing)


def _rows(
    rows: list[list[Piece]], mixture: Mixture, tokenised: Tokenised, length: int, encoder: Encoder
) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.full((len(rows), length), encoder.end, dtype=encoder.dtype)
    segments = np.zeros((len(rows), length), dtype=encoder.dtype)
    for number, pieces in enumerate(rows):
        place = 0
        for segment, piece in enumerate(pieces, 1):
            document = int(mixture.order[piece.document])
            tokens[number, place : place + piece.length] = tokenised.piece(document, piece.start, piece.length)
            segments[number, place : place + piece.length] = segment
            place += piece.length
    return tokens, segments


def publish_corpus(output: Path, written: Written, tokenizer: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer beside the shards, then the manifest; returns what the manifest says of the whole."""
    for path in sorted(tokenizer.iterdir()):
        storage.publish(output / "tokenizer" / path.name, path.read_bytes())
    packing = written.packing
    rows = len(packing.rows)
    body = {
        **about,
        "hash": storage.content_hash("".join(shard["sha256"] for shard in written.shards).encode()),
        "rows": rows,
        "length": packing.length,
        "tokens": sum(shard["tokens"] for shard in written.shards),
        "documents": len(written.mixture.order),
        "filled": round(packing.filled, 6),
        "tokens_by_source": dict(written.mixture.tokens),
    }
    publish_manifest(output, written.shards, body)
    return body

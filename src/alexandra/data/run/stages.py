"""What one worker does with one file: read, step, sign; later, tokenise what is kept. Pure functions of their task.

Each publishes one folder whose name says what it follows from, so a stage that is done is never done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from alexandra import storage
from alexandra.data.dedup.exact import digests
from alexandra.data.dedup.paragraphs import Paragraphs, paragraph_hashes, without
from alexandra.data.dedup.shingles import sign
from alexandra.data.flow import Broken, Ledger, Record, Step, flow
from alexandra.data.formats import Part, read_file
from alexandra.data.run.folders import ArrayWriter, DocumentWriter, new_folder, open_array, read_documents
from alexandra.data.run.recipe import Recipe, Source
from alexandra.data.steps import build_steps
from alexandra.data.tokens.tokenizer import Encoder
from alexandra.records import Document

BATCH_DOCUMENTS, BATCH_CHARACTERS = 512, 4 << 20


@dataclass(frozen=True)
class Unit:
    """Some files of one source, or a part of one; `names` is what their documents' ids call them, `folder` where the
    documents go. `group` numbers what is one for the tokenizer, however it is cut.
    """

    source: int
    files: tuple[str, ...]
    names: tuple[str, ...]
    folder: str
    part: Part = Part()
    group: int = 0


@dataclass(frozen=True)
class ReadTask:
    """`recipe` is its JSON, with models in place of reference texts; `place` its folder; `stamp` tells versions of the
    files that its steps name apart.
    """

    recipe: str
    place: str
    unit: Unit
    stamp: str = ""


@lru_cache(maxsize=4)
def _recipe(text: str) -> Recipe:
    return Recipe.model_validate_json(text, strict=False)


@lru_cache(maxsize=4)
def _steps(text: str, place: str, stamp: str) -> tuple[Step, ...]:
    return tuple(build_steps(_recipe(text).steps, Path(place)))


def read_unit(task: ReadTask) -> str:
    """documents.jsonl.zst, quarantine.jsonl, ledger.json, and the arrays that deduplication needs."""
    final = Path(task.unit.folder)
    if final.is_dir():
        return final.name
    recipe = _recipe(task.recipe)
    source = recipe.sources[task.unit.source]
    ledger = Ledger()
    with new_folder(final) as folder, (folder / "quarantine.jsonl").open("w", encoding="utf-8") as quarantine:

        def put_aside(broken: Broken) -> None:
            quarantine.write(json.dumps(broken.to_dict(), ensure_ascii=False, sort_keys=True) + "\n")

        records = _records(task.unit, source)
        writer = _Writer(folder, recipe)
        for document in flow(records, _steps(task.recipe, task.place, task.stamp), ledger, put_aside):
            writer.add(document)
        writer.close()
        ledger.check()
        (folder / "ledger.json").write_bytes(storage.json_bytes(ledger.to_dict()))
        seconds = {step: round(value, 4) for step, value in ledger.seconds.items()}
        (folder / "seconds.json").write_bytes(storage.json_bytes(seconds))
    return final.name


def _records(unit: Unit, source: Source) -> Iterator[Record]:
    """The records of all files, their ids made unique by the files' names within the source."""
    options = replace(source.options(), part=unit.part)
    for file, name in zip(unit.files, unit.names, strict=True):
        short, full = f"{source.name}/{Path(file).name}", f"{source.name}/{name}"
        for record in read_file(Path(file), options, source.format):
            if isinstance(record, Document) and short != full and record.id.startswith(short):
                record = replace(record, id=full + record.id[len(short) :])
            elif isinstance(record, Broken) and record.file == Path(file).name:
                record = replace(record, file=name)
            yield record


class _Writer:
    """Documents with their digests, signatures and paragraph hashes, a batch at a time."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._recipe = recipe
        self._documents = DocumentWriter(folder)
        self._arrays = {
            "digests": ArrayWriter(folder / "digests", "<u8", 2),
            "sizes": ArrayWriter(folder / "sizes", "<i8"),
        }
        if recipe.minhash is not None:
            self._arrays["signatures"] = ArrayWriter(folder / "signatures", "<u4", recipe.minhash.permutations)
            self._arrays["shingle_counts"] = ArrayWriter(folder / "shingle_counts", "<i8")
            self._arrays["shingles"] = ArrayWriter(folder / "shingles", "<u4")
        if recipe.paragraphs is not None:
            self._arrays["paragraphs"] = ArrayWriter(folder / "paragraphs", "<u8")
            self._arrays["paragraph_counts"] = ArrayWriter(folder / "paragraph_counts", "<i8")
        self._waiting: list[str] = []
        self._characters = 0

    def add(self, document: Document) -> None:
        self._documents.add(document)
        self._waiting.append(document.text)
        self._characters += len(document.text)
        if len(self._waiting) >= BATCH_DOCUMENTS or self._characters >= BATCH_CHARACTERS:
            self._sign()

    def _sign(self) -> None:
        recipe, texts, arrays = self._recipe, self._waiting, self._arrays
        normalise = recipe.exact is not None and recipe.exact.normalise
        arrays["digests"].add(digests(texts, normalise))
        arrays["sizes"].add(np.array([len(text) for text in texts], dtype=np.int64))
        if recipe.minhash is not None:
            signed = sign(texts, recipe.minhash.settings())
            arrays["signatures"].add(signed.signatures)
            arrays["shingle_counts"].add(signed.sizes)
            arrays["shingles"].add(signed.shingles)
        if recipe.paragraphs is not None:
            hashes = [paragraph_hashes(text, recipe.paragraphs) for text in texts]
            arrays["paragraphs"].add(np.concatenate([np.empty(0, np.uint64), *hashes]))
            arrays["paragraph_counts"].add(np.array([len(one) for one in hashes], dtype=np.int64))
        self._waiting, self._characters = [], 0

    def close(self) -> None:
        if self._waiting:
            self._sign()
        self._documents.close()
        for array in self._arrays.values():
            array.close()


def kept_documents(unit_folder: Path, drops: Path, paragraphs: Paragraphs | None) -> Iterator[Document]:
    """The documents of a unit that deduplication keeps, without the paragraphs that it takes."""
    gone = open_array(drops / "gone", "|b1")
    marks = open_array(drops / "paragraphs_gone", "|b1") if paragraphs is not None else None
    counts = open_array(unit_folder / "paragraph_counts", "<i8") if paragraphs is not None else None
    place = 0
    for number, document in enumerate(read_documents(unit_folder)):
        text = document.text
        if paragraphs is not None and marks is not None and counts is not None:
            count = int(counts[number])
            inside = marks[place : place + count]
            place += count
            text = without(text, inside, paragraphs) if inside.any() else text
        if not gone[number]:
            yield (
                document
                if text is document.text
                else Document(text, document.id, document.source, document.kind, document.metadata)
            )


@dataclass(frozen=True)
class TokenTask:
    """Tokenise what is kept of a unit; `paragraphs` is the settings' JSON, or ""."""

    unit: str
    drops: str
    tokenizer: str
    end: str
    folder: str
    paragraphs: str


@lru_cache(maxsize=2)
def _encoder(folder: str, end: str) -> Encoder:
    return Encoder.from_folder(Path(folder), end)


def tokenise_unit(task: TokenTask) -> str:
    """tokens (all documents one after the other) and lengths."""
    final = Path(task.folder)
    if final.is_dir():
        return final.name
    encoder = _encoder(task.tokenizer, task.end)
    paragraphs = Paragraphs.model_validate_json(task.paragraphs) if task.paragraphs else None
    with new_folder(final) as folder:
        tokens = ArrayWriter(folder / "tokens", encoder.dtype.str)
        lengths = ArrayWriter(folder / "lengths", "<i8")
        waiting: list[str] = []
        characters = 0

        def encode() -> None:
            for one in encoder.encode(waiting):
                tokens.add(one)
                lengths.add(np.array([len(one)]))

        for document in kept_documents(Path(task.unit), Path(task.drops), paragraphs):
            waiting.append(document.text)
            characters += len(document.text)
            if len(waiting) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                encode()
                waiting, characters = [], 0
        encode()
        tokens.close()
        lengths.close()
    return final.name


__all__ = ["ReadTask", "TokenTask", "Unit", "kept_documents", "read_unit", "tokenise_unit"]

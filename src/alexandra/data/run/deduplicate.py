"""The global stage: exact, paragraph and near duplicates over all units, with the memory that the recipe gives.

Big arrays are laid end to end in files and mapped. Decisions are one boolean for each document, in a folder for each
unit.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexandra import storage
from alexandra.data.dedup import index
from alexandra.data.dedup.exact import repeats
from alexandra.data.dedup.near import clusters, duplicates
from alexandra.data.dedup.paragraphs import Paragraphs, surplus
from alexandra.data.dedup.shingles import Signatures
from alexandra.data.run.folders import ArrayWriter, new_folder, open_array
from alexandra.data.run.recipe import Near, Recipe


def deduplicate(recipe: Recipe, units: Sequence[Path], final: Path, place: Path) -> None:
    """Publish `final`: for unit number i the folder-like prefix i, and losses.json with the counts by reason."""
    if final.is_dir():
        return
    parts = [open_array(unit / "digests", "<u8", 2) for unit in units]
    cuts = np.cumsum([0, *map(len, parts)])
    n = int(cuts[-1])
    gone = np.zeros(n, dtype=bool)
    losses: Counter[str] = Counter()
    known = _known_digests(recipe, place)
    if recipe.exact is not None:
        found = np.concatenate([np.empty(0, bool), *repeats([known, *parts], recipe.run.memory)[1:]])
        losses["exact_duplicate"] += int(found.sum())
        gone |= found
    with new_folder(final) as folder:
        marks = _paragraphs(recipe.paragraphs, units, gone, losses) if recipe.paragraphs is not None else None
        if recipe.minhash is not None:
            near = _near(recipe, recipe.minhash, units, gone, (folder, place))
            losses["near_duplicate"] += int(near.sum())
            gone |= near
        for number, unit in enumerate(units):
            (folder / f"{number:06d}").mkdir()
            _write(folder / f"{number:06d}/gone", gone[cuts[number] : cuts[number + 1]])
            if marks is not None:
                _write(folder / f"{number:06d}/paragraphs_gone", marks[number])
            assert len(open_array(unit / "sizes", "<i8")) == cuts[number + 1] - cuts[number]
        (folder / "losses.json").write_bytes(
            storage.json_bytes({"in": n, "out": int((~gone).sum()), "lost": dict(losses)})
        )


def _write(path: Path, values: np.ndarray) -> None:
    path.write_bytes(np.ascontiguousarray(values, dtype=bool).tobytes())


def _known_digests(recipe: Recipe, place: Path) -> np.ndarray:
    near = recipe.minhash
    if near is None or not near.index:
        return np.empty((0, 2), np.uint64)
    return index.load(place / near.index, near.settings(), leave_out=near.name)[0]


def _paragraphs(
    settings: Paragraphs, units: Sequence[Path], gone: np.ndarray, losses: Counter[str]
) -> list[np.ndarray]:
    """Marks for every paragraph; documents of which too little is left are marked gone. Characters are not re-counted:
    a document is too short when all its long paragraphs go and the rest is shorter than min_left."""
    hashes = [open_array(unit / "paragraphs", "<u8") for unit in units]
    counts = [open_array(unit / "paragraph_counts", "<i8") for unit in units]
    owner = np.repeat(np.arange(len(gone)), np.concatenate([np.empty(0, np.int64), *counts]))
    every = np.concatenate([np.empty(0, np.uint64), *hashes])
    counted = ~gone[owner]
    marks = np.zeros(len(every), dtype=bool)
    marks[counted] = surplus([every[counted]], settings)[0]
    losses["paragraphs_removed"] = 0
    removed = np.bincount(owner[marks], minlength=len(gone))
    emptied = (removed > 0) & (removed == np.bincount(owner, minlength=len(gone))) & ~gone
    losses["only_repeated_paragraphs"] += int(emptied.sum())
    del losses["paragraphs_removed"]
    gone |= emptied
    return np.split(marks, np.cumsum([len(one) for one in hashes])[:-1])


def _near(recipe: Recipe, near: Near, units: Sequence[Path], gone: np.ndarray, places: tuple[Path, Path]) -> np.ndarray:
    """Near duplicates among what is left, and against the index."""
    scratch, place = places
    settings = near.settings()
    known = index.load(place / near.index, settings, leave_out=near.name)[1] if near.index else None
    signed = _laid_out(units, near, known, scratch / "scratch")
    first = len(known.signatures) if known is not None else 0
    left_out = np.concatenate([np.zeros(first, bool), gone])
    found = clusters(signed, settings, recipe.run.memory, first, left_out)
    sizes = np.concatenate([np.zeros(first, np.int64), *(open_array(unit / "sizes", "<i8") for unit in units)])
    out: np.ndarray = duplicates(found, sizes, near.keep, first)[first:] & ~gone
    del signed, found
    shutil.rmtree(scratch / "scratch")
    return out


def _laid_out(units: Sequence[Path], near: Near, known: Signatures | None, scratch: Path) -> Signatures:
    """The signatures and shingles of all units, the index's first, in mapped files."""
    scratch.mkdir()
    writers = {name: ArrayWriter(scratch / name, dtype) for name, dtype in (("signatures", "<u4"), ("shingles", "<u4"))}
    counts = [np.empty(0, np.int64)]
    if known is not None:
        writers["signatures"].add(known.signatures)
        writers["shingles"].add(known.shingles)
        counts.append(known.sizes)
    for unit in units:
        writers["signatures"].add(open_array(unit / "signatures", "<u4"))
        writers["shingles"].add(open_array(unit / "shingles", "<u4"))
        counts.append(np.asarray(open_array(unit / "shingle_counts", "<i8")))
    for writer in writers.values():
        writer.close()
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    signatures = open_array(scratch / "signatures", "<u4", near.permutations)
    return Signatures(signatures, offsets, open_array(scratch / "shingles", "<u4"))


def add_to_index(recipe: Recipe, units: Sequence[Path], drops: Path, place: Path) -> None:
    """Remember what this corpus keeps, once."""
    near = recipe.minhash
    if near is None or not near.index or (place / near.index / near.name).is_dir():
        return
    digests, signatures, sizes, shingles = [np.empty((0, 2), np.uint64)], [], [], []
    for number, unit in enumerate(units):
        stay = ~open_array(drops / f"{number:06d}/gone", "|b1")
        counts = open_array(unit / "shingle_counts", "<i8")
        digests.append(open_array(unit / "digests", "<u8", 2)[stay])
        signatures.append(open_array(unit / "signatures", "<u4", near.permutations)[stay])
        shingles.append(open_array(unit / "shingles", "<u4")[np.repeat(stay, counts)])
        sizes.append(counts[stay])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    signed = Signatures(np.concatenate(signatures), offsets, np.concatenate(shingles))
    index.add(place / near.index, near.name, np.concatenate(digests), signed, near.settings())

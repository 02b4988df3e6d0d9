"""The rows of a recipe: read from where it says, cut into those that train and those that are held out, and mixed.

A mixture is a list of rows in which every source has its share; small sources are repeated, each time in another order.
It is a pure function of the recipe and the data, and a step takes the rows of its number, so that the number of the
step in a checkpoint is the cursor of all sources.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexandra.errors import DataError, UsageError
from alexandra.rng import derive
from alexandra.splits import holdout
from alexandra.storage import content_hash
from alexandra.train.lm import examples
from alexandra.train.lm.recipe import SAMPLING_STAGES, DataConfig, Recipe, SourceConfig
from alexandra.train.lm.tokenizer import Tokenizer

Record = examples.Record
ROW_FILES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class Part:
    """The rows of one source; `weight` is its share of the rows (of the tokens in pre-training), as it was given."""

    train: list[Record]
    held_out: list[Record]
    weight: float = 1.0


@dataclass(frozen=True)
class Rows:
    """Rows to train on, all sources mixed, and held-out ones; `parts` are the sources by themselves."""

    train: list[Record]
    held_out: list[Record]
    parts: tuple[Part, ...]


def read_rows(recipe: Recipe, given: Sequence[Record] | None, held_out: Sequence[Record] | None, folder: Path) -> Rows:
    """What the caller gives, else what the recipe names; paths relative to `folder`. Raises UsageError, DataError."""
    data = recipe.data
    _check(data, given)
    aside = None if held_out is None else list(held_out)
    if aside is None and data.held_out_path:
        aside = examples.read_records(_place(folder, data.held_out_path))
    found = []
    for one in data.sources or (SourceConfig(path=data.path, split=data.split),):
        rows = _read(recipe, one, folder) if given is None else examples.read_records(given, limit=data.limit)
        split = _split(rows, data.held_out, recipe.seed) if aside is None else (rows, [])
        found.append(Part(*split, one.weight))
    parts = tuple(found)
    mixed = mixture([part.train for part in parts], [part.weight for part in parts], rows_taken(recipe), recipe.seed)
    return Rows(mixed, [row for part in parts for row in part.held_out] if aside is None else aside, parts)


def _check(data: DataConfig, given: Sequence[Record] | None) -> None:
    if given is None and not data.path and not data.sources:
        raise UsageError("the recipe names no data", hint='[data] path = "rows.jsonl", or --data')
    if data.sources and (data.path or given is not None):
        raise UsageError("data.path and data.sources name data twice", hint="make the file one of [[data.sources]]")
    weighed = sum(source.weight > 0 for source in data.sources)
    if weighed and weighed < len(data.sources):
        without = next(source.path for source in data.sources if not source.weight)
        raise UsageError(
            f"source {without!r} has no weight, others have one",
            hint="give all of them a weight, or none: then each has the share of its rows",
        )


def _read(recipe: Recipe, source: SourceConfig, folder: Path) -> list[Record]:
    if recipe.stage == "pretrain" and not source.path.endswith(ROW_FILES):
        return _text_file(folder / source.path)
    return examples.read_records(_place(folder, source.path), split=source.split, limit=recipe.data.limit)


def rows_taken(recipe: Recipe) -> int:
    """How many rows all steps of a run take together."""
    rollout = recipe.rollout
    sampled = recipe.stage in (*SAMPLING_STAGES, "constitution")
    each = rollout.prompts * (rollout.redraws + 1) if sampled else recipe.train.batch
    return recipe.train.steps * each


def mixture(parts: Sequence[list[Record]], weights: Sequence[float], taken: int, seed: int) -> list[Record]:
    """The rows of all parts by their weights, shuffled; without weights (0) all rows, part by part.

    So many that each row of each part is there at least once, but never more than `taken`.
    """
    if len(parts) == 1 or not any(weights):
        return [row for part in parts for row in part]
    shares = np.asarray(weights, np.float64) / sum(weights)
    natural = max(math.ceil(len(part) / share) for part, share in zip(parts, shares, strict=True))
    counts = _apportioned(shares, max(len(parts), min(natural, taken)))
    drawn: list[Record] = []
    for number, (part, count) in enumerate(zip(parts, counts, strict=True)):
        for epoch in range(math.ceil(count / len(part))):
            order = derive(seed, "mixture", number).at(epoch).permutation(len(part))
            drawn += [part[i] for i in order[: count - epoch * len(part)].tolist()]
    return [drawn[i] for i in derive(seed, "mixture").permutation(len(drawn)).tolist()]


def _apportioned(shares: np.ndarray, total: int) -> list[int]:
    """Whole numbers with sum `total` by largest remainders (Hamilton's method), at least 1 each."""
    exact = shares * total
    counts = np.maximum(np.floor(exact).astype(int), 1)
    for place in np.argsort(exact - counts)[::-1][: max(0, total - int(counts.sum()))]:
        counts[place] += 1
    return [int(count) for count in counts]


def token_parts(rows: Rows, tokenizer: Tokenizer, share: float) -> tuple[list[np.ndarray], np.ndarray]:
    """(the training tokens of each source, all held-out tokens) for pre-training.

    Of a source that is one text the last `share` of its characters is held out, unless other rows are.
    """
    trained, aside = [], [examples.document(row, i) for i, row in enumerate(rows.held_out)]
    cuts = not aside
    for part in rows.parts:
        texts = [examples.document(row, i) for i, row in enumerate(part.train)]
        if len(texts) == 1 and cuts and share:
            border = len(texts[0]) - int(len(texts[0]) * share)
            aside.append(texts[0][border:])
            texts = [texts[0][:border]]
        trained.append(_joined(texts, tokenizer))
    return trained, _joined(aside, tokenizer)


def _joined(texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """Texts one after the other, each but a single one with the token that ends it."""
    pieces = [[*tokenizer.encode(text), tokenizer.eos] for text in texts]
    if len(pieces) == 1:
        pieces[0].pop()
    return np.array([token for piece in pieces for token in piece], np.int32)


def _split(rows: list[Record], share: float, seed: int) -> tuple[list[Record], list[Record]]:
    """A share of the rows apart, chosen by their content; none of fewer than ten rows."""
    if not share or len(rows) < 10:
        return rows, []
    keys = np.array([content_hash(json.dumps(row, sort_keys=True, default=str).encode()) for row in rows])
    part = holdout(keys, {"train": 1.0 - share, "held out": share}, seed=seed)
    parts: dict[str, list[Record]] = {"train": [], "held out": []}
    for row, name in zip(rows, part.tolist(), strict=True):
        parts[name].append(row)
    return parts["train"], parts["held out"]


def _place(folder: Path, path: str) -> str:
    """A file below the recipe's folder, else the name of a data set."""
    place = folder / path
    return str(place) if place.exists() else path


def _text_file(path: Path) -> list[Record]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return [{"text": data.decode("utf-8")}]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the text {str(path)!r}: {error}") from error

"""The rows of a recipe: read from where it says, and cut into those that train and those that are held out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexandra.errors import DataError, UsageError
from alexandra.splits import holdout
from alexandra.storage import content_hash
from alexandra.train.lm import examples
from alexandra.train.lm.recipe import Recipe

Record = examples.Record
ROW_FILES = (".jsonl", ".jsonl.gz", ".parquet")


def read_rows(
    recipe: Recipe, given: Sequence[Record] | None, held_out: Sequence[Record] | None, folder: Path
) -> tuple[list[Record], list[Record]]:
    """(training rows, held-out rows): what the caller gives, else what the recipe names; paths relative to `folder`.

    Raises UsageError, DataError.
    """
    data = recipe.data
    if given is None and not data.path:
        raise UsageError("the recipe names no data", hint='[data] path = "rows.jsonl", or --data')
    if recipe.stage == "pretrain" and given is None and not data.path.endswith(ROW_FILES):
        return _text_file(folder / data.path), []
    rows = examples.read_records(
        given if given is not None else _place(folder, data.path), split=data.split, limit=data.limit
    )
    if held_out is not None:
        return rows, list(held_out)
    if data.held_out_path:
        return rows, examples.read_records(_place(folder, data.held_out_path))
    return _split(rows, data.held_out, recipe.seed)


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

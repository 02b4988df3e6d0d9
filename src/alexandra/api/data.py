"""The data pipeline's user actions: run a recipe, look at what it made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alexandra import storage
from alexandra.api.data_report import Inspection, report_page
from alexandra.data.load.loader import Loader, LoaderSettings
from alexandra.data.run.folders import open_array, read_documents
from alexandra.data.run.recipe import load_recipe
from alexandra.data.run.run import Outcome, Runner
from alexandra.data.tokens.shards import MANIFEST, check_shards, read_manifest, read_shard
from alexandra.data.tokens.tokenizer import Encoder
from alexandra.errors import NotFoundError

SAMPLE_CHARS = 400
OUTCOME = "outcome.json"


def run_recipe(
    recipe: str | Path,
    overrides: tuple[str, ...] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> Outcome:
    """Run a recipe file, from where an earlier run stopped; `overrides` are "section.key=value" texts."""
    path = Path(recipe)
    runner = Runner(load_recipe(path, overrides), path.parent, _with_rates(progress) if progress else None)
    outcome = runner.run()
    page = report_page(vars(outcome), inspect(path, overrides=overrides, samples=5))
    storage.publish(runner.output / "report.html", page.encode())
    return outcome


def _with_rates(progress: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """Adds to each stage's name how many parts a second it does."""
    began: dict[str, tuple[float, int]] = {}

    def update(stage: str, done: int, total: int) -> None:
        start, first = began.setdefault(stage, (time.monotonic(), done))
        seconds = time.monotonic() - start
        rate = f" {(done - first) / seconds:.1f}/s" if seconds > 0 and done > first else ""
        progress(f"{stage}{rate}", done, total)

    return update


def inspect(place: str | Path, overrides: tuple[str, ...] = (), samples: int = 3) -> Inspection:
    """Rows, histograms, drop reasons and samples of a recipe's corpus, or of a corpus folder."""
    path = Path(place)
    runner = None
    if path.is_file():
        runner = Runner(load_recipe(path, overrides), path.parent)
        path = runner.output
    if not (path / OUTCOME).exists() and not (path / MANIFEST).exists():
        raise NotFoundError(
            f"nothing to inspect at {str(path)!r}", hint="run the recipe first: alexandra data run RECIPE"
        )
    outcome = storage.read_json(path / OUTCOME) if (path / OUTCOME).exists() else {}
    corpus = read_manifest(path) if (path / MANIFEST).exists() else {}
    histograms: dict[str, list[tuple[int, int, int]]] = {}
    shown: list[dict[str, Any]] = []
    quarantined: list[dict[str, Any]] = []
    units = _units(runner)
    if units:
        sizes = np.concatenate([open_array(unit / "sizes", "<i8") for unit in units])
        histograms["characters per document"] = histogram(sizes)
        shown = _samples(units, samples)
        quarantined = _quarantined(units, 10 * samples)
    if corpus:
        check_shards(path)
        lengths = _document_lengths(path, corpus)
        histograms["tokens per document in a row"] = histogram(lengths)
        shown = shown or _rows(path, corpus, samples)
    return Inspection(
        str(path),
        int(outcome.get("totals", {}).get("records", 0)),
        int(outcome.get("documents", corpus.get("documents", 0))),
        outcome.get("losses", {}),
        outcome.get("by_source", {}),
        {key: value for key, value in corpus.items() if key != "shards"},
        histograms,
        shown,
        quarantined,
    )


def open_corpus(
    folder: str | Path,
    settings: LoaderSettings | None = None,
    *,
    rank: int = 0,
    world: int = 1,
    state: dict[str, Any] | None = None,
) -> Loader:
    """Batches of a corpus for training; see data.load.loader."""
    return Loader(folder, settings, rank=rank, world=world, state=state)


def histogram(values: np.ndarray) -> list[tuple[int, int, int]]:
    """Counts by powers of two: (from, to, count), to excluded; only from the first filled one to the last."""
    if not len(values):
        return []
    powers = np.floor(np.log2(np.maximum(values, 1))).astype(int)
    counts = np.bincount(powers)
    return [(1 << power, 2 << power, int(counts[power])) for power in range(int(powers.min()), len(counts))]


def _units(runner: Runner | None) -> list[Path]:
    if runner is None:
        return []
    found = [Path(unit.folder) for unit in runner.plan()]
    return [folder for folder in found if folder.is_dir()]


def _samples(units: list[Path], count: int) -> list[dict[str, Any]]:
    """The first document of `count` units spread over all."""
    out = []
    for number in np.unique(np.linspace(0, len(units) - 1, min(count, len(units))).astype(int)).tolist():
        for document in _first(read_documents(units[number]), max(1, count // len(units))):
            out.append({"id": document.id, "source": document.source, "text": document.text[:SAMPLE_CHARS]})
    return out


def _first(items: Iterator[Any], count: int) -> Iterator[Any]:
    for _, item in zip(range(count), items, strict=False):
        yield item


def _quarantined(units: list[Path], count: int) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for unit in units:
        with (unit / "quarantine.jsonl").open(encoding="utf-8") as lines:
            out += [json.loads(line) for line in _first(iter(lines), count - len(out))]
    return out


def _document_lengths(folder: Path, corpus: dict[str, Any]) -> np.ndarray:
    """Tokens of every piece of a document, from the segments."""
    out = [np.empty(0, np.int64)]
    for shard in corpus["shards"]:
        segments = np.asarray(read_shard(folder / shard["file"])[1], dtype=np.int64)
        rows = np.arange(len(segments))[:, None] * (int(segments.max(initial=0)) + 1)
        counts = np.bincount((segments + rows)[segments > 0])
        out.append(counts[counts > 0])
    return np.concatenate(out)


def _rows(folder: Path, corpus: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Decoded beginnings of rows of the first shard."""
    encoder = Encoder.from_folder(folder / "tokenizer")
    tokens, _ = read_shard(folder / corpus["shards"][0]["file"])
    return [
        {"id": f"row {number}", "source": "", "text": encoder.decode(row.tolist())[:SAMPLE_CHARS]}
        for number, row in enumerate(tokens[:count])
    ]

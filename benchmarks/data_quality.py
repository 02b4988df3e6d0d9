"""What the data pipeline finds on real files, without a peer: one JSON document.

    python benchmarks/data_quality.py [--only personal,languages,articles,packing,hostile]    # minutes: hostile

personal   spans and types of personal data against marked sentences: F1, and one line for each type
languages  texts of 100 characters in 55 languages, Norwegian, Malay/Indonesian and Serbo-Croatian merged
articles   near duplicates that people planted among 1,000 articles: recall and precision of pairs
packing    share of token positions used at several lengths; losses of 20 steps on packed rows and on single documents
hostile    the files of tests/data/test_hostile.py at a megabyte: CPU seconds per megabyte of the slowest stage

Real files are read from ALEXANDRA_DATA or ../shared/data; a section without them is skipped and says so.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from delivery import deliver, measured

import alexandra as ax
from alexandra.data.clean.personal import find_personal
from alexandra.data.dedup.near import clusters
from alexandra.data.dedup.shingles import MinHash, sign
from alexandra.data.filters.language import MERGED, language_of
from alexandra.data.flow import Drop
from alexandra.data.formats import ReadOptions, read_file
from alexandra.data.steps import build_steps
from alexandra.data.tokens.pack import pack
from alexandra.lang.nureon import compile_network
from alexandra.objectives.spec import WeightedCrossEntropy
from alexandra.records import Document
from alexandra.rng import derive

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ALEXANDRA_DATA", ROOT.parent / "shared" / "data"))
TYPES = {
    "CREDIT_CARD": "CARD", "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "IBAN_CODE": "IBAN", "US_SSN": "SSN",
    "IP_ADDRESS": "IP",
}  # fmt: skip
SMALLEST_MB, START_SECONDS = 0.1, 0.05


def _f1(right: int, found: int, marked: int) -> dict[str, float]:
    return {
        "f1": round(2 * right / max(1, found + marked), 4),
        "precision": round(right / max(1, found), 4),
        "recall": round(right / max(1, marked), 4),
        "n": marked,
    }


def bench_personal() -> dict[str, Any]:
    with gzip.open(DATA / "pii/synth_dataset_v2.json.gz") as file:
        rows = json.load(file)
    right, found, marked = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        spans = [span for span in row["spans"] if span["entity_type"] in TYPES]
        truth = {(span["start_position"], span["end_position"], TYPES[span["entity_type"]]) for span in spans}
        answer = {(span.start, span.end, span.kind) for span in find_personal(row["full_text"])}
        for counter, spans_ in ((right, truth & answer), (found, answer), (marked, truth)):
            counter.update(kind for _, _, kind in spans_)
    out: dict[str, Any] = _f1(right.total(), found.total(), marked.total())
    return out | {"by_type": {kind: _f1(right[kind], found[kind], marked[kind]) for kind in sorted(marked)}}


def bench_languages() -> dict[str, Any]:
    right = total = 0
    wrong: Counter[str] = Counter()
    with gzip.open(DATA / "languages/udhr_55_languages.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            text, truth = " ".join(row["text"].split()), MERGED.get(row["lang"], row["lang"])
            for start in range(0, len(text) - 100, 500):
                answer = language_of(text[start : start + 100])[0]
                right, total = right + (answer == truth), total + 1
                wrong.update([f"{truth} taken for {answer}"] if answer != truth else [])
    return {"accuracy": round(right / total, 4), "n": total, "errors": dict(wrong.most_common(8))}


def bench_articles() -> dict[str, Any]:
    names, texts = [], []
    with gzip.open(DATA / "near_duplicates/articles_1000.train.gz", "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, text = line.strip().partition(" ")
            names.append(name)
            texts.append(text)
    with gzip.open(DATA / "near_duplicates/articles_1000.truth.gz", "rt", encoding="utf-8") as lines:
        pairs = {frozenset(line.split()) for line in lines if line.strip()}
    roots = clusters(sign(texts, MinHash()), MinHash()).roots
    by_root: dict[int, list[str]] = {}
    for name, root in zip(names, roots.tolist(), strict=True):
        by_root.setdefault(root, []).append(name)
    joined = {frozenset((a, b)) for one in by_root.values() for i, a in enumerate(one) for b in one[:i]}
    return _f1(len(joined & pairs), len(joined), len(pairs)) | {"articles": len(texts)}


def bench_packing() -> dict[str, Any]:
    lengths = np.exp(derive(0, "lengths").normal(20_000) * 1.1 + 5.5).astype(np.int64) + 1
    out: dict[str, Any] = {f"filled at {n}": round(pack(lengths, n).filled, 5) for n in (512, 2048, 8192)}
    documents = [derive(0, "doc", i).below(64, 3 + i % 29) for i in range(120)]
    losses = [_losses(rows) for rows in _of_tests("data/load/test_packed_loss.py").packed_and_alone(documents, 32)]
    gap = float(np.abs(losses[0] - losses[1]).max())
    return out | {"losses": {"steps": len(losses[0]), "first": losses[0][0], "last": losses[0][-1], "largest gap": gap}}


def _losses(rows: list[list[np.ndarray]]) -> np.ndarray:
    """The losses of 20 steps, each on all rows."""
    given = _of_tests("data/load/test_packed_loss.py")
    graph = compile_network(given.NETWORK, constants={"vocabulary": 64, "width": 16})
    history = ax.bind(graph, backend="reference", seed=0).fit(
        *given.filled(rows, 32),
        objective=WeightedCrossEntropy(normalizer="weights"),
        epochs=20,
        batch_size=len(rows),
        seed=0,
    )
    return np.asarray(history.losses, dtype=np.float64)


def _of_tests(path: str) -> Any:
    """A module of tests/, for what it makes."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / "tests" / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bench_hostile(size: int = 1_000_000) -> dict[str, Any]:
    module = _of_tests("data/test_hostile.py")
    folder = Path(tempfile.mkdtemp())
    steps = build_steps(tuple({"use": name} for name in module.USED), folder)
    worst: list[tuple[float, str, str]] = []
    files = module.hostile(size)
    for number, (name, data) in enumerate(files):
        print(f"hostile {number} of {len(files)}: {max(worst, default=(0.0, '', ''))}", file=sys.stderr, flush=True)
        path = folder / f"{number}-{name}"
        path.write_bytes(data)
        began = time.process_time()
        records = list(read_file(path, ReadOptions("x", max_record_bytes=8 << 20)))
        spent = {"read": time.process_time() - began}
        documents = [record for record in records if isinstance(record, Document)]
        characters = sum(len(document.text) for document in documents)
        for step in steps:
            began = time.process_time()
            found = [step.apply(document) for document in documents]
            spent[step.name] = time.process_time() - began
            documents = [
                document if isinstance(one, Drop) else one for document, one in zip(documents, found, strict=True)
            ]
        megabytes = max(len(data), characters, 1e6 * SMALLEST_MB) / 1e6
        worst += [(max(0.0, value - START_SECONDS) / megabytes, step, path.name) for step, value in spent.items()]
        path.unlink()
    top = [f"{value:.3f} {step} {name}" for value, step, name in sorted(worst, reverse=True)[:8]]
    return {"files": len(files), "megabytes_each": size / 1e6, "seconds_per_megabyte": top}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="personal,languages,articles,packing,hostile")
    parser.add_argument("--bytes", type=int, default=1_000_000, help="size of a hostile file")
    options = parser.parse_args()
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "personal": bench_personal,
        "languages": bench_languages,
        "articles": bench_articles,
        "packing": bench_packing,
        "hostile": lambda: bench_hostile(options.bytes),
    }
    deliver({"load": os.getloadavg()[0]} | measured(sections, options.only.split(",")))


if __name__ == "__main__":
    main()

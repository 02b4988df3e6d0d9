"""The data pipeline beside datatrove in one run: CPU seconds of one core, and the quality of the very same run.

    taskset -c 0 python benchmarks/data.py [--repeats 3] [--records 10000000] [--only pages,minhash,exact,planted]

pages     real web pages end to end: main text, Gopher repetition and quality, C4, FineWeb, personal data. datatrove
runs
          its Trafilatura extractor and its filters of the same names in this process, without its sandbox's overhead.
          Mean F1 of the extracted text against the truth pages is of the run whose speed is printed.
minhash   signatures of documents, 128 permutations; datatrove 112 (its default), 5-word shingles both.
exact     records a second, hashing and deciding; peak memory of the process.
planted   5,000 pairs with known Jaccard similarity: recall by similarity, precision.

Pages and texts are read from ALEXANDRA_DATA or ../shared/data; a section without its data or peer is skipped and
says so.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import resource
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from delivery import deliver, measured

from alexandra.data.dedup.exact import digests, repeats
from alexandra.data.dedup.near import clusters
from alexandra.data.dedup.shingles import MinHash, sign
from alexandra.data.flow import Ledger, flow
from alexandra.data.steps import build_steps
from alexandra.records import Document
from alexandra.rng import derive

DATA = Path(os.environ.get("ALEXANDRA_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
STEPS = ("extract", "gopher_repetition", "gopher_quality", "c4", "fineweb", "personal")


def cpu_seconds(function: Callable[[], Any], repeats_: int) -> tuple[list[float], Any]:
    """CPU seconds of each repetition, and the last result."""
    spent, result = [], None
    for _ in range(repeats_):
        began = time.process_time()
        result = function()
        spent.append(time.process_time() - began)
    return spent, result


def rate(count: int, spent: list[float]) -> dict[str, float]:
    return {
        "per_second": round(count / min(spent), 2),
        "slowest": round(count / max(spent), 2),
        "n": count,
        "repeats": len(spent),
    }


def f1(found: str, truth: str) -> float:
    a, b = (Counter(re.findall(r"\w+", text.lower())) for text in (found, truth))
    common = sum((a & b).values())
    return 2 * common / (sum(a.values()) + sum(b.values())) if common else float(a == b)


def truth_pages() -> dict[str, tuple[str, str]]:
    from selectolax.lexbor import LexborHTMLParser

    parts: dict[str, dict[str, str]] = {}
    with tarfile.open(DATA / "web_pages/readability_pages.tar.xz") as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isfile() else None
            if opened is not None:
                name, _, part = member.name.partition("/")
                parts.setdefault(name, {})[part] = opened.read().decode("utf-8", "replace")
    truth = {name: LexborHTMLParser(one["expected.html"]).root.text(separator=" ") for name, one in parts.items()}
    return {name: (parts[name]["source.html"], truth[name]) for name in sorted(parts)}


def bench_pages(repeats_: int) -> dict[str, Any]:
    pages = truth_pages()
    steps = build_steps(tuple({"use": name} for name in STEPS), DATA)
    documents = [Document(page, name, "web", "html") for name, (page, _) in pages.items()]
    extracted: dict[str, str] = {}

    def ours() -> Ledger:
        ledger = Ledger()
        list(flow(documents, steps, ledger, lambda broken: None))
        ledger.check()
        return ledger

    apply = steps[0].apply
    for document in documents:  # the text of the same function, outside the clock
        outcome = apply(document)
        extracted[document.id] = outcome.text if isinstance(outcome, Document) else ""
    spent, ledger = cpu_seconds(ours, repeats_)
    out: dict[str, Any] = {
        "alexandra": rate(len(pages), spent),
        "mean_f1": round(float(np.mean([f1(extracted[name], truth) for name, (_, truth) in pages.items()])), 4),
        "seconds": {step: round(value, 3) for step, value in ledger.seconds.items()},
        "losses": ledger.losses(),
    }
    try:
        their, texts = cpu_seconds(lambda: _datatrove_pages(pages), 1)
    except ImportError as error:
        return {**out, "datatrove": f"skipped: {error}"}
    out["datatrove"] = rate(len(pages), their)
    out["datatrove_mean_f1"] = round(float(np.mean([f1(texts[name], truth) for name, (_, truth) in pages.items()])), 4)
    out["ratio"] = round(min(their) / min(spent), 2)
    return out


def _datatrove_pages(pages: dict[str, tuple[str, str]]) -> dict[str, str]:
    from datatrove.data import Document as Theirs
    from datatrove.pipeline import filters
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.formatters import PIIFormatter

    names = ("GopherRepetitionFilter", "GopherQualityFilter", "C4QualityFilter", "FineWebQualityFilter")
    chain, personal, extractor = [getattr(filters, name)() for name in names], PIIFormatter(), Trafilatura()
    texts = {}
    for name, (page, _) in pages.items():
        texts[name] = extractor.extract(page) or ""
        document = Theirs(text=texts[name], id=name)
        if document.text and all(one.filter(document) is True for one in chain):
            personal.format(document.text)
    return texts


def documents_of_web_length() -> list[str]:
    with gzip.open(DATA / "lm_text/brown.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"][:7000] for line in lines][:300]


def bench_minhash(repeats_: int) -> dict[str, Any]:
    texts = documents_of_web_length()
    megabytes = sum(map(len, texts)) / 1e6
    spent, _ = cpu_seconds(lambda: sign(texts, MinHash()), max(5, repeats_))
    out: dict[str, Any] = {"alexandra": {**rate(len(texts), spent), "mb_per_second": round(megabytes / min(spent), 2)}}
    few = texts[:100]
    numpy_spent, _ = cpu_seconds(lambda: sign(few, MinHash(), native=False), 1)
    out["alexandra_numpy"] = rate(len(few), numpy_spent)
    try:
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
        from datatrove.utils.hashing import HashConfig

        # sha1: its default hash fails with xxhash 4, which takes bytes only.
        step = MinhashDedupSignature(tempfile.mkdtemp(), MinhashConfig(hash_config=HashConfig(hash_fc="sha1")))
    except ImportError as error:
        return {**out, "datatrove": f"skipped: {error}"}
    step.get_shingles(few[0])
    their, _ = cpu_seconds(lambda: [step.get_signature(step.get_shingles(text)) for text in few], 1)
    out["datatrove"] = rate(len(few), their)
    out["ratio"] = round(out["alexandra"]["per_second"] / out["datatrove"]["per_second"], 1)
    return out


def bench_exact(records: int) -> dict[str, Any]:
    """Synthetic records of about 90 characters, a tenth of them repeats, made outside the clock."""
    block, parts, spent = 500_000, [], 0.0
    for first in range(0, records, block):
        texts = [
            f"synthetic record number {number * 9 // 10} with a few words of text behind it, as short posts have"
            for number in range(first, min(first + block, records))
        ]
        began = time.process_time()
        parts.append(digests(texts))
        spent += time.process_time() - began
    began = time.process_time()
    gone = sum(int(one.sum()) for one in repeats(parts, 1 << 30))
    spent += time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    speed = round(records / spent)
    return {"records": records, "per_second": speed, "duplicates": gone, "peak_memory_mib": round(peak)}


def bench_planted(pairs: int = 5000, words: int = 150) -> dict[str, Any]:
    texts, truth = [], []
    shingles = words - 4
    for number in range(pairs):
        stream = derive(0, "planted", number)
        wanted = 0.75 + 0.25 * float(stream.uniform(1)[0])
        one = [f"w{word}" for word in stream.below(100_000, words, start=8).tolist()]
        changed = round(shingles * (1 - wanted) / (1 + wanted))
        texts += [" ".join(one), " ".join(one[: words - changed] + [f"x{number}y{i}" for i in range(changed)])]
        truth.append((shingles - changed) / (shingles + changed))
    similarity = np.array(truth)
    began = time.process_time()
    found = clusters(sign(texts, MinHash()), MinHash())
    spent = time.process_time() - began
    joined = found.roots[::2] == found.roots[1::2]
    sizes = np.bincount(found.roots)
    reported = int((sizes * (sizes - 1) // 2).sum())
    right = int((joined & (similarity >= MinHash().threshold)).sum())
    edges = np.arange(0.75, 1.0, 0.05)
    curve = {}
    for low in edges.tolist():
        inside = (similarity >= low) & (similarity < low + 0.05 + 1e-9)
        recall = round(float(joined[inside].mean()), 4)
        curve[f"{low:.2f}-{low + 0.05:.2f}"] = {"recall": recall, "n": int(inside.sum())}
    high = similarity >= 0.85
    return {
        "pairs": pairs,
        "recall_from_0.85": round(float(joined[high].mean()), 5),
        "n_from_0.85": int(high.sum()),
        "precision": round(right / max(1, reported), 5),
        "recall": curve,
        "candidates": found.candidates,
        "documents_per_second": round(2 * pairs / spent, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--only", default="pages,minhash,exact,planted")
    options = parser.parse_args()
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "exact": lambda: bench_exact(options.records),
        "planted": bench_planted,
        "minhash": lambda: bench_minhash(options.repeats),
        "pages": lambda: bench_pages(options.repeats),
    }
    machine = {"cores": sorted(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
    deliver(machine | measured(sections, options.only.split(",")))


if __name__ == "__main__":
    main()

"""A run of the data pipeline as one self-contained HTML page: what came in, what was lost and why, what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from alexandra.api import html
from alexandra.api.charts import bars


@dataclass(frozen=True)
class Inspection:
    """What a corpus holds. histograms: name -> [(from, to, count)]; samples: documents or decoded rows."""

    output: str
    records: int
    documents: int
    losses: dict[str, int]
    by_source: dict[str, dict[str, Any]]
    corpus: dict[str, Any]
    histograms: dict[str, list[tuple[int, int, int]]]
    samples: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)


def report_page(outcome: Mapping[str, Any], seen: Inspection) -> str:
    """The page; `outcome` is what the run returned, `seen` what inspect says of it."""
    totals, losses = outcome["totals"], outcome["losses"]
    lost = sum(losses.values())
    body = [
        f"<h1>{escape(str(outcome['output']).rpartition('/')[2])}</h1>",
        html.paragraph(
            f"{totals['records']:,} records in = {outcome['documents']:,} documents out"
            f" + {lost:,} losses, each named below."
        ),
        html.section("Losses", _losses(losses)),
        html.section("Sources", _sources(outcome["by_source"])),
    ]
    corpus = outcome.get("corpus") or {}
    if corpus:
        body.append(html.section("Corpus", _corpus(corpus)))
    for name, rows in seen.histograms.items():
        labels = [f"{low:,} to {high - 1:,}" for low, high, _ in rows]
        chart = bars(labels, [float(count) for _, _, count in rows], [0.0] * len(rows), name)
        body.append(html.section(name.capitalize(), html.figure(chart, f"Number of documents by {name}.")))
    if outcome.get("seconds"):
        body.append(html.section("Time", _seconds(outcome["seconds"], totals)))
    if seen.samples:
        rows = [(one["source"], one["id"], one["text"]) for one in seen.samples]
        body.append(html.section("Samples", html.table(("source", "id", "text"), rows)))
    if seen.quarantined:
        broken = [
            (one["file"], one["position"], one["step"], one["reason"], one["excerpt"]) for one in seen.quarantined
        ]
        body.append(html.section("Quarantine", html.table(("file", "position", "step", "reason", "excerpt"), broken)))
    return html.document("Data report", "".join(body))


def _losses(losses: Mapping[str, int]) -> str:
    rows = sorted(((reason, count) for reason, count in losses.items() if count), key=lambda row: -row[1])
    return html.table(("reason", "records"), rows) if rows else html.paragraph("Nothing was lost.")


def _sources(by_source: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, ledger in by_source.items():
        broken, skipped = sum(ledger["broken"].values()), sum(ledger["skipped"].values())
        rows.append((name, ledger["records"], broken, skipped, ledger["kept"], ledger["characters_out"]))
    head = ("source", "records", "broken", "skipped", "kept before deduplication", "characters")
    return html.table(head, rows)


def _corpus(corpus: Mapping[str, Any]) -> str:
    rows = [(key, corpus[key]) for key in ("tokens", "rows", "length", "documents", "vocabulary") if key in corpus]
    filled = html.paragraph(f"{100 * corpus['filled']:.2f} % of the token positions hold a token.")
    shares = [(name, count) for name, count in corpus["tokens_by_source"].items()]
    return html.table(("what", "count"), rows) + filled + html.table(("source", "tokens"), shares)


def _seconds(seconds: Mapping[str, float], totals: Mapping[str, Any]) -> str:
    megabytes = max(totals["characters_in"] / 1e6, 1e-9)
    rows = [(step, round(value, 2), round(value / megabytes, 3)) for step, value in seconds.items()]
    return html.table(("step", "seconds", "seconds per million characters read"), rows)

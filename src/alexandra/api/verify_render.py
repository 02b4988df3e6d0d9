"""Verified claims for a terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.table import Table as RichTable

from alexandra.api import json_records
from alexandra.api.verify import Verified
from alexandra.api.verify_page import text_of, why

SHOWN = 200


def plain(found: Verified) -> dict[str, Any]:
    """One JSON document: a row per claim with its verdict and band."""
    rows = [
        {"claim": text_of(claim), "kind": claim.kind, "band": band, "label": label, **json_records.audited(verdict)}
        for claim, verdict, band, label in zip(found.claims, found.verdicts, found.bands, found.labels, strict=True)
    ]
    counts = dict(Counter(found.bands))
    return {"file": found.file, "seconds": found.seconds, "bands": counts, "page": found.page, "claims": rows}


def lines(found: Verified) -> list[Any]:
    table = RichTable(box=None, pad_edge=False)
    for name in ("#", "kind", "claim", "band", "score", "why"):
        table.add_column(name, overflow="fold")
    rows = zip(found.claims, found.verdicts, found.bands, strict=True)
    for i, (claim, verdict, band) in enumerate(rows, 1):
        if i > SHOWN:
            break
        score = "" if verdict.score is None else f"{verdict.score:.2f}"
        table.add_row(str(i), claim.kind, text_of(claim, 60), band, score, why(verdict)[:160])
    counts = Counter(found.bands)
    words = ", ".join(
        f"{counts[name]} {name}" for name in ("approve", "conditional", "reject", "abstain") if counts[name]
    )
    out: list[Any] = [table, f"{len(found.claims)} claims in {found.seconds:.1f} s: {words}"]
    return [*out, f"evidence: {found.page}"] if found.page else out

"""The evidence page of verified claims: a table of verdicts, then every part with its reason and how to replay it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from alexandra.api import html
from alexandra.records import Claim, Verdict

SHOWN = 500
LONGEST = 160


def text_of(claim: Claim, longest: int = LONGEST) -> str:
    """A claim in one line."""
    content: Any = claim.content
    if not isinstance(content, str):
        names = getattr(content, "__dataclass_fields__", {})
        content = ", ".join(f"{name}={getattr(content, name)!r}" for name in names) or repr(content)
    line = " ".join(str(content)[: 4 * longest].split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def why(verdict: Verdict) -> str:
    """The reason of the one framework that applies, else that of the whole."""
    apply = [part for part in verdict.parts if part.score is not None]
    return f"{apply[0].verifier}: {apply[0].reason}" if len(apply) == 1 and not verdict.vetoes else verdict.reason


def written(file: str, claims: Sequence[Claim], verdicts: Sequence[Verdict], bands: Sequence[str]) -> str:
    """The page as HTML; claims beyond the first 500 are counted, not listed."""
    counts = Counter(bands)
    lead = f"{len(claims):,} claims: " + ", ".join(f"{counts[name]:,} {name}" for name in counts)
    rows = [
        (i, claim.kind, text_of(claim), band, _number(verdict.score), f"{verdict.confidence:.2f}", why(verdict))
        for i, (claim, verdict, band) in enumerate(zip(claims[:SHOWN], verdicts, bands, strict=False), 1)
    ]
    body = html.section("Verdicts", html.table(("#", "kind", "claim", "band", "score", "sure", "why"), rows))
    for i, (claim, verdict) in enumerate(zip(claims[:SHOWN], verdicts, strict=False), 1):
        body += html.section(f"{i}. {text_of(claim, 80)}", _parts(verdict))
    more = html.paragraph(f"and {len(claims) - SHOWN:,} more") if len(claims) > SHOWN else ""
    return html.document(f"Evidence: {file}", f"<h1>{_escaped(file)}</h1>" + html.paragraph(lead) + body + more)


def _parts(verdict: Verdict) -> str:
    rows = []
    for part in verdict.parts:
        replay = "; ".join(f"{e.tool} ({e.version}) on {e.input_hash[:12]}: {e.output[:300]}" for e in part.evidence)
        rows.append((part.verifier, _number(part.score), "veto" if part.vetoes else "", part.reason, replay))
    return html.table(("framework", "score", "", "why", "evidence"), rows)


def _number(score: float | None) -> str:
    return "abstains" if score is None else f"{score:.3f}"


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)

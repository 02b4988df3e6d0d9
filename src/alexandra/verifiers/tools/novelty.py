"""Tool `novelty`: is a text new against an archive? One minus the largest Jaccard similarity of its word triples.

Context: `archive`, the producer's earlier texts. What repeats an archived text word for word scores 0.
"""

from __future__ import annotations

import re

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, own_version

MAX_ARCHIVE, WIDTH = 5_000, 3


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + WIDTH]) for i in range(max(1, len(words) - WIDTH + 1))} if words else set()


def _applies(claim: Claim) -> str:
    return "" if claim.context.get("archive") else "the context has no archive"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    own = shingles(claim.content)
    if not own:
        return tool.abstains("the text has no words")
    nearest, most = -1, 0.0
    for place, text in enumerate(claim.context["archive"][:MAX_ARCHIVE]):
        other = shingles(str(text))
        share = len(own & other) / len(own | other)
        if share > most or nearest < 0:
            nearest, most = place, share
    words = f"shares {most:.2f} of its word triples with archived text {nearest}"
    return tool.says(claim, 1 - most, words, confidence=SOFT / 2)


TOOL = Tool("novelty", "evolution", ("text",), own_version("novelty 1"), one=_judge, applies=_applies)

"""Tool `vader_sentiment`: does the text have the sentiment that the context names? VADER (Hutto and Gilbert 2014)."""

from __future__ import annotations

from functools import cache
from typing import Any

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, needs_package, package_version

SENTIMENTS = ("positive", "neutral", "negative")
NEUTRAL = 0.05  # the compound score's neutral zone, as its authors give it
LONGEST = 5_000


@cache
def _analyser() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def compound(text: str) -> float:
    """The valence of a text in -1..1."""
    return float(_analyser().polarity_scores(text[:LONGEST])["compound"])


def _applies(claim: Claim) -> str:
    given = claim.context.get("sentiment")
    return "" if given in SENTIMENTS else "the context names no sentiment: " + ", ".join(SENTIMENTS)


def _judge(tool: Tool, claim: Claim) -> Verdict:
    value, wanted = compound(claim.content), claim.context["sentiment"]
    found = "neutral" if abs(value) < NEUTRAL else "positive" if value > 0 else "negative"
    score = {"positive": (1 + value) / 2, "negative": (1 - value) / 2, "neutral": 1 - abs(value)}[wanted]
    if found != wanted:
        score = min(score, 0.49)
    return tool.says(claim, score, f"compound {value:+.2f}: {found}", confidence=SOFT)


TOOL = Tool(
    "vader_sentiment", "contextual", ("text",), package_version("vaderSentiment"), one=_judge, applies=_applies,
    missing=needs_package("vaderSentiment", "vaderSentiment"),
)  # fmt: skip

"""Tool `language`: is the text in the language that the context names (ISO 639-1)? py3langid over all 97 it knows."""

from __future__ import annotations

from functools import cache
from typing import Any

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, needs_package, package_version

SHORTEST, LONGEST = 12, 5_000


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _applies(claim: Claim) -> str:
    return "" if claim.context.get("language") else "the context names no language"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    if len(claim.content.strip()) < SHORTEST:
        return tool.abstains(f"under {SHORTEST} characters are too few to tell a language")
    found, sure = _identifier().classify(claim.content[:LONGEST])
    wanted = str(claim.context["language"]).lower()[:2]
    score = float(sure) if found == wanted else min(0.49, 1 - float(sure))
    return tool.says(claim, score, f"{found} with probability {sure:.2f}", confidence=SOFT)


TOOL = Tool(
    "language", "contextual", ("text",), package_version("py3langid"), one=_judge, applies=_applies,
    missing=needs_package("py3langid", "py3langid"),
)  # fmt: skip

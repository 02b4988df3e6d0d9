"""Tool `spacy_text`: does the text speak of what its prompt asks about? spaCy's tokens, stop words and look-up lemmas.

A blank English pipeline (no trained model is fetched). The score is the share of the prompt's content lemmas that the
text takes up, and a required element counts in any inflection.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, needs_package, package_version

LONGEST = 20_000


@cache
def _pipeline() -> Any:
    import spacy

    made = spacy.blank("en")
    made.add_pipe("lemmatizer", config={"mode": "lookup"})
    made.initialize()
    return made


def lemmas(texts: Sequence[str]) -> list[set[str]]:
    """The content lemmas of each text, in lower case."""
    pipeline = _pipeline()
    out = []
    for document in pipeline.pipe(text.lower() for text in texts):
        words = (token for token in document if token.is_alpha or token.like_num)
        out.append({token.lemma_ for token in words if not token.is_stop})
    return out


def _applies(claim: Claim) -> str:
    return "" if claim.context.get("prompt") else "the context has no prompt"


def _judge(tool: Tool, claims: Sequence[Claim]) -> list[Verdict]:
    texts = [claim.content[:LONGEST] for claim in claims]
    prompts = [str(claim.context["prompt"])[:LONGEST] for claim in claims]
    both = lemmas([*texts, *prompts])
    out = []
    for claim, said, asked in zip(claims, both[: len(claims)], both[len(claims) :], strict=True):
        if not asked:
            out.append(tool.abstains("the prompt has no content words"))
            continue
        shared = asked & said
        words = f"takes up {len(shared)} of {len(asked)} content words: {', '.join(sorted(shared)[:8]) or 'none'}"
        out.append(tool.says(claim, len(shared) / len(asked), words, confidence=SOFT / 2))
    return out


TOOL = Tool(
    "spacy_text", "contextual", ("text",), package_version("spacy"), batch=_judge, applies=_applies,
    missing=lambda: needs_package("spacy", "spacy")() or needs_package("spacy_lookups_data", "spacy[lookups]")(),
)  # fmt: skip

"""Tool `form`: required and forbidden elements, format and unusual characters of a text, all exact.

Context: `required`, `forbidden` (words or phrases), `format` ("json", "number", "date", "words<=50", "pattern:a*b").
A text that breaks one is refuted; one that meets them all merely fits, which proves nothing else. Words that mix
alphabets (a Cyrillic letter in a Latin word), invisible characters and orders to the judge are always refuted.
"""

from __future__ import annotations

import datetime
import json
import re
import unicodedata
from functools import cache

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, own_version

_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad\x00-\x08\x0b\x0e-\x1f]")
_ORDERS = re.compile(
    r"(ignore|disregard|forget)\s+(all\s+|any\s+)?(the\s+|your\s+)?(previous|prior|above|earlier)\s+\w+"
    r"|\b(you\s+(must|should|will|are\s+to)|please)\s+(approve|accept|score|rate|return|output|answer)\b"
    r"|\b(dear|attention|note\s+to(\s+the)?)\s*,?\s*(judge|verifier|grader|evaluator|reviewer)\b"
    r"|\b(verdict|score|rating|confidence)\s*[:=]\s*(1(\.0+)?|10/10|100\s*%|approved?|true)\b"
    r"|\bsystem\s*(prompt|override|message)\b|<\s*/?\s*(system|verdict|score)\s*>",
    re.IGNORECASE,
)
SHORTEST = 3


def trick(text: str) -> str:
    """What in the text is made to deceive a reader or a judge, or ""."""
    invisible = _INVISIBLE.search(text)
    if invisible:
        return f"it hides the character U+{ord(invisible.group()):04X}"
    order = _ORDERS.search(text)
    if order:
        return f"it gives orders to its judge: {order.group()[:60]!r}"
    for word in re.findall(r"[^\W\d_]{2,}", text):
        if not word.isascii() and len({_script(letter) for letter in word} - {""}) > 1:
            return f"the word {word[:40]!r} mixes alphabets"
    return ""


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").split(" ")[0]
    return name if name in ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "HEBREW", "ARABIC") else ""


def _applies(claim: Claim) -> str:
    wanted = [name for name in ("required", "forbidden", "format") if claim.context.get(name)]
    return "" if wanted or trick(claim.content[:20_000]) else "the context names no required, forbidden or format"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    text, context = claim.content, claim.context
    found = trick(text[:20_000])
    if found:
        return tool.holds(claim, False, found)
    folded = " ".join(text.casefold().split())
    missing = [one for one in _listed(context.get("required")) if not _has(folded, one)]
    unwanted = [one for one in _listed(context.get("forbidden")) if _has(folded, one)]
    problems = [f"lacks {one!r}" for one in missing] + [f"has {one!r}" for one in unwanted]
    form = str(context.get("format") or "")
    if form and (why := _format_problem(form, text)):
        problems.append(why)
    if problems:
        return tool.holds(claim, False, "; ".join(problems))
    if len(text.strip()) < SHORTEST and not form:
        return tool.holds(claim, False, "the text is empty")
    return tool.says(claim, 1.0, "it has what is required and the form asked for", confidence=SOFT)


def _listed(value: object) -> list[str]:
    return (
        [value] if isinstance(value, str) else [str(one) for one in value] if isinstance(value, (tuple, list)) else []
    )


def _has(folded: str, phrase: str) -> bool:
    wanted = " ".join(phrase.casefold().split())
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", folded) is not None


def _format_problem(form: str, text: str) -> str:
    kind, _, rest = form.partition(":")
    stripped = text.strip()
    if kind == "json":
        try:
            json.loads(stripped)
        except (ValueError, RecursionError):
            return "is not JSON"
        return ""
    if kind == "number":
        return "" if re.fullmatch(r"-?\d+([.,]\d+)?", stripped) else "is not a number"
    if kind == "date":
        try:
            datetime.date.fromisoformat(stripped)
        except ValueError:
            return "is not a date like 2026-11-21"
        return ""
    if kind == "pattern":  # no quantifiers: linear whatever the text
        wild = "".join(".*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", rest)[:9])
        return "" if len(stripped) < 5_000 and re.fullmatch(wild, stripped, re.DOTALL) else f"does not fit {rest!r}"
    bound = re.fullmatch(r"words(<=|>=)(\d+)", form)
    if bound:
        num = len(text.split())
        fits = num <= int(bound[2]) if bound[1] == "<=" else num >= int(bound[2])
        return "" if fits else f"has {num} words, asked for {form}"
    return f"cannot have the unknown format {form!r} (json, number, date, pattern:a*b, words<=N, words>=N)"


TOOL = Tool("form", "contextual", ("text",), own_version("form 1"), one=_judge, applies=_applies, hard=True)

"""Tool `passages_fts`: do passages contradict a text? SQLite's FTS5 finds those about the same, then they are compared.

Context: `passages`. Of the passages found, sentences that share most content words with the text are compared: a
negation on one side only, different numbers, or a word that the passage lacks contradict; the same on both supports.
No match: it abstains.
"""

from __future__ import annotations

import re
import sqlite3

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool

MAX_PASSAGES, LOOKED_AT, SAME = 2_000, 5, 0.6
_NEGATION = re.compile(r"\b(no|not|never|none|nobody|nothing|neither|nor|without|cannot|\w+n't)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_FILLERS = frozenset(
    re.findall(
        r"\w+",
        """a an the of in on at to for from by with and or but is are was were be been it its this that these those as
        he she they his her their not no never have has had do does did which who will would can could""",
    )
)


def _has_fts() -> str:
    with sqlite3.connect(":memory:") as connection:
        try:
            connection.execute("create virtual table t using fts5(x)")
        except sqlite3.OperationalError:
            return "this Python's SQLite was built without FTS5: install a Python with a full SQLite"
    return ""


def _content(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W_]+", text.casefold()) if word not in _FILLERS and not word.isdigit()]


def _applies(claim: Claim) -> str:
    return "" if claim.context.get("passages") else "the context has no passages"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    words = list(dict.fromkeys(_content(claim.content)))[:40]
    if len(words) < 2:
        return tool.abstains("the text has under two content words")
    passages = [str(one) for one in claim.context["passages"]][:MAX_PASSAGES]
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("create virtual table passages using fts5(text, tokenize='porter unicode61')")
        connection.executemany("insert into passages values (?)", [(one,) for one in passages])
        asked = " OR ".join(f'"{word}"' for word in words)
        query = "select rowid from passages where passages match ? order by rank limit ?"
        found = [row[0] - 1 for row in connection.execute(query, (asked, LOOKED_AT))]
    finally:
        connection.close()
    return _compared(tool, claim, [(i, passages[i]) for i in found])


def _compared(tool: Tool, claim: Claim, found: list[tuple[int, str]]) -> Verdict:
    own = set(_content(claim.content))
    negated, numbers = bool(_NEGATION.search(claim.content)), _numbers(claim.content)
    best, support = SAME, None
    for place, passage in found:
        known = set(_content(passage))
        for sentence in _SENTENCE.split(passage):
            share = len(own & set(_content(sentence))) / len(own)
            if share < best or (support is not None and share == best):
                continue
            foreign = own - known
            why = f"it does not speak of {', '.join(sorted(foreign)[:4])}" if foreign else ""
            if bool(_NEGATION.search(sentence)) != negated:
                why = "one of the two is negated"
            elif numbers and _numbers(sentence) and not numbers <= _numbers(sentence):
                why = f"it has {', '.join(sorted(_numbers(sentence)))}"
            best, support = share, (place, sentence, why)
    if support is None:
        return tool.abstains("no passage speaks of the same")
    place, sentence, why = support
    said = f"passage {place}: {sentence.strip()[:160]!r}"
    if why:
        return tool.says(claim, 0.1, f"contradicted by {said}: {why}", confidence=SOFT)
    return tool.says(claim, 0.5 + best / 2, f"supported by {said}", confidence=SOFT * best)


def _numbers(text: str) -> set[str]:
    return {one.replace(",", "").rstrip(".") for one in _NUMBER.findall(text)}


TOOL = Tool(
    "passages_fts", "consistency", ("text",), lambda: f"sqlite {sqlite3.sqlite_version}", one=_judge,
    applies=_applies, missing=_has_fts,
)  # fmt: skip

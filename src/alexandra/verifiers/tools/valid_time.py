"""Tool `valid_time`: did an answer hold in the period that its question names, by the dates of the passages?

Context: `prompt` (names the period: "from 1990 to Mar 1994", "in 1954") and `passages`. Every mention of the answer
gets the interval in which it held: a range as written, "since" and "until" half open, one date until the next date that
the text tells of afterwards. The best mention's overlap with the period decides; it is soft evidence, read off wording.
No dated mention: it abstains. (Allen 1983 for intervals as what is compared.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, own_version

MAX_PASSAGES, LONGEST_YEARS, ENOUGH = 2_000, 40.0, 0.3
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_YEAR = r"(?:1[0-9]{3}|20[0-9]{2})"
_MONTH = (
    r"\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b"
)


def _date(suffix: str = "") -> str:
    month = rf"(?:\d{{1,2}}\s+)?(?P<month{suffix}>{_MONTH})\.?\s*,?\s*(?:\d{{1,2}}\s*,\s*)?"
    return rf"(?:{month})?(?P<year{suffix}>{_YEAR})"


_SINGLE = re.compile(r"(?<![\d/.-])" + _date() + r"(?!\d)", re.IGNORECASE)
_JOINED = r"\s*(?:-|–|—|to|until|till|through|and)\s*"
_RANGE = re.compile(
    r"(?<![\d/.-])" + _date("1") + _JOINED + r"(?:" + _date("2") + r"|(?P<short>\d{2})(?![\d]))",
    re.IGNORECASE,
)
_OPEN = re.compile(r"(?:since|from)\s+" + _date() + r"(?:\s*[-–—]\s*present)?", re.IGNORECASE)
_ENDS = re.compile(r"(?:until|till|up to|left\b[^.]{0,30}\bin)\s+" + _date(), re.IGNORECASE)
_PRESENT = re.compile(_date() + r"\s*(?:-|–|—|to)\s*(?:present|now|today|date)", re.IGNORECASE)
_ENDING = re.compile(_YEAR + r"(?!\d)")  # how every date ends; its first characters are digits, so it is found fast
_APART = re.compile(r"[^\W\d_][\W\d_]+[^\W\d_]|[^\w\s.,]|_")  # two words, or a character that is in no date
BEFORE = 40  # characters before a year in which its day and month are looked for
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"“(])")


@dataclass(frozen=True)
class Held:
    """From when to when an answer held, in years, how sure the wording is (1: a range as written), and the sentence."""

    low: float
    high: float
    sure: float
    said: str


def _point(found: re.Match[str], suffix: str = "", *, end: bool = False) -> float:
    year, month = int(found[f"year{suffix}"]), found[f"month{suffix}"]
    if not month:
        return float(year) + (1.0 if end else 0.0)
    place = _MONTHS.index(month[:3].casefold())
    return year + (place + (1 if end else 0)) / 12


def ranges(text: str) -> Iterator[tuple[int, int, float, float]]:
    """(from character, to character, from year, to year) of every range that is written out."""
    for found in _RANGE.finditer(text):
        low = _point(found, "1")
        century = math.floor(low / 100) * 100
        high = _point(found, "2", end=True) if found["year2"] else century + int(found["short"]) + 1.0
        if low < high <= low + 200:
            yield found.start(), found.end(), low, high
    for found in _PRESENT.finditer(text):
        yield found.start(), found.end(), _point(found), math.inf


def period(question: str) -> tuple[float, float] | None:
    """The period that a question names, in years; None when it names none."""
    written = list(ranges(question))
    if written:
        return written[0][2], min(written[0][3], written[0][2] + LONGEST_YEARS)
    found = _SINGLE.search(question)
    return (_point(found), _point(found, end=True)) if found else None


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w]+", " ", text.casefold()).split())


def _found_dates(text: str) -> Iterator[re.Match[str]]:
    """What _SINGLE finds, read only around the years: all of a long text costs ten times as much."""
    done = 0
    for year in _ENDING.finditer(text):
        near = max(done, year.start() - BEFORE)
        if near > done and not _APART.search(text, near, year.start()):
            near = done  # one long word, or white space: a date may begin anywhere behind the last year
        found = _SINGLE.search(text, near, year.end() + 1)
        if found:
            yield found
        done = year.end()


def _dates(text: str) -> list[tuple[int, float]]:
    return [(found.start(), _point(found)) for found in _found_dates(text)]


class _Page:
    """Passages with what is read of each once, when it is asked for: plain words, dates, sentences and their dates."""

    def __init__(self, passages: tuple[str, ...]) -> None:
        self.passages = passages
        self.folded = [passage.casefold() for passage in passages]
        self._plain: dict[int, str] = {}
        self._years: dict[int, list[float]] = {}
        self._sentences: dict[int, list[tuple[str, list[float]]]] = {}

    def has(self, place: int, wanted: str, longest: str) -> bool:
        """Whether the plain words of a passage have those of the answer, whose longest word is `longest`."""
        if longest not in self.folded[place]:
            return False
        if place not in self._plain:
            self._plain[place] = _plain(self.passages[place])
        return wanted in self._plain[place]

    def years(self, place: int) -> list[float]:
        if place not in self._years:
            self._years[place] = [year for _, year in _dates(self.passages[place])]
        return self._years[place]

    def sentences(self, place: int) -> list[tuple[str, list[float]]]:
        if place not in self._sentences:
            said = _SENTENCE.split(self.passages[place])
            self._sentences[place] = [(one, [year for _, year in _dates(one)]) for one in said]
        return self._sentences[place]


_page = lru_cache(maxsize=16)(_Page)


def mentions(answer: str, passages: list[str]) -> Iterator[Held]:
    """Every sentence that has the answer, with the interval that its dates, or those before it, give."""
    wanted = _plain(answer)
    if not wanted:
        return
    page, longest = _page(tuple(passages)), max(wanted.split(), key=len)
    seen: list[float] = []
    for place in range(len(passages)):
        if not page.has(place, wanted, longest):
            seen = page.years(place)[-1:] or seen
            continue
        sentences = page.sentences(place)
        for number, (sentence, own) in enumerate(sentences):
            if wanted in f" {_plain(sentence)} ":
                after = [year for _, years in sentences[number + 1 :] for year in years]
                after += [
                    year for later in range(place + 1, min(place + 4, len(passages))) for year in page.years(later)
                ]
                yield _held(sentence, answer, seen, after)
            seen = own[-1:] or seen


def _held(sentence: str, answer: str, before: list[float], after: list[float]) -> Held:
    at = sentence.casefold().find(answer.casefold())
    at = len(sentence) // 2 if at < 0 else at
    written = sorted(ranges(sentence), key=lambda one: min(abs(one[0] - at), abs(one[1] - at)))
    if written:
        return Held(written[0][2], written[0][3], 1.0, sentence)
    dates = _dates(sentence)
    found = _ENDS.search(sentence)
    if found and len(dates) == 1:
        low = before[-1] if before and before[-1] < _point(found) else -math.inf
        return Held(low, _point(found, end=True), 0.7, sentence)
    found = _OPEN.search(sentence)
    if found and len(dates) == 1 and sentence[found.start()].lower() == "s":
        return Held(_point(found), math.inf, 0.8, sentence)
    if dates:
        start = min(dates, key=lambda one: abs(one[0] - at) + (0 if one[0] <= at else 5))[1]
        later = [year for _, year in dates if year > start] + [year for year in after if year > start]
        return Held(start, (later[0] + 1 if later else start + 4), 0.8, sentence)
    if before:
        later = [year for year in after if year > before[-1]]
        return Held(before[-1], (later[0] + 1 if later else before[-1] + 3), 0.4, sentence)
    return Held(-math.inf, math.inf, 0.0, sentence)


def overlap(one: Held, asked: tuple[float, float]) -> float:
    """The part of the asked period in which the answer held."""
    low, high = asked
    return max(0.0, min(one.high, high) - max(one.low, low)) / (high - low)


def _applies(claim: Claim) -> str:
    if not claim.context.get("passages"):
        return "the context has no passages"
    asked = period(str(claim.context.get("prompt") or ""))
    return "" if asked else "the prompt names no period"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    asked = period(str(claim.context["prompt"]))
    assert asked is not None
    passages = [str(one) for one in claim.context["passages"]][:MAX_PASSAGES]
    dated = [one for one in mentions(claim.content, passages) if one.sure > 0]
    if not dated:
        return tool.abstains("no passage dates this answer")
    best = max(dated, key=lambda one: one.sure * overlap(one, asked))
    found = best.sure * overlap(best, asked)
    score = 0.5 * found / ENOUGH if found < ENOUGH else 0.5 + 0.5 * (found - ENOUGH) / (1 - ENOUGH)
    when = f"{best.low:g} to {best.high:g}"
    words = f"asked about {asked[0]:g} to {asked[1]:g}; dated {when} by {best.said.strip()[:160]!r}"
    return tool.says(claim, score, words, confidence=SOFT * max(score, 1 - score))


TOOL = Tool(
    "valid_time", "evolution", ("text",), own_version("valid time 1"), one=_judge, applies=_applies
)  # fmt: skip

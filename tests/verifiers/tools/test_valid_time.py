"""When an answer held, by what passages say: ranges, open ends, one date until the next; a question's period."""

from __future__ import annotations

import math
import random

import pytest

from alexandra.records import Claim
from alexandra.verifiers.base import run
from alexandra.verifiers.tools import valid_time


@pytest.mark.parametrize(
    ("question", "period"),
    [
        ("Who led it from 1990 to 1994?", (1990, 1995)),
        ("From Sep 1855 to Sep 1856 who was her husband?", (1855 + 8 / 12, 1856 + 9 / 12)),
        ("Between 1979 and 1983, where did he play?", (1979, 1984)),
        ("Who won in Dec 2003?", (2003 + 11 / 12, 2004)),
        ("Who led it in 1954?", (1954, 1955)),
        ("Who ruled Denmark 1990?", (1990, 1991)),
        ("Who had a marvellous 1990?", (1990, 1991)),
        ("Who won in Sept. 2003?", (2003 + 8 / 12, 2003 + 9 / 12)),
        ("Who led flight 1234567 of 12 planes?", None),
    ],
)
def test_the_period_of_a_question(question: str, period: tuple[float, float] | None) -> None:
    assert valid_time.period(question) == (pytest.approx(period) if period else None)


@pytest.mark.parametrize(
    ("passages", "answer", "held"),
    [
        (["Guido Münch , 1978–1989", "Other , 1990–1999"], "Guido Munch", None),
        (["Guido Münch , 1978–1989"], "Guido Münch", (1978, 1990)),
        (["It was held at Vistalegre ( 2004–10 )."], "Vistalegre", (2004, 2011)),
        (["Thomas Henning , since 2001"], "Thomas Henning", (2001, math.inf)),
        (["Editor of Nature ( 1995 – present )"], "Nature", (1995, math.inf)),
        (["He joined Torpedo in 1990 . In 1994 he left for Spartak ."], "Torpedo", (1990, 1995)),
        (["He joined Torpedo in 1990 .", "In 1994 he left for Spartak ."], "Torpedo", (1990, 1995)),
        (["In 1990 he came .", "He played for Torpedo .", "He left in 1992 ."], "torpedo", (1990, 1993)),
        (["He lived in Rome until 1950 ."], "Rome", (-math.inf, 1951)),
    ],
)
def test_the_interval_of_a_mention(passages: list[str], answer: str, held: tuple[float, float] | None) -> None:
    found = [(one.low, one.high) for one in valid_time.mentions(answer, passages)]
    assert found == ([held] if held else [])


def claim(answer: str, prompt: str = "Which team did he play for from 1990 to 1993?") -> Claim:
    passages = ("He joined Torpedo in 1990 .", "In 1994 he moved on to Spartak .", "Later he coached Zenit .")
    return Claim("text", answer, {"prompt": prompt, "passages": passages})


def test_the_same_answer_is_right_of_one_period_and_wrong_of_another() -> None:
    (right,), (wrong,) = run(valid_time.TOOL, [claim("Torpedo")]), run(valid_time.TOOL, [claim("Spartak")])
    assert right.score > 0.8 and wrong.score == 0 and "dated 1994 to 1998 by 'In 1994 he moved" in wrong.reason
    (other,) = run(valid_time.TOOL, [claim("Spartak", "Which team did he play for from 1995 to 1996?")])
    assert other.score > 0.7 and not other.hard and other.confidence <= 0.6


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (claim("Dynamo"), "no passage dates this answer"),
        (claim("  "), "no passage dates this answer"),
        (claim("Torpedo", "Which team did he play for?"), "names no period"),
        (Claim("text", "Torpedo", {"prompt": "Who won in 1990?"}), "no passages"),
    ],
)
def test_what_has_no_date_is_abstained_from(given: Claim, why: str) -> None:
    (verdict,) = run(valid_time.TOOL, [given])
    assert verdict.score is None and why in verdict.reason


BITS = ("Mar", "march", "Denmark", "1990", "12", "2001", "12000", "/", ".", " ", ",", "  ", "a", "sept.", "May", "3")
MORE = ("x" * 30, "mar" + "x" * 45, " " * 45, "-", "the", "é", "1999", "_", "to", "٣", "nov, 5 , 1970", "1 jan 1999")


def test_reading_around_years_finds_what_reading_everything_finds() -> None:
    source = random.Random(0)
    for _ in range(4000):
        words = (source.choice(BITS + MORE) + " " * source.randrange(2) for _ in range(source.randrange(1, 14)))
        text = "".join(words)
        near = [(found.span(), found.groupdict()) for found in valid_time._found_dates(text)]
        assert near == [(found.span(), found.groupdict()) for found in valid_time._SINGLE.finditer(text)], text


def test_a_page_is_read_once_for_all_questions_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = valid_time._dates
    monkeypatch.setattr(valid_time, "_dates", lambda text: read.append(text) or plain(text))
    passages = [f"In {1900 + i} player {i} went to club {i}. He left club {i} in {1901 + i}." for i in range(60)]
    answers = [list(valid_time.mentions(f"club {i}", passages)) for i in range(60)]
    assert all(found and found[0].low == 1900 + i for i, found in enumerate(answers))
    assert read and max(read.count(text) for text in set(read)) <= 3  # once on its page, and where it names an answer


def test_long_months_are_months() -> None:
    assert valid_time.period("in \u017fep 1990") == valid_time.period("in Sep 1990")

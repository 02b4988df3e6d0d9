"""The rules' reasons, on texts that are made for them; the peer's own answers are in test_peer_parity.py."""

from __future__ import annotations

from itertools import islice
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.data.filters import gopher
from alexandra.data.filters.contamination import Contamination
from alexandra.data.filters.gopher import GopherQuality, GopherRepetition
from alexandra.data.filters.ratios import Ratios
from alexandra.data.filters.web_rules import C4Paragraphs, C4Quality, FineWeb
from alexandra.data.filters.words import english

GOOD = (
    "The harbour was quiet that morning, and the boats lay in their places with wet ropes. A man walked along the wall"
    " to the end of the pier, where he looked at the water for a long time. Nobody knew what he had come to see."
    " Later the wind rose and the first sails appeared far outside. People began to talk, to carry boxes, and to wash"
    " the stones of the market. It was the day of the fair, which they have every year in May."
)


def test_good_prose_passes_every_rule() -> None:
    assert [r.reason(GOOD) for r in (GopherQuality(), GopherRepetition(), FineWeb(), Ratios())] == [""] * 4
    assert C4Quality().apply(GOOD) == (GOOD, "")
    assert C4Paragraphs().reason("\n".join([GOOD] * 3)) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("too short", "gopher_short_doc"),
        ("a b c " * 30, "gopher_below_avg_threshold"),
        (GOOD + " #" * 30, "gopher_too_many_hashes"),
        ("\n".join("- " + line for line in GOOD.split(". ")), "gopher_too_many_bullets"),
        (GOOD + " 1234 5678 91011" * 12, "gopher_below_alpha_threshold"),
        ("wonderful harbours " * 40, "gopher_enough_stop_words"),
    ],
)
def test_gopher_quality_reasons(text: str, reason: str) -> None:
    assert GopherQuality().reason(text) == reason


def test_gopher_repetition_reasons() -> None:
    rule = GopherRepetition()
    assert rule.reason("") == "empty"
    assert rule.reason("\n\n".join([GOOD] * 3)) == "dup_para_frac"
    assert rule.reason("\n".join([GOOD] * 3)) == "dup_line_frac"
    assert rule.reason("buy now " * 40) == "top_2_gram"
    assert rule.reason(GOOD + " " + GOOD) == "duplicated_5_n_grams"


@given(st.lists(st.sampled_from(["ab", "cde", "fgh", "ij"]), min_size=11, max_size=60))
def test_short_and_long_texts_are_counted_alike(words: list[str]) -> None:
    short = _counted(words)
    with mock.patch.object(gopher, "SHORT", 0):
        assert _counted(words) == short


def _counted(words: list[str]) -> tuple[list[tuple[tuple[str, ...], int]], list[int]]:
    """The most frequent grams of 2 to 4 words, and the repeated characters of those of 5 to 10."""
    tops = [(tuple(gram), times) for gram, times in islice(gopher._tops(words), 3)]
    joined = gopher._Joined(words)
    return tops, [joined.repeated(n) for n in range(5, 11)]


def test_web_rules_reasons() -> None:
    assert C4Quality().apply(GOOD + " {") == ("", "too_few_sentences")
    assert C4Quality().apply(GOOD + "\n" + "Some { code } here.")[1] == "curly_bracket"
    assert C4Quality().apply(GOOD + "\nRead our privacy policy today.\nshort one.")[0] == GOOD
    assert FineWeb().reason("a line\n" * 20) == "line_punct_ratio"
    assert FineWeb().reason("A line.\n" * 20) == "short_line_ratio"
    assert C4Paragraphs().reason(GOOD) == "< 3 paragraphs"


def test_the_seeds_ratios() -> None:
    rule = Ratios()
    assert rule.reason("short") == "too_short"
    assert rule.reason("word " * 40) == "repeated_words"
    assert rule.reason("12 34 " * 5 + "9 8 7 6 5 4 3 2 1 ,,,,,,,,,,,,,,,,,") == "too_few_letters"
    assert rule.reason("x=1\n" * 20, code=True) == ""
    assert rule.reason("".join(chr(0x4E00 + 7 * i) for i in range(80))) == ""


def test_words_and_sentences_in_hard_places() -> None:
    assert english().words("Don't go to the U.S. (it's 5km), e.g. now :) http://a.org/c?d=e") == [
        "Do", "n't", "go", "to", "the", "U.S.", "(", "it", "'s", "5", "km", ")", ",", "e.g.", "now", ":)", "http://a.org/c?d=e"
    ]  # fmt: skip
    assert english().words("x =[12] b") == ["x", "=[", "12", "]", "b"]
    # "]=" across the blank is no word, but nothing that overlaps with it is put together either.
    assert english().words("a] =[12] b") == ["a", "]", "=", "[", "12", "]", "b"]
    assert english().count_sentences('He said "yes." Then he left... And so on? Yes!') == 3
    assert english().count_sentences("") == 0


def test_contamination_names_the_set_and_ignores_layout() -> None:
    item = "If a train leaves the station at nine and runs for three hours, when does it arrive at home?"
    index = Contamination({"trains": [item, "yes"], "other": ["something else that is long enough to count here now"]})
    assert index.skipped_items == 1
    assert index.found("Q: " + item.upper().replace(" ", "\n") + " A: noon") == "trains"
    assert index.found(" ".join(item.split()[:12])) == ""
    assert index.found(GOOD) == ""

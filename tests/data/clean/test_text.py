"""Repair changes what is broken and nothing else; code keeps its layout."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexandra.data.clean.text import (
    clean_code,
    repair_encoding,
    shorten_runs,
    tidy_white_space,
    without_controls,
)


@pytest.mark.parametrize("text", ["Grüße – naïve “quotes”", "L’été à Paris €5", "日本語", "plain", "Ångström"])
def test_mojibake_is_undone_and_good_text_left_alone(text: str) -> None:
    pytest.importorskip("ftfy")
    assert repair_encoding(text) == text
    broken = text.encode("utf-8").decode("windows-1252", "replace")
    if "�" not in broken:
        assert repair_encoding(broken) == text


def test_controls_and_overrides_go_and_joiners_stay() -> None:
    assert without_controls("a\x00b\x07\u202ec\ufeffd\r\ne\rf\u2028g") == "abcd\ne\nf\ng"
    assert without_controls("می\u200cخواهم") == "می\u200cخواهم"
    assert without_controls("e\u0301") == "é"


def test_white_space_runs_and_blank_lines() -> None:
    assert tidy_white_space("  a \t b\u00a0 c  \n\n\n\n d ") == "a b c\n\nd"
    assert shorten_runs("sooooo good!!!!!!! 1000000 ----- \n\n\n\n\n\n") == "sooo good!!! 1000000 --- \n\n\n\n\n\n"


@given(st.text(alphabet="ab(){}#:=\n\t \"'", max_size=200))
def test_code_keeps_every_inner_character(code: str) -> None:
    assert clean_code(code) == (code.rstrip() + "\n" if code.strip() else "")


@settings(max_examples=20)
@given(st.text(max_size=300))
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = tidy_white_space(without_controls(text))
    assert tidy_white_space(without_controls(once)) == once

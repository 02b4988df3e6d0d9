"""The shared lexis: literals, positions, comments, and the positions of syntax errors."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.errors import LanguageError
from alexandra.lang import lexis
from alexandra.lang.lexis import Source


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=40))
def test_quote_and_string_value_are_inverse(text: str) -> None:
    source = Source.of(lexis.quote(text))
    assert lexis.string_value(source, source.at(0, len(source.text))) == text


def test_escapes_are_those_of_json_and_others_are_refused() -> None:
    source = Source.of(r'"a\n\t\"\\\/\u00e9"')
    assert lexis.string_value(source, source.at(0, len(source.text))) == 'a\n\t"\\/é'
    bad = Source.of(r'x "a\q"', "f.nl")
    with pytest.raises(LanguageError, match=r"f\.nl:1:5: unknown escape '\\q'") as caught:
        lexis.string_value(bad, bad.at(2, 5))
    assert caught.value.length == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("20ms", 0.02), ("2h", 7200), ("30s", 30), ("1.5d", 129600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert lexis.duration_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("512MB", 512 * 10**6), ("1.5KiB", 1536), ("7B", 7)])
def test_sizes(text: str, size: int) -> None:
    assert lexis.size_bytes(text) == size


def test_percentages() -> None:
    assert (lexis.percent_value("70%"), lexis.percent_value("1 %")) == (0.7, 0.01)


def test_line_ends_and_byte_order_mark_do_not_shift_positions() -> None:
    source = Source.of("\ufeffone\r\ntwo\rthree")
    assert source.lines == ["one", "two", "three"]
    assert source.at(source.text.index("three"))[:2] == (3, 1)


@given(st.text("ab\n\té", max_size=30), st.data())
def test_positions_count_lines_and_characters(text: str, data: st.DataObject) -> None:
    source = Source.of(text)
    offset = data.draw(st.integers(0, len(text)))
    span = source.at(offset)
    assert span.line == text[:offset].count("\n") + 1
    assert span.column == offset - (text[:offset].rfind("\n") + 1) + 1


def test_an_error_underlines_within_its_line_and_keeps_columns_behind_tabs() -> None:
    source = Source.of("\tab cd\nnext", "f.nl")
    error = source.error(source.at(4, 99), "message", "hint")
    assert str(error) == "f.nl:1:5: message\n     ab cd\n        ^^\nhint"


def test_comments_are_found_outside_of_texts() -> None:
    source = Source.of('a // one\n"// no" /* two\nlines */ b\n  // three')
    found = lexis.comments(source)
    assert [comment.text for comment in found] == ["// one", "/* two\nlines */", "// three"]
    assert [comment.own_line for comment in found] == [False, False, True]
    bare = lexis.without_comments(source)
    assert len(bare) == len(source.text) and "no" in bare and "two" not in bare


def test_parsers_are_built_once_and_lark_is_not_loaded_with_the_package() -> None:
    assert lexis.parser("nureon") is lexis.parser("nureon")
    code = "import sys, alexandra.lang.nureon; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

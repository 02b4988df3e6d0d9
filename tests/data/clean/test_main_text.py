"""The main text of real pages agrees with their truth, and bait costs no more than text."""

from __future__ import annotations

import re
import tarfile
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("selectolax")

from alexandra.data.clean.main_text import main_text, whole_text

PAGE = (
    "<html><head><title>On rivers - The Paper</title></head><body>"
    "<nav class=menu><a href=/>Home</a> <a href=/b>News</a></nav>"
    "<div class=article><h1>On rivers</h1><p>{}</p><p>{}</p></div>"
    "<div class=sidebar><ul><li><a href=/c>More news from everywhere</a></li></ul></div>"
    "<div style='display: none'>hidden words</div><footer>Copyright</footer></body></html>"
)
ONE = "Rivers carry water, sand, and stories to the sea; " * 8
TWO = "They are older than towns, and towns, as a rule, follow them. " * 8


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))


def f1(found: str, truth: str) -> float:
    a, b = words(found), words(truth)
    common = sum((a & b).values())
    return 2 * common / (sum(a.values()) + sum(b.values())) if common else float(a == b)


def truth_pages(folder: Path) -> dict[str, tuple[str, str]]:
    """name -> (page, expected text) of the Readability fixtures."""
    from selectolax.lexbor import LexborHTMLParser

    found: dict[str, dict[str, str]] = {}
    with tarfile.open(folder / "web_pages/readability_pages.tar.xz") as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isfile() else None
            if opened is not None:
                name, _, part = member.name.partition("/")
                found.setdefault(name, {})[part] = opened.read().decode("utf-8", "replace")
    return {
        name: (parts["source.html"], LexborHTMLParser(parts["expected.html"]).root.text(separator=" "))  # type: ignore[union-attr]
        for name, parts in found.items()
    }


def test_the_article_stays_and_the_furniture_goes() -> None:
    text = main_text(PAGE.format(ONE, TWO))
    assert "Rivers carry" in text and "older than towns" in text
    assert not {"home", "more", "hidden", "copyright"} & set(words(text))
    assert "hidden" not in whole_text(PAGE.format(ONE, TWO)) and "Home" in whole_text(PAGE.format(ONE, TWO))


def test_preformatted_text_and_lists_keep_their_lines() -> None:
    lists = "<ul><li>first</li><li>second</li></ul>"
    page = f"<article><p>{ONE}</p><pre>def f():\n    return 1</pre>{lists}<p>{TWO}</p></article>"
    text = main_text(page)
    assert "def f():\n    return 1" in text and "- first\n- second" in text


def test_mean_f1_on_the_truth_pages(real_data: Path) -> None:
    scores = {name: f1(main_text(page), truth) for name, (page, truth) in truth_pages(real_data).items()}
    assert len(scores) >= 50
    assert sum(scores.values()) / len(scores) >= 0.97, sorted((round(s, 2), n) for n, s in scores.items())[:10]


BAIT = {
    "empty": "",
    "not a page": "just words",
    "unclosed": "<div>" * 60_000 + "x",
    "unclosed inline": "<b>" * 60_000 + "x",
    "nested": ("<div>" * 140 + "<p>some text, here</p>" * 50 + "</div>" * 140) * 40,
    "tables": "<table><tr><td>" * 20_000 + "x",
    "angles": "<" * 300_000,
    "siblings": "<div>" * 149 + "<div></div>" * 30_000,
    "attribute": "<div " + "a=b " * 80_000 + ">",
    "comment": "<!--" * 80_000,
}


@pytest.mark.parametrize("name", sorted(BAIT))
def test_bait_is_read_in_linear_time(name: str) -> None:
    began = time.process_time()
    main_text(BAIT[name])
    assert time.process_time() - began < 13.0 + 2e-6 * len(BAIT[name])

"""The page of examples is the one that the table makes."""

from __future__ import annotations

from pathlib import Path

from alexandra.curriculum.gallery import page

PAGE = Path(__file__).parents[2] / "docs/curriculum.md"


def test_the_page_is_up_to_date() -> None:
    found = PAGE.read_text(encoding="utf-8")
    assert found == page(), "python -m alexandra.curriculum.gallery > docs/curriculum.md"

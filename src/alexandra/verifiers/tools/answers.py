"""When two answers are the same: whitespace, case, a final point and the writing of numbers do not matter."""

from __future__ import annotations


def alike(answer: str) -> str:
    """An answer in the form that is compared."""
    text = " ".join(str(answer).strip().casefold().rstrip(".").replace(",", "").split())
    try:
        return f"{float(text):.10g}"
    except ValueError:
        return text

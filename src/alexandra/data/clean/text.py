"""Text repair in the seed's order: encoding (ftfy), control characters, white space, runs of one character.

Code keeps its tabs, indentation and blank lines to the byte; only line ends are made one kind and control characters
go. All patterns are linear.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from alexandra.errors import missing_extra

# What UTF-8 looks like when it was read as Latin-1, windows-1252, windows-1251 or Mac Roman.
_MOJIBAKE = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014\u2018-\u201e\u2020-\u2022"
    "\u2026\u2030\u2039\u203a\u20ac\u2122]|\u221a[\u2020-\u25ca\u00a0-\u00ff]|\u201a\u00c4|[\u0420\u0421][\u0400-\u040f\u0452-\u045f"
    "\u0490\u0491\u00a0-\u00bb\u2010-\u2122]"
)
# Bidirectional overrides hide code from reviewers; the rest is noise. Joiners (200c, 200d) are part of scripts.
_INVISIBLE = "\u200b\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u00ad\ufffc\ufff9\ufffa\ufffb"
_CONTROL = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_TABLE = {**_CONTROL, **{ord(character): None for character in _INVISIBLE}}
_CONTROLLED = re.compile(f"[{''.join(map(re.escape, (chr(code) for code in _TABLE)))}]")
_LINE_ENDS = re.compile("\r\n?|\u2028|\u2029|\x0b|\x0c|\x85")
_BLANKS = re.compile(r"[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_EDGES = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")
_RUN = re.compile(r"([^\w\s])\1{4,}|([^\W\d])\2{4,}")


@cache
def _fixer() -> object:
    try:
        import ftfy
    except ImportError as error:
        raise missing_extra("repairing encodings", "data") from error
    return ftfy.fix_encoding


def repair_encoding(text: str) -> str:
    """Undo text that was decoded with the wrong encoding; lines without its traces are left alone."""
    if text.isascii() or not _MOJIBAKE.search(text):
        return text
    fix = _fixer()
    return "\n".join(fix(line) if _MOJIBAKE.search(line) else line for line in text.split("\n"))  # type: ignore[operator]


def without_controls(text: str) -> str:
    """One kind of line end, no control or invisible formatting characters, composed accents (NFC)."""
    if "\r" in text or not text.isprintable():
        text = _LINE_ENDS.sub("\n", text)
        if _CONTROLLED.search(text):
            text = text.translate(_TABLE)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def tidy_white_space(text: str) -> str:
    """Single blanks, no blanks at the ends of lines, at most one empty line; for prose."""
    text = _EDGES.sub("\n", _BLANKS.sub(" ", text))
    return _BLANK_LINES.sub("\n\n", text).strip()


def shorten_runs(text: str) -> str:
    """Five or more of one letter or sign become three; digits stay, they may be a number."""
    return _RUN.sub(lambda match: (match.group(1) or match.group(2)) * 3, text)


def clean_prose(text: str) -> str:
    """All of it, for prose and conversations."""
    return shorten_runs(tidy_white_space(without_controls(repair_encoding(text))))


def clean_code(text: str) -> str:
    """Only what cannot change a program: line ends, control and bidirectional characters, the end of the file."""
    text = _LINE_ENDS.sub("\n", text)
    if _CONTROLLED.search(text):
        text = text.translate(_TABLE)
    return text.rstrip() + "\n" if text.strip() else ""

"""What a reader is told about its files."""

from __future__ import annotations

from dataclasses import dataclass

MAX_RECORD_BYTES = 32 << 20


@dataclass(frozen=True)
class Part:
    """Bytes (Parquet: row groups) `start` to `end` of a file, None for its end; `records` lines or rows come before."""

    start: int = 0
    end: int | None = None
    records: int = 0


@dataclass(frozen=True)
class ReadOptions:
    """source     the name that documents carry
    text       the field or column with the text, dots for nesting ("body.text")
    id         the field or column that names a record; without it, its place in the file
    split      of plain text: "file", "line" or "blank" (paragraphs between blank lines)
    units      of source code: "file" or "function" (tree-sitter; a class counts as its methods do)
    metadata   fields to keep beside the text; ("*",) keeps all scalar ones
    max_record_bytes  a longer record is quarantined
    part       which part of the file; formats that cannot be cut (formats/parts.py) read it whole
    """

    source: str = ""
    text: str = "text"
    id: str = ""
    split: str = "file"
    units: str = "file"
    metadata: tuple[str, ...] = ("*",)
    max_record_bytes: int = MAX_RECORD_BYTES
    part: Part = Part()

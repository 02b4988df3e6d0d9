"""Readers: a table from a format's name to the function that reads it, and files found under a path.

To add a format: write `read_x(path, options) -> Iterator[Record]` in this folder, add its row to FORMATS, add a
file to the hostile corpus in tests/data/formats. A reader never raises for bad data; it yields Broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alexandra.data.flow import Record
from alexandra.data.formats.books import read_epub, read_latex, read_pdf
from alexandra.data.formats.columnar import read_arrow, read_parquet
from alexandra.data.formats.lines import read_csv, read_html, read_jsonl, read_markdown, read_text
from alexandra.data.formats.options import Part, ReadOptions
from alexandra.data.formats.parts import cuts
from alexandra.data.formats.repositories import read_code, read_repository, repository_files
from alexandra.data.formats.warc import read_warc
from alexandra.errors import DataError, suggest

__all__ = ["FORMATS", "Format", "Part", "ReadOptions", "cuts", "files_of", "format_of", "read_file"]

Reader = Callable[[Path, ReadOptions], Iterator[Record]]
PACKED = (".gz", ".zst")


@dataclass(frozen=True)
class Format:
    """`suffixes` choose the format of a file whose source does not name one."""

    read: Reader
    suffixes: tuple[str, ...]


FORMATS: dict[str, Format] = {
    "jsonl": Format(read_jsonl, (".jsonl", ".ndjson", ".json")),
    "parquet": Format(read_parquet, (".parquet",)),
    "arrow": Format(read_arrow, (".arrow", ".feather")),
    "csv": Format(read_csv, (".csv", ".tsv")),
    "text": Format(read_text, (".txt", ".text")),
    "markdown": Format(read_markdown, (".md", ".markdown")),
    "html": Format(read_html, (".html", ".htm", ".xhtml")),
    "warc": Format(read_warc, (".warc",)),
    "pdf": Format(read_pdf, (".pdf",)),
    "epub": Format(read_epub, (".epub",)),
    "latex": Format(read_latex, (".tex", ".latex")),
    "code": Format(read_code, ()),
    "repository": Format(read_repository, ()),
}
_BY_SUFFIX = {suffix: name for name, one in FORMATS.items() for suffix in one.suffixes}


def format_of(path: Path) -> str:
    """The format that a file's name says, "" when it says none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return _BY_SUFFIX.get(suffixes[-1], "") if suffixes else ""


def files_of(pattern: str, folder: Path, kind: str = "") -> list[Path]:
    """The files of a source, sorted: a file, a folder (a Hugging Face data set's, too), or a glob pattern.

    A repository is one unit: its folder. Of a folder, files whose name says a format are taken, all of them for code.
    """
    base = Path(pattern).expanduser()
    base = base if base.is_absolute() else folder / base
    if kind and kind not in FORMATS:
        raise DataError(f"unknown format {kind!r}", hint=suggest(kind, FORMATS))
    if any(mark in pattern for mark in "*?["):
        anchor = Path(base.anchor)
        found = sorted(
            path for path in anchor.glob(str(base.relative_to(anchor))) if path.is_file() or kind == "repository"
        )
    elif base.is_dir():
        if kind == "repository":
            return [base]
        inside = repository_files(base)
        found = inside if kind == "code" else [path for path in inside if format_of(path) and not _about(path)]
        found = [path for path in found if not kind or kind == "code" or format_of(path) == kind]
    else:
        found = [base] if base.is_file() else []
    if not found:
        raise DataError(
            f"no files at {pattern!r} (looked in {str(folder)!r})", hint="give a file, a folder or a pattern"
        )
    return found


def _about(path: Path) -> bool:
    """Files that describe a Hugging Face data set instead of holding its rows."""
    return path.name in ("dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json", "README.md")


def read_file(path: Path, options: ReadOptions, kind: str = "") -> Iterator[Record]:
    """The records of one file."""
    name = kind or format_of(path)
    if name not in FORMATS:
        hint = f"name the source's format; {suggest(path.suffix or path.name, FORMATS)}"
        raise DataError(f"cannot tell the format of {path.name!r}", hint=hint)
    return FORMATS[name].read(path, options)

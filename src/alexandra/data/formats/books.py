"""Books and papers: PDF (pypdf), EPUB (a zip of XHTML in reading order) and LaTeX source, each file one document.

Limits against bombs: what a book unpacks to is bounded, and a PDF page that fails is left out and counted in the
metadata; a file with no readable page is quarantined. No macro of a LaTeX file is expanded, no script is run.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from alexandra.data.flow import Broken, Record
from alexandra.data.formats.charset import decode
from alexandra.data.formats.options import ReadOptions
from alexandra.data.formats.streams import StreamProblem, read_all
from alexandra.errors import missing_extra
from alexandra.records import Document

MAX_PAGES = 20_000
_ITEM = re.compile(r"<item\b[^>]{0,2000}>", re.IGNORECASE)
_ITEMREF = re.compile(r"""<itemref\b[^>]{0,500}?\bidref\s{0,3}=\s{0,3}["']([^"']{1,300})["']""", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""\b(id|href|media-type)\s{0,3}=\s{0,3}["']([^"']{1,1000})["']""", re.IGNORECASE)
_ROOT = re.compile(r"""full-path\s{0,3}=\s{0,3}["']([^"']{1,500})["']""", re.IGNORECASE)


def read_pdf(path: Path, options: ReadOptions) -> Iterator[Record]:
    """The text of the pages, joined by blank lines."""
    try:
        import logging

        import pypdf
        import pypdf.errors
    except ImportError as error:
        raise missing_extra("reading PDF files", "data") from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its complaints become quarantine reasons
    if path.stat().st_size > 16 * options.max_record_bytes:
        yield Broken(path.name, "file", f"record too long: {path.stat().st_size} bytes")
        return
    pages: list[str] = []
    failed = 0
    try:
        pdf = pypdf.PdfReader(path, strict=False)
        if pdf.is_encrypted and not pdf.decrypt(""):
            yield Broken(path.name, "file", "encrypted PDF")
            return
        count = min(len(pdf.pages), MAX_PAGES)
    except Exception as error:  # a damaged file raises anything, down to AttributeError
        yield Broken(path.name, "file", f"not a readable PDF: {type(error).__name__}: {str(error)[:100]}")
        return
    for number in range(count):
        try:
            pages.append(pdf.pages[number].extract_text() or "")
        except Exception:
            failed += 1
        if sum(map(len, pages)) > options.max_record_bytes:
            yield Broken(
                path.name, f"page {number + 1}", f"record too long: more than {options.max_record_bytes} bytes"
            )
            return
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        yield Broken(path.name, "file", "no text in this PDF (scanned images need character recognition)")
        return
    metadata = {"file": path.name, "pages": count, "pages_failed": failed}
    yield Document(_joined_hyphens(text), f"{options.source}/{path.name}", options.source, "prose", metadata)


def _joined_hyphens(text: str) -> str:
    """Words cut at a line's end are put together again."""
    return re.sub(r"([a-zß-ÿ])-\n([a-zß-ÿ])", r"\1\2", text)


def read_epub(path: Path, options: ReadOptions) -> Iterator[Record]:
    """The chapters in their reading order, as one HTML text."""
    try:
        with zipfile.ZipFile(path) as book:
            chapters, unpacked = [], 0
            for name in _spine(book):
                unpacked += book.getinfo(name).file_size
                if unpacked > options.max_record_bytes:
                    raise StreamProblem(f"record too long: unpacks to more than {options.max_record_bytes} bytes")
                chapters.append(decode(book.read(name)))
    except StreamProblem as problem:
        yield Broken(path.name, "file", str(problem))
        return
    except (zipfile.BadZipFile, KeyError, OSError, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        yield Broken(path.name, "file", f"not a readable EPUB: {type(error).__name__}: {str(error)[:100]}")
        return
    if not chapters:
        yield Broken(path.name, "file", "no chapters in this EPUB")
        return
    bodies = [chapter_body(chapter) for chapter in chapters]
    page = "<html><body><article>" + "\n<hr/>\n".join(bodies) + "</article></body></html>"
    metadata = {"file": path.name, "chapters": len(chapters), "whole": True}
    yield Document(page, f"{options.source}/{path.name}", options.source, "html", metadata)


def chapter_body(chapter: str) -> str:
    """What stands between <body> and </body>."""
    lowered = chapter.lower()
    start = lowered.find("<body")
    start = lowered.find(">", start) + 1 if start >= 0 else 0
    end = lowered.rfind("</body")
    return chapter[start : end if end >= start else len(chapter)]


def _spine(book: zipfile.ZipFile) -> list[str]:
    names = set(book.namelist())
    root = _ROOT.search(decode(book.read("META-INF/container.xml"))) if "META-INF/container.xml" in names else None
    package = root.group(1) if root else next((name for name in sorted(names) if name.endswith(".opf")), "")
    if package not in names:
        return [name for name in sorted(names) if name.lower().endswith((".xhtml", ".html", ".htm"))]
    opf = decode(book.read(package))
    items: dict[str, dict[str, str]] = {}
    for item in _ITEM.findall(opf):
        attributes = {key.lower(): value for key, value in _ATTRIBUTE.findall(item)}
        items[attributes.get("id", "")] = attributes
    ordered = [items[reference] for reference in _ITEMREF.findall(opf) if reference in items]
    folder = posixpath.dirname(package)
    paths = [posixpath.normpath(posixpath.join(folder, unquote(item.get("href", "")))) for item in ordered]
    return [path for path in paths if path in names]


# LaTeX: what is dropped with its argument, what is replaced by its argument, and what stands for a character.
_DROP = re.compile(
    r"\\(?:cite[a-z]*|ref|eqref|pageref|autoref|label|bibliography(?:style)?|usepackage|documentclass|includegraphics"
    r"|input|include|vspace|hspace|pagestyle|thispagestyle|setlength|newcommand|renewcommand|def|bibitem|index)\*?"
    r"(?:\[[^\]]{0,200}\])?(?:\{[^{}]{0,500}\})?"
)
_SECTION = re.compile(
    r"\\(?:part|chapter|(?:sub){0,2}section|paragraph|title)\*?(?:\[[^\]]{0,200}\])?\{([^{}]{0,500})\}"
)
_KEEP = re.compile(r"\\[a-zA-Z]{1,40}\*?(?:\[[^\]]{0,200}\])?\{([^{}]{0,5000})\}")
_COMMAND = re.compile(r"\\(?:begin|end)\{[^{}]{0,60}\}(?:\[[^\]]{0,200}\])?|\\[a-zA-Z]{1,40}\*?|\\[\\,;:! ]")
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_CHARACTERS = {"~": " ", "``": "“", "''": "”", "---": "—", "--": "–", r"\%": "%", r"\&": "&", r"\$": "$", r"\#": "#"}
MAX_NESTING = 8


def read_latex(path: Path, options: ReadOptions) -> Iterator[Record]:
    """The body's words; mathematics stays as it is written, between dollar signs."""
    try:
        source = decode(read_all(path, options.max_record_bytes))
    except StreamProblem as problem:
        yield Broken(path.name, "file", str(problem))
        return
    yield Document(
        latex_text(source),
        f"{options.source}/{path.name}",
        options.source,
        "prose",
        {"file": path.name, "format": "latex"},
    )


def latex_text(source: str) -> str:
    """LaTeX without its commands."""
    start, end = source.find(r"\begin{document}"), source.find(r"\end{document}")
    body = source[start + 16 if start >= 0 else 0 : end if end >= 0 else len(source)]
    body = _DROP.sub("", _COMMENT.sub("", body))
    for _ in range(MAX_NESTING):  # from the innermost braces out
        body, headings = _SECTION.subn(r"\n\n\1\n\n", body)
        body, changed = _KEEP.subn(_argument, body)
        if not changed + headings:
            break
    body = _COMMAND.sub(" ", body)
    for written, meant in _CHARACTERS.items():
        body = body.replace(written, meant)
    body = re.sub(r"[{}]", "", body)
    body = re.sub(r" ?\n ?", "\n", re.sub(r"[ \t]+", " ", body))
    return re.sub(r"\n{3,}", "\n\n", body).strip()


def _argument(match: re.Match[str]) -> str:
    return match.group(0) if match.group(0).startswith((r"\begin{", r"\end{")) else match.group(1)


READERS: dict[str, Any] = {"pdf": read_pdf, "epub": read_epub, "latex": read_latex}

"""WARC: the pages of a crawl, read with fastwarc, one gzip member at a time so that a damaged record costs only itself.

Yields HTML and plain-text responses with status 200 as documents; every other record is Skipped under its kind.
After damage the reader looks for the next gzip member, or in a plain file for the next "WARC/" line, and goes on.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from alexandra.data.flow import Broken, Record, Skipped
from alexandra.data.formats.charset import declared_charset, decode
from alexandra.data.formats.options import ReadOptions
from alexandra.errors import missing_extra
from alexandra.records import Document

GZIP = b"\x1f\x8b\x08"
_HTML = ("text/html", "application/xhtml")
_BOUNDARY = b"\r\nWARC/1."
_WINDOW = 1 << 18


def read_warc(path: Path, options: ReadOptions) -> Iterator[Record]:
    """The records of a .warc or .warc.gz file in their order."""
    for offset, found in _pieces(path, options):
        if isinstance(found, str):
            yield Broken(path.name, f"byte {offset}", found)
        else:
            yield from _records(found, path.name, offset, options)


def record_offsets(path: Path, options: ReadOptions) -> Iterator[int]:
    """Where the reader finds a record, a gzip member or damage: what it yields from there on does not depend on what
    stands before."""
    for offset, _ in _pieces(path, options):
        yield offset


def _pieces(path: Path, options: ReadOptions) -> Iterator[tuple[int, bytes | str]]:
    """(offset, bytes of a record or of an unpacked member), or (offset, what is wrong there), of the wanted part."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP[:2]
    end = path.stat().st_size if options.part.end is None else options.part.end
    return (_members if packed else _plain_records)(path, options.max_record_bytes, options.part.start, end)


def _members(path: Path, limit: int, start: int, end: int) -> Iterator[tuple[int, bytes | str]]:
    with path.open("rb") as file:
        packed = _Packed(file, start)
        while packed.base < end and packed.more_if_empty():
            yield packed.base, packed.member(limit)


class _Packed:
    """The gzip members of a file; `base` is where the next one begins."""

    def __init__(self, file: IO[bytes], start: int) -> None:
        file.seek(start)
        self.file = file
        self.buffer = b""
        self.base = start

    def more(self) -> bool:
        block = self.file.read(_WINDOW)
        self.buffer += block
        return bool(block)

    def more_if_empty(self) -> bool:
        return bool(self.buffer) or self.more()

    def member(self, limit: int) -> bytes | str:
        """The member at `base`, or what is wrong with it; then stands at the next one that can be found."""
        while len(self.buffer) < len(GZIP) and self.more():
            pass
        if not self.buffer.startswith(GZIP):
            self._to_next()
            return "damaged stream: no gzip member here"
        engine = zlib.decompressobj(31)
        out: list[bytes] = []
        fed = size = 0
        while not engine.eof:
            # Pieces are counted from the member's begin: what is said of damage does not depend on what stands before.
            while len(self.buffer) - fed < _WINDOW and self.more():
                pass
            if fed >= len(self.buffer):
                self._to_next()
                return "truncated record"
            piece = self.buffer[fed : fed + _WINDOW]
            fed += len(piece)
            try:
                out.append(engine.decompress(piece, limit + 1 - size))
            except zlib.error as error:
                self._to_next()
                return f"damaged stream: {str(error)[:80]}"
            size += len(out[-1])
            if size > limit:
                self._to_next()
                return f"record too long: more than {limit} bytes"
        self._skip(fed - len(engine.unused_data))
        return b"".join(out)

    def _skip(self, count: int) -> None:
        self.base, self.buffer = self.base + count, self.buffer[count:]

    def _to_next(self) -> None:
        found = self.buffer.find(GZIP, 1)
        while found < 0:
            self._skip(max(1, len(self.buffer) - 2))
            if not self.more():
                self._skip(len(self.buffer))
                return
            found = self.buffer.find(GZIP)
        self._skip(found)


def _plain_records(path: Path, limit: int, start: int, end_offset: int) -> Iterator[tuple[int, bytes | str]]:
    """The same for an unpacked file: cut by the declared lengths, and after damage at the next version line."""
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = start
        while offset < end_offset:
            file.seek(offset)
            head = file.read(1 << 16)
            if not head.strip(b"\r\n\0 \t"):
                return
            lead = len(head) - len(head.lstrip(b"\r\n"))
            offset, head = offset + lead, head[lead:]
            if offset >= end_offset:
                return
            end = head.find(b"\r\n\r\n")
            length = _declared_length(head[:end]) if end >= 0 and head.startswith(b"WARC/1.") else -1
            whole = end + 4 + length
            if length < 0 or offset + whole > size or length > limit:
                over = f"record too long: more than {limit} bytes"
                problem = over if length > limit else "truncated record" if length >= 0 else "damaged record header"
                yield offset, problem
                offset = _next_boundary(file, offset + 1, size)
                continue
            file.seek(offset)
            yield offset, file.read(whole) + b"\r\n\r\n"
            offset += whole


def _declared_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return -1


def _next_boundary(file: IO[bytes], start: int, size: int) -> int:
    position = start
    while position < size:
        file.seek(position)
        window = file.read(_WINDOW)
        found = window.find(_BOUNDARY)
        if found >= 0:
            return int(position + found + 2)
        position += max(1, len(window) - len(_BOUNDARY))
    return size


def _records(data: bytes, name: str, offset: int, options: ReadOptions) -> Iterator[Record]:
    """The records of one member (usually one)."""
    try:
        from fastwarc.warc import ArchiveIterator
    except ImportError as error:
        raise missing_extra("reading WARC files", "data") from error
    count = 0
    try:
        for count, record in enumerate(ArchiveIterator(io.BytesIO(data), parse_http=True), 1):
            position = f"byte {offset}" if count == 1 else f"byte {offset}, record {count}"
            yield _page(record, name, position, options)
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        yield Broken(name, f"byte {offset}", f"damaged record: {str(error)[:100]}")
        return
    if not count:
        yield Broken(name, f"byte {offset}", "not a WARC record")


def _page(record: Any, name: str, position: str, options: ReadOptions) -> Record:
    kind = str(record.record_type).rpartition(".")[2]
    if kind not in ("response", "resource", "conversion"):
        return Skipped(kind)
    http = record.http_headers
    if kind == "response" and http is None:
        return Skipped("response without HTTP")
    if http is not None and http.status_code is not None and http.status_code != 200:
        return Skipped(f"status {http.status_code}")
    content_type = (http.get("Content-Type") if http is not None else record.headers.get("Content-Type")) or ""
    content_type = content_type.lower()
    plain = content_type.startswith("text/plain")
    if content_type and not plain and not content_type.startswith(_HTML):
        return Skipped("not a text page")
    body = record.reader.read()
    declared = record.content_length
    if http is None and declared is not None and len(body) < declared:
        return Broken(name, position, "truncated record")
    if not content_type and b"<" not in body[:1024]:
        return Skipped("not a text page")
    url = (record.headers.get("WARC-Target-URI") or "").strip("<>")
    text = decode(body, declared_charset(content_type))
    metadata = {"url": url, "date": record.headers.get("WARC-Date") or "", "file": name}
    identity = (record.headers.get("WARC-Record-ID") or "").strip("<>") or f"{options.source}/{name}#{position}"
    return Document(text, identity, options.source, "prose" if plain else "html", metadata)

"""Bytes in: plain, gzip and zstd files with a limit against bombs, and lines of bounded length.

A damaged or truncated stream ends in a StreamProblem that names the byte; what came before it stays usable.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from alexandra.data.formats.options import Part
from alexandra.errors import missing_extra

BLOCK = 1 << 18
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
GZIP_BLOCK, ZSTD_BLOCK = 1 << 15, 1 << 11
# A file may unpack to this many times its size, and at least FREE bytes: text rarely packs better than 1:100.
MAX_RATIO = 400
FREE_BYTES = 64 << 20


class StreamProblem(Exception):
    """A stream that ends too early, is damaged, or unpacks without end; the message is the quarantine's reason."""


def zstandard() -> Any:
    """The zstandard module, or the line that says how to install it."""
    try:
        import zstandard as module
    except ImportError as error:
        raise missing_extra("reading .zst files", "data") from error
    return module


def blocks(path: Path, part: Part | None = None) -> Iterator[bytes]:
    """Unpacked blocks, by the magic number rather than by the name; StreamProblem where the stream breaks or passes
    its limit, after everything before that. A part is one of a file that is not packed."""
    if part is not None and part != Part():
        yield from _between(path, part)
        return
    limit = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
    total = 0
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        for block in _unpacked(raw, magic):
            total += len(block)
            if total > limit:
                raise StreamProblem(f"unpacks to more than {limit} bytes: a compression bomb")
            yield block


def _between(path: Path, part: Part) -> Iterator[bytes]:
    with path.open("rb") as raw:
        raw.seek(part.start)
        left = (path.stat().st_size if part.end is None else part.end) - part.start
        while left > 0 and (block := raw.read(min(BLOCK, left))):
            left -= len(block)
            yield block


def _unpacked(raw: IO[bytes], magic: bytes) -> Iterator[bytes]:
    if magic[:2] == GZIP:
        yield from _members(raw, lambda: zlib.decompressobj(31), GZIP_BLOCK)
    elif magic == ZSTD:
        yield from _members(raw, zstandard().ZstdDecompressor().decompressobj, ZSTD_BLOCK)
    else:
        while block := raw.read(BLOCK):
            yield block


def _members(raw: IO[bytes], engine_of: Callable[[], Any], size: int) -> Iterator[bytes]:
    """The frames of a packed file one after the other; small pieces go in, so that a bomb is seen in time."""
    engine, rest, read = engine_of(), b"", 0
    while True:
        if engine.eof:
            rest = engine.unused_data or b""
            if not rest.strip(b"\0") and not (rest := raw.read(size)):
                return
            engine = engine_of()
        piece = rest or raw.read(size)
        if not piece:
            raise StreamProblem(f"damaged stream: it ends too early, after {read} packed bytes")
        read, rest = read + len(piece), b""
        try:
            block = engine.decompress(piece)
        except Exception as error:
            if not isinstance(error, zlib.error | EOFError) and type(error).__name__ != "ZstdError":
                raise
            raise StreamProblem(f"damaged stream: near packed byte {read}: {error}") from error
        if block:
            yield block


def read_all(path: Path, max_bytes: int) -> bytes:
    """The whole unpacked file, at most `max_bytes`."""
    out = io.BytesIO()
    for block in blocks(path):
        out.write(block)
        if out.tell() > max_bytes:
            raise StreamProblem(f"record too long: more than {max_bytes} bytes")
    return out.getvalue()


def lines(path: Path, max_bytes: int, part: Part | None = None) -> Iterator[tuple[int, bytes | None]]:
    """(line number from 1, line without its end), None for a line over `max_bytes`; StreamProblem as in `blocks`."""
    number, pending, size = 1 + (part.records if part else 0), [], 0
    for block in blocks(path, part):
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            size += end - start
            if size > max_bytes:
                yield number, None
            else:
                pending.append(block[start:end])
                line = b"".join(pending)
                yield number, line[:-1] if line.endswith(b"\r") else line
            number, pending, size, start = number + 1, [], 0, end + 1
        size += len(block) - start
        if size <= max_bytes:
            pending.append(block[start:])
        else:
            pending = []
    if size:
        yield number, (b"".join(pending) if size <= max_bytes else None)

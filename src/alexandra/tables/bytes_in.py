"""From a file to clean UTF-8 text: gzip, byte-order marks, encodings, and refusals of what is no text.

Reading stops at the first sign that a file cannot be used (too many columns, too many bytes, a NUL byte), so a
wrong file costs no memory.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from alexandra.errors import DataError

MAX_BYTES = 4 * 2**30
_BLOCK = 1 << 20
_HEADER_BLOCKS = 16
_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
    b"\x89PNG": "an image",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
}
_TABLE_HINT = "give a CSV (also .gz), TSV or Parquet file with one header line and one row per line"


def open_file(path: Path) -> IO[bytes]:
    """The file, opened; DataError names near files when it is missing."""
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        near: list[str] = []
        if path.parent.is_dir():
            names = [item.name for item in path.parent.iterdir()]
            near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"did you mean {str(path.parent / near[0])!r}?" if near else "check the path; it is relative to here"
        raise DataError(f"no file {str(path)!r}", hint=hint) from error
    except IsADirectoryError as error:
        raise DataError(f"{str(path)!r} is a folder, not a table", hint=_TABLE_HINT) from error
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror}") from error


def read_text(path: Path, check_head: Callable[[bytes], None], max_bytes: int = MAX_BYTES) -> tuple[bytes, list[str]]:
    """The whole file as UTF-8 bytes with \\n or \\r\\n line ends, and notes; `check_head` sees the first line early.

    Raises DataError for a missing, empty, damaged, oversized or binary file.
    """
    source = str(path)
    with open_file(path) as raw:
        magic = raw.read(8)
        raw.seek(0)
        _refuse_format(magic, source)
        zipped = magic[:2] == b"\x1f\x8b"
        with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
            blocks = _blocks(file, source, check_head, max_bytes)
    data = b"".join(blocks)
    text, notes = _decode(data, source)
    if not text.strip():
        raise DataError(f"{source!r} is empty", hint=_TABLE_HINT)
    if b"\n" not in text and b"\r" in text:
        text = text.replace(b"\r", b"\n")
    return text, notes


def _blocks(
    file: IO[bytes] | gzip.GzipFile, source: str, check_head: Callable[[bytes], None], max_bytes: int
) -> list[bytes]:
    blocks: list[bytes] = []
    size, head_seen = 0, False
    try:
        while block := file.read(_BLOCK):
            blocks.append(block)
            size += len(block)
            if size > max_bytes:
                hint = "give a sample of its rows, or a Parquet file"
                raise DataError(f"{source!r} holds more than {max_bytes:,} bytes", hint=hint)
            if not head_seen and (b"\n" in block or len(blocks) == _HEADER_BLOCKS):
                check_head(b"".join(blocks))
                head_seen = True
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{source!r} is a damaged gzip file: {error}", hint="copy or download it again") from error
    if blocks and not head_seen:
        check_head(b"".join(blocks))
    return blocks


def _refuse_format(magic: bytes, source: str) -> None:
    for prefix, words in _FORMATS.items():
        if magic.startswith(prefix):
            raise DataError(f"{source!r} is {words}, not a text table", hint=f"export it first: {_TABLE_HINT}")


def _decode(data: bytes, source: str) -> tuple[bytes, list[str]]:
    """UTF-8 bytes without a byte-order mark; UTF-16 with its mark and plausible Windows-1252 are converted."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode(), ["read as UTF-16"]
        except UnicodeDecodeError as error:
            raise _binary(source, "it is neither UTF-8 nor whole UTF-16", error.start) from error
    data = data.removeprefix(codecs.BOM_UTF8)
    nul = data.find(b"\0")
    if nul >= 0:
        raise _binary(source, "it holds a NUL byte", nul)
    array = np.frombuffer(data, dtype=np.uint8)
    controls = np.flatnonzero((array < 32) & ~np.isin(array, (9, 10, 12, 13)))
    if len(controls) > 1 + len(array) // 1000:
        raise _binary(source, f"it holds {len(controls)} control characters", int(controls[0]))
    try:
        data.decode()
        return data, []
    except UnicodeDecodeError as error:
        high = int((array >= 128).sum())
        if len(controls) == 0 and high <= 0.3 * len(array):
            try:
                return data.decode("cp1252").encode(), ["not UTF-8: read as Windows-1252"]
            except UnicodeDecodeError:
                pass
        line = data.count(b"\n", 0, error.start) + 1
        words = f"byte 0x{data[error.start]:02x} in line {line} is neither UTF-8 nor Windows-1252 text"
        raise _binary(source, words, error.start) from error


def _binary(source: str, words: str, offset: int) -> DataError:
    return DataError(f"{source!r} is not a text table: {words} (at byte {offset:,})", hint=_TABLE_HINT)

"""Records that are lines or whole files: JSON lines (text, chats, preferences), CSV, plain text, Markdown, HTML."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alexandra.data.flow import Broken, Record, excerpt
from alexandra.data.formats.charset import decode
from alexandra.data.formats.chats import chat_text
from alexandra.data.formats.options import ReadOptions
from alexandra.data.formats.streams import StreamProblem, lines, read_all
from alexandra.records import Document

MAX_METADATA_CHARS = 2000
_FRONT = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n---[ \t]*\n", re.DOTALL)


def read_jsonl(path: Path, options: ReadOptions) -> Iterator[Record]:
    """One JSON object a line. A line without the text field is quarantined; blank lines are not records."""
    name = path.name
    try:
        for number, line in lines(path, options.max_record_bytes, options.part):
            position = f"line {number}"
            if line is None:
                yield Broken(name, position, f"record too long: more than {options.max_record_bytes} bytes")
            elif line.strip():
                yield _json_record(name, position, line, options)
    except StreamProblem as problem:
        yield Broken(name, "end", str(problem))


def _json_record(name: str, position: str, line: bytes, options: ReadOptions) -> Record:
    try:
        row = _loads(line)
    except (ValueError, RecursionError) as error:
        return Broken(name, position, f"not JSON: {str(error)[:120]}", excerpt(line))
    if not isinstance(row, dict):
        return Broken(name, position, f"not a JSON object: {type(row).__name__}", excerpt(line))
    return row_document(row, name, position, options)


def _loads(line: bytes) -> Any:
    """JSON, strictly; a line in another encoding is decoded first."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = decode(line)
    return json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not a JSON number")


def row_document(row: Mapping[str, Any], name: str, position: str, options: ReadOptions) -> Record:
    """A row's text, or its conversation rendered as text, with the fields to keep."""
    kind, text = "prose", field_of(row, options.text)
    if text is None:
        text = chat_text(row)
        kind = "chat"
    if text is None:
        return Broken(name, position, f"no field {options.text!r}", excerpt(json.dumps(sorted(map(str, row)))))
    if not isinstance(text, str):
        return Broken(name, position, f"field {options.text!r} is not text: {type(text).__name__}")
    named = field_of(row, options.id) if options.id else None
    identity = f"{options.source}/{name}#{position.removeprefix('line ')}" if named is None else str(named)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Document(text, identity, options.source, kind, _metadata(row, options))


def field_of(row: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _metadata(row: Mapping[str, Any], options: ReadOptions) -> dict[str, Any]:
    wanted = options.metadata
    kept: dict[str, Any] = {}
    for key, value in row.items():
        scalar = isinstance(value, (int, float, bool)) or (isinstance(value, str) and len(value) <= MAX_METADATA_CHARS)
        if scalar and key not in (options.text, options.id) and ("*" in wanted or key in wanted):
            kept[str(key)] = value
    return kept


def read_csv(path: Path, options: ReadOptions) -> Iterator[Record]:
    """A header and rows; a row of another width is quarantined."""
    name = path.name
    csv.field_size_limit(options.max_record_bytes)
    rows = csv.reader(_text_lines(path, options.max_record_bytes), strict=True, delimiter=_delimiter(path))
    header: list[str] = []
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Broken(name, f"line {rows.line_num}", f"not CSV: {error}")
            continue
        except StreamProblem as problem:
            yield Broken(name, f"line {rows.line_num}", str(problem))
            return
        if not header:
            header = [column.strip().removeprefix("\ufeff") for column in row]
        elif row:
            position = f"line {rows.line_num}"
            if len(row) != len(header):
                yield Broken(name, position, f"wrong width: {len(row)} fields, the header has {len(header)}")
            else:
                yield row_document(dict(zip(header, row, strict=True)), name, position, options)


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _text_lines(path: Path, limit: int) -> Iterator[str]:
    for number, line in lines(path, limit):
        if line is None:
            raise StreamProblem(f"record too long: line {number} has more than {limit} bytes")
        yield decode(line).replace("\0", "�") + "\n"


def read_text(path: Path, options: ReadOptions) -> Iterator[Record]:
    """Plain text: the whole file, its lines, or its paragraphs."""
    if options.split == "line":
        yield from _by_line(path, options)
        return
    try:
        text = decode(read_all(path, options.max_record_bytes))
    except StreamProblem as problem:
        yield Broken(path.name, "file", str(problem))
        return
    identity = f"{options.source}/{path.name}"
    if options.split == "blank":
        parts = [part for part in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")) if part.strip()]
        for number, part in enumerate(parts, 1):
            yield Document(part, f"{identity}#{number}", options.source)
    else:
        yield Document(text, identity, options.source)


def _by_line(path: Path, options: ReadOptions) -> Iterator[Record]:
    try:
        for number, line in lines(path, options.max_record_bytes, options.part):
            if line is None:
                yield Broken(
                    path.name, f"line {number}", f"record too long: more than {options.max_record_bytes} bytes"
                )
            elif line.strip():
                yield Document(decode(line), f"{options.source}/{path.name}#{number}", options.source)
    except StreamProblem as problem:
        yield Broken(path.name, "end", str(problem))


def read_markdown(path: Path, options: ReadOptions) -> Iterator[Record]:
    """The text as it is written; a front matter between --- lines goes to the metadata."""
    for record in read_text(path, options):
        if isinstance(record, Document) and (match := _FRONT.match(record.text)):
            front = dict(line.split(":", 1) for line in match.group(1).splitlines() if ":" in line)
            metadata = {key.strip(): value.strip() for key, value in front.items()}
            record = Document(record.text[match.end() :], record.id, record.source, "prose", metadata)
        yield record


def read_html(path: Path, options: ReadOptions) -> Iterator[Record]:
    """One page; its main text is found by the cleaning step `html`."""
    for record in read_text(path, ReadOptions(options.source, max_record_bytes=options.max_record_bytes)):
        if isinstance(record, Document):
            record = Document(record.text, record.id, record.source, "html", {"file": path.name})
        yield record

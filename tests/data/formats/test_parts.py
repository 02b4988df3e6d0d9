"""However a file is cut, its parts' records are the whole's, in order, with the same names and positions."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from alexandra.data.flow import Record
from alexandra.data.formats import Part, ReadOptions, cuts, read_file
from alexandra.rng import derive

SIZES = (1, 37, 200, 1000, 10_000, 300_000)


def by_parts(path: Path, kind: str, options: ReadOptions, part_bytes: int) -> tuple[list[Part], list[Record]]:
    parts = cuts(path, kind, options, part_bytes)
    return parts, [record for part in parts for record in read_file(path, replace(options, part=part), kind)]


def check(path: Path, kind: str, options: ReadOptions, most: int) -> None:
    """Every size of part gives the whole; the smallest gives at least `most` parts, which meet without a gap."""
    whole = list(read_file(path, options, kind))
    counts = []
    for size in SIZES:
        parts, records = by_parts(path, kind, options, size)
        assert records == whole, size
        assert parts[0].start == 0 and parts[-1].end is None
        assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]
        counts.append(len(parts))
    assert counts[0] >= most and counts == sorted(counts, reverse=True)


def json_lines(count: int) -> bytes:
    sizes = derive(0, "sizes").below(400, count).tolist()
    lines = [json.dumps({"text": f"{number} " + "wörd " * size}).encode() for number, size in enumerate(sizes)]
    lines[3], lines[5], lines[-2] = b"not json", b"", b'{"text": "' + b"x" * 5000 + b'"}'
    return b"\r\n".join(lines[:9]) + b"\n" + b"\n".join(lines[9:])


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n\n"])
def test_lines(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(300) + end)
    options = ReadOptions("s", max_record_bytes=4000)
    check(path, "jsonl", options, 290)
    check(path, "text", replace(options, split="line"), 290)


def test_a_line_longer_than_a_block_is_no_place_to_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    long = json.dumps({"text": "x" * 700_000}).encode()
    path.write_bytes(b"\n".join([long, b'{"text": "short"}', long, long]))
    check(path, "jsonl", ReadOptions("s"), 4)


def test_row_groups(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": [f"row {i} {i * 7919}" for i in range(2000)]}), path, row_group_size=64)
    check(path, "parquet", ReadOptions("s"), 32)
    data = bytearray(path.read_bytes())
    data[1200:1300] = bytes(100)
    path.write_bytes(data)
    check(path, "parquet", ReadOptions("s"), 32)


def warc_record(number: int) -> bytes:
    page = f"<html><body>page {number} {'words ' * (number % 50)}</body></html>".encode()
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page) + page
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.example/{number}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


@pytest.mark.parametrize("damage", ["none", "flips", "cut", "nested"])
@pytest.mark.parametrize("packed", [True, False])
def test_records_of_a_crawl(tmp_path: Path, packed: bool, damage: str) -> None:
    """Damage makes the reader look for the next record; a crawl inside a page is not taken for the crawl itself."""
    pytest.importorskip("fastwarc")
    records = [warc_record(number) for number in range(120)]
    if damage == "nested":
        inner = gzip.compress(warc_record(999), compresslevel=0)
        records[60] = records[60][:-4] + b"\r\n\r\n" + inner + records[61]
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    data = bytearray(b"".join(gzip.compress(one, 0 if damage == "nested" else 6) if packed else one for one in records))
    if damage == "flips":
        for place in derive(0, "flips").below(len(data), 25).tolist():
            data[place] ^= 255
    if damage == "cut":
        del data[len(data) // 2 : len(data) // 2 + 700]
        del data[-50:]
    path.write_bytes(data)
    check(path, "warc", ReadOptions("s"), 80)


def test_the_crawl_of_the_development_data(real_data: Path) -> None:
    pytest.importorskip("fastwarc")
    path = real_data / "warc/sample-0000.warc.gz"
    options = ReadOptions("s")
    whole = list(read_file(path, options))
    for size in (1, 5000, 50_000):
        parts, records = by_parts(path, "warc", options, size)
        assert records == whole and len(parts) > 3


def test_what_cannot_be_cut_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        file.write(json_lines(3000))
    path.write_bytes(packed.getvalue())
    assert cuts(path, "jsonl", ReadOptions("s"), 100) == [Part()]
    plain = tmp_path / "a.txt"
    plain.write_text("one\n\ntwo\n" * 100)
    assert cuts(plain, "text", ReadOptions("s"), 10) == [Part()]
    assert cuts(plain, "csv", ReadOptions("s"), 10) == [Part()]
    broken = tmp_path / "a.parquet"
    broken.write_bytes(b"PAR1" + bytes(500))
    assert cuts(broken, "parquet", ReadOptions("s"), 10) == [Part()]

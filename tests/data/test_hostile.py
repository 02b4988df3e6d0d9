"""200 hostile files: nothing raises, every record is kept or a named loss, and bait costs no more than text."""

from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastwarc")
pytest.importorskip("selectolax")
pytest.importorskip("ftfy")

from alexandra.data.flow import Broken, Ledger, flow
from alexandra.data.formats import ReadOptions, read_file
from alexandra.data.steps import build_steps
from alexandra.rng import derive

USED = ("extract", "clean", "gopher_repetition", "gopher_quality", "c4", "fineweb", "personal", "ratios")
PROSE = "The harbour was quiet, and the boats lay in their places with wet ropes. Mail a@b.org or call 212-555-0187. "
_WORDS = "harbour boat rope wind wave sail morning market stone fish water quiet light tower bridge street that have"
_WORDS += " with and the of to be"
WORDS = _WORDS.split()
BAIT = (
    "a",
    "a@",
    "1 ",
    "1-",
    "(",
    ")",
    "a.",
    "@",
    "<",
    "<div>",
    "<b>",
    "\\",
    "{",
    "[",
    "#",
    "\u202e",
    "Ã©",
    "é",
    "\ud83d",
    "=\n",
)


def prose(size: int) -> str:
    """Sentences that do not repeat, with some personal data."""
    picks = derive(0, "prose").below(len(WORDS), size // 4)
    words = [WORDS[pick] for pick in picks.tolist()]
    sentences = [" ".join(words[start : start + 12]).capitalize() + "." for start in range(0, len(words), 12)]
    return " ".join([PROSE, *sentences])[:size]


def warc(body: bytes) -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\n"
    head += b"Content-Length: %d\r\n\r\n"
    return head % len(http) + http + b"\r\n\r\n"


def epub(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("chapter.xhtml", f"<html><body><p>{text}</p></body></html>")
    return buffer.getvalue()


def sound(size: int) -> dict[str, bytes]:
    """One good file of each format, of about `size` bytes."""
    text = prose(size)
    parts = [text[start : start + 700] + "." for start in range(0, len(text), 700)]
    page = f"<html><body><article>{''.join(f'<p>{part}</p>' for part in parts)}</article></body></html>"
    lines = b"".join(json.dumps({"text": part, "n": i}).encode() + b"\n" for i, part in enumerate(parts))
    return {
        "a.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines),
        "a.csv": b"text,n\n" + b"".join(b'"%s",%d\n' % (PROSE.encode(), i) for i in range(size // 120 + 1)),
        "a.txt": text.encode(),
        "a.md": b"---\ntitle: x\n---\n" + text.encode(),
        "a.html": page.encode(),
        "a.warc.gz": b"".join(gzip.compress(warc(page.encode()[:4000])) for _ in range(size // 4000 + 1)),
        "a.warc": b"".join(warc(page.encode()[:4000]) for _ in range(size // 4000 + 1)),
        "a.epub": epub(text),
        "a.tex": b"\\begin{document}\\section{A}" + text.encode() + b"\\end{document}",
    }


def flipped(data: bytes, seed: int) -> bytes:
    out = bytearray(data)
    for place in derive(seed, "flip").below(len(data), 12).tolist():
        out[place] ^= 1 << (place % 8)
    return bytes(out)


def hostile(size: int) -> list[tuple[str, bytes]]:
    """(name, bytes): truncated, bit-flipped, empty, garbage, mislabelled, bombs, long lines and bait."""
    out: list[tuple[str, bytes]] = []
    noise = derive(0, "noise").words(size // 4).astype("<u4").tobytes()
    for name, data in sound(size).items():
        out += [(name, data[: len(data) * part // 4]) for part in (1, 2, 3)]
        out += [(name, flipped(data, seed)) for seed in range(4)]
        out += [(name, b""), (name, noise), (name, data + noise[:500] + data), (name, b"\0" * size)]
    for bait in BAIT:
        text = (bait * (size // len(bait) + 1))[:size]
        raw = text.encode("utf-8", "surrogatepass")
        out += [("bait.txt", raw), ("bait.html", raw), ("bait.jsonl", json.dumps({"text": text}).encode())]
        out.append(("bait.tex", raw))
    for encoding in ("utf-16", "cp1251", "shift_jis", "latin-1", "utf-32"):
        out.append(("label.html", f"<meta charset=utf-8><p>{PROSE}Привет".encode(encoding, "replace")))
    bomb = gzip.compress(b"a" * (96 << 20), 9)
    out += [("bomb.jsonl.gz", bomb), ("bomb.txt.gz", bomb), ("bomb.warc.gz", bomb)]
    out += [("deep.jsonl", b'{"text": ' + b"[" * size), ("nan.jsonl", b'{"text": NaN}\n{"text": "ok"}')]
    return out


def process(files: list[tuple[str, bytes]], folder: Path, seconds_per_mb: float) -> Ledger:
    steps = build_steps(tuple({"use": name} for name in USED), folder)
    total = Ledger()
    for number, (name, data) in enumerate(files):
        path = folder / f"{number}-{name}"
        path.write_bytes(data)
        ledger, put_aside = Ledger(), list[Broken]()
        began = time.process_time()
        kept = list(flow(read_file(path, ReadOptions("x", max_record_bytes=8 << 20)), steps, ledger, put_aside.append))
        spent = time.process_time() - began
        ledger.check()
        assert len(kept) == ledger.kept
        assert len(put_aside) == sum(ledger.broken.values()) + sum(sum(c.values()) for c in ledger.failed.values())
        # Eight steps and a reader, none above a second per megabyte.
        limit = 0.5 + seconds_per_mb * max(len(data), ledger.characters_in) / 1e6
        assert spent < limit, f"{path.name}: {spent:.2f} s, {dict(ledger.seconds)}"
        total.add(ledger)
        path.unlink()
    total.check()
    return total


def test_hostile_files_are_quarantined_per_record_and_counts_add_up(tmp_path: Path) -> None:
    files = hostile(8_000)
    assert len(files) >= 200
    total = process(files, tmp_path, 60.0)
    assert not total.failed, total.failed
    assert total.kept > 0 and sum(total.broken.values()) > 50
    assert {"not JSON", "damaged stream", "truncated record"} <= set(total.broken)


@pytest.mark.slow
def test_megabytes_of_bait_cost_at_most_a_second_each_per_stage(tmp_path: Path) -> None:
    total = process(hostile(1_000_000), tmp_path, 4.0)
    assert np.isfinite(total.records)

"""What tools have answered, kept: a bounded memory of this process over an LMDB file that outlives it.

A key is the hash of the claim, the tool, its version and its settings; equal questions have equal answers, so entries
are never changed. A record carries its own key, length and checksum: kill -9 leaves what was committed, and a damaged
page costs the records that lie in it, because opening checks the file (cache_check.py, in a process of its own) and
rebuilds it from every record that is still whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alexandra.errors import missing_extra
from alexandra.records import Evidence, Verdict
from alexandra.verifiers.tool import Tool
from alexandra.workers import Closable

MAGIC = b"AxV1"
HEAD = struct.Struct("<4s16sI16s")  # magic, key, length, checksum
KEPT = 100_000
MAP_BYTES = 1 << 30
CHECK_SECONDS = 120.0
_CHECKER = Path(__file__).with_name("cache_check.py")


def key_of(tool: Tool, claim_hash: str) -> bytes:
    """16 bytes that stand for this question to this tool."""
    settings = f"{tool.name}\0{tool.version()}\0{tool.hard}\0{tool.seconds}\0{claim_hash}"
    return hashlib.blake2b(settings.encode(), digest_size=16).digest()


def verdict_json(verdict: Verdict) -> list[Any]:
    """A tool's verdict as JSON; it has neither facts nor parts."""
    evidence = [[one.tool, one.version, one.input_hash, one.output] for one in verdict.evidence]
    head = [verdict.verifier, verdict.score, verdict.confidence, verdict.reason, verdict.hard, verdict.seconds]
    return [*head, evidence]


def verdict_from(value: Sequence[Any]) -> Verdict:
    name, score, confidence, reason, hard, seconds, evidence = value
    return Verdict(name, score, confidence, reason, hard, tuple(Evidence(*one) for one in evidence), seconds=seconds)


def record(key: bytes, payload: bytes) -> bytes:
    checksum = hashlib.blake2b(key + payload, digest_size=16).digest()
    return HEAD.pack(MAGIC, key, len(payload), checksum) + payload


def whole(data: bytes | memoryview, start: int = 0) -> tuple[bytes, bytes] | None:
    """(key, payload) of the record at `start`, or None when it is not one or damaged."""
    if len(data) < start + HEAD.size:
        return None
    magic, key, length, checksum = HEAD.unpack_from(data, start)
    payload = bytes(data[start + HEAD.size : start + HEAD.size + length])
    if magic != MAGIC or len(payload) != length:
        return None
    return (key, payload) if hashlib.blake2b(key + payload, digest_size=16).digest() == checksum else None


class Cache(Closable):
    """`folder`: where the LMDB file lies; None keeps answers in memory only. Use it in a `with` block or `close` it."""

    def __init__(self, folder: str | Path | None = None, kept: int = KEPT) -> None:
        self._kept = kept
        self._memory: OrderedDict[bytes, Verdict] = OrderedDict()
        self.hits = self.misses = self.salvaged = 0
        self._disk: Any = None
        if folder is not None:
            self._disk = self._opened(Path(folder))

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def __len__(self) -> int:
        return int(self._disk.stat()["entries"]) if self._disk is not None else len(self._memory)

    def get_many(self, keys: Sequence[bytes]) -> list[Verdict | None]:
        """The kept answers, None where there is none."""
        found = [self._memory.get(key) for key in keys]
        if self._disk is not None and None in found:
            with self._disk.begin(buffers=True) as reading:
                for i, key in enumerate(keys):
                    if found[i] is None and (value := reading.get(key)) is not None:
                        found[i] = self._read(key, value)
        for key, verdict in zip(keys, found, strict=True):
            if verdict is not None:
                self._remember(key, verdict)
        hits = sum(one is not None for one in found)
        self.hits, self.misses = self.hits + hits, self.misses + len(found) - hits
        return found

    def put_many(self, answers: Mapping[bytes, Verdict]) -> None:
        """Keep answers; abstentions in memory only, because time and machine may have caused them."""
        for key, verdict in answers.items():
            self._remember(key, verdict)
        if self._disk is None:
            return
        rows = [
            (key, record(key, json.dumps(verdict_json(verdict), separators=(",", ":")).encode()))
            for key, verdict in answers.items()
            if verdict.score is not None
        ]
        try:
            self._write(rows)
        except self._full:
            with self._disk.begin(write=True) as writing:
                writing.drop(self._disk.open_db(txn=writing), delete=False)
            with contextlib.suppress(self._full):
                self._write(rows)

    def _write(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        if rows:
            with self._disk.begin(write=True) as writing:
                for key, value in rows:
                    writing.put(key, value, overwrite=False)

    def _remember(self, key: bytes, verdict: Verdict) -> None:
        self._memory[key] = verdict
        self._memory.move_to_end(key)
        while len(self._memory) > self._kept:
            self._memory.popitem(last=False)

    @staticmethod
    def _read(key: bytes, value: memoryview) -> Verdict | None:
        found = whole(value)
        if found is None or found[0] != key:
            return None
        try:
            return verdict_from(json.loads(found[1]))
        except (ValueError, TypeError):
            return None

    def _opened(self, folder: Path) -> Any:
        try:
            import lmdb
        except ImportError:
            raise missing_extra("a cache on disk", "verify") from None
        self._full = lmdb.MapFullError
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "data.mdb"
        if data.exists() and not _is_sound(folder):
            self.salvaged = _rebuild(lmdb, folder)
        return _open(lmdb, folder)


def _open(lmdb: Any, folder: Path) -> Any:
    return lmdb.open(str(folder), map_size=MAP_BYTES, sync=False, metasync=False, max_dbs=0, readahead=False)


def _is_sound(folder: Path) -> bool:
    """Can every record be reached and read? Asked of another process, which a damaged tree may crash."""
    roots = [str(Path(path).resolve()) for path in sys.path if path and (Path(path) / "lmdb").is_dir()]
    command = [sys.executable, "-I", "-S", str(_CHECKER), str(folder), *roots[:1]]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHECK_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and done.stdout.strip() == b"sound"


def _rebuild(lmdb: Any, folder: Path) -> int:
    """A new file from every whole record of the old one; returns how many there were."""
    data = (folder / "data.mdb").read_bytes()
    scratch = Path(tempfile.mkdtemp(prefix=".rebuild-", dir=folder))
    try:
        made = _open(lmdb, scratch)
        count = 0
        with made.begin(write=True) as writing:
            for key, start, length in _records(data):
                count += bool(writing.put(key, data[start : start + length], overwrite=False))
        made.sync(True)
        made.close()
        os.replace(scratch / "data.mdb", folder / "data.mdb")
        (folder / "lock.mdb").unlink(missing_ok=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return count


def _records(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(key, start, length) of every whole record anywhere in a file."""
    start = data.find(MAGIC)
    while start >= 0:
        found = whole(data, start)
        if found is not None:
            yield found[0], start, HEAD.size + len(found[1])
        start = data.find(MAGIC, start + 1)


def without_seconds(verdict: Verdict) -> Verdict:
    """A kept answer as it is given again: it took no time."""
    return replace(verdict, seconds=1e-9)

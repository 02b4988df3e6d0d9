"""The cache answers what it was told, survives kill -9, and a damaged page costs only what lies in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alexandra.records import Claim, Evidence, Verdict
from alexandra.verifiers.base import claim_hash
from alexandra.verifiers.cache import MAGIC, Cache, key_of, record, verdict_from, verdict_json, whole
from alexandra.verifiers.claims import Series
from alexandra.verifiers.loading import toolbox

PAGE = 4096


def answers(n: int, start: int = 0, size: int = 200) -> dict[bytes, Verdict]:
    out = {}
    for i in range(start, start + n):
        evidence = Evidence("z3_logic", "1", f"{i:064x}", "x" * size)
        out[i.to_bytes(16, "big")] = Verdict("z3_logic", i % 2, 1.0, f"reason {i}", True, (evidence,), seconds=0.5)
    return out


def test_a_verdict_round_trips() -> None:
    (verdict,) = answers(1).values()
    assert verdict_from(verdict_json(verdict)) == verdict


def test_a_record_is_whole_or_none() -> None:
    data = record(b"k" * 16, b"payload")
    assert whole(data) == (b"k" * 16, b"payload") and whole(b"..." + data, 3) == (b"k" * 16, b"payload")
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1
        assert whole(bytes(broken)) is None
    assert whole(data[:-1]) is None and whole(b"") is None and data.startswith(MAGIC)


def test_the_key_is_content_tool_version_and_settings() -> None:
    tool = toolbox()["drift"]
    one, other = (claim_hash(Claim("series", Series((1.0, value)))) for value in (2.0, 3.0))
    keys = {
        key_of(tool, one), key_of(tool, other), key_of(toolbox()["novelty"], one),
        key_of(replace(tool, version=lambda: "later"), one), key_of(replace(tool, seconds=9.0), one),
    }  # fmt: skip
    assert len(keys) == 5 and key_of(tool, one) == key_of(tool, one)


def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    cache = Cache(kept=3)
    cache.put_many(answers(3))
    first, second, *_ = answers(3)
    assert cache.get_many([first])[0] is not None
    cache.put_many(answers(1, 10))
    assert cache.get_many([second]) == [None] and cache.get_many([first])[0] is not None
    assert (cache.hits, cache.misses, len(cache)) == (2, 1, 3)


lmdb = pytest.importorskip("lmdb")


def test_answers_outlive_the_process_and_abstentions_do_not(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.put_many(answers(50))
        cache.put_many({b"a" * 16: Verdict("z3_logic", None, reason="undecided: timeout")})
        assert cache.get_many([b"a" * 16])[0] is not None
    with Cache(tmp_path) as cache:
        assert cache.get_many(list(answers(50))) == list(answers(50).values())
        assert cache.get_many([b"a" * 16]) == [None] and cache.salvaged == 0 and len(cache) == 50


WRITER = """
import sys; sys.path[:0] = {paths!r}
from alexandra.records import Evidence, Verdict
from alexandra.verifiers.cache import Cache
cache = Cache({folder!r})
for i in range(10 ** 9):
    cache.put_many({{i.to_bytes(16, "big"): Verdict("t", 1.0, reason="x" * 300)}})
    print(i, flush=True)
"""


def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    source = WRITER.format(paths=[p for p in sys.path if p], folder=str(tmp_path))
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        last = -1
        due = time.monotonic() + 600
        while last < 300 and time.monotonic() < due:
            last = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        with Cache(tmp_path) as cache:
            found = cache.get_many([i.to_bytes(16, "big") for i in range(last + 1)])
            assert last >= 300 and all(one is not None for one in found) and cache.salvaged == 0


@pytest.mark.parametrize("what", ["noise", "zeros", "bit"])
@pytest.mark.parametrize("size", [200, 3000])
def test_a_damaged_page_costs_only_itself(what: str, size: int, tmp_path: Path) -> None:
    total = 150
    with Cache(tmp_path) as cache:
        cache.put_many(answers(total, size=size))
    original = (tmp_path / "data.mdb").read_bytes()
    rng = np.random.default_rng(0)
    expected = answers(total, size=size)
    pages = rng.permutation(len(original) // PAGE)[:6]
    for page in [0, 1, *map(int, pages)]:
        data = bytearray(original)
        start = page * PAGE
        if what == "noise":
            data[start : start + PAGE] = rng.bytes(PAGE)
        elif what == "zeros":
            data[start : start + PAGE] = bytes(PAGE)
        else:
            data[start + int(rng.integers(PAGE))] ^= 1 << int(rng.integers(8))
        (tmp_path / "data.mdb").write_bytes(bytes(data))
        inside = original.count(MAGIC, max(0, start - size - 400), start + PAGE)
        with Cache(tmp_path) as cache:
            found = cache.get_many(list(expected))
            lost = sum(one is None for one in found)
            assert lost <= inside, (page, lost, inside)
            assert all(one is None or one == right for one, right in zip(found, expected.values(), strict=True))
            cache.put_many(expected)
            assert None not in cache.get_many(list(expected))


def test_a_file_that_is_none_of_ours_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"something else entirely" * 1000)
    with Cache(tmp_path) as cache:
        cache.put_many(answers(3))
        assert None not in cache.get_many(list(answers(3)))


def test_a_full_cache_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexandra.verifiers.cache.MAP_BYTES", 1 << 18)
    with Cache(tmp_path, kept=1) as cache:
        for start in range(0, 1200, 20):
            cache.put_many(answers(20, start))
        assert None not in cache.get_many(list(answers(20, 1180)))

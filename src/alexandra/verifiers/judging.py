"""How tools are asked: through a cache, in batches, and where a tool may hang or crash in worker processes.

`Judges.ask` is what frameworks call. `prefetch` looks at all claims and all tools at once, so that the workers are busy
with everything that is not cached, instead of with one tool after the other. Claims travel as JSON in shared memory,
verdicts come back as JSON. A chunk that is overdue is killed and split; the claim that hangs is an abstention.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache as remembered
from multiprocessing.shared_memory import SharedMemory

from alexandra.records import Claim, Verdict
from alexandra.verifiers.base import claim_hash, run
from alexandra.verifiers.cache import Cache, key_of, verdict_from, verdict_json, without_seconds
from alexandra.verifiers.claims import KINDS, claim_from, claim_json
from alexandra.verifiers.framework import Framework
from alexandra.verifiers.loading import toolbox
from alexandra.verifiers.tool import MAX_SIZE, Tool, size_of
from alexandra.workers import Closable, Pool, Result

CHUNK, MANY = 64, 64
WARM_SECONDS = 60.0  # for a tool's first chunks: importing and compiling
PASSING = ("did not answer", "switched off", "not installed", "on PATH")  # abstentions that may be gone next time


@dataclass
class Judges(Closable):
    """`workers` processes (0: everything in this one) and a cache; use it in a `with` block.

    In this process nothing has a hard deadline: solvers keep their own limits, and a crash is a crash.
    """

    workers: int = 0
    cache: Cache | None = field(default_factory=Cache)

    def __post_init__(self) -> None:
        self._pool = Pool(self.workers) if self.workers else None
        self._warm: dict[str, int] = {}
        self._hashes: dict[int, tuple[Claim, str]] = {}
        self._fresh: dict[bytes, Verdict] = {}  # what a prefetch found out, with its time, until it is asked for

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        if self.cache is not None:
            self.cache.close()

    def ask(self, tool: Tool, claims: Sequence[Claim]) -> list[Verdict]:
        """The tool's verdicts, from the cache where it has them."""
        if self.cache is None:
            return self._judge([(tool, claims)])[0]
        keys = [key_of(tool, self._hash(claim)) for claim in claims]
        fresh = {key: self._fresh.pop(key) for key in set(keys) & self._fresh.keys()}
        found = self.cache.get_many(keys)
        lacking: dict[bytes, Claim] = {}
        for key, claim, verdict in zip(keys, claims, found, strict=True):
            if verdict is None and key not in fresh:
                lacking.setdefault(key, claim)
        if lacking:
            (verdicts,) = self._judge([(tool, list(lacking.values()))])
            answers = dict(zip(lacking, verdicts, strict=True))
            self._keep(answers)
            fresh |= answers
        return [
            without_seconds(kept) if kept is not None and key not in fresh else fresh[key]
            for key, kept in zip(keys, found, strict=True)
        ]

    def prefetch(self, frameworks: Iterable[Framework], claims: Sequence[Claim]) -> None:
        """Have the answers of all tools to all claims in the cache, the workers shared between tools."""
        self._hashes = {id(claim): (claim, claim_hash(claim)) for claim in claims if claim.kind in KINDS}
        self._fresh = {}
        if self.cache is None or self._pool is None:
            return
        asked: list[tuple[Tool, list[bytes], list[Claim]]] = []
        for tool in (tool for framework in frameworks for tool in framework.tools()):
            mine = [claim for claim in claims if not tool.why_not(claim)]
            if not mine:
                continue
            by_key = dict(zip((key_of(tool, self._hash(claim)) for claim in mine), mine, strict=True))
            found = self.cache.get_many(list(by_key))
            keys = [key for key, verdict in zip(by_key, found, strict=True) if verdict is None]
            if keys:
                asked.append((tool, keys, [by_key[key] for key in keys]))
        for (_, keys, _), verdicts in zip(asked, self._judge([(t, c) for t, _, c in asked]), strict=True):
            answers = dict(zip(keys, verdicts, strict=True))
            self._keep(answers)
            self._fresh |= answers

    def _hash(self, claim: Claim) -> str:
        known = self._hashes.get(id(claim))
        return known[1] if known is not None and known[0] is claim else claim_hash(claim)

    def _keep(self, answers: dict[bytes, Verdict]) -> None:
        assert self.cache is not None
        lasting = {
            key: verdict
            for key, verdict in answers.items()
            if verdict.score is not None or not any(words in verdict.reason for words in PASSING)
        }
        self.cache.put_many(lasting)

    def _judge(self, asked: Sequence[tuple[Tool, Sequence[Claim]]]) -> list[list[Verdict]]:
        """Ask now; isolated tools and large batches go to the workers, all at once."""
        verdicts: list[list[Verdict | None]] = [[None] * len(claims) for _, claims in asked]
        chunks: list[tuple[int, list[int]]] = []
        many = sum(len(claims) for _, claims in asked) >= MANY
        for number, (tool, claims) in enumerate(asked):
            places = list(range(len(claims)))
            if self._pool is None or not tool.ships or not (tool.isolated or many) or tool.absent():
                for i, verdict in zip(places, run(tool, claims), strict=True):
                    verdicts[number][i] = verdict
                continue
            here = [i for i in places if size_of(claims[i]) > MAX_SIZE or not _travels(claims[i])]
            for i, verdict in zip(here, run(tool, [claims[i] for i in here]), strict=True):
                verdicts[number][i] = verdict
            small = [i for i in places if verdicts[number][i] is None]
            size = max(1, min(CHUNK, -(-len(small) // (2 * self.workers))))
            chunks += [(number, small[start : start + size]) for start in range(0, len(small), size)]
        self._in_workers(asked, chunks, verdicts)
        return [[verdict for verdict in one if verdict is not None] for one in verdicts]

    def _in_workers(
        self,
        asked: Sequence[tuple[Tool, Sequence[Claim]]],
        chunks: list[tuple[int, list[int]]],
        verdicts: list[list[Verdict | None]],
    ) -> None:
        """Send chunks by deadline, so that one call of the pool has one deadline; overdue ones are split."""
        while chunks:
            groups: dict[float, list[tuple[int, list[int]]]] = {}
            for number, places in chunks:
                groups.setdefault(self._deadline(asked[number][0], len(places)), []).append((number, places))
            chunks = []
            for seconds, some in groups.items():
                for (number, places), result in zip(some, self._mapped(asked, some, seconds), strict=True):
                    tool = asked[number][0]
                    self._warm[tool.name] = self._warm.get(tool.name, 0) + 1
                    if result.failure is None:
                        for i, value in zip(places, json.loads(result.value), strict=True):
                            verdicts[number][i] = verdict_from(value)
                    elif len(places) > 1:
                        chunks += [(number, [i]) for i in places]
                    else:
                        words = f"{tool.name} did not answer: {result.failure.message}"
                        verdicts[number][places[0]] = tool.abstains(words)

    def _deadline(self, tool: Tool, num: int) -> float:
        cold = self._warm.get(tool.name, 0) < 2 * self.workers
        return tool.seconds * (2.0 if num > 1 else 1.0) + (WARM_SECONDS if cold else 0.0)

    def _mapped(
        self, asked: Sequence[tuple[Tool, Sequence[Claim]]], chunks: list[tuple[int, list[int]]], seconds: float
    ) -> list[Result]:
        assert self._pool is not None
        blocks = []
        try:
            items = []
            for number, places in chunks:
                tool, claims = asked[number]
                body = json.dumps([claim_json(claims[i]) for i in places]).encode("utf-8", "surrogatepass")
                block = SharedMemory(create=True, size=max(1, len(body)))
                blocks.append(block)
                assert block.buf is not None
                block.buf[: len(body)] = body
                items.append((tool.name, block.name, len(body)))
            return self._pool.map(judge_block, items, seconds)
        finally:
            for block in blocks:
                block.close()
                block.unlink()


def _travels(claim: Claim) -> bool:
    try:
        json.dumps(claim_json(claim))
    except (TypeError, ValueError, RecursionError, AttributeError):
        return False
    return True


@remembered
def _tools() -> dict[str, Tool]:
    return toolbox()


def judge_block(item: tuple[str, str, int]) -> str:
    """In a worker: the named tool's verdicts, as JSON, on the claims that lie as JSON in a block of shared memory."""
    name, block_name, size = item
    block = SharedMemory(block_name)
    try:
        assert block.buf is not None
        claims = [claim_from(value) for value in json.loads(bytes(block.buf[:size]).decode("utf-8", "surrogatepass"))]
    finally:
        block.close()
    return json.dumps([verdict_json(verdict) for verdict in run(_tools()[name], claims)])

"""The one adapter of every tool: which claims it reads, what it needs, its version, and verdicts in batches.

A Tool is a Verifier. It abstains, with the reason, from claims that it does not read, that are too long, or when what
it runs on is missing (`missing` then names the command that installs it). A failure on one claim is that claim's
abstention and never another's. Tools know nothing of frameworks, caches or each other.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from alexandra.records import Claim, Evidence, Verdict
from alexandra.verifiers.base import claim_hash
from alexandra.verifiers.claims import KINDS

MAX_SIZE = 200_000  # characters and numbers in one claim
SHOWN = 2_000  # characters of output kept as evidence
SOFT = 0.6  # confidence of evidence that fits the claim but proves nothing: below what approval needs
OFF = "ALEXANDRA_WITHOUT"  # names of tools, comma-separated, that are switched off


def _nothing_missing() -> str:
    return ""


def _applies(claim: Claim) -> str:
    return ""


@dataclass(frozen=True)
class Tool:
    """reads     kinds of claim;  applies: why it does not apply to a claim of these kinds, or ""
    one, batch  the judgement, of a claim or of several; exactly one of the two is given
    missing   what is not there and how to install it, or "";  version: of the tool itself
    hard      a refutation by this tool is a veto
    seconds   deadline per claim;  isolated: it may hang or crash, so it belongs in a worker process
    ships     worker processes know it by its name; what does not ship is asked in the caller's process
    """

    name: str
    framework: str
    reads: tuple[str, ...]
    version: Callable[[], str]
    one: Callable[[Tool, Claim], Verdict] | None = None
    batch: Callable[[Tool, Sequence[Claim]], list[Verdict]] | None = None
    missing: Callable[[], str] = _nothing_missing
    applies: Callable[[Claim], str] = _applies
    hard: bool = False
    seconds: float = 2.0
    isolated: bool = False
    selective: bool = True
    ships: bool = True

    def why_not(self, claim: Claim) -> str:
        """Why this claim is none of its business, or ""."""
        if claim.kind not in self.reads:
            return f"it reads {', '.join(self.reads)}, this claim is of kind {claim.kind!r}"
        wanted = KINDS[claim.kind] or str
        if not isinstance(claim.content, wanted):
            return f"a claim of kind {claim.kind!r} holds a {wanted.__name__}, not a {type(claim.content).__name__}"
        return self.applies(claim)

    def absent(self) -> str:
        """What is missing, or that it is switched off; "" when it can run."""
        if self.name in os.environ.get(OFF, "").split(","):
            return f"{self.name} is switched off by {OFF}"
        return self.missing()

    def verify(self, claims: Sequence[Claim]) -> list[Verdict]:
        verdicts: list[Verdict] = [self.abstains(self.why_not(claim)) for claim in claims]
        mine = [i for i, verdict in enumerate(verdicts) if not verdict.reason]
        absent = self.absent() if mine else ""
        for i in mine:
            if absent:
                verdicts[i] = self.abstains(absent)
            elif (size := size_of(claims[i])) > MAX_SIZE:
                verdicts[i] = self.abstains(f"the claim is too long: {size:,} of at most {MAX_SIZE:,}")
        mine = [i for i in mine if not verdicts[i].reason]
        for i, verdict in zip(mine, self._judged([claims[i] for i in mine]), strict=True):
            verdicts[i] = verdict
        return verdicts

    def _judged(self, claims: list[Claim]) -> list[Verdict]:
        if not claims:
            return []
        if self.batch is not None:
            try:
                return self.batch(self, claims)
            except Exception as error:
                if len(claims) == 1:
                    return [self._failed(error)]
                return [self._judged([claim])[0] for claim in claims]
        assert self.one is not None, f"{self.name} has no judgement"
        out = []
        for claim in claims:
            began = time.perf_counter()
            try:
                verdict = self.one(self, claim)
            except Exception as error:
                verdict = self._failed(error)
            out.append(_timed(verdict, time.perf_counter() - began))
        return out

    def _failed(self, error: Exception) -> Verdict:
        words = str(error).splitlines()[0][:300] if str(error) else ""
        return self.abstains(f"{self.name} cannot judge it: {type(error).__name__}: {words}")

    def abstains(self, reason: str) -> Verdict:
        return Verdict(self.name, None, reason=reason)

    def says(self, claim: Claim, score: float, reason: str, output: str = "", confidence: float = 1.0) -> Verdict:
        """A verdict with its evidence; `output` is what the tool answered, as it is needed to replay it."""
        score = min(1.0, max(0.0, score))
        evidence = Evidence(self.name, self.version(), claim_hash(claim), (output or reason)[:SHOWN])
        return Verdict(self.name, score, confidence, reason[:500], self.hard, (evidence,))

    def holds(self, claim: Claim, true: bool, reason: str, output: str = "") -> Verdict:
        """A decision by proof or execution: score 1 or 0 with full confidence."""
        return self.says(claim, 1.0 if true else 0.0, reason, output)


def _timed(verdict: Verdict, seconds: float) -> Verdict:
    object.__setattr__(verdict, "seconds", verdict.seconds or seconds)  # made in this call, seen by nobody yet
    return verdict


def size_of(value: Any) -> int:
    """Characters and numbers in a claim, containers included."""
    total, stack = 0, [value]
    while stack and total <= 2 * MAX_SIZE:
        part = stack.pop()
        if isinstance(part, str):
            total += len(part) + 1
        elif isinstance(part, Mapping):
            stack += [*part.keys(), *part.values()]
        elif isinstance(part, (tuple, list)):
            total += len(part)
            stack += [inner for inner in part if not isinstance(inner, (int, float))]
        elif is_dataclass(part) and not isinstance(part, type):
            stack += [getattr(part, one.name) for one in fields(part)]
        else:
            total += 1
    return total


def needs_package(module: str, package: str, extra: str = "verify") -> Callable[[], str]:
    """A capability check for a Python package of an extra."""

    def missing() -> str:
        if importlib.util.find_spec(module) is not None:
            return ""
        return f"{package} is not installed: pip install 'alexandra-foundry[{extra}]'"

    return missing


def needs_program(program: str, how: str) -> Callable[[], str]:
    """A capability check for a program on PATH; `how` installs it."""

    def missing() -> str:
        return "" if shutil.which(program) else f"no {program} on PATH: {how}"

    return missing


def package_version(package: str) -> Callable[[], str]:
    known: list[str] = []

    def version() -> str:
        if not known:
            try:
                known.append(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                known.append(f"{package} not installed")
        return known[0]

    return version


def own_version(version: str) -> Callable[[], str]:
    """The version of a tool that is part of this package; raise it when its judgement changes."""
    return lambda: f"alexandra {version}"

"""What a verifier is: claims in, verdicts out, in batches; it may abstain, and says how sure it is and why.

A Verifier is a value with `name`, `hard` and `verify`; the decorator `verifier` makes one of a plain function. Nothing
registers itself: a verifier is passed as a value or named in a task. `run` is the only way to call one: it checks
what comes back, measures time, and turns every exception into a VerifierError that names verifier and claim.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np

from alexandra.errors import MissingExtraError, VerifierError
from alexandra.metrics import Metric
from alexandra.records import Claim, Evidence, Interval, Outcomes, Verdict
from alexandra.storage import array_hash, content_hash


@runtime_checkable
class Verifier(Protocol):
    """`hard`: a score of 0 from this verifier vetoes a claim, whatever the others say."""

    @property
    def name(self) -> str: ...

    @property
    def hard(self) -> bool: ...

    def verify(self, claims: Sequence[Claim]) -> list[Verdict]:
        """One verdict per claim, in order."""
        ...


@dataclass(frozen=True)
class FunctionVerifier:
    """A verifier made of a function.

    `takes` says what the function gets: "claim" (one Claim), "outcomes" (its Outcomes; other kinds of claim are
    abstained from) or "claims" (all of them; it returns a list). It returns a score in 0..1, True or False, a
    Verdict, or None to abstain. `version` is what its evidence states.
    """

    name: str
    function: Callable[..., Any]
    hard: bool = False
    takes: str = "claim"
    version: str = ""

    def verify(self, claims: Sequence[Claim]) -> list[Verdict]:
        if self.takes == "claims":
            answers = list(self.function(claims))
            if len(answers) != len(claims):
                raise VerifierError(f"verifier {self.name!r} returned {len(answers)} answers for {len(claims)} claims")
            return [self._verdict(claim, answer, 0.0) for claim, answer in zip(claims, answers, strict=True)]
        return [self._one(claim) for claim in claims]

    def _one(self, claim: Claim) -> Verdict:
        if self.takes == "outcomes" and not isinstance(claim.content, Outcomes):
            return Verdict(self.name, None, reason=f"it reads outcomes, this claim is of kind {claim.kind!r}")
        started = time.perf_counter()
        answer = self.function(claim.content if self.takes == "outcomes" else claim)
        return self._verdict(claim, answer, time.perf_counter() - started)

    def _verdict(self, claim: Claim, answer: Any, seconds: float) -> Verdict:
        if isinstance(answer, Verdict):
            return replace(answer, verifier=self.name, seconds=answer.seconds or seconds)
        if answer is None:
            return Verdict(self.name, None, reason="the function returned None", seconds=seconds)
        if not isinstance(answer, (bool, int, float, np.bool_, np.number)):
            what = type(answer).__name__
            raise TypeError(f"returned a {what}: return a score in 0..1, True, False, a Verdict or None")
        evidence = Evidence(self.name, self.version, claim_hash(claim), repr(answer))
        return Verdict(self.name, float(answer), reason=f"returned {answer}", evidence=(evidence,), seconds=seconds)


@overload
def verifier(function: Callable[..., Any]) -> FunctionVerifier: ...


@overload
def verifier(*, name: str = "", hard: bool = False) -> Callable[[Callable[..., Any]], FunctionVerifier]: ...


def verifier(
    function: Callable[..., Any] | None = None, *, name: str = "", hard: bool = False
) -> FunctionVerifier | Callable[[Callable[..., Any]], FunctionVerifier]:
    """Make a Verifier of a function: `@verifier`, or `@verifier(name="fits", hard=True)`.

    The function has one parameter; called `outcomes` it gets a claim's Outcomes, `claims` all claims at once (then it
    returns a list), anything else one Claim.
    """
    if function is None:
        return lambda wrapped: wrap(wrapped, name, hard)
    return wrap(function, name, hard)


def wrap(function: Callable[..., Any], name: str = "", hard: bool = False, version: str = "") -> FunctionVerifier:
    """The Verifier of a function with one free parameter; VerifierError when it has none or more."""
    name = name or getattr(function, "__name__", type(function).__name__)
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    free = [one.name for one in parameters if one.default is one.empty and one.kind not in starred]
    if len(free) != 1:
        raise VerifierError(
            f"verifier {name!r} needs exactly one parameter without a default, it has {', '.join(free) or 'none'}",
            hint="write def check(claim): ..., def check(outcomes): ... or def check(claims): ...",
        )
    takes = free[0] if free[0] in ("outcomes", "claims") else "claim"
    return FunctionVerifier(name, function, hard, takes, version or _source_version(function))


def _source_version(function: Callable[..., Any]) -> str:
    try:
        return "source " + hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12]
    except (OSError, TypeError):
        return "source unknown"


def run(verifier: Verifier, claims: Sequence[Claim]) -> list[Verdict]:
    """Ask `verifier` about `claims` and check its verdicts: one each, score and confidence in 0..1, finite facts.

    Only a hard verifier's verdicts are hard; one that is `selective` says so itself, verdict by verdict. A verdict
    without a time gets its share of the whole call.
    """
    if not isinstance(verifier, Verifier):
        raise VerifierError(
            f"{type(verifier).__name__} is not a verifier: it needs name, hard and verify(claims)",
            hint="decorate a function with @alexandra.verifiers.base.verifier",
        )
    claims = list(claims)
    started = time.perf_counter()
    verdicts = _ask(verifier, claims)
    share = (time.perf_counter() - started) / max(len(claims), 1)
    if not isinstance(verdicts, Sequence) or len(verdicts) != len(claims):
        count = len(verdicts) if isinstance(verdicts, Sequence) else f"a {type(verdicts).__name__} of"
        raise VerifierError(f"verifier {verifier.name!r} returned {count} verdicts for {len(claims)} claims")
    return [_checked(verifier, index, verdict, share) for index, verdict in enumerate(verdicts)]


def _ask(verifier: Verifier, claims: list[Claim]) -> list[Verdict]:
    try:
        return verifier.verify(claims) if claims else []
    except (VerifierError, MissingExtraError):
        raise
    except Exception as error:
        index = _first_failing(verifier, claims)
        where = f"{len(claims)} claims together" if index is None else f"claim {index}"
        words = f"verifier {verifier.name!r} failed on {where}: {type(error).__name__}: {error}"
        raise VerifierError(words) from error


def _first_failing(verifier: Verifier, claims: list[Claim]) -> int | None:
    """Which claim a batch failed on, found by asking one by one."""
    for index, claim in enumerate(claims if len(claims) > 1 else []):
        try:
            verifier.verify([claim])
        except Exception:
            return index
    return None if len(claims) > 1 else 0


def _checked(verifier: Verifier, index: int, verdict: Any, share: float) -> Verdict:
    head = f"verifier {verifier.name!r}, claim {index}"
    if not isinstance(verdict, Verdict):
        raise VerifierError(f"{head}: returned a {type(verdict).__name__} where a Verdict belongs")
    for what, value in (("score", verdict.score), ("confidence", verdict.confidence)):
        if value is None and what == "score":
            continue
        if not isinstance(value, (int, float, np.number)) or not 0.0 <= value <= 1.0:  # NaN compares false
            raise VerifierError(f"{head}: {what} {value!r} is not in 0..1", hint="return None to abstain")
    if verdict.abstained and not verdict.reason:
        raise VerifierError(f"{head}: abstained without a reason")
    for name, fact in verdict.facts.items():
        if not isinstance(fact, Interval) or not all(map(math.isfinite, (fact.value, fact.low, fact.high))):
            raise VerifierError(f"{head}: fact {name!r} is not an Interval of finite numbers: {fact!r}")
    score = None if verdict.score is None else float(verdict.score)
    return replace(
        verdict,
        verifier=verifier.name,
        score=score,
        confidence=float(verdict.confidence),
        hard=verifier.hard and score is not None and (verdict.hard or not getattr(verifier, "selective", False)),
        seconds=verdict.seconds or share,
    )


def claim_hash(claim: Claim) -> str:
    """SHA-256 over kind, content and context, the same in every process; evidence quotes it."""
    value = {"kind": claim.kind, "content": _plain(claim.content), "context": _plain(claim.context)}
    return content_hash(json.dumps(value, sort_keys=True, ensure_ascii=False).encode())


def _plain(value: Any) -> Any:
    """JSON that stands for `value`: arrays by their hash, records by their fields."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (float, np.generic)):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, np.ndarray):
        return array_hash(value.astype(str) if value.dtype.kind == "O" else value)
    if isinstance(value, Metric):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, bytes):
        return content_hash(value)
    return f"{type(value).__name__}:{value}"

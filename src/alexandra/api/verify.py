"""Verifying claims: one aggregated verdict a claim, a file of claims as a report, and one Judge for every use.

The same object is a reward (a number per answer), a metric (a share with its interval) and a gate (yes or no). The
frameworks, tools and weights are those of `alexandra.verifiers`; nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from alexandra.api import verify_page
from alexandra.errors import VerifierError
from alexandra.records import Claim, Interval, Verdict
from alexandra.statistics import wilson
from alexandra.storage import publish
from alexandra.verifiers import aggregate
from alexandra.verifiers.cache import Cache
from alexandra.verifiers.claims import KINDS, claim_from, read_claims
from alexandra.verifiers.judging import Judges
from alexandra.verifiers.loading import load, six
from alexandra.verifiers.weights import weights_for
from alexandra.workers import Closable

Made = Callable[[Any, Any], Claim]


@dataclass(frozen=True)
class Verified:
    """A claims file, verified: a verdict and a band per claim, its label where the file has one."""

    file: str
    claims: tuple[Claim, ...]
    verdicts: tuple[Verdict, ...]
    bands: tuple[str, ...]
    labels: tuple[Any, ...]
    seconds: float
    page: str = ""

    @property
    def approved(self) -> int:
        return sum(band == "approve" for band in self.bands)


class Judge(Closable):
    """Verifiers with their weights, workers and cache, used as reward, metric and gate. Use it in a `with` block.

    verifiers  names ("empirical", "checks.py:mine"), Verifiers and functions; default: the six frameworks
    weights    by verifier's name; default: domain x stance for frameworks, 1 for others
    workers    processes for tools; 0 judges in this process
    cache      a folder that keeps answers between runs; "" keeps them in memory
    scorers    small models beside their frameworks' tools: folders, or a folder's model.int8.onnx
    """

    def __init__(
        self,
        verifiers: Sequence[Any] | None = None,
        weights: Mapping[str, float] | None = None,
        workers: int = 0,
        cache: str | Path = "",
        scorers: Sequence[str | Path] = (),
    ) -> None:
        self.judges = Judges(workers, Cache(cache or None))
        made = six(self.judges.ask) if verifiers is None else [self._made(one) for one in verifiers]
        self.verifiers = _with_scorers(made, scorers)
        self._weights = weights

    def _made(self, given: Any) -> Any:
        from alexandra.verifiers.base import Verifier, wrap
        from alexandra.verifiers.framework import Framework

        made = load(given) if isinstance(given, str) else given
        if isinstance(made, Framework):
            return replace(made, ask=self.judges.ask)
        return wrap(made) if callable(made) and not isinstance(made, Verifier) else made

    def close(self) -> None:
        self.judges.close()

    def verify(self, claims: Sequence[Claim | Mapping[str, Any] | str]) -> list[Verdict]:
        """One aggregated verdict a claim, `.parts` per verifier."""
        from alexandra.verifiers.framework import Framework

        made = [
            claim if isinstance(claim, Claim) else claim_from(claim, f"claim {i}") for i, claim in enumerate(claims)
        ]
        typed = [claim for claim in made if claim.kind in KINDS]
        self.judges.prefetch([one for one in self.verifiers if isinstance(one, Framework)], typed)
        names = [one.name for one in self.verifiers]
        weigh = partial(weights_for, verifiers=names)
        return aggregate.verify(made, self.verifiers, self._weights if self._weights is not None else weigh)

    def bands(self, claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> list[str]:
        """approve, conditional, reject or abstain, by each claim's stakes."""
        stakes = [str(claim.context.get("stakes") or "normal") for claim in claims]
        return [aggregate.band(verdict, stake) for verdict, stake in zip(verdicts, stakes, strict=True)]

    def reward(self, claim: Made, abstained: float = 0.0) -> Callable[..., list[float]]:
        """A reward function in TRL's form, f(prompts, completions, **columns): score times confidence per answer.

        claim: makes the Claim of (prompt, completion); what is abstained from is worth `abstained`.
        """

        def rewards(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
            asked = [claim(prompt, answer) for prompt, answer in zip(prompts, completions, strict=True)]
            return [
                abstained if verdict.score is None else verdict.score * verdict.confidence
                for verdict in self.verify(asked)
            ]

        return rewards

    def score_answer(self, answer: Any, entry: Mapping[str, Any]) -> float:
        """One answer to an entry with a `claim` function or a `question`; 0 when it is abstained from."""
        made = entry["claim"](entry, answer) if "claim" in entry else Claim("text", str(answer), _asked(entry))
        (verdict,) = self.verify([made])
        return verdict.score or 0.0

    def metric(self, claims: Sequence[Claim]) -> Interval:
        """The share of claims that are approved, with its Wilson interval."""
        if not claims:
            raise VerifierError("a metric needs at least one claim")
        bands = self.bands(claims, self.verify(claims))
        n = len(bands)
        share = sum(band == "approve" for band in bands) / n
        return Interval(*wilson(share, n, 0.975), n)

    def gate(self, claims: Sequence[Claim], least: float = 1.0) -> bool:
        """Are at least `least` of the claims approved?"""
        bands = self.bands(claims, self.verify(claims))
        return bool(bands) and sum(band == "approve" for band in bands) >= least * len(bands)


def _with_scorers(verifiers: Sequence[Any], folders: Sequence[str | Path]) -> list[Any]:
    """The verifiers, each scorer beside the tools of its framework."""
    from alexandra.verifiers.framework import Framework
    from alexandra.verifiers.scorers import folder

    found = list(verifiers)
    for path in folders:
        scorer = folder.load(path)
        places = [i for i, one in enumerate(found) if isinstance(one, Framework) and one.name == scorer.framework]
        if not places:
            names = ", ".join(one.name for one in found)
            raise VerifierError(f"{str(path)!r} is a scorer for {scorer.framework!r}, which is not among: {names}")
        found[places[0]] = folder.with_scorer(found[places[0]], scorer)
    return found


def _asked(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": str(entry["question"])} if "question" in entry else {}


def verify(
    claims: Sequence[Claim | Mapping[str, Any] | str],
    verifiers: Sequence[Any] | None = None,
    *,
    weights: Mapping[str, float] | None = None,
    workers: int = 0,
    cache: str | Path = "",
    scorers: Sequence[str | Path] = (),
) -> list[Verdict]:
    """One aggregated Verdict a claim, with `.parts` per framework; default: all six frameworks."""
    with Judge(verifiers, weights, workers, cache, scorers) as judge:
        return judge.verify(claims)


@dataclass(frozen=True)
class Options:
    """How a claims file is verified; `page` is where the evidence goes as HTML."""

    verifiers: tuple[str, ...] = ()
    workers: int = 2
    cache: str = ""
    page: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    scorers: tuple[str, ...] = ()


def verify_file(path: str | Path, options: Options | None = None) -> Verified:
    """Verify a file of claims: one JSON object, or a text in quotes, per line."""
    import time

    chosen = options or Options()
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VerifierError(
            f"cannot read {str(path)!r}: {error}", hint="a claims file has one JSON object a line"
        ) from None
    rows = list(read_claims(lines, str(path)))
    if not rows:
        raise VerifierError(f"{str(path)!r} has no claims", hint='a line is {"kind": "text", "content": "..."}')
    claims = tuple(claim for claim, _ in rows)
    began = time.perf_counter()
    names = list(chosen.verifiers) or None
    with Judge(names, chosen.weights or None, chosen.workers, chosen.cache, chosen.scorers) as judge:
        verdicts = tuple(judge.verify(claims))
        bands = tuple(judge.bands(claims, verdicts))
    seconds = time.perf_counter() - began
    found = Verified(str(path), claims, verdicts, bands, tuple(label for _, label in rows), seconds, chosen.page)
    if chosen.page:
        publish(Path(chosen.page), verify_page.written(found.file, claims, verdicts, bands).encode())
    return found

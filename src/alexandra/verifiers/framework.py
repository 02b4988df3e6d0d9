"""A framework: one question, the tools that answer it, and one verdict per claim from those that apply.

Inside a framework the same aggregation holds as between frameworks: weighted by confidence, disagreement penalised, a
hard refutation vetoes. Without a tool that applies the framework abstains and says which missing tool would have.
Frameworks do not know each other; how a tool is asked (here, cached, in a worker) is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from alexandra.records import Claim, Verdict
from alexandra.verifiers.aggregate import aggregate
from alexandra.verifiers.base import FunctionVerifier, run
from alexandra.verifiers.tool import Tool

Ask = Callable[[Tool, Sequence[Claim]], list[Verdict]]


def ask_directly(tool: Tool, claims: Sequence[Claim]) -> list[Verdict]:
    """In this process, without a cache or a deadline."""
    return run(tool, claims)


@dataclass(frozen=True)
class Framework:
    """`tools` is a function, so that naming a framework imports none of them. `outcomes` judges claims of that kind."""

    name: str
    question: str
    tools: Callable[[], tuple[Tool, ...]]
    ask: Ask = ask_directly
    outcomes: FunctionVerifier | None = None
    hard: bool = True
    selective: bool = True

    def verify(self, claims: Sequence[Claim]) -> list[Verdict]:
        verdicts: list[Verdict | None] = [None] * len(claims)
        if self.outcomes is not None:
            measured = [i for i, claim in enumerate(claims) if claim.kind == "outcomes"]
            found = run(self.outcomes, [claims[i] for i in measured])
            for i, verdict in zip(measured, found, strict=True):
                verdicts[i] = verdict
        left = [i for i, verdict in enumerate(verdicts) if verdict is None]
        if left:
            for i, verdict in zip(left, self._by_tools([claims[i] for i in left]), strict=True):
                verdicts[i] = verdict
        return [verdict for verdict in verdicts if verdict is not None]

    def _by_tools(self, claims: list[Claim]) -> list[Verdict]:
        parts: list[list[Verdict]] = [[] for _ in claims]
        for tool in self.tools():
            mine = [i for i, claim in enumerate(claims) if not tool.why_not(claim)]
            if mine:
                for i, verdict in zip(mine, self.ask(tool, [claims[i] for i in mine]), strict=True):
                    parts[i].append(verdict)
        return [self._joined(claim, found) for claim, found in zip(claims, parts, strict=True)]

    def _joined(self, claim: Claim, parts: list[Verdict]) -> Verdict:
        if not parts:
            return Verdict(
                self.name, None, reason=f"no tool of {self.name} reads it: this claim is of kind {claim.kind!r}"
            )
        whole = aggregate(parts)
        reason = parts[0].reason if len(parts) == 1 else whole.reason
        evidence = tuple(one for part in parts for one in part.evidence)
        hard = whole.vetoes or any(part.hard for part in parts if part.score is not None)
        return replace(whole, verifier=self.name, reason=reason, hard=hard, evidence=evidence)

"""Tool `expected_utility`: is the chosen lottery the one of greatest expected utility? Compiled by Numba.

Constant absolute risk aversion a: u(x) = (1 - exp(-a x)) / a, and x for a = 0 (Arrow 1965, Pratt 1964). All lotteries
of a batch are evaluated in one call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import Tool, needs_package, package_version

MAX_OUTCOMES, EXACT = 10_000, 1e-9


@cache
def _compiled() -> Any:
    import numba

    @numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
    def utilities(starts: np.ndarray, p: np.ndarray, x: np.ndarray, a: np.ndarray) -> np.ndarray:
        out = np.zeros(len(starts) - 1)
        for option in range(len(out)):
            total = 0.0
            for i in range(starts[option], starts[option + 1]):
                risk = a[option]
                total += p[i] * (x[i] if risk == 0.0 else -np.expm1(-risk * x[i]) / risk)
            out[option] = total
        return out

    return utilities


def _problem(claim: Claim) -> str:
    content = claim.content
    if content.chosen not in content.options:
        return f"{content.chosen!r} is none of the options: {', '.join(list(content.options)[:8])}"
    if not 2 <= sum(map(len, content.options.values())) <= MAX_OUTCOMES:
        return f"it reads 2 to {MAX_OUTCOMES:,} outcomes"
    for name, lottery in content.options.items():
        if not all(len(pair) == 2 and all(map(math.isfinite, pair)) for pair in lottery):
            return f"{name}: outcomes are pairs (probability, value) of finite numbers"
        if any(p < 0 for p, _ in lottery) or abs(sum(p for p, _ in lottery) - 1) > 1e-6:
            return f"{name}: the probabilities sum to {sum(p for p, _ in lottery):g}, not to 1"
    return ""


def _judge(tool: Tool, claims: Sequence[Claim]) -> list[Verdict]:
    problems = [_problem(claim) for claim in claims]
    asked = [claim for claim, why in zip(claims, problems, strict=True) if not why]
    lotteries = [
        (lottery, claim.content.risk_aversion) for claim in asked for lottery in claim.content.options.values()
    ]
    starts = np.cumsum([0, *(len(lottery) for lottery, _ in lotteries)])
    pairs = np.array([pair for lottery, _ in lotteries for pair in lottery], dtype=np.float64).reshape(-1, 2)
    risks = np.array([risk for _, risk in lotteries], dtype=np.float64)
    values = _compiled()(starts, pairs[:, 0].copy(), pairs[:, 1].copy(), risks)
    out, place = [], 0
    for claim, why in zip(claims, problems, strict=True):
        if why:
            out.append(tool.abstains(why))
            continue
        names = list(claim.content.options)
        own = dict(zip(names, values[place : place + len(names)].tolist(), strict=True))
        place += len(names)
        best = max(own, key=own.__getitem__)
        words = f"{claim.content.chosen} is worth {own[claim.content.chosen]:g}, the best, {best}, {own[best]:g}"
        near = own[best] - own[claim.content.chosen] <= EXACT * (1 + abs(own[best]))
        out.append(tool.holds(claim, bool(near), words))
    return out


TOOL = Tool(
    "expected_utility", "utility", ("decision",), package_version("numba"), batch=_judge,
    missing=needs_package("numba", "numba"), hard=True, seconds=10.0,
)  # fmt: skip

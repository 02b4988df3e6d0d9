"""Tool `nash_equilibrium`: are two strategies best responses to each other? nashpy, with the equilibria as evidence."""

from __future__ import annotations

import numpy as np

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import Tool, needs_package, package_version

MAX_ACTIONS, LISTED_ACTIONS, EXACT = 50, 4, 1e-9


def _judge(tool: Tool, claim: Claim) -> Verdict:
    import nashpy

    content = claim.content
    rows, columns = np.array(content.row_payoffs, dtype=float), np.array(content.column_payoffs, dtype=float)
    x, y = np.array(content.row_strategy, dtype=float), np.array(content.column_strategy, dtype=float)
    if rows.ndim != 2 or rows.shape != columns.shape or (len(x), len(y)) != rows.shape or max(rows.shape) > MAX_ACTIONS:
        return tool.abstains(f"payoffs {rows.shape} and {columns.shape} do not fit strategies of {len(x)} and {len(y)}")
    if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
        return tool.abstains("payoffs are finite")
    for who, one in (("row", x), ("column", y)):
        if (one < -EXACT).any() or abs(one.sum() - 1) > 1e-6:
            return tool.holds(claim, False, f"the {who} strategy is no distribution: it sums to {one.sum():g}")
    game = nashpy.Game(rows, columns)
    value = np.asarray(game[x, y])
    best = np.array([(rows @ y).max(), (x @ columns).max()])
    scale = 1 + np.abs(np.concatenate([rows.ravel(), columns.ravel()])).max()
    gains = best - value
    words = f"payoffs {value[0]:g} and {value[1]:g}; deviating would gain {max(gains[0], 0):g} and {max(gains[1], 0):g}"
    known = ""
    if max(rows.shape) <= LISTED_ACTIONS:
        known = "; equilibria: " + str([[list(map(float, s)) for s in e] for e in game.vertex_enumeration()])[:500]
    return tool.holds(claim, bool((gains <= 1e-6 * scale).all()), words, words + known)


TOOL = Tool(
    "nash_equilibrium", "utility", ("game",), package_version("nashpy"), one=_judge,
    missing=needs_package("nashpy", "nashpy"), hard=True, isolated=True,
)  # fmt: skip

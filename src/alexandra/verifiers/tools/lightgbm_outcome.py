"""Tool `lightgbm_outcome`: does a claimed outcome agree with what past cases predict? LightGBM, deterministic.

The confidence is what the model is worth on held-out cases (its cross-validated AUC above chance), so that past cases
which tell nothing weigh nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, needs_package, package_version

FEWEST, FOLDS = 40, 4
SETTINGS = {
    "objective": "binary", "num_leaves": 7, "learning_rate": 0.1, "min_data_in_leaf": 5, "verbosity": -1,
    "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 0,
}  # fmt: skip
ROUNDS = 60


def _fitted(x: np.ndarray, y: np.ndarray) -> Any:
    import lightgbm

    return lightgbm.train(dict(SETTINGS), lightgbm.Dataset(x, y), num_boost_round=ROUNDS)


def _auc(scores: np.ndarray, y: np.ndarray) -> float:
    order = scores[y == 1][:, None] - scores[y == 0][None, :]
    return float((np.sign(order) + 1).mean() / 2)


def _judge(tool: Tool, claim: Claim) -> Verdict:
    content = claim.content
    x, y = np.array(content.cases, dtype=np.float64), np.array(content.outcomes, dtype=np.int64)
    case = np.array(content.case, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(y) or case.shape != x.shape[1:] or x.size > 100_000:
        return tool.abstains(f"cases {x.shape}, outcomes {y.shape} and case {case.shape} do not fit")
    if (
        not set(y.tolist()) <= {0, 1}
        or content.outcome not in (0, 1)
        or min((y == 0).sum(), (y == 1).sum()) < FEWEST / 4
    ):
        return tool.abstains(f"outcomes are 0 or 1, each at least {FEWEST // 4} times")
    fold = np.arange(len(y)) % FOLDS
    held = np.zeros(len(y))
    for one in range(FOLDS):
        held[fold == one] = _fitted(x[fold != one], y[fold != one]).predict(x[fold == one])
    worth = _auc(held, y)
    chance = float(_fitted(x, y).predict(case[None])[0])
    score = chance if content.outcome == 1 else 1 - chance
    words = (
        f"past cases give outcome 1 a probability of {chance:.3f}; cross-validated AUC {worth:.3f} on {len(y)} cases"
    )
    return tool.says(claim, score, words, confidence=max(0.0, 2 * worth - 1) * SOFT)


TOOL = Tool(
    "lightgbm_outcome", "utility", ("forecast",), package_version("lightgbm"), one=_judge,
    missing=needs_package("lightgbm", "lightgbm"), seconds=10.0, isolated=True,
)  # fmt: skip

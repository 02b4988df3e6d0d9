"""The framework `empirical`: is it true, and is a model as good as claimed and better than chance?

Exact maths, solvers, proofs, queries and executed tests. On labelled outcomes it recomputes metric and interval from
the per-item outcomes and never reads a number that came with the claim, except `claimed`, which it refutes when the
interval lies below it. Chance is the same model with the answers shuffled among the items (a permutation test; for
two-class roc_auc the exact variance of Mann and Whitney 1947). Not better than chance, or refuted: score 0 and a veto.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.special import ndtr

from alexandra.errors import VerifierError
from alexandra.metrics import Metric, metric, positive_index, positive_scores, weighted
from alexandra.records import Claim, Evidence, Interval, Outcomes, Verdict
from alexandra.rng import derive
from alexandra.statistics import interval
from alexandra.verifiers.base import FunctionVerifier, claim_hash
from alexandra.verifiers.framework import Framework
from alexandra.verifiers.tool import Tool

VERSION = "1"
PERMUTATIONS = 199
MIN_PER_CLASS = 5


QUESTION = "is it true against facts, execution or data?"


def tools() -> tuple[Tool, ...]:
    """The framework's tools, by what they read."""
    from alexandra.verifiers.tools import (
        code_tests,
        coq,
        cvc5_arithmetic,
        duckdb_tables,
        exact_maths,
        lean,
        metamath,
        oxigraph,
        z3_arithmetic,
    )

    modules = (
        exact_maths, z3_arithmetic, cvc5_arithmetic, coq, metamath, lean, duckdb_tables, oxigraph, code_tests,
    )  # fmt: skip
    return tuple(module.TOOL for module in modules)


def empirical(metric: str = "", min_rows: int = 30, alpha: float = 0.01) -> Framework:
    """Every kind of claim that a tool of it decides, and claims of kind "outcomes", which the parameters are about;
    their context may hold `metric`, `seed` and `claimed`.

    `metric`: what to measure when the context does not say (else roc_auc for two classes, accuracy for more, rmse).
    Abstains under `min_rows` rows, or when fewer than two classes have 5 rows. The score is the metric itself where
    it lies in 0..1 (1 minus it where less is better), else the share of the way from chance to perfect. Above
    `alpha`, the permutation test's p-value vetoes.
    """
    if min_rows < 2:
        raise VerifierError(f"empirical: min_rows={min_rows!r} must be at least 2")
    if not 1 / (PERMUTATIONS + 1) <= alpha < 1:
        raise VerifierError(f"empirical: alpha={alpha!r} must lie from {1 / (PERMUTATIONS + 1):g} to below 1")
    judge = partial(_judge, name=metric, min_rows=min_rows, alpha=alpha)
    outcomes = FunctionVerifier("empirical", judge, hard=True, version=VERSION)
    return Framework("empirical", QUESTION, tools, outcomes=outcomes)


def _judge(claim: Claim, *, name: str, min_rows: int, alpha: float) -> Verdict:
    outcomes = claim.content
    if not isinstance(outcomes, Outcomes):
        return Verdict("empirical", None, reason=f"it reads outcomes, this claim is of kind {claim.kind!r}")
    why = _too_small(outcomes, min_rows)
    if why:
        return Verdict("empirical", None, reason=why)
    found = metric(claim.context.get("metric") or name or _default_metric(outcomes))
    seed = int(claim.context.get("seed", 0))
    measured = interval(found, outcomes, seed=seed)
    chance, p_value = against_chance(found, outcomes, seed)
    perfect = found.fn(_perfect(outcomes))
    p_words = f"p={p_value:.2g}" if p_value >= 1e-4 else "p<0.0001"
    reason = f"{found} {measured}, n={measured.n}; at chance {chance:.3f}, {p_words}"
    score = _score(found, measured.value, chance, perfect)
    claimed = claim.context.get("claimed")
    if p_value > alpha:
        score, reason = 0.0, f"not better than chance: {reason}"
    elif claimed is not None and _refuted(found, float(claimed), measured):
        score, reason = 0.0, f"claimed {float(claimed):g}, measured {reason}"
    scale = 1.0 if found.is_share else abs(perfect - chance)
    width = (measured.high - measured.low) / scale if scale > 0 else 1.0
    output = {
        "metric": str(found),
        "value": measured.value,
        "low": measured.low,
        "high": measured.high,
        "n": measured.n,
        "chance": chance,
        "p_value": p_value,
        "seed": seed,
    }
    evidence = Evidence("empirical", _version(), claim_hash(claim), json.dumps(output, sort_keys=True))
    confidence = min(1.0, max(0.0, 1 - width))
    return Verdict("empirical", score, confidence, reason, True, (evidence,), {str(found): measured})


def _version() -> str:
    return f"{VERSION}, numpy {np.__version__}"


def _too_small(outcomes: Outcomes, min_rows: int) -> str:
    if outcomes.n < min_rows:
        return f"{outcomes.n} rows, it needs {min_rows}"
    if outcomes.is_classification:
        counts = np.bincount(outcomes.targets, minlength=len(outcomes.classes))
        if (counts >= MIN_PER_CLASS).sum() < 2:
            listed = ", ".join(f"{label} {count}" for label, count in zip(outcomes.classes, counts, strict=False))
            return f"it needs two classes with {MIN_PER_CLASS} rows each, rows per class: {listed}"
    return ""


def _default_metric(outcomes: Outcomes) -> str:
    return {0: "rmse", 2: "roc_auc"}.get(len(outcomes.classes), "accuracy")


def _perfect(outcomes: Outcomes) -> Outcomes:
    """The same items, answered perfectly."""
    if not outcomes.is_classification:
        return replace(outcomes, predictions=outcomes.targets.astype(np.float64))
    return replace(outcomes, predictions=np.eye(len(outcomes.classes))[outcomes.targets])


def _score(found: Metric, value: float, chance: float, perfect: float) -> float:
    if found.is_share:
        return value if found.higher_is_better else 1 - value
    if perfect == chance:
        return 0.0
    return min(1.0, max(0.0, (value - chance) / (perfect - chance)))


def _refuted(found: Metric, claimed: float, measured: Interval) -> bool:
    return claimed > measured.high if found.higher_is_better else claimed < measured.low


def against_chance(found: Metric, outcomes: Outcomes, seed: int = 0) -> tuple[float, float]:
    """The metric's mean when answers are shuffled among the items, and P(shuffled is as good as observed)."""
    if found.name == "roc_auc" and len(outcomes.classes) == 2:
        return 0.5, _mann_whitney(outcomes)
    sign = 1.0 if found.higher_is_better else -1.0
    stream = derive(seed, "verifiers", "empirical")
    source = np.random.Generator(np.random.Philox(key=stream.key + (stream.nonce << 64)))
    observed = _value(found, outcomes)
    shuffled = np.array(
        [_value(found, replace(outcomes, targets=source.permutation(outcomes.targets))) for _ in range(PERMUTATIONS)]
    )
    as_good = int((sign * shuffled >= sign * observed - 1e-12).sum())
    return float(shuffled.mean()), (1 + as_good) / (PERMUTATIONS + 1)


def _value(found: Metric, outcomes: Outcomes) -> float:
    if found.rows is not None:
        return float(found.rows(outcomes, found.params).mean())
    return float(weighted(found, outcomes)(np.ones((1, outcomes.n)))[0])


def _mann_whitney(outcomes: Outcomes) -> float:
    """One-sided p-value of the AUC under shuffled answers, normal, with the correction for ties."""
    own = outcomes.targets == positive_index(outcomes)
    m, k, n = int(own.sum()), int((~own).sum()), outcomes.n
    ties = np.unique(positive_scores(outcomes), return_counts=True)[1].astype(np.float64)
    spread = (n + 1) / (12 * m * k) * (1 - float((ties**3 - ties).sum()) / (n**3 - n))
    if spread <= 0:
        return 1.0
    auc = metric("roc_auc").fn(outcomes)
    return float(ndtr(-(auc - 0.5) / math.sqrt(spread)))

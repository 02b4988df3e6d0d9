"""The framework `power_dynamics`: who is favoured? Differences between groups, swaps, influence, lexica.

On outcomes, the differences between the groups of a column, with intervals:

selection: share called positive; tpr: share of positives called positive; equalized_odds: the larger of the gaps in
tpr and in the false positive rate; auc: ranking within each group. A gap is the largest difference between two
groups. A group counts where it has 100 rows of every class that the rate conditions on; smaller ones are named and
left out, and with fewer than two left the gap is abstained from. Definitions agree with fairlearn's. Intervals are
Newcombe's (1998, method 10: Wilson or DeLong limits of two groups combined); the lower end holds over all pairs of
groups at once (Bonferroni), so that many groups do not make a gap out of noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np

from alexandra.errors import VerifierError, suggest
from alexandra.metrics import metric, positive_index, positive_scores, threshold_of
from alexandra.records import Claim, Evidence, Interval, Outcomes, Verdict
from alexandra.statistics import CONFIDENCE, interval, take, wilson
from alexandra.verifiers.base import FunctionVerifier, claim_hash
from alexandra.verifiers.framework import Framework
from alexandra.verifiers.tool import Tool

VERSION = "1"
MIN_ROWS = 100
MANY_VALUES = 10  # a column of more distinct numbers than this is cut into quarters
LISTED = 8

Rates = dict[str, Interval]


QUESTION = "who is favoured or harmed?"


def tools() -> tuple[Tool, ...]:
    """The framework's tools, by what they read."""
    from alexandra.verifiers.tools import influence, lexicon, perspectives, swap_invariance

    return tuple(module.TOOL for module in (swap_invariance, influence, perspectives, lexicon))


def over_claims() -> Framework:
    """The framework without a column of groups: every kind of claim but outcomes."""
    return Framework("power_dynamics", QUESTION, tools)


def power_dynamics(
    groups: str | Sequence[str] = (),
    of: str = "equalized_odds",
    threshold: float | None = None,
    min_rows: int = MIN_ROWS,
) -> Framework:
    """Claims of kind "outcomes" of two-class tasks, whose `columns` hold the columns named in `groups`, and what the
    framework's tools read.

    Facts: gap(COLUMN, of=...) for all four kinds where enough rows exist; the score is 1 minus the largest gap `of`
    over the columns. The threshold is `threshold`, else the context's `threshold`, else that of its `metric`, else 0.5.
    """
    columns = (groups,) if isinstance(groups, str) else tuple(groups)
    if not columns:
        raise VerifierError("power_dynamics needs groups", hint="for example power_dynamics(groups=[gender])")
    if of not in KINDS:
        raise VerifierError(f"power_dynamics: unknown kind of gap of={of!r}", hint=suggest(of, KINDS))
    if threshold is not None and not 0 <= threshold <= 1:
        raise VerifierError(f"power_dynamics: threshold={threshold!r} is not in 0..1")
    if min_rows < 2:
        raise VerifierError(f"power_dynamics: min_rows={min_rows!r} must be at least 2")
    judge = partial(_judge, columns=columns, of=of, threshold=threshold, min_rows=min_rows)
    return replace(over_claims(), outcomes=FunctionVerifier("power_dynamics", judge, version=VERSION))


def _judge(claim: Claim, *, columns: tuple[str, ...], of: str, threshold: float | None, min_rows: int) -> Verdict:
    outcomes = claim.content
    if not isinstance(outcomes, Outcomes):
        return Verdict("power_dynamics", None, reason=f"it reads outcomes, this claim is of kind {claim.kind!r}")
    if len(outcomes.classes) != 2:
        given = f"{len(outcomes.classes)} classes" if outcomes.classes else "numbers"
        return Verdict("power_dynamics", None, reason=f"it reads targets of two classes, these are {given}")
    cut = _threshold(claim, outcomes, threshold)
    facts: dict[str, Interval] = {}
    notes, output = [], {}
    for column in columns:
        members = members_of(outcomes, column)
        output[column] = {group: _counts(outcomes, mask) for group, mask in members.items()}
        for kind in KINDS:
            found, note = gap(outcomes, members, kind, cut, min_rows)
            if found is not None:
                facts[f"gap({column}, of={kind})"] = found
            if kind == of:
                notes.append(f"gap({column}, of={kind}) {found or 'abstained'}: {note}")
    asked = [facts[name] for column in columns if (name := f"gap({column}, of={of})") in facts]
    record = {"threshold": cut, "rows": output, "gaps": {name: [g.value, g.low, g.high] for name, g in facts.items()}}
    version = f"{VERSION}, numpy {np.__version__}"
    evidence = Evidence("power_dynamics", version, claim_hash(claim), json.dumps(record, sort_keys=True))
    reason = f"at threshold {cut:.3g}: " + "; ".join(notes)
    if not asked:
        return Verdict("power_dynamics", None, reason=reason, evidence=(evidence,), facts=facts)
    confidence = 1 - min(1.0, max(one.high - one.low for one in asked))
    score = 1 - max(one.value for one in asked)
    return Verdict("power_dynamics", score, confidence, reason, False, (evidence,), facts)


def _threshold(claim: Claim, outcomes: Outcomes, threshold: float | None) -> float:
    given = threshold if threshold is not None else claim.context.get("threshold")
    if given is not None:
        return float(given)
    named = claim.context.get("metric")
    return threshold_of(metric(named), outcomes) if named else 0.5


def members_of(outcomes: Outcomes, column: str) -> dict[str, np.ndarray]:
    """Group -> row mask, groups sorted; a column of many numbers is cut at its quartiles."""
    if column not in outcomes.columns:
        hint = suggest(column, outcomes.columns) if outcomes.columns else "the outcomes carry no columns"
        raise VerifierError(f"power_dynamics: no column {column!r} in the outcomes", hint=hint)
    values = np.asarray(outcomes.columns[column]).astype(str)
    labels = np.where(np.isin(values, ["", "nan", "None"]), "missing", values)
    numbers = _numbers(labels)
    if numbers is not None:
        known = np.isfinite(numbers)
        edges = np.unique(np.quantile(numbers[known], [0, 0.25, 0.5, 0.75, 1]))
        names = np.array([f"{low:g} to {high:g}" for low, high in zip(edges[:-1], edges[1:], strict=True)])
        quarter = np.searchsorted(edges[1:-1], np.where(known, numbers, edges[0]), side="left")
        labels = np.where(known, names[quarter], "missing")
    return {str(group): labels == group for group in np.unique(labels)}


def _numbers(labels: np.ndarray) -> np.ndarray | None:
    """The labels as numbers (NaN where missing) if they all are and there are many, else None."""
    distinct, of_row = np.unique(labels, return_inverse=True)
    if len(distinct) <= MANY_VALUES:
        return None
    try:
        return np.array([math.nan if label == "missing" else float(label) for label in distinct])[of_row]
    except ValueError:
        return None


def gap(
    outcomes: Outcomes, members: Mapping[str, np.ndarray], kind: str, threshold: float, min_rows: int = MIN_ROWS
) -> tuple[Interval | None, str]:
    """The largest difference between two groups, or None when fewer than two are large enough; and the n in words."""
    needs, rates_of = KINDS[kind]
    counts = {group: _counts(outcomes, mask) for group, mask in members.items()}
    large = [group for group, count in counts.items() if min(count[need] for need in needs) >= min_rows]
    small = [group for group in counts if group not in large]
    note = _listed(large, counts)
    if small:
        note += f"; left out, under {min_rows} {' or '.join(needs)}: {_listed(small, counts)}"
    if len(large) < 2:
        return None, f"fewer than two groups are large enough; {note}"
    pairs = list(combinations(large, 2))
    chosen = {group: members[group] for group in large}
    tables = rates_of(outcomes, chosen, threshold, CONFIDENCE)
    strict = rates_of(outcomes, chosen, threshold, 1 - (1 - CONFIDENCE) / (len(pairs) * len(tables)))
    value, low, high = 0.0, 0.0, 0.0
    for table, stricter in zip(tables, strict, strict=True):
        for a, b in pairs:
            if table[a].value < table[b].value:
                a, b = b, a
            value = max(value, table[a].value - table[b].value)
            below, above = _difference(table[a], table[b])
            high = max(high, above, -below)
            low = max(low, _difference(stricter[a], stricter[b])[0])
    rows = sum(counts[group]["rows"] for group in large)
    return Interval(value, min(low, value), min(1.0, max(high, value)), rows), note


def _listed(groups: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> str:
    shown = [f"{group} n={counts[group]['rows']} ({counts[group]['positives']} positive)" for group in groups[:LISTED]]
    return ", ".join([*shown, f"and {len(groups) - LISTED} more"] if len(groups) > LISTED else shown) or "none"


def _counts(outcomes: Outcomes, mask: np.ndarray) -> dict[str, int]:
    rows = int(mask.sum())
    positives = int((mask & (outcomes.targets == positive_index(outcomes))).sum())
    return {"rows": rows, "positives": positives, "negatives": rows - positives}


def _difference(a: Interval, b: Interval) -> tuple[float, float]:
    """Limits of a - b from the limits of two independent values (Newcombe 1998, method 10)."""
    d = a.value - b.value
    return d - math.hypot(a.value - a.low, b.high - b.value), d + math.hypot(a.high - a.value, b.value - b.low)


def _share(called: np.ndarray, among: np.ndarray, confidence: float) -> Interval:
    n = int(among.sum())
    return Interval(*wilson(float(called[among].mean()), n, (1 + confidence) / 2), n)


Members = Mapping[str, np.ndarray]


def _selection(o: Outcomes, members: Members, threshold: float, confidence: float) -> list[Rates]:
    called = positive_scores(o) >= threshold
    return [{group: _share(called, mask, confidence) for group, mask in members.items()}]


def _tpr(o: Outcomes, members: Members, threshold: float, confidence: float) -> list[Rates]:
    called, positive = positive_scores(o) >= threshold, o.targets == positive_index(o)
    return [{group: _share(called, mask & positive, confidence) for group, mask in members.items()}]


def _odds(o: Outcomes, members: Members, threshold: float, confidence: float) -> list[Rates]:
    called, negative = positive_scores(o) >= threshold, o.targets != positive_index(o)
    fpr = {group: _share(called, mask & negative, confidence) for group, mask in members.items()}
    return [*_tpr(o, members, threshold, confidence), fpr]


def _auc(o: Outcomes, members: Members, threshold: float, confidence: float) -> list[Rates]:
    return [{group: interval("roc_auc", take(o, mask), confidence) for group, mask in members.items()}]


# kind -> what a group needs `min_rows` of, and the rates that are compared
KINDS: dict[str, tuple[tuple[str, ...], Callable[[Outcomes, Members, float, float], list[Rates]]]] = {
    "selection": (("rows",), _selection),
    "tpr": (("positives",), _tpr),
    "equalized_odds": (("positives", "negatives"), _odds),
    "auc": (("positives", "negatives"), _auc),
}

"""`power_dynamics`: fairlearn's gaps, with intervals that hold, small groups named and left out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from alexandra.errors import VerifierError
from alexandra.metrics import metric, threshold_of
from alexandra.records import Claim, Outcomes
from alexandra.statistics import interval, take
from alexandra.verifiers.base import run
from alexandra.verifiers.power_dynamics import KINDS, gap, members_of, power_dynamics


def skewed(n: int, gap_in_score: float, seed: int = 0, groups: int = 2) -> Outcomes:
    """The last group's scores are lowered by `gap_in_score` on the logit scale."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(n) < 0.4).astype(np.int64)
    group = rng.integers(0, groups, n)
    logit = rng.normal(size=n) + 1.5 * targets - 0.75 - gap_in_score * (group == groups - 1)
    p = 1 / (1 + np.exp(-logit))
    keys = np.array([f"{i:032x}" for i in range(n)])
    columns = {"g": np.array(list("abcdefgh"))[group]}
    return Outcomes(keys, targets, np.stack([1 - p, p], axis=1), ("no", "yes"), columns)


@pytest.mark.parametrize("column", ["gender", "region"])
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_gaps_agree_with_fairlearn(column: str, threshold: float, good) -> None:
    fairness = pytest.importorskip("fairlearn.metrics")
    o = good(n=4000).content
    keep = o.columns[column] != "moon"  # too small a group
    o = take(o, keep)
    called = o.predictions[:, 1] >= threshold
    expected = {
        "selection": fairness.demographic_parity_difference,
        "tpr": fairness.equal_opportunity_difference,
        "equalized_odds": fairness.equalized_odds_difference,
    }
    for kind, oracle in expected.items():
        found, _ = gap(o, members_of(o, column), kind, threshold)
        value = oracle(o.targets, called, sensitive_features=o.columns[column])
        assert found is not None and found.value == pytest.approx(value, abs=1e-12)


def test_the_gap_in_auc_is_between_the_groups_own_rankings(good) -> None:
    o = good(n=4000).content
    found, _ = gap(o, members_of(o, "gender"), "auc", 0.5)
    values = [metric("roc_auc").fn(take(o, mask)) for mask in members_of(o, "gender").values()]
    assert found is not None and found.value == pytest.approx(max(values) - min(values))


def test_an_unfair_model_scores_lower_and_its_gap_is_certain() -> None:
    fair, unfair = (Claim("outcomes", skewed(4000, by)) for by in (0.0, 1.0))
    verifier = power_dynamics(groups="g")
    even, uneven = run(verifier, [fair, unfair])
    assert uneven.score < even.score - 0.15
    assert uneven.facts["gap(g, of=equalized_odds)"].low > 0.15
    assert even.facts["gap(g, of=equalized_odds)"].low == 0.0
    assert not uneven.hard


def test_a_verdict_depends_on_who_is_in_which_group() -> None:
    claim = Claim("outcomes", skewed(4000, 1.0))
    mixed = np.random.default_rng(0).permutation(4000)
    blind = replace(claim, content=replace(claim.content, columns={"g": claim.content.columns["g"][mixed]}))
    seen, unseen = run(power_dynamics(groups="g"), [claim, blind])
    assert seen.facts["gap(g, of=selection)"].low > 0.1
    assert unseen.facts["gap(g, of=selection)"].low < 0.01 < 0.9 < unseen.score


def test_facts_of_every_kind_carry_their_n_and_the_names_that_checks_use(good) -> None:
    (verdict,) = run(power_dynamics(groups=("gender", "region"), of="tpr"), [good(n=4000)])
    assert set(verdict.facts) == {f"gap({c}, of={kind})" for c in ("gender", "region") for kind in KINDS}
    assert verdict.facts["gap(gender, of=tpr)"].n == 4000
    worst = max(verdict.facts[f"gap({c}, of=tpr)"].value for c in ("gender", "region"))
    assert verdict.score == pytest.approx(1 - worst)
    for fact in verdict.facts.values():
        assert 0 <= fact.low <= fact.value <= fact.high <= 1


def test_small_groups_are_named_with_their_n_and_left_out(good) -> None:
    claim = good(n=4000)
    (verdict,) = run(power_dynamics(groups="region"), [claim])
    moon = claim.content.columns["region"] == "moon"
    positives = int(claim.content.targets[moon].sum())
    listed = f"left out, under 100 positives or negatives: moon n={moon.sum()} ({positives} positive)"
    assert listed in verdict.reason
    assert verdict.facts["gap(region, of=equalized_odds)"].n == 4000 - moon.sum()
    rows = json.loads(verdict.evidence[0].output)["rows"]["region"]
    assert rows["moon"] == {"rows": int(moon.sum()), "positives": positives, "negatives": int(moon.sum()) - positives}


def test_under_two_large_groups_it_abstains_kind_by_kind(good) -> None:
    """400 rows in two groups: about 70 positives each, so only the gap in selection remains."""
    claim = good(n=400)
    (verdict,) = run(power_dynamics(groups="gender"), [claim])
    assert verdict.score is None and "gap(gender, of=equalized_odds) abstained: fewer than two groups" in verdict.reason
    assert set(verdict.facts) == {"gap(gender, of=selection)"}
    assert run(power_dynamics(groups="gender", min_rows=20), [claim])[0].score is not None


def test_many_numbers_are_compared_by_quarters(good) -> None:
    o = good(n=2000).content
    ages = members_of(o, "age")
    assert len(ages) == 4 and sum(mask.sum() for mask in ages.values()) == 2000
    assert all(400 <= mask.sum() <= 600 for mask in ages.values())
    number = o.columns["age"].astype(float)
    first = min(ages, key=lambda name: number[ages[name]].min())
    assert first.startswith("18 to ") and number[ages[first]].max() <= float(first.split(" to ")[1])
    holes = replace(o, columns={"age": np.where(np.arange(2000) < 50, "", o.columns["age"])})
    assert members_of(holes, "age")["missing"].sum() == 50


def test_the_threshold_is_the_tasks(good) -> None:
    claim = good(n=4000, metric="recall_at(10%)")
    (verdict,) = run(power_dynamics(groups="gender", of="selection"), [claim])
    threshold = threshold_of(metric("recall_at(10%)"), claim.content)
    assert json.loads(verdict.evidence[0].output)["threshold"] == pytest.approx(threshold)
    (named,) = run(power_dynamics(groups="gender", of="selection", threshold=0.3), [claim])
    assert json.loads(named.evidence[0].output)["threshold"] == 0.3


def test_it_abstains_from_targets_that_are_not_two_classes(numbers) -> None:
    (verdict,) = run(power_dynamics(groups="g"), [numbers()])
    assert verdict.score is None and "it reads targets of two classes, these are numbers" in verdict.reason
    (text,) = run(power_dynamics(groups="g"), [Claim("text", "hello")])
    assert text.score is None and "of kind 'text'" in text.reason


def test_wrong_settings_are_refused_with_what_is_known(good) -> None:
    with pytest.raises(VerifierError, match=r"needs groups\nfor example power_dynamics\(groups=\[gender\]\)"):
        power_dynamics()
    with pytest.raises(VerifierError, match="unknown kind of gap of='odds'\nknown: auc, equalized_odds, sel"):
        power_dynamics(groups="g", of="odds")
    with pytest.raises(VerifierError, match="no column 'gendre' in the outcomes\n.*Did you mean 'gender'"):
        run(power_dynamics(groups="gendre"), [good()])


def test_intervals_cover_the_true_gap_and_many_equal_groups_show_none() -> None:
    truth = gap(skewed(1_000_000, 0.5, seed=10**6), members_of(skewed(1_000_000, 0.5, seed=10**6), "g"), "tpr", 0.5)[0]
    assert truth is not None
    inside, false_alarms = 0, 0
    for seed in range(300):
        o = skewed(1200, 0.5, seed)
        found, _ = gap(o, members_of(o, "g"), "tpr", 0.5)
        inside += found is not None and found.low <= truth.value <= found.high
        o = skewed(2400, 0.0, seed, groups=6)
        found, _ = gap(o, members_of(o, "g"), "equalized_odds", 0.5)
        false_alarms += found is not None and found.low > 0
    assert inside >= 0.92 * 300
    assert false_alarms <= 0.05 * 300


def test_a_group_interval_is_never_wider_than_the_scale() -> None:
    o = skewed(1000, 0.2)
    found, _ = gap(o, members_of(o, "g"), "auc", 0.5, min_rows=50)
    assert found is not None and found.high <= 1
    single = interval("roc_auc", take(o, o.columns["g"] == "a"))
    assert single.n == found.n - (o.columns["g"] == "b").sum()

"""Metrics: equal to scikit-learn's, exact under ties and weights, refused where they mean nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk

from alexandra.errors import DataError, TaskError
from alexandra.lang.expr import Fact
from alexandra.metrics import (
    METRICS,
    Metric,
    check_kind,
    metric,
    positive_scores,
    predicted,
    threshold_of,
    usable,
    weighted,
)
from alexandra.records import Outcomes

BOUND = {"recall_at": "recall_at(10%)", "lift_at": "lift_at(10%)", "profit": "profit(tp=100, fp=-10)"}
ALL = [BOUND.get(name, name) for name in METRICS]


def keys(n: int) -> np.ndarray:
    return np.array([f"{i:032x}" for i in range(n)])


def two_classes(n: int = 400, share: float = 0.3, decimals: int = 17, positive: int = -1, seed: int = 0) -> Outcomes:
    rng = np.random.default_rng(seed)
    targets = (rng.random(n) < share).astype(np.int64)
    score = np.round(1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * targets - 1))), decimals)
    return Outcomes(keys(n), targets, np.stack([1 - score, score], axis=1), ("no", "yes"), positive=positive)


def many_classes(n: int = 500, count: int = 4, seed: int = 0) -> Outcomes:
    rng = np.random.default_rng(seed)
    targets = rng.choice(count, size=n, p=np.arange(1, count + 1) / np.arange(1, count + 1).sum())
    logits = rng.normal(size=(n, count))
    logits[np.arange(n), targets] += 1.2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Outcomes(keys(n), targets, probabilities, tuple("abcdefghij"[:count]))


def numbers(n: int = 300, seed: int = 0) -> Outcomes:
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=n) * 3 + 10
    return Outcomes(keys(n), targets, targets + rng.normal(size=n))


def suited(text: str) -> Outcomes:
    return numbers() if metric(text).kind == "regression" else two_classes()


TWO_CLASS_ORACLES = {
    "roc_auc": lambda t, p: sk.roc_auc_score(t, p),
    "average_precision": lambda t, p: sk.average_precision_score(t, p),
    "accuracy": lambda t, p: sk.accuracy_score(t, p >= 0.5),
    "accuracy(threshold=0.3)": lambda t, p: sk.accuracy_score(t, p >= 0.3),
    "balanced_accuracy": lambda t, p: sk.balanced_accuracy_score(t, p >= 0.5),
    "f1": lambda t, p: sk.f1_score(t, p >= 0.5),
    "f1(threshold=0.25)": lambda t, p: sk.f1_score(t, p >= 0.25),
    "log_loss": lambda t, p: sk.log_loss(t, np.stack([1 - p, p], axis=1)),
    "brier": lambda t, p: sk.brier_score_loss(t, p),
}


@pytest.mark.parametrize("text", TWO_CLASS_ORACLES)
@pytest.mark.parametrize("decimals", [17, 1])
@pytest.mark.parametrize("share", [0.5, 0.04])
@pytest.mark.parametrize("positive", [-1, 0])
def test_two_class_metrics_agree_with_scikit_learn(text: str, decimals: int, share: float, positive: int) -> None:
    outcomes = two_classes(share=share, decimals=decimals, positive=positive)
    truth = outcomes.targets == (1 if positive == -1 else 0)
    expected = TWO_CLASS_ORACLES[text](truth, positive_scores(outcomes))
    assert metric(text).fn(outcomes) == pytest.approx(expected, abs=1e-12)


MANY_CLASS_ORACLES = {
    "roc_auc": lambda t, p: sk.roc_auc_score(t, p, multi_class="ovr"),
    "average_precision": lambda t, p: sk.average_precision_score(np.eye(p.shape[1])[t], p, average="macro"),
    "accuracy": lambda t, p: sk.accuracy_score(t, p.argmax(axis=1)),
    "exact": lambda t, p: sk.accuracy_score(t, p.argmax(axis=1)),
    "balanced_accuracy": lambda t, p: sk.balanced_accuracy_score(t, p.argmax(axis=1)),
    "f1": lambda t, p: sk.f1_score(t, p.argmax(axis=1), average="macro"),
    "log_loss": lambda t, p: sk.log_loss(t, p, labels=list(range(p.shape[1]))),
    "brier": lambda t, p: sk.brier_score_loss(t, p, labels=list(range(p.shape[1])), scale_by_half=True),
}


@pytest.mark.parametrize("text", MANY_CLASS_ORACLES)
def test_metrics_of_several_classes_agree_with_scikit_learn(text: str) -> None:
    outcomes = many_classes()
    expected = MANY_CLASS_ORACLES[text](outcomes.targets, outcomes.predictions)
    assert metric(text).fn(outcomes) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "oracle"),
    [
        ("rmse", sk.root_mean_squared_error),
        ("mae", sk.mean_absolute_error),
        ("r2", sk.r2_score),
    ],
)
def test_regression_metrics_agree_with_scikit_learn(text: str, oracle) -> None:
    outcomes = numbers()
    assert metric(text).fn(outcomes) == pytest.approx(oracle(outcomes.targets, outcomes.predictions), rel=1e-12)


def test_a_class_that_does_not_occur_is_left_out_of_the_mean() -> None:
    full = many_classes()
    rows = full.targets != 0
    part = replace(full, keys=full.keys[rows], targets=full.targets[rows], predictions=full.predictions[rows])
    one_by_one = [sk.roc_auc_score(part.targets == c, part.predictions[:, c]) for c in (1, 2, 3)]
    assert metric("roc_auc").fn(part) == pytest.approx(np.mean(one_by_one), abs=1e-12)


def test_a_certain_error_costs_as_much_as_in_scikit_learn() -> None:
    outcomes = Outcomes(keys(3), np.array([0, 1, 1]), np.array([[0.0, 1.0], [0.2, 0.8], [0.0, 1.0]]), ("a", "b"))
    assert metric("log_loss").fn(outcomes) == pytest.approx(sk.log_loss(outcomes.targets, outcomes.predictions))


def test_top_shares_count_a_tied_block_in_proportion() -> None:
    """Equal to the mean over every way to break the ties."""
    outcomes = two_classes(n=60, decimals=1, seed=3)
    scores, truth = positive_scores(outcomes), outcomes.targets == 1
    rng, top = np.random.default_rng(0), 15
    recalls = []
    for _ in range(4000):
        order = np.lexsort((rng.random(60), -scores))
        recalls.append(truth[order[:top]].sum() / truth.sum())
    assert metric("recall_at(25%)").fn(outcomes) == pytest.approx(np.mean(recalls), abs=0.005)
    lift = metric("recall_at(25%)").fn(outcomes) / 0.25
    assert metric("lift_at(25%)").fn(outcomes) == pytest.approx(lift)


def test_calibration_error_of_a_hand_made_table() -> None:
    score = np.array([0.1, 0.1, 0.1, 0.1, 0.9, 0.9])
    outcomes = Outcomes(
        keys(6), np.array([0, 0, 0, 1, 1, 1]), np.stack([1 - score, score], axis=1), ("no", "yes")
    )
    expected = (4 * abs(0.25 - 0.1) + 2 * abs(1 - 0.9)) / 6
    assert metric("ece").fn(outcomes) == pytest.approx(expected)
    assert metric("ece(bins=10)").fn(outcomes) == pytest.approx(expected)


def test_profit_acts_from_the_break_even_probability_on() -> None:
    outcomes = two_classes()
    found = metric("profit", tp=100, fp=-10)
    assert threshold_of(found, outcomes) == pytest.approx(10 / 110)
    acts = positive_scores(outcomes) >= 10 / 110
    gain = np.where(acts, np.where(outcomes.targets == 1, 100, -10), 0).mean()
    assert found.fn(outcomes) == pytest.approx(gain)
    assert found.fn(outcomes, threshold=0.5) == pytest.approx(
        np.where(positive_scores(outcomes) >= 0.5, np.where(outcomes.targets == 1, 100, -10), 0).mean()
    )


def test_the_threshold_of_a_top_share_is_the_score_of_its_last_row() -> None:
    outcomes = two_classes()
    threshold = threshold_of(metric("recall_at(10%)"), outcomes)
    assert (positive_scores(outcomes) >= threshold).sum() == 40
    assert threshold_of(metric("roc_auc"), outcomes) == 0.5
    assert threshold_of(metric("f1(threshold=0.2)"), outcomes) == 0.2


def test_a_row_at_the_threshold_is_called_positive() -> None:
    outcomes = Outcomes(keys(2), np.array([0, 1]), np.full((2, 2), 0.5), ("no", "yes"))
    assert predicted(outcomes).tolist() == [1, 1]
    assert predicted(replace(outcomes, positive=0)).tolist() == [0, 0]


def test_exact_counts_numbers_within_the_tolerance() -> None:
    outcomes = Outcomes(keys(4), np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.4, 3.0, 5.0]))
    assert metric("exact").fn(outcomes) == 0.5
    assert metric("exact(tolerance=0.5)").fn(outcomes) == 0.75


@pytest.mark.parametrize("text", ALL)
def test_weights_mean_repeated_rows(text: str) -> None:
    """The weighted form on counts equals the plain metric on a table with the rows repeated."""
    outcomes = suited(text)
    outcomes = replace(
        outcomes, predictions=np.round(outcomes.predictions, 2) if outcomes.classes else outcomes.predictions
    )
    counts = np.random.default_rng(1).multinomial(outcomes.n, np.full(outcomes.n, 1 / outcomes.n), size=3)
    got = weighted(metric(text), outcomes)(counts.astype(np.float64))
    for row, value in zip(counts, got, strict=True):
        index = np.repeat(np.arange(outcomes.n), row)
        repeated = replace(outcomes, targets=outcomes.targets[index], predictions=outcomes.predictions[index])
        assert value == pytest.approx(metric(text).fn(repeated), abs=1e-12)


@pytest.mark.parametrize("text", ALL)
def test_every_metric_tells_perfect_from_good_from_shuffled(text: str) -> None:
    found, outcomes = metric(text), suited(text)
    perfect = np.eye(2)[outcomes.targets] if outcomes.classes else outcomes.targets
    shuffled = outcomes.predictions[np.random.default_rng(5).permutation(outcomes.n)]
    values = [found.fn(replace(outcomes, predictions=p)) for p in (perfect, outcomes.predictions, shuffled)]
    if found.name == "exact" and not outcomes.classes:
        return
    best, good, worst = values if found.higher_is_better else [-value for value in values]
    assert best > good > worst
    assert math.isinf(found.perfect) or values[0] == pytest.approx(found.perfect, abs=1e-12)


@pytest.mark.parametrize("text", ALL)
def test_the_text_of_a_metric_reads_back_and_is_the_name_of_its_fact(text: str) -> None:
    found = metric(text)
    assert metric(str(found)) == found
    fact_params = tuple((name, value) for name, value in found.params.items() if name in ("share", "tp", "fp"))
    assert str(found) == Fact(found.name, fact_params).key


def test_parameters_come_by_position_by_name_and_in_the_text() -> None:
    assert metric("recall_at", 0.1) == metric("recall_at", share=0.1) == metric("recall_at(10%)")
    assert metric("recall_at(0.1)") == metric("recall_at( share = 10% )") == metric("recall_at(10%)")
    assert metric(metric("f1"), threshold=0.2) == metric("f1(threshold=0.2)") == metric("f1(0.2)")
    outcomes = two_classes()
    assert METRICS["recall_at"].fn(outcomes, share=0.2) == metric("recall_at(20%)").fn(outcomes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("roc_acu", "unknown metric 'roc_acu'\nknown: accuracy, average_precision, .* Did you mean 'roc_auc'?"),
        ("", "unknown metric ''"),
        ("recall_at", r"metric 'recall_at' needs share\nfor example recall_at\(10%\)"),
        ("profit", "metric 'profit' needs tp and fp"),
        ("profit(tp=1, fp=2)", "profit needs tp above fp, got tp=1, fp=2"),
        ("accuracy(treshold=1)", "'accuracy' has no parameter 'treshold'\nknown: threshold. Did you mean 'threshold'?"),
        ("mae(share=1)", "metric 'mae' has no parameter 'share'\nit takes none"),
        ("rmse(3)", "metric 'rmse' takes 0 parameters, got 1"),
        ("recall_at(200%)", "share=2.0 is not a number from 1e-09 to 1"),
        ("recall_at(many)", "metric 'recall_at': 'many' is not a number"),
    ],
)
def test_an_unknown_metric_or_parameter_is_refused_with_what_is_known(text: str, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        metric(text)


def test_a_metric_of_the_wrong_kind_is_refused_with_those_that_fit() -> None:
    with pytest.raises(TaskError, match="'rmse' needs a target that is a number, but this target has 2 classes\nus"):
        METRICS["rmse"].fn(two_classes())
    with pytest.raises(TaskError, match="'roc_auc' needs a target that has classes, but this target is a number"):
        check_kind("roc_auc", 0)
    with pytest.raises(TaskError, match="'recall_at' needs a target that has two classes, but this target has 4"):
        metric("recall_at(10%)").fn(many_classes())
    assert usable(0) == ["rmse", "mae", "r2", "exact"]
    assert set(usable(2)) - set(usable(3)) == {"recall_at", "lift_at", "profit"}


UNDEFINED_ON_ONE_CLASS = ("roc_auc", "average_precision", "balanced_accuracy", "f1", "recall_at(10%)", "lift_at(10%)")


@pytest.mark.parametrize("text", UNDEFINED_ON_ONE_CLASS)
def test_one_class_only_is_an_error_in_words(text: str) -> None:
    outcomes = two_classes()
    with pytest.raises(DataError, match="is undefined: all 400 rows are of class 'yes'\nmeasure on rows of"):
        metric(text).fn(replace(outcomes, targets=np.ones(400, dtype=np.int64)))


def test_malformed_outcomes_are_refused_by_what_is_wrong() -> None:
    good, found = two_classes(), metric("accuracy")
    cases = [
        (replace(good, keys=good.keys[:0]), r"no outcomes to measure \(0 rows\)"),
        (replace(good, predictions=good.predictions[:, :1]), r"of shape \(400, 2\), got \(400,\) and \(400, 1\)"),
        (replace(good, predictions=good.predictions * 2), "probabilities that sum to 1"),
        (replace(good, predictions=good.predictions * np.nan), r"not finite \(row 0\)"),
        (replace(good, targets=good.targets + 5), r"class indices 0 \.\. 1"),
        (replace(good, targets=good.targets.astype(float)), r"class indices 0 \.\. 1, got float64"),
        (replace(good, positive=7), "positive=7 is not one of the 2 classes"),
    ]
    for outcomes, words in cases:
        with pytest.raises(DataError, match=words):
            found.fn(outcomes)
    with pytest.raises(DataError, match=r"targets hold a value that is not finite \(row 2\)"):
        bad = numbers().targets.copy()
        bad[2] = np.inf
        metric("mae").fn(replace(numbers(), targets=bad))
    with pytest.raises(DataError, match="'r2' is undefined: all 300 targets are 7\n.*use rmse"):
        metric("r2").fn(replace(numbers(), targets=np.full(300, 7.0)))
    with pytest.raises(DataError, match=r"threshold=0\.2 needs two classes, this target has 4"):
        metric("accuracy(threshold=0.2)").fn(many_classes())


def test_rows_of_the_table_are_complete() -> None:
    for name, row in METRICS.items():
        assert isinstance(row, Metric) and row.name == name and row.doc
        assert (row.rows is None) != (row.prepare is None)

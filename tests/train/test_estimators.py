"""The estimators keep every convention of scikit-learn, and travel without their engine handle."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

import alexandra as ax


@pytest.mark.parametrize("estimator", [ax.Classifier(seed=0), ax.Regressor(seed=0)], ids=["classifier", "regressor"])
def test_check_estimator_passes(estimator: object) -> None:
    results = check_estimator(estimator, on_fail=None)
    failed = [(one["check_name"], one["exception"]) for one in results if one["status"] not in ("passed", "skipped")]
    assert not failed
    assert len(results) > 40


def test_the_classifier_is_as_good_as_expected_on_real_data() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    assert cross_val_score(ax.Classifier(), x, y, scoring="roc_auc", cv=3).mean() > 0.985


def test_the_regressor_beats_the_mean_on_real_data() -> None:
    x, y = load_diabetes(return_X_y=True)
    assert cross_val_score(ax.Regressor(layers=0), x, y, scoring="r2", cv=3).mean() > 0.4


def test_a_frame_with_categories_and_gaps_is_taken_as_it_is() -> None:
    rng = np.random.default_rng(0)
    color = rng.choice(["red", "green", "blue"], 300)
    frame = pd.DataFrame({"color": color, "size": np.where(rng.random(300) < 0.2, np.nan, rng.normal(size=300))})
    model = ax.Classifier(layers=1).fit(frame, np.where(color == "red", "stop", "go"))
    assert (model.predict(frame) == np.where(color == "red", "stop", "go")).mean() > 0.98
    assert list(model.classes_) == ["go", "stop"]


def test_a_copied_estimator_gives_the_same_bytes() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    model = ax.Classifier(epochs=3).fit(x, y)
    np.testing.assert_array_equal(copy.deepcopy(model).predict_proba(x), model.predict_proba(x))


def test_a_network_as_text_is_trained() -> None:
    text = "LAYER INPUT name=x size=AUTO LAYER DENSE name=h size=8 activation=tanh LAYER OUTPUT name=y size=AUTO activation=softmax CONNECT x -> h -> y"  # noqa: E501
    x, y = load_breast_cancer(return_X_y=True)
    model = ax.Classifier(text).fit(x, y)
    assert model.graph_.by_name["h"].attrs["size"] == 8
    assert model.score(x, y) > 0.95


def test_equal_seeds_give_equal_bytes_with_any_number_of_threads() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    one, two = (ax.Classifier(epochs=5, threads=threads).fit(x, y).predict_proba(x) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)

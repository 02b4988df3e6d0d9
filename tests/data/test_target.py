"""The target as numbers: which targets are classes, which class is positive, and the way back to the user's words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alexandra.data.target import TargetEncoder, is_classification
from alexandra.errors import DataError
from alexandra.tables import Column, Table


def column(values: list[object] | np.ndarray) -> Column:
    return Table.from_any({"y": values})["y"]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["Yes", "No"] * 5, True),
        ([True, False] * 5, True),
        ([0, 1] * 5, True),
        ([-1.5, 2.5] * 5, True),
        (list(range(10)) * 4, True),
        (list(range(10)) * 3, False),
        ([0.1, 0.2, 0.3] * 50, False),
        (list(range(30)) * 10, False),
    ],
)
def test_which_targets_are_classes(values: list[object], classes: bool) -> None:
    assert is_classification(column(values)) == classes
    assert TargetEncoder.fit(column(values)).is_classification == classes


@pytest.mark.parametrize(
    ("values", "wanted", "positive"),
    [
        (["Yes"] * 9 + ["No"], None, "Yes"),
        ([0] * 2 + [1] * 8, None, "1"),
        ([True] * 8 + [False], "", "true"),
        (["malignant"] * 3 + ["benign"] * 7, None, "malignant"),
        (["<=50K"] * 7 + [">50K"] * 3, None, ">50K"),
        (["a", "b"], None, "b"),
        (["Yes", "No"], "no", "No"),
        (["a", "b", "c"], "b", "b"),
    ],
)
def test_the_positive_class_says_yes_or_is_the_rarer(values: list[object], wanted: str | None, positive: str) -> None:
    coding = TargetEncoder.fit(column(values), wanted)
    assert coding.classes[coding.positive] == positive


def test_more_than_two_classes_have_no_positive_one_and_numbers_keep_their_order() -> None:
    coding = TargetEncoder.fit(column([10, 9, 2, 1] * 5))
    assert coding.classes == ("1", "2", "9", "10")
    assert coding.positive == -1
    assert coding.encode(column([9, 1, 10])).tolist() == [2, 0, 3]


def test_values_are_standardised_and_come_back() -> None:
    values = np.linspace(3.0, 90.0, 200)
    coding = TargetEncoder.fit(column(values))
    coded = coding.encode(column(values))
    assert abs(coded.mean()) < 1e-12 and abs(coded.std() - 1.0) < 1e-12
    np.testing.assert_allclose(coding.decode(coded[:, None].astype(np.float32)), values, rtol=1e-6)


def test_one_sigmoid_output_becomes_two_probabilities() -> None:
    coding = TargetEncoder.fit(column(["no", "yes"] * 5))
    np.testing.assert_allclose(coding.decode(np.array([[0.25], [1.0]])), [[0.75, 0.25], [0.0, 1.0]])
    np.testing.assert_allclose(coding.decode(np.array([[0.25, 0.75]])), [[0.25, 0.75]])


@pytest.mark.parametrize("values", [["Yes", "No"] * 5, list(np.linspace(0, 1, 50))])
def test_json_round_trip(values: list[object]) -> None:
    coding = TargetEncoder.fit(column(values))
    assert TargetEncoder.from_dict(json.loads(json.dumps(coding.to_dict(), allow_nan=False))) == coding


@pytest.mark.parametrize(
    ("values", "positive", "message"),
    [
        (["x"] * 5, None, "target 'y' has one class only: 'x' in all 5 rows\ngive rows of at least two classes"),
        ([4] * 5, None, "target 'y' has one class only: '4' in all 5 rows"),
        ([None, None], None, "target 'y' is missing in every row"),
        ([f"id{i}" for i in range(50)], None, "has 50 distinct values in 50 rows"),
        (["2020-01-01", "2020-01-02"], None, "target 'y' holds dates"),
        (["Yes", "No"], "Yess", "has no class 'Yess'\nknown: No, Yes. Did you mean 'Yes'"),
        ([0.1, 0.2, 0.35], "0.1", "is a number, so it has no positive class '0.1'"),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused(values: list[object], positive: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        TargetEncoder.fit(column(values), positive)
    assert caught.value.hint


def test_new_targets_must_be_known_and_present() -> None:
    coding = TargetEncoder.fit(column(["Yes", "No"]))
    with pytest.raises(DataError, match="unknown class 'Maybe'"):
        coding.encode(column(["Yes", "Maybe"]))
    with pytest.raises(DataError, match="missing in row 2"):
        coding.encode(column(["Yes", None]))

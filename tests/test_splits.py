"""Parts are disjoint by content and by group, balanced, stratified, and depend on nothing but keys and seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.errors import DataError
from alexandra.splits import by_time, folds, holdout


def hashes(values: list[int] | np.ndarray) -> np.ndarray:
    return np.array([f"{value:032x}" for value in values])


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys with repeats, groups and strata of 12 to 60 rows."""
    n = draw(st.integers(12, 60))
    pick = lambda high: draw(st.lists(st.integers(0, high), min_size=n, max_size=n))  # noqa: E731
    return hashes(pick(40)), np.array(pick(30)), np.array(pick(2))


def together(parts: np.ndarray, names: np.ndarray) -> bool:
    """Whether rows of one name share one part."""
    return all(len(set(parts[names == name].tolist())) == 1 for name in set(names.tolist()))


@given(data=rows(), seed=st.integers(0, 5), grouped=st.booleans())
def test_equal_rows_and_groups_share_a_fold_and_the_order_of_rows_does_not_matter(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int, grouped: bool
) -> None:
    keys, groups, strata = data
    chosen = groups if grouped else None
    try:
        fold = folds(keys, 3, seed, groups=chosen, strata=strata)
    except DataError as error:
        assert "leave fold" in str(error)
        return
    assert set(fold.tolist()) == {0, 1, 2}
    assert together(fold, keys)
    if grouped:
        assert together(fold, groups)
    order = np.random.default_rng(seed).permutation(len(keys))
    again = folds(keys[order], 3, seed, groups=None if chosen is None else chosen[order], strata=strata[order])
    assert again.tolist() == fold[order].tolist()


@given(
    data=rows(), seed=st.integers(0, 5), shares=st.sampled_from([(0.7, 0.15, 0.15), (0.88, 0.12, 0.0), (0.5, 0.0, 0.5)])
)
def test_every_row_has_one_part_and_equal_rows_the_same(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int, shares: tuple[float, float, float]
) -> None:
    keys, _, strata = data
    parts = holdout(keys, shares, seed, strata=strata)
    assert len(parts) == len(keys)
    assert set(parts.tolist()) <= {"train", "validation", "test"}
    assert together(parts, keys)
    assert not any(
        (parts == name).any() for name, share in zip(("train", "validation", "test"), shares, strict=True) if not share
    )


def test_distinct_rows_are_balanced_to_one_row_in_size_and_in_each_class() -> None:
    keys = hashes(np.arange(1003))
    strata = np.repeat([0, 1, 2], [900, 92, 11])
    fold = folds(keys, 5, 7, strata=strata)
    for chosen in (np.ones(1003, bool), *(strata == c for c in range(3))):
        counts = np.bincount(fold[chosen], minlength=5)
        assert counts.max() - counts.min() <= 1
    parts = holdout(keys, (0.7, 0.2, 0.1), 7, strata=strata)
    for c, n in enumerate((900, 92, 11)):
        for name, share in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
            assert abs(((parts == name) & (strata == c)).sum() - share * n) <= 1


def test_large_groups_are_balanced_as_well_as_they_allow() -> None:
    groups = np.repeat(np.arange(40), np.arange(1, 41))
    strata = (groups % 4 == 0).astype(int)
    fold = folds(hashes(np.arange(len(groups))), 4, 1, groups=groups, strata=strata)
    sizes = np.bincount(fold)
    assert together(fold, groups)
    assert sizes.max() - sizes.min() <= 10
    shares = np.array([strata[fold == i].mean() for i in range(4)])
    assert shares.max() - shares.min() < 0.05


def test_rows_that_share_a_key_across_groups_join_the_groups() -> None:
    keys = hashes([1, 1, 2, 2, 3, 4, 5, 6])
    groups = np.array(["a", "b", "b", "c", "d", "e", "f", "g"])
    fold = folds(keys, 2, 0, groups=groups)
    assert len(set(fold[:4].tolist())) == 1


def test_conflicting_rows_of_two_classes_stay_together() -> None:
    keys = hashes([*range(50), *range(50)])
    strata = np.repeat([0, 1], 50)
    fold = folds(keys, 5, 3, strata=strata)
    assert (fold[:50] == fold[50:]).all()
    assert np.bincount(fold).tolist() == [20] * 5


def test_the_seed_decides_and_neighbouring_seeds_are_unrelated() -> None:
    keys = hashes(np.arange(2000))
    first, again, other = folds(keys, 5, 7), folds(keys, 5, 7), folds(keys, 5, 8)
    assert (first == again).all()
    assert abs((first == other).mean() - 0.2) < 0.05
    assert abs((first == (other + 1) % 5).mean() - 0.2) < 0.05


def test_folds_are_stable_for_ever() -> None:
    """Recorded once: artifacts name their folds by seed only."""
    assert folds(hashes(np.arange(12)), 3, 7).tolist() == RECORDED


RECORDED = [2, 1, 2, 1, 0, 1, 2, 0, 0, 1, 0, 2]


def test_named_shares_give_named_parts() -> None:
    parts = holdout(hashes(np.arange(10)), {"old": 0.5, "new": 0.5}, 0)
    assert sorted(parts.tolist()) == ["new"] * 5 + ["old"] * 5


@pytest.mark.parametrize("as_dates", [False, True])
def test_time_is_cut_in_order_and_never_inside_a_moment(as_dates: bool) -> None:
    values: np.ndarray = np.array([5, 1, 1, 2, 3, 3, 3, 3, 4, 9])
    values = np.datetime64("2020-01-01") + values.astype("timedelta64[D]") if as_dates else values
    parts = by_time(values, (0.5, 0.3, 0.2))
    assert together(parts, values)
    order = {"train": 0, "validation": 1, "test": 2}
    ranks = np.array([order[part] for part in parts.tolist()])
    assert (np.diff(ranks[np.argsort(values, kind="stable")]) >= 0).all()
    assert [int((parts == name).sum()) for name in order] == [3, 5, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: folds(hashes([1, 2, 3]), 1, 0), "1 folds are too few"),
        (lambda: folds(hashes([1, 1, 2]), 3, 0), "3 folds of 2 distinct rows leave fold 2 empty\nuse at most 2 folds"),
        (lambda: folds(hashes([1, 2, 3]), 3, 0, groups=np.array(["a", "a", "b"])), "3 folds of 2 distinct groups"),
        (lambda: folds(hashes([1, 2]), 2, 0, strata=np.array([1])), "2 keys, but 1 strata"),
        (lambda: folds(hashes([]), 2, 0), "there are no rows to divide"),
        (
            lambda: holdout(hashes([1, 2]), (0.7, 0.7, 0.1), 0),
            "do not divide the rows\ngive train, validation and test",
        ),
        (lambda: holdout(hashes([1, 2]), (0.5, 0.2, 0.2, 0.1), 0), "do not divide the rows"),
        (lambda: by_time(np.array([1.0, np.nan]), (0.5, 0.25, 0.25)), "1 rows have no time"),
        (lambda: by_time(np.array(["a"], dtype=object), (1.0, 0.0, 0.0)), "neither numbers nor dates"),
    ],
)
def test_what_cannot_be_divided_says_why_and_the_way_out(call: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        call()  # type: ignore[operator]
    assert caught.value.hint

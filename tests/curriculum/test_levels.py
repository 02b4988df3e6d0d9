"""Levels 1 and 2: what their items are, how many there are, that splits never mix, and what counts as an answer."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from alexandra.curriculum import LEVELS, SPLITS, Item, level, split_of
from alexandra.curriculum.items import check_value
from alexandra.curriculum.levels import Level
from alexandra.curriculum.sample import block_of, distinct
from alexandra.errors import DataError
from alexandra.maths import canonical, evaluate, key, parse, to_infix

NUMBERS = sorted(LEVELS)


def items(number: int, count: int, seed: int = 0, split: str = "") -> list[Item]:
    return list(level(number, count, seed, split))


# --- how many there are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", LEVELS.values(), ids=lambda row: f"level{row.number}")
def test_a_level_has_at_least_1_3_times_the_items_that_the_seed_asks_for(row: Level) -> None:
    assert row.distinct >= 1.3 * row.size


def test_level_1_has_exactly_15050_items_and_draws_each_once() -> None:
    keys = [item_key for _, item_key in distinct(LEVELS[1], 5, False)]
    by_hand = {key(f"(+ {a} {b})") for a in range(100) for b in range(a + 1)}
    by_hand |= {key(f"(- {a} {b})") for a in range(100) for b in range(100)}
    assert len(keys) == len(set(keys)) == LEVELS[1].distinct == len(by_hand) == 15_050
    assert set(keys) == by_hand


Values = Counter[Fraction]


def combined(a: Values, b: Values) -> Values:
    """Values of every canonical tree that joins a tree of `a` with one of `b`, when none is in both."""
    found: Values = Counter()
    for u, m in a.items():
        for v, n in b.items():
            for value in (u + v, u * v, u - v, v - u):
                found[value] += m * n
            if v:
                found[u / v] += m * n
            if u:
                found[v / u] += m * n
    return found


def paired(a: Values) -> Values:
    """The same for two trees of one set: sums and products count unordered pairs."""
    found: Values = Counter()
    for i, (u, m) in enumerate(a.items()):
        for j, (v, n) in enumerate(a.items()):
            found[u - v] += m * n
            if v:
                found[u / v] += m * n
            if j >= i:
                pairs = m * n if j > i else m * (m + 1) // 2
                found[u + v] += pairs
                found[u * v] += pairs
    return found


def within(values: Values) -> int:
    pins = LEVELS[2].pins
    most, below = pins.largest_numerator, pins.largest_denominator
    return sum(n for v, n in values.items() if abs(v.numerator) <= most and v.denominator <= below)


def operands(largest: int) -> Values:
    return Counter(map(Fraction, range(largest + 1)))


def test_level_2_has_164052_items_with_two_operators() -> None:
    assert within(combined(operands(20), paired(operands(20)))) == 164_052


@pytest.mark.slow
def test_level_2_has_at_least_25_million_items() -> None:
    ones = paired(operands(20))
    chains = combined(operands(20), ones)
    total = within(chains) + within(paired(ones)) + within(combined(operands(20), chains))
    assert total == LEVELS[2].distinct == 25_591_565
    larger = combined(operands(99), paired(operands(99)))
    assert within(larger) - within(chains) == LEVELS[2].distinct_ood


# --- what they are -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("split", ["", *SPLITS])
def test_items_are_distinct_inside_their_pins_and_answered_right(number: int, split: str) -> None:
    found = items(number, 300, seed=7, split=split)
    row = LEVELS[number]
    assert len(found) == len({item.key for item in found}) == 300
    for item in found:
        ood = split == "test_ood"
        assert row.holds(item.expr, ood) and row.holds(item.expr, not ood) is False
        assert item.split == ("test_ood" if ood else split_of(item.key)) and split in ("", item.split)
        assert item.key == key(item.input) and item.expected == evaluate(item.expr)
        assert item.id.startswith(f"L{number}-")


@pytest.mark.parametrize("number", NUMBERS)
def test_sympy_agrees_with_every_answer(number: int) -> None:
    for split in ("", "test_ood"):
        for item in items(number, 150, seed=3, split=split):
            theirs = sympy.sympify(to_infix(item.expr))
            assert theirs == sympy.Rational(item.expected.numerator, item.expected.denominator)


def test_level_1_asks_for_sums_and_differences_up_to_99() -> None:
    found = items(1, 2000)
    assert {item.expr.op for item in found} == {"+", "-"}  # type: ignore[attr-defined]
    operands = np.array([[int(arg.value) for arg in item.expr.args] for item in found])  # type: ignore[attr-defined]
    assert operands.min() == 0 and operands.max() == 99
    sums = np.array([item.expr.op == "+" for item in found])  # type: ignore[attr-defined]
    assert 0.30 < sums.mean() < 0.37  # 5,050 of 15,050
    assert 0.4 < (operands[sums][:, 0] > operands[sums][:, 1]).mean() < 0.6  # both orders of a sum are shown


def test_level_2_is_nested_two_or_three_deep_with_exact_rational_answers() -> None:
    found = items(2, 2000)
    depths = Counter(item.expr.depth for item in found)
    assert set(depths) == {2, 3} and min(depths.values()) > 400
    assert 0.3 < np.mean([item.expected.denominator == 1 for item in found]) < 0.7
    assert max(abs(item.expected.numerator) for item in found) <= 9999
    assert max(item.expected.denominator for item in found) <= 999
    ood = items(2, 500, split="test_ood")
    deeper = [item for item in ood if item.expr.depth == 4]
    assert 100 < len(deeper) < 400


@pytest.mark.parametrize("number", NUMBERS)
def test_candidates_do_not_depend_on_how_they_are_cut(number: int) -> None:
    row = LEVELS[number]
    for draw in (row.draw, row.draw_ood):
        whole = draw(9, 0, 60)
        assert whole == draw(9, 0, 17) + draw(9, 17, 60)
        assert whole != draw(10, 0, 60)


def test_a_longer_sample_begins_with_the_shorter_one() -> None:
    assert items(2, 120, seed=4)[:50] == items(2, 50, seed=4)
    assert len(level(2, 120)) == 120
    assert [item.id for item in items(1, 3)] == ["L1-00001", "L1-00002", "L1-00003"]


def test_neighbouring_seeds_share_hardly_any_items() -> None:
    """Level 1 is finite, so that only small samples of it can differ: of 200 of 15,050, 1.3 % are expected in both."""
    small = [{item.key for item in items(1, 200, seed)} for seed in (0, 1, 2)]
    assert max(len(small[0] & small[1]), len(small[1] & small[2])) <= 0.05 * 200
    large = [{item.key for item in items(2, 4000, seed)} for seed in (0, 1)]
    assert len(large[0] & large[1]) < 0.02 * 4000


def test_what_one_seed_trains_on_no_seed_tests_on() -> None:
    train = {item.key for seed in (0, 1, 2) for item in items(1, 2000, seed, "train")}
    test = {item.key for seed in (3, 4) for item in items(1, 700, seed, "test_iid")}
    assert not train & test
    assert not {canonical(item.expr) for item in items(2, 1000, 1, "train")} & {
        canonical(item.expr) for item in items(2, 300, 2, "val")
    }


def test_splits_are_shares_of_the_keys() -> None:
    counts = Counter(split_of(item_key) for _, item_key in distinct(LEVELS[1], 0, False))
    assert counts["train"] == pytest.approx(0.8 * 15_050, rel=0.02)
    assert counts["val"] == pytest.approx(counts["test_iid"], rel=0.15)
    assert split_of("00000000" + "f" * 24) == "train" and split_of("f" * 32) == "test_iid"


def test_blocks_are_pure_functions_of_their_number() -> None:
    assert block_of(LEVELS[2], 3, False, 5) == block_of(LEVELS[2], 3, False, 5) != block_of(LEVELS[2], 3, False, 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((3,), "no level 3"),
        ((1, 15_051), "level 1 has 15,050 distinct items, 15,051 were asked"),
        ((1, 3000, 0, "val"), "level 1, split val, has 1,"),
        ((1, -1), "-1 items cannot be drawn"),
        ((1, 5, 0, "valid"), "no split 'valid'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments: tuple[int, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        level(*arguments)


# --- what counts as an answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("split", ["train", "test_ood"])
def test_every_levels_own_answers_are_right_and_wrong_ones_and_echoes_are_not(number: int, split: str) -> None:
    sample = level(number, 400, 11, split)
    found = list(sample)
    assert all(sample.check(item.answer, item) for item in found)
    assert not any(sample.check(item.input, item) for item in found)
    assert not any(sample.check(str(item.expected + 1), item) for item in found)
    others = [sample.check(other.answer, item) for item, other in zip(found, found[1:], strict=False)]
    assert np.mean(others) < 0.05


RATIONALS = st.fractions(-500, 500, max_denominator=60)


@given(RATIONALS, st.integers(1, 9))
def test_every_form_of_the_right_number_is_accepted(value: Fraction, factor: int) -> None:
    above, below = value.numerator * factor, value.denominator * factor
    forms: list[object] = [value, str(value), f"{above}/{below}", f"(/ {above} {below})", f"[/ {-above} {-below}]"]
    forms += [f"(- {-value})", f"(- (- {value}))", f"(- (/ {-above} {below}))", f" {value} ", parse(str(value))]
    if value.denominator == 1:
        forms += [int(value), float(value), f"{value}.0", f"{value}.000", np.int64(int(value)), np.float64(value)]
    assert all(check_value(form, value) for form in forms)


@given(RATIONALS, RATIONALS)
def test_another_number_is_refused_in_every_form(value: Fraction, other: Fraction) -> None:
    if value != other:
        above, below = other.numerator, other.denominator
        forms = [other, str(other), float(other), f"(/ {above} {below})", f"(- {-other})"]
        assert not any(check_value(form, value) for form in forms)


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "",
            "five",
            "(+ 2 3)",
            "(- 7 2)",
            "(* 5 1)",
            "(^ 5 1)",
            "(/ (+ 2 3) 1)",
            "(/ (/ 10 2) 1)",
            "x",
            "5 5",
            "5.0.0",
        ),
        *("5e0", "(/ 5 0)", "((", "5" * 9000, "4.9999999999999999", b"5", None, True, [5]),
        *(float("nan"), float("inf"), 5.0000001),
    ],
)
def test_what_is_no_finished_number_is_refused(answer: object) -> None:
    assert check_value(answer, Fraction(5)) is False


def test_a_record_reads_back_as_its_item() -> None:
    for item in [*items(1, 20), *items(2, 20), *items(2, 20, split="test_ood")]:
        record = item.record()
        assert Item.of_record(record) == item
        assert record["expected_result"] == float(item.expected) and record["bindings"] == []
        assert Fraction(record["expected_exact"]) == item.expected and record["expected_symbolic"] is None
    with pytest.raises(DataError, match="no field 'input_polish'"):
        Item.of_record({})


def test_the_tree_in_a_record_is_the_seeds() -> None:
    (item,) = items(2, 1)
    tree = item.record()["input_expr"]
    assert set(tree) == {"BinOp"} and set(tree["BinOp"]) == {"op", "left", "right"}
    assert tree["BinOp"]["op"] in ("Add", "Sub", "Mul", "Div")

"""What the items of each level are, how many there are, that splits never mix, and what counts as an answer."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.curriculum import LEVELS, SPLITS, Item, Level, Question, edge_cases, level, level_of, split_of
from alexandra.curriculum.checks import check_value
from alexandra.curriculum.edge_cases import edge_keys
from alexandra.curriculum.level_1_2 import NESTED
from alexandra.curriculum.questions import question_key, tree_record
from alexandra.curriculum.sample import block_of, distinct
from alexandra.errors import DataError
from alexandra.maths import canonical, derivative, key, parse, tidy

NUMBERS = sorted(LEVELS)


def items(number: int, count: int, seed: int = 0, split: str = "") -> list[Item]:
    return list(level(number, count, seed, split))


# --- how many there are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", LEVELS.values(), ids=lambda row: f"level{row.number}")
def test_a_level_has_at_least_1_3_times_the_items_that_the_seed_asks_for(row: Level) -> None:
    assert row.distinct >= 1.3 * row.size


def test_the_first_pins_of_level_1_have_exactly_15050_items_and_draw_each_once() -> None:
    first = level_of(1, pins=1)
    keys = [item_key for _, item_key in distinct(first, 5, False)]
    by_hand = {key(f"(+ {a} {b})") for a in range(100) for b in range(a + 1)}
    by_hand |= {key(f"(- {a} {b})") for a in range(100) for b in range(100)}
    assert len(keys) == len(set(keys)) == first.distinct == len(by_hand) == 15_050
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
    most, below = NESTED.largest_numerator, NESTED.largest_denominator
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


def numbered(number: int) -> list[str]:
    """Inputs of level 1 as its newest pins count them, for fewer operands."""
    return [f"(+ {a} {b})" for a in range(number) for b in range(a + 1)] + [
        f"(- {a} {b})" for a in range(number) for b in range(number)
    ]


def test_level_1_has_1500500_items() -> None:
    assert LEVELS[1].distinct == 1000 * 1001 // 2 + 1000**2 == 1_500_500
    assert len({key(text) for text in numbered(40)}) == 40 * 41 // 2 + 40**2


def chains(steps: int, operands: int = 21) -> int:
    """Inputs of level 3 that start at a symbol and go on with so many + - * of an operand: four a step and operand."""
    values = Counter(range(operands))
    for _ in range(steps):
        following: Counter[int] = Counter()
        for value, many in values.items():
            for c in range(operands):
                for reached in (value + c, value - c, c - value, value * c):
                    following[reached] += many
        values = following
    return sum(many for value, many in values.items() if abs(value) <= 9999)


def test_level_3_has_at_least_12_million_items() -> None:
    assert chains(3) == LEVELS[3].distinct == 12_387_939
    steps = ("(+ {0} {1})", "(- {0} {1})", "(- {1} {0})", "(* {0} {1})")
    grown = ["x"]
    for _ in range(2):
        grown = [step.format(inner, c) for inner in grown for c in range(5) for step in steps]
    keys = {question_key(parse(text), (("x", Fraction(v)),)) for text in grown for v in range(3)}
    assert len(keys) == 3 * (5 * 4) ** 2


@pytest.mark.slow
def test_level_3_has_a_billion_items_out_of_distribution() -> None:
    assert chains(4) == LEVELS[3].distinct_ood


# For levels 4, 5 and 7 a family of inputs is counted by its parameters; here a member is drawn.
def family_4(dice: random.Random) -> str:
    a, b, c = dice.randrange(100), dice.randrange(100), dice.randrange(21)
    return f"(+ (* {c} (abs (- {a} {b}))) (floor (/ {dice.randint(-99, 99)} {dice.randint(2, 12)})))"


def wave(dice: random.Random, names: str) -> str:
    a, b, c = (dice.randint(1, 9) for _ in range(3))
    return f"(* {c} ({dice.choice(names.split())} ({dice.choice('+-')} (* {a} x) {b})))"


def family_5(dice: random.Random) -> str:
    names = "sin cos tan exp ln sqrt"
    return f"(derive (- {wave(dice, names)} {wave(dice, names)}) x)"


def family_7(dice: random.Random) -> str:
    c = dice.randint(1, 19)
    a, b, x = dice.randint(c + 1, 20), dice.randrange(100), dice.randint(-20, 20)
    return f"(solve (= (+ (* {a} x) {b}) (+ (* {c} x) {(a - c) * x + b})) x)"


@pytest.mark.parametrize(("number", "family"), [(4, family_4), (5, family_5), (7, family_7)])
def test_members_of_the_counted_families_are_different_inputs_of_their_level(
    number: int, family: Callable[[random.Random], str]
) -> None:
    dice = random.Random(number)
    texts = {family(dice) for _ in range(800)}
    assert len({key(text) for text in texts}) == len(texts) > 700
    assert all(LEVELS[number].holds(Question(parse(text)), False) for text in list(texts)[:200])


def test_the_counts_of_levels_4_to_7_are_those_of_their_families() -> None:
    assert LEVELS[4].distinct == 100 * 100 * 21 * 199 * 11 == 459_690_000
    pool = 9 * 6 * 9 * 9 * 2
    assert LEVELS[5].distinct == pool * (pool - 1) // 2 + pool * (pool - 1)
    waves = 3 * 9 * 9 * 2
    assert LEVELS[6].distinct == waves * (waves - 1) // 2 * 81 == 9_546_255
    assert LEVELS[6].distinct_ood == (9 * sum(c * a > 540 for c in range(10, 100) for a in range(10, 100))) ** 2
    linear = sum(a > c for a in range(1, 21) for c in range(1, 21)) * 100 * 41
    assert LEVELS[7].distinct == linear + 5 * (25 * 26 // 2) * 21 * 51


def test_answers_of_level_6_that_differ_have_different_integrands() -> None:
    """So that its family can be counted by answers: c f(a x + b) is read off its derivative."""
    dice = random.Random(6)
    answers = {tidy(parse(f"(+ {wave(dice, 'sin cos exp')} {wave(dice, 'sin cos exp')})")) for _ in range(500)}
    assert len({key(derivative(answer, "x")) for answer in answers}) == len({key(answer) for answer in answers}) > 450


# --- what they are -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("split", ["", *SPLITS])
def test_items_are_distinct_inside_their_pins_and_proved(number: int, split: str) -> None:
    found = items(number, 60, seed=7, split=split)
    row = LEVELS[number]
    assert len(found) == len({item.key for item in found}) == 60
    for item in found:
        ood = split == "test_ood"
        assert row.holds(item.question, ood) and row.holds(item.question, not ood) is False
        assert item.split == ("test_ood" if ood else split_of(item.key)) and split in ("", item.split)
        assert item.key == question_key(item.expr, item.bindings) and row.proves(item.question, item.expected)
        assert item.id.startswith(f"L{number}-") and item.key not in edge_keys()


def test_the_seeds_examples_are_inputs_of_their_levels() -> None:
    for row in LEVELS.values():
        text, _, values = row.example.partition(" at ")
        pairs = [value.split(" = ") for value in values.split(", ") if value]
        question = Question(parse(text), tuple((name, Fraction(value)) for name, value in pairs))
        assert row.holds(question, False), row.example
        assert row.proves(question, row.answer(question))


@pytest.mark.parametrize("number", NUMBERS)
def test_edge_cases_are_answered_and_in_no_split(number: int) -> None:
    found = edge_cases(number)
    row = LEVELS[number]
    assert len(found) > 9 and len({item.key for item in found}) == len(found)
    for item in found:
        assert row.proves(item.question, item.expected) and row.check(item.answer, item.question, item.expected)
    assert not {item.key for item in items(number, 400)} & edge_keys()


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
    """At full size it is measured in the slow suite; a share of a smaller sample is smaller still."""
    for number in NUMBERS:
        both = [{item.key for item in items(number, 600, seed)} for seed in (0, 1)]
        assert len(both[0] & both[1]) < 0.02 * 600, number


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_neighbouring_seeds_share_less_than_2_percent_at_full_size(number: int) -> None:
    size = LEVELS[number].size
    both = [set[str](), set[str]()]
    for seed in (0, 1):
        for _, item_key in distinct(LEVELS[number], seed, False):
            both[seed].add(item_key)
            if len(both[seed]) == size:
                break
    assert len(both[0] & both[1]) < 0.02 * size


def test_what_one_seed_trains_on_no_seed_tests_on() -> None:
    train = {item.key for seed in (0, 1, 2) for item in items(1, 2000, seed, "train")}
    test = {item.key for seed in (3, 4) for item in items(1, 700, seed, "test_iid")}
    assert not train & test
    assert not {canonical(item.expr) for item in items(2, 1000, 1, "train")} & {
        canonical(item.expr) for item in items(2, 300, 2, "val")
    }


def test_splits_are_shares_of_the_keys() -> None:
    counts = Counter(split_of(item_key) for _, item_key in distinct(level_of(1, pins=1), 0, False))
    assert counts["train"] == pytest.approx(0.8 * 15_050, rel=0.02)
    assert counts["val"] == pytest.approx(counts["test_iid"], rel=0.15)
    assert split_of("00000000" + "f" * 24) == "train" and split_of("f" * 32) == "test_iid"


def test_blocks_are_pure_functions_of_their_number() -> None:
    assert block_of(LEVELS[2], 3, False, 5) == block_of(LEVELS[2], 3, False, 5) != block_of(LEVELS[2], 3, False, 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((8,), "no level 8"),
        ((1, 1_500_501), "level 1 has 1,500,500 distinct items, 1,500,501 were asked"),
        ((1, 80_000, 0, "val"), "level 1, split val, has 75,025"),
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
    sample = level(number, 60, 11, split)
    found = list(sample)
    assert all(sample.check(item.answer, item) for item in found)
    assert not any(sample.check(item.input, item) for item in found)
    doubled = [(f"(+ {item.answer} (+ x 1))" if " " in item.answer else f"{item.answer}1", item) for item in found[:20]]
    assert not any(sample.check(text, item) for text, item in doubled)
    assert not any(sample.check(nothing, item) for item in found for nothing in ("", "x = ?", None, float("nan"), []))
    others = [sample.check(other.answer, item) for item, other in zip(found[:20], found[1:], strict=False)]
    assert np.mean(others) < 0.1


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
    for item in [*items(1, 20), *items(2, 20), *items(2, 20, split="test_ood"), *items(3, 20), *items(4, 20)]:
        record = item.record()
        assert Item.of_record(record) == item
        assert record["expected_result"] == float(item.expected)
        assert record["bindings"] == [[name, float(value)] for name, value in item.bindings]
        assert Fraction(record["expected_exact"]) == item.expected and record["expected_symbolic"] is None
    for item in [*items(5, 20), *items(6, 20), *items(7, 20)]:
        record = item.record()
        assert Item.of_record(record) == item and record["input_expr"] == tree_record(item.expr)
        if isinstance(item.expected, Fraction):
            assert record["expected_result"] == float(item.expected) and record["expected_symbolic"] is None
        else:
            assert record["expected_symbolic"] == tree_record(item.expected)
    with pytest.raises(DataError, match="no field 'input_polish'"):
        Item.of_record({})


def test_the_tree_in_a_record_is_the_seeds() -> None:
    (item,) = items(2, 1)
    tree = item.record()["input_expr"]
    assert set(tree) == {"BinOp"} and set(tree["BinOp"]) == {"op", "left", "right"}
    assert tree["BinOp"]["op"] in ("Add", "Sub", "Mul", "Div")


FORMS: list[tuple[int, str, list[str], list[str]]] = [
    (5, "(derive (^ x 2) x)", ["2x", "x + x", r"2 \cdot x", "(* x 2)", "2x^3/x^2"], ["x", "2", "2x + 1", "x^2"]),
    (5, "(derive (sin x) x)", [r"\cos x", "cos(x)"], ["sin x", "-cos x"]),
    (6, "(integrate (* 2 x) x)", ["x^2", "x^2 + C", "x^2 - 7", "(x+1)^2 - 2x"], ["2x", "x^2 + x", "x^2 + floor(x)"]),
    (6, "(integrate (/ 1 x) x)", ["ln|x|", "ln x", "ln(3x)"], ["1/x", "log x"]),
    (6, "(integrate (^ x 2) x 0 1)", ["1/3", r"\frac13", "2/6"], ["0.333", "(/ (^ 1 3) 3)", "x^3/3"]),
    (
        7,
        "(solve (= (+ (* 2 x) 5) 13) x)",
        ["4", "x = 4", "{4}", "8/2", "4 = x"],
        ["5", "x", "y = 4", "13 - 9", "{4, 5}"],
    ),
    (7, "(solve (= (^ x 2) 4) x)", ["x = 2 or x = -2", "{-2, 2}", "2, -2", "(set 2 -2)"], ["2", "{2}", "{2, 3}"]),
    (7, "(solve (= (^ x 2) 2) x)", ["{sqrt(2), -sqrt(2)}", "x = 2/sqrt(2) or x = -sqrt(2)"], ["{1.414, -1.414}"]),
    (7, "(solve (= (+ x y) 3) (= (- x y) 1) x y)", ["(2, 1)", "x = 2, y = 1", "y = 1 and x = 2"], ["(1, 2)", "x = 2"]),
    (7, "(solve (= (+ (^ x 2) 1) 0) x)", ["{}", r"\emptyset", "(set)"], ["0", "{0}", "x"]),
]


@pytest.mark.parametrize(("number", "question", "right", "wrong"), FORMS)
def test_every_equivalent_form_of_an_answer_is_accepted(
    number: int, question: str, right: list[str], wrong: list[str]
) -> None:
    row = LEVELS[number]
    asked = Question(parse(question))
    expected = row.answer(asked)
    assert [text for text in right if not row.check(text, asked, expected)] == []
    assert [text for text in (*wrong, question) if row.check(text, asked, expected)] == []

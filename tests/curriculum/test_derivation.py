"""Derivations: every graph equals the one before, the last one is an answer that the level's check accepts."""

from fractions import Fraction

import pytest

from alexandra.curriculum import LEVELS, Question, level
from alexandra.curriculum.checks import check_solution
from alexandra.curriculum.derivation import derivation, text, tree
from alexandra.curriculum.derivation.opening import monic, with_whole_coefficients
from alexandra.curriculum.derivation.rewrite import quotient, rewritten
from alexandra.curriculum.items import TEST_OOD
from alexandra.maths import Number, equal, evaluate, parse


def value(part: object) -> Fraction:
    found = evaluate(parse(text(part)))
    return found.value if isinstance(found, Number) else found


@pytest.mark.parametrize("number", sorted(LEVELS))
def test_the_last_graph_of_every_derivation_is_right(number: int) -> None:
    sample = level(number, 150, seed=11)
    for item in sample:
        steps = derivation(item.question, item.expected)
        assert sample.check(text(steps[-1]), item), (item.input, [text(step) for step in steps])


@pytest.mark.slow
@pytest.mark.parametrize("number", sorted(LEVELS))
@pytest.mark.parametrize("split", ["", TEST_OOD])
def test_thousands_of_derivations_end_in_the_answer(number: int, split: str) -> None:
    sample = level(number, 3000, seed=12, split=split)
    for item in sample:
        steps = derivation(item.question, item.expected)
        assert sample.check(text(steps[-1]), item), (item.input, [text(step) for step in steps])


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_every_step_of_arithmetic_keeps_the_value(number: int) -> None:
    for item in level(number, 100, seed=13):
        for step in derivation(item.question, item.expected):
            assert value(step) == item.expected, (item.input, text(step))


def test_every_step_of_a_definite_integral_keeps_the_value() -> None:
    definite = [item for item in level(6, 300, seed=14) if isinstance(item.expected, Fraction)]
    assert len(definite) > 10
    for item in definite:
        for step in derivation(item.question, item.expected):
            assert value(step) == item.expected, (item.input, text(step))


def test_every_step_of_an_equation_has_the_same_solutions() -> None:
    for item in level(7, 120, seed=15):
        for step in derivation(item.question, item.expected):
            given = parse(text(step))
            found = evaluate(given) if text(step).startswith("(solve") else given
            shown = str(found) if isinstance(found, Fraction) else found
            values = _worked_out(shown)
            assert check_solution(values, item.question, item.expected), (item.input, text(step))


def _worked_out(found: object) -> object:
    """Arithmetic in sets and tuples done, so that only finished numbers are left where there are such."""
    if isinstance(found, str):
        return found
    now = tree(found)  # type: ignore[arg-type]
    while rewritten(now) != now:
        now = rewritten(now)
    return text(now)


def test_an_antiderivative_needs_its_answer() -> None:
    item = next(one for one in level(6, 50, seed=1) if not isinstance(one.expected, Fraction))
    (only,) = derivation(item.question, item.expected)
    assert equal(parse(text(only)), item.expected).kind == "equal"


def test_a_long_product_becomes_products_of_two_digits() -> None:
    assert text(rewritten(("*", 47, 36))) == "(+ (+ 42 240) (+ 210 1200))"
    assert text(rewritten(("*", 47, 30))) == "(+ 210 1200)"
    assert text(rewritten(("*", -47, 36))) == "(- (+ (+ 42 240) (+ 210 1200)))"
    assert text(rewritten(("*", 47, 100))) == "4700" and text(rewritten(("*", 47, 0))) == "0"
    assert text(rewritten(("*", 24, -4))) == "-96" and text(rewritten(("*", 205, 11))) == "(+ 205 2050)"
    assert text(rewritten(("*", 152, 19))) == "(+ (+ 18 (+ 450 900)) 1520)"


def test_sums_of_larger_numbers_become_sums_or_differences_of_positive_ones() -> None:
    assert rewritten(("-", -130, -322)) == ("-", 322, 130) and rewritten(("+", 400, -359)) == ("-", 400, 359)
    assert rewritten(("-", -3, 108)) == ("~", ("+", 3, 108)) and rewritten(("-", 400, -359)) == ("+", 400, 359)
    assert rewritten(("-", 130, 322)) == -192 and rewritten(("+", -60, -4)) == -64


def test_angles_are_brought_into_one_turn() -> None:
    steps = derivation(Question(parse("(+ (cos (/ (* 22 pi) 3)) (tan (/ (* 9 pi) 4)))")))
    assert [text(step) for step in steps[:2]] == ["(+ (cos (/ (* 4 pi) 3)) (tan (/ (* 1 pi) 4)))", "(+ -1/2 1)"]


def test_a_long_division_takes_its_highest_digit_first() -> None:
    steps = derivation(Question(parse("(floor (/ 87 7))")))
    assert [text(step) for step in steps] == ["(+ 10 (floor 17/7))", "(+ 10 2)", "12"]
    steps = derivation(Question(parse("(ceil (/ -95 8))")))
    assert text(steps[-1]) == "-11"


def test_fractions_keep_large_parts_and_reduce_small_ones() -> None:
    assert quotient(18, -10) == ("/", -9, 5)
    assert quotient(285, 57) == ("/", 285, 57)
    assert quotient(720, 5) == ("/", 720, 5)
    assert quotient(7, 0) == ()


def test_a_quotient_that_is_the_answer_stays_as_it_is() -> None:
    steps = derivation(Question(parse("(/ (+ 2 10) (- 8 2))")))
    assert [text(step) for step in steps] == ["12/6"]
    steps = derivation(Question(parse("(/ 12 (- 2 8))")))
    assert [text(step) for step in steps] == ["(/ 12 -6)", "-12/6"]


def test_the_coefficients_of_a_monic_equation_become_whole() -> None:
    steps = derivation(Question(parse("(solve (= (+ (+ (* 5 (^ x 2)) (* 5 x)) 3) 663) x)")))
    assert text(steps[1]) == "(solve (= (+ (+ (^ x 2) (* 1 x)) -660/5) 0) x)"
    assert text(steps[2]) == "(solve (= (+ (+ (^ x 2) (* 1 x)) -132) 0) x)" and text(steps[3]) == "(set -12 11)"
    assert with_whole_coefficients(monic(("/", 720, 5), 3)) == monic(144, 3)


def test_a_definite_integral_is_a_sum_over_one_denominator() -> None:
    (first, *_, last) = derivation(Question(parse("(integrate (+ (* 18 (^ x 4)) (* 3 x)) x 0 2)")))
    assert text(first) == "(/ (+ (* (* 18 2) (^ 2 5)) (* (* 3 5) (^ 2 2))) 10)"
    assert value(last) == Fraction(606, 5)

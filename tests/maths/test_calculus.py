"""Derivatives, integrals and equations, compared with SymPy and put back into what was asked."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from alexandra.maths import (
    Apply,
    DomainError,
    Expr,
    Number,
    Symbol,
    antiderivative,
    derivative,
    equal,
    evaluate,
    parse,
    tidy,
)
from alexandra.maths.interval import Arithmetic, UndecidedError, enclose

X = Symbol("x")


def in_sympy(expr: Expr) -> sympy.Expr:
    if isinstance(expr, Number):
        return sympy.Rational(expr.value.numerator, expr.value.denominator)
    if not isinstance(expr, Apply):
        named = {"pi": sympy.pi, "e": sympy.E}
        return named.get(expr.text(), sympy.Symbol(expr.text(), real=True))
    args = [in_sympy(arg) for arg in expr.args]
    if expr.op == "-":
        return -args[0] if len(args) == 1 else args[0] - args[1]
    signs = {"+": lambda a, b: a + b, "*": lambda a, b: a * b, "/": lambda a, b: a / b, "^": lambda a, b: a**b}
    if expr.op in signs:
        return signs[expr.op](*args)
    names = {"ln": sympy.log, "abs": sympy.Abs, "ceil": sympy.ceiling, "log": lambda a: sympy.log(a, 10)}
    return names.get(expr.op, getattr(sympy, expr.op, None))(*args)  # type: ignore[misc]


LEAVES = st.integers(-3, 3).map(Number) | st.just(X)


def grown(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    pairs = st.tuples(st.sampled_from("+-*/"), inner, inner).map(lambda t: Apply(t[0], t[1:]))
    powers = st.tuples(inner, st.integers(-2, 4)).map(lambda t: Apply("^", (t[0], Number(t[1]))))
    names = st.sampled_from(["sin", "cos", "tan", "exp", "ln", "log", "sqrt", "abs"])
    return pairs | powers | st.tuples(names, inner).map(lambda t: Apply(t[0], (t[1],)))


FUNCTIONS = st.recursive(LEAVES, grown, max_leaves=6)


def near(expr: Expr, x: Fraction, digits: int = 40) -> Fraction | None:
    try:
        low, high = Arithmetic(digits, {"x": x}).of(expr)
    except (DomainError, UndecidedError):
        return None
    return (Fraction(low) + Fraction(high)) / 2


@given(FUNCTIONS, st.sampled_from([Fraction(3, 7), Fraction(13, 11), Fraction(-5, 3)]))
@settings(max_examples=150)
def test_a_derivative_is_the_slope(expr: Expr, x: Fraction) -> None:
    try:
        slope = derivative(expr, "x")
    except DomainError:
        return
    step = Fraction(1, 10**12)
    values = [near(expr, x + shift) for shift in (-step, step)]
    found = near(slope, x)
    if None in values or found is None or max(abs(v) for v in values if v is not None) > 10**6:
        return
    assert values[0] is not None and values[1] is not None
    assert float((values[1] - values[0]) / (2 * step)) == pytest.approx(float(found), rel=1e-5, abs=1e-5)


@given(FUNCTIONS)
def test_a_tidy_expression_has_the_same_values(expr: Expr) -> None:
    try:
        neat = tidy(expr)
    except DomainError:
        return
    assert tidy(neat) == neat
    for x in (Fraction(3, 7), Fraction(13, 11), Fraction(-5, 3)):
        a, b = near(expr, x), near(neat, x)
        if a is not None and b is not None and abs(a) < 10**9:
            assert float(a) == pytest.approx(float(b), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(^ x 2)", "(* 2 x)"),
        ("(^ x x)", "(* (^ x x) (+ (ln x) 1))"),
        ("(abs x)", "(/ x (abs x))"),
        ("(log x)", "(/ 1 (* x (ln 10)))"),
        ("(tan x)", "(/ 1 (^ (cos x) 2))"),
        ("(^ 2 x)", "(* (^ 2 x) (ln 2))"),
        ("(floor x)", "0"),
        ("(% x 3)", "1"),
        ("(sqrt (+ (* 3 x) 1))", "(/ 3 (* 2 (sqrt (+ (* 3 x) 1))))"),
        ("(* y x)", "y"),
        ("(sin (cos x))", "(- (* (sin x) (cos (cos x))))"),
    ],
)
def test_every_rule_of_differentiation(text: str, expected: str) -> None:
    assert equal(derivative(parse(text), "x"), expected).kind == "equal"


# --- integrals -----------------------------------------------------------------------------------------------------

# The class that docs/maths.md states, by example
INTEGRABLE = [
    "0",
    "7",
    "(^ x 3)",
    "(sqrt x)",
    "(^ x -1)",
    "(^ x 2/3)",
    "(^ (+ (* 2 x) 1) 5/2)",
    "(/ 1 (- (* 3 x) 4))",
    "(sin (+ (* 2 x) 1))",
    "(tan (* 2 x))",
    "(exp (- 1 x))",
    "(ln (* 2 x))",
    "(log x)",
    "(^ 3 (* 2 x))",
    "(^ e x)",
    "(* (^ x 2) (exp (* -2 x)))",
    "(* (+ x 1) (cos (* 3 x)))",
    "(* (^ x 3) (ln x))",
    "(* (ln x) (+ (^ x 2) 1))",
    "(* (exp (* 2 x)) (sin (* 3 x)))",
    "(* (exp x) (cos x))",
    "(/ 1 (- (^ x 2) 1))",
    "(/ (+ x 3) (* (^ x 2) (- x 1)))",
    "(/ (^ x 3) (+ x 1))",
    "(/ (* 2 x) (+ (^ x 2) 1))",
    "(/ (+ x 1) (+ (+ (^ x 2) (* 2 x)) 5))",
    "(^ (sin x) 4)",
    "(* (^ (sin x) 2) (^ (cos x) 3))",
    "(* (sin (* 2 x)) (cos (* 5 x)))",
    "(/ 1 (^ (cos x) 2))",
    "(/ 1 (^ (sin x) 2))",
    "(* x (exp (^ x 2)))",
    "(* x (sqrt (+ (^ x 2) 1)))",
    "(/ (ln x) x)",
    "(/ 1 (* x (ln x)))",
    "(* (cos x) (exp (sin x)))",
    "(/ (exp x) (+ (exp x) 1))",
    "(* (sin x) (^ (cos x) 5))",
    "(* (* a x) (sin (* b x)))",
    "(/ (cos (ln x)) x)",
    "(abs x)",
]


@pytest.mark.parametrize("text", INTEGRABLE)
def test_integrals_of_the_class_are_found_and_right(text: str) -> None:
    integrand = parse(text)
    found = antiderivative(integrand, "x")
    assert equal(derivative(found, "x"), integrand).kind == "equal"
    ours = sympy.diff(in_sympy(found), sympy.Symbol("x", real=True)) - in_sympy(integrand)
    point = {sympy.Symbol("x", real=True): 1.3, sympy.Symbol("a", real=True): 0.7, sympy.Symbol("b", real=True): 2.1}
    assert abs(complex(ours.evalf(15, subs=point))) < 1e-9


@pytest.mark.parametrize("text", ["(exp (^ x 2))", "(/ (sin x) x)", "(/ 1 (+ (^ x 2) 1))", "(/ 1 (ln x))", "(^ x x)"])
def test_what_is_not_in_the_class_is_refused(text: str) -> None:
    with pytest.raises(DomainError, match="no antiderivative") as caught:
        antiderivative(parse(text), "x")
    assert caught.value.name == "no_antiderivative"


@given(FUNCTIONS)
@settings(max_examples=60, deadline=None)
def test_an_antiderivative_is_never_wrong(expr: Expr) -> None:
    try:
        found = derivative(antiderivative(expr, "x"), "x")
    except DomainError:
        return
    for x in (Fraction(3, 7), Fraction(-5, 3)):
        a, b = near(found, x), near(expr, x)
        if a is not None and b is not None and abs(b) < 10**9:
            assert float(a) == pytest.approx(float(b), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(integrate (^ x 2) x 0 1)", "1/3"),
        ("(integrate (sin x) x 0 pi)", "2"),
        ("(integrate (sqrt x) x 0 4)", "16/3"),
        ("(integrate (/ 1 x) x 1 2)", "(ln 2)"),
        ("(integrate (exp x) x 0 1)", "(- e 1)"),
        ("(integrate (* y x) x 0 2)", "(* 2 y)"),
        ("(integrate (integrate (* x y) x 0 1) y 0 2)", "1"),
    ],
)
def test_definite_integrals(text: str, value: str) -> None:
    assert equal(text, value).kind == "equal"


@pytest.mark.parametrize("text", ["(/ 1 x)", "(/ 1 (^ x 2))", "(ln x)", "(sqrt x)", "(tan (* 2 x))"])
def test_an_integral_over_a_gap_is_refused(text: str) -> None:
    with pytest.raises(DomainError) as caught:
        evaluate(f"(integrate {text} x -1 1)")
    assert caught.value.name == "outside_domain"


# --- equations -----------------------------------------------------------------------------------------------------

SOLVED = [
    ("(solve (= (+ (* 2 x) 5) 13) x)", "4"),
    ("(solve (= (* a x) (- b c)) x)", "(/ (- b c) a)"),
    ("(solve (= (^ x 2) 9) x)", "(set 3 -3)"),
    ("(solve (= (^ x 2) 5) x)", "(set (sqrt 5) (- (sqrt 5)))"),
    ("(solve (= (+ (^ x 2) 1) 0) x)", "(set)"),
    ("(solve (= (^ x 2) (- (* 2 x) 1)) x)", "1"),
    ("(solve (= (- (^ x 3) (* 6 x)) -4) x)", "(set 2 (- (sqrt 3) 1) (- (- 1) (sqrt 3)))"),
    ("(solve (= (- (^ x 4) (* 5 (^ x 2))) -4) x)", "(set 1 2 -1 -2)"),
    ("(solve (= (^ x 3) 2) x)", "(^ 2 1/3)"),
    ("(solve (= (/ 1 (- x 1)) (/ 2 (- x 1))) x)", "(set)"),
    ("(solve (= (/ (- (^ x 2) 1) (- x 1)) 2) x)", "(set)"),
    ("(solve (= (exp (* 2 x)) 5) x)", "(/ (ln 5) 2)"),
    ("(solve (= (exp x) -5) x)", "(set)"),
    ("(solve (= (ln (+ x 1)) 0) x)", "0"),
    ("(solve (= (log x) 3) x)", "1000"),
    ("(solve (= (^ 2 x) 8) x)", "3"),
    ("(solve (= (sqrt (+ x 1)) 3) x)", "8"),
    ("(solve (= (sqrt x) (- x 2)) x)", "4"),
    ("(solve (= (sqrt x) -1) x)", "(set)"),
    ("(solve (= (abs (- (* 2 x) 1)) 5) x)", "(set -2 3)"),
    ("(solve (= (+ (- (exp (* 2 x)) (* 3 (exp x))) 2) 0) x)", "(set 0 (ln 2))"),
    ("(solve (= (+ (^ (ln x) 2) (ln x)) 0) x)", "(set 1 (exp -1))"),
    ("(solve (= (+ x y) 3) (= (- x y) 1) x y)", "(tuple 2 1)"),
    ("(solve (= (+ x y) 3) (= (+ x y) 4) x y)", "(set)"),
    ("(solve (= (+ (^ x 2) (^ y 2)) 25) (= (+ x y) 7) x y)", "(set (tuple 3 4) (tuple 4 3))"),
    ("(solve (= (+ x (+ y z)) 6) (= (- x y) 0) (= z (* 2 x)) x y z)", "(tuple 3/2 3/2 3)"),
]


@pytest.mark.parametrize(("text", "expected"), SOLVED)
def test_equations_of_the_class_are_solved(text: str, expected: str) -> None:
    found = equal(text, expected)
    assert found.kind == "equal", (evaluate(text), found)


@given(st.integers(-30, 30), st.integers(-30, 30), st.integers(1, 9), st.integers(-9, 9))
@settings(max_examples=60)
def test_quadratics_have_the_roots_that_they_were_made_of(p: int, q: int, a: int, k: int) -> None:
    text = f"(solve (= (* {a} (* (- x {p}) (- x {q}))) 0) x)"
    assert equal(text, f"(set {p} {q})" if p != q else str(p)).kind == "equal"
    shifted = f"(solve (= (+ (* {a} (^ x 2)) {k}) 0) x)"
    roots = sympy.solveset(a * sympy.Symbol("x") ** 2 + k, sympy.Symbol("x"), sympy.Reals)
    value = evaluate(shifted)
    count = len(value.args) if isinstance(value, Apply) and value.op == "set" else 1
    assert count == len(roots)


# --- intervals -----------------------------------------------------------------------------------------------------


@given(FUNCTIONS, st.fractions(-4, 4, max_denominator=50))
def test_an_interval_holds_the_value(expr: Expr, x: Fraction) -> None:
    try:
        low, high = enclose(expr, {"x": x})
        finer = enclose(expr, {"x": x}, 90)
    except DomainError:
        return
    assert low <= finer[0] <= finer[1] <= high
    theirs = in_sympy(expr).subs(sympy.Symbol("x", real=True), sympy.Rational(x.numerator, x.denominator))
    value = theirs.evalf(60)
    if value.is_real and value.is_finite:
        assert float(low) == pytest.approx(float(value), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("x", ["0.1", "3", "22", "-1000000", "355/113", "100000000000000000000"])
def test_sine_and_cosine_agree_with_sympy_to_40_digits(x: str) -> None:
    for name in ("sin", "cos"):
        low, high = enclose(parse(f"({name} {x})"), digits=40)
        theirs = getattr(sympy, name)(sympy.Rational(x)).evalf(45)
        assert float(high - low) < 1e-38 and sympy.Float(str(low), 45) <= theirs <= sympy.Float(str(high), 45)

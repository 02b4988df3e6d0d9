"""Values, canonical forms and equality, compared with SymPy and with each other."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st

from alexandra.maths import (
    Apply,
    DomainError,
    Expr,
    ExpressionError,
    Number,
    Symbol,
    canonical,
    equal,
    evaluate,
    key,
    parse,
    rational,
    symbols,
)
from alexandra.maths.expr import DOMAIN_ERRORS, OPERATORS


def applied(inner: st.SearchStrategy[Expr], operators: str = "+-*/%^") -> st.SearchStrategy[Expr]:
    rows = [
        (row.name, arity)
        for row in OPERATORS.values()
        if row.name in operators and row.kind == "operator"
        for arity in row.arities
    ]
    return st.sampled_from(rows).flatmap(lambda row: st.tuples(*[inner] * row[1]).map(lambda args: Apply(row[0], args)))


SMALL = st.integers(-6, 6).map(Number) | st.sampled_from(["1/2", "-2/3", "0.3"]).map(parse)
GROUND = st.recursive(SMALL, applied, max_leaves=8)
OPEN = st.recursive(SMALL | st.sampled_from("xyz").map(Symbol), applied, max_leaves=8)
POLYNOMIAL = st.recursive(
    st.integers(-3, 3).map(Number) | st.sampled_from("xy").map(Symbol), lambda s: applied(s, "+-*"), max_leaves=8
)
QUOTIENT = st.recursive(
    st.integers(-3, 3).map(Number) | st.sampled_from("xy").map(Symbol), lambda s: applied(s, "+-*/"), max_leaves=7
)


def in_sympy(expr: Expr) -> sympy.Expr:
    if isinstance(expr, Number):
        return sympy.Rational(expr.value.numerator, expr.value.denominator)
    if isinstance(expr, Symbol):
        return sympy.Symbol(expr.name)
    assert isinstance(expr, Apply)
    args = [in_sympy(arg) for arg in expr.args]
    if len(args) == 1:
        return -args[0]
    a, b = args
    table = {"+": a + b, "-": a - b, "*": a * b}
    return (
        table[expr.op]
        if expr.op in table
        else {"/": lambda: a / b, "%": lambda: sympy.Mod(a, b), "^": lambda: a**b}[expr.op]()
    )


# --- values ----------------------------------------------------------------------------------------------------


@given(GROUND)
def test_values_are_those_of_sympy(expr: Expr) -> None:
    try:
        value = evaluate(expr)
    except DomainError as error:
        assert error.name in DOMAIN_ERRORS and error.name != "unbound_symbol"
        return
    if not isinstance(value, Fraction):
        assert float(value) == pytest.approx(float(in_sympy(expr).evalf(20)))
        return
    assume(max(value.numerator.bit_length(), value.denominator.bit_length()) < 2000)
    theirs = in_sympy(expr)
    assert theirs.is_Rational and Fraction(int(theirs.p), int(theirs.q)) == value


@given(OPEN, st.tuples(*[st.fractions(-5, 5, max_denominator=4)] * 3))
def test_binding_symbols_is_writing_their_values_in_their_place(expr: Expr, values: tuple[Fraction, ...]) -> None:
    point = dict(zip("xyz", values, strict=True))

    def written(node: Expr) -> Expr:
        if isinstance(node, Apply):
            return Apply(node.op, tuple(written(arg) for arg in node.args))
        return Number(point[node.name]) if isinstance(node, Symbol) else node

    def outcome(node: Expr, bindings: dict[str, Fraction]) -> Fraction | Expr | str:
        try:
            return evaluate(node, bindings)
        except DomainError as error:
            return error.name

    assert outcome(expr, point) == outcome(written(expr), {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(+ 2 3)", "5"),
        ("(- 2 3)", "-1"),
        ("(- 4)", "-4"),
        ("(/ 1 3)", "1/3"),
        ("(+ 0.1 0.2)", "3/10"),
        ("(% 7 3)", "1"),
        ("(% -7 3)", "2"),
        ("(% 7 -3)", "-2"),
        ("(% 7/2 1)", "1/2"),
        ("(^ 2/3 -2)", "9/4"),
        ("(^ 0 0)", "1"),
        ("(^ -1 1000000000000)", "1"),
        ("(^ -1 -3)", "-1"),
        ("(^ 0 100000)", "0"),
    ],
)
def test_pinned_values(text: str, value: str) -> None:
    assert evaluate(text) == Fraction(value)


NO_VALUE = [
    ("(/ 5 (- 2 2))", "division_by_zero", "5 is divided by zero"),
    ("(/ 1 (- (sqrt 2) (sqrt 2)))", "division_by_zero", "divided by zero"),
    ("(% 5 0)", "modulo_by_zero", "remainder of 5 by zero"),
    ("(^ 0 -2)", "zero_to_negative", "zero is raised to the power -2"),
    ("(^ -4 1/2)", "negative_base", "-4 is raised to the power 1/2, which is not whole"),
    ("(^ (- (sqrt 2)) 1/2)", "root_of_negative", "not real"),
    ("(sqrt -2)", "root_of_negative", "the square root of -2 is not real"),
    ("(ln 0)", "log_of_nonpositive", "ln of 0"),
    ("(log (- 1 (exp 1)))", "log_of_nonpositive", "not positive"),
    ("(tan (/ pi 2))", "tan_pole", "tan has no value at 1/2 * pi"),
    ("(integrate (exp (^ x 2)) x)", "no_antiderivative", "(exp (^ x 2))"),
    ("(integrate (/ 1 x) x -1 1)", "outside_domain", "(/ 1 x)"),
    ("(solve (= (sin x) x) x)", "not_solved", "outside the class"),
    ("(solve (= (+ x x) (* 2 x)) x)", "every_value", "for every x"),
    ("(floor (- (sqrt (+ 3 (* 2 (sqrt 2)))) (sqrt 2)))", "undecided", "could not be enclosed"),
    ("(+ x 1)", "unbound_symbol", "the symbol 'x' has no value"),
    ("(^ 10 5000)", "too_large", "13,000 bits"),
    ("(^ (^ 10 (^ 10 3)) (^ 10 3))", "too_large", "13,000 bits"),
    ("(^ 9 99999999999999999999)", "too_large", "13,000 bits"),
]


@pytest.mark.parametrize(("text", "name", "words"), NO_VALUE)
def test_having_no_value_has_a_name(text: str, name: str, words: str) -> None:
    with pytest.raises(DomainError) as caught:
        evaluate(text)
    assert caught.value.name == name and words in caught.value.message


def test_every_domain_error_can_be_met() -> None:
    with pytest.raises(DomainError, match="no rational number") as caught:
        rational("(solve (= (^ x 2) 4) x)")
    assert {name for _, name, _ in NO_VALUE} | {caught.value.name} == set(DOMAIN_ERRORS)


def test_bindings_are_exact() -> None:
    assert evaluate("(* x 3)", {"x": "0.1"}) == Fraction(3, 10)
    assert evaluate("x", {"x": 0.1}) == Fraction(0.1)
    with pytest.raises(DomainError, match="known: xx. Did you mean 'xx'"):
        evaluate("x", {"xx": 1})
    for bad, words in ((float("nan"), "not finite"), (True, "not a number"), ("(+ 1 2)", "not a number")):
        with pytest.raises(ExpressionError, match=words):
            evaluate("x", {"x": bad})


# --- canonical form --------------------------------------------------------------------------------------------


def disturbed(expr: Expr, names: dict[str, str], dice: random.Random) -> Expr:
    """Another writing of the same input: other names, operands of + and * swapped here and there."""
    if isinstance(expr, Symbol):
        return Symbol(names[expr.name])
    if not isinstance(expr, Apply):
        return expr
    args = [disturbed(arg, names, dice) for arg in expr.args]
    if OPERATORS[expr.op].commutative and dice.random() < 0.5:
        args.reverse()
    return Apply(expr.op, tuple(args))


MANY = st.recursive(SMALL | st.sampled_from(["a", "b", "c", "d"]).map(Symbol), applied, max_leaves=14)


@given(MANY, st.permutations(["p", "q", "r", "s"]), st.integers(0, 10**6))
def test_order_and_names_do_not_change_the_canonical_form(expr: Expr, names: list[str], seed: int) -> None:
    renaming = dict(zip("abcd", names, strict=True))
    other = disturbed(expr, renaming, random.Random(seed))
    assert canonical(other) == canonical(expr) == canonical(canonical(expr))
    assert key(other) == key(expr) and len(key(expr)) == 32


@given(MANY, MANY)
def test_one_canonical_form_means_the_same_up_to_order_and_names(a: Expr, b: Expr) -> None:
    """The other direction, by trying every naming."""

    def ordered(expr: Expr, names: dict[str, str]) -> str:
        if isinstance(expr, Symbol):
            return names[expr.name]
        if not isinstance(expr, Apply):
            return expr.text()
        args = [ordered(arg, names) for arg in expr.args]
        return f"({expr.op} {' '.join(sorted(args) if expr.op in '+*' else args)})"

    ours, theirs = symbols(a), symbols(b)
    same = len(ours) == len(theirs) and any(
        ordered(a, {name: name for name in ours}) == ordered(b, dict(zip(theirs, order, strict=True)))
        for order in itertools.permutations(ours)
    )
    assert (canonical(a) == canonical(b)) == same


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("(+ 2 3)", "(+ 3 2)", True),
        ("(- 2 3)", "(- 3 2)", False),
        ("(+ 2 3)", "(- 8 3)", False),
        ("(+ 2 3)", "5", False),
        ("(+ 1 (+ 2 3))", "(+ (+ 1 2) 3)", False),
        ("(+ x (* x y))", "(+ (* b a) b)", True),
        ("(+ x (* x y))", "(+ (* b a) a)", True),
        ("(- x (* x y))", "(- y (* x y))", True),
        ("(- x (^ x y))", "(- y (^ x y))", False),
        ("0.5", "1/2", True),
        ("-3", "(- 3)", False),
    ],
)
def test_pinned_canonical_forms(a: str, b: str, same: bool) -> None:
    assert (canonical(a) == canonical(b)) is same


def test_many_exchangeable_symbols_are_named_at_once_and_hard_ties_end_at_the_limit() -> None:
    names = [f"v{i}" for i in range(24)]
    total = parse(names[0])
    for name in names[1:]:
        total = Apply("*", (total, Symbol(name)))
    assert canonical(total).size == 47
    pairs = [f"(* a{i} b{i})" for i in range(5)]
    text = pairs[0]
    for pair in pairs[1:]:
        text = f"(+ {text} {pair})"
    assert symbols(canonical(text))[0] == "x1"
    ring = [f"(+ (+ (% a{i} b{i}) (% c{i} d{i})) (+ (% b{i} c{i}) (% d{i} a{i})))" for i in range(4)]
    assert canonical(f"(+ {ring[0]} {ring[1]})") == canonical(f"(+ {ring[3]} {ring[2]})")
    with pytest.raises(ExpressionError, match="16 symbols play parts so alike that over 120 namings"):
        canonical(f"(+ (+ {ring[0]} {ring[1]}) (+ {ring[2]} {ring[3]}))")


# --- equality --------------------------------------------------------------------------------------------------


def differ(a: Expr, b: Expr, point: object) -> bool:
    return evaluate(a, point) != evaluate(b, point)  # type: ignore[arg-type]


@given(POLYNOMIAL, POLYNOMIAL)
def test_polynomials_are_decided_as_sympy_decides(a: Expr, b: Expr) -> None:
    found = equal(a, b)
    assert found.kind == ("equal" if sympy.expand(in_sympy(a) - in_sympy(b)) == 0 else "different")
    if found.kind == "different":
        assert found.counterexample is not None and differ(a, b, found.counterexample)


@given(QUOTIENT, QUOTIENT)
def test_rational_functions_are_decided_as_sympy_decides(a: Expr, b: Expr) -> None:
    ours, theirs = in_sympy(a), in_sympy(b)
    assume(not (ours.has(sympy.zoo, sympy.nan) or theirs.has(sympy.zoo, sympy.nan)))
    together = sympy.together(ours - theirs)
    assume(not together.has(sympy.zoo, sympy.nan))
    found = equal(a, b)
    same = sympy.simplify(together) == 0
    if found.kind != "unknown":  # one or both may be written so that they have no value anywhere
        assert found.kind == ("equal" if same else "different")


@given(OPEN, OPEN)
def test_an_answer_never_contradicts_values(a: Expr, b: Expr) -> None:
    found = equal(a, b)
    if found.kind == "different":
        assert found.counterexample is not None
        outcomes = []
        for one in (a, b):
            try:
                outcomes.append(evaluate(one, found.counterexample))
            except DomainError:
                outcomes.append(None)
        assert outcomes[0] != outcomes[1]
    if found.kind == "equal":
        for values in itertools.product((-2, 1, 3), repeat=3):
            point = dict(zip("xyz", values, strict=True))
            try:
                assert evaluate(a, point) == evaluate(b, point)
            except DomainError:
                continue


@given(OPEN)
def test_an_expression_is_never_different_from_another_writing_of_itself(expr: Expr) -> None:
    other = disturbed(expr, {name: name for name in "xyz"}, random.Random(1))
    assert equal(expr, other).kind != "different"


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        ("(+ x x)", "(* 2 x)", "equal"),
        ("(/ (- (^ x 2) 1) (- x 1))", "(+ x 1)", "equal"),
        ("(^ (+ x y) 5)", "(* (^ (+ x y) 2) (^ (+ y x) 3))", "equal"),
        ("(^ x -2)", "(/ 1 (* x x))", "equal"),
        ("(^ x 0)", "1", "equal"),
        ("(% x 3)", "(% (+ x 0) 3)", "equal"),
        ("(+ (% x 3) 1)", "(- (% x 3) -1)", "equal"),
        ("(^ 2 n)", "(^ 2 (+ 0 n))", "equal"),
        ("1/3", "(/ 2 6)", "equal"),
        ("x", "y", "different"),
        ("(* x x)", "(* 2 x)", "different"),
        ("(% x 3)", "x", "different"),
        ("0.333333333333333333333", "1/3", "different"),
        ("(/ 1 0)", "3", "different"),
        ("(/ 1 (- x x))", "x", "different"),
        ("(/ 1 0)", "(/ 2 0)", "unknown"),
        ("(- (^ 10 5000) (^ 10 5000))", "0", "unknown"),
        ("(^ 2 (* 2 n))", "(^ 4 n)", "equal"),
        ("(% (* 2 x) 2)", "(* 2 (% x 1))", "equal"),
        ("(^ (+ x (+ y (+ z 1))) 900)", "(^ (+ 1 (+ z (+ y x))) 900)", "equal"),
        ("(^ (+ x (+ y (+ z 1))) 900)", "(^ (+ 1 (+ z (- y x))) 900)", "different"),
        ("(floor x)", "(floor (+ x 1/1000000))", "unknown"),
        ("(sqrt (- (^ x 2) 1))", "(* (sqrt (- x 1)) (sqrt (+ x 1)))", "unknown"),
    ],
)
def test_pinned_equalities(a: str, b: str, kind: str) -> None:
    found = equal(a, b)
    assert found.kind == kind and bool(found) == (kind == "equal")
    assert (found.counterexample is not None) == (kind == "different")
    assert equal(b, a).kind == kind

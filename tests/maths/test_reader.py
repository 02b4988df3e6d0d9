"""Answers in prefix, infix and LaTeX: what is written is read, what is doubtful is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.errors import LanguageError
from alexandra.maths import Apply, Expr, Number, Symbol, equal, parse, read, to_infix, to_latex
from alexandra.maths.expr import OPERATORS

READ = [
    ("5", "5"),
    ("-3", "-3"),
    (" 5. ", "5"),
    ("5.0", "5"),
    ("0.25", "1/4"),
    ("1/2", "1/2"),
    ("-1/2", "-1/2"),
    ("$5$", "5"),
    (r"\frac{1}{2}", "1/2"),
    (r"\frac12", "1/2"),
    (r"\dfrac{-3}{4}", "(/ -3 4)"),
    (r"$\boxed{\frac{3}{4}}$", "3/4"),
    ("1\\frac{1}{2}", "3/2"),
    (r"50\%", "1/2"),
    ("50%", "1/2"),
    ("7 % 3", "(% 7 3)"),
    ("1,234", "1234"),
    ("$5", "5"),
    ("12 cm", "12"),
    (r"5\text{ cm}^2", "5"),
    (r"90^\circ", "90"),
    ("(+ 2 3)", "(+ 2 3)"),
    ("(2 + 3) * 4", "(* (+ 2 3) 4)"),
    ("2x + 3", "(+ (* 2 x) 3)"),
    ("3(x+1)(x-2)", "(* (* 3 (+ x 1)) (- x 2))"),
    ("xy", "(* x y)"),
    ("-x^2", "(- (^ x 2))"),
    ("2^3^2", "(^ 2 (^ 3 2))"),
    ("x^-1", "(^ x -1)"),
    ("x**2", "(^ x 2)"),
    (r"\sin 2x \cos x", "(* (sin (* 2 x)) (cos x))"),
    ("sin^2 x", "(^ (sin x) 2)"),
    (r"\sqrt{2}/2", "(/ (sqrt 2) 2)"),
    (r"\sqrt[3]{x}", "(^ x (/ 1 3))"),
    ("|x-1|", "(abs (- x 1))"),
    ("ln|x|", "(ln (abs x))"),
    ("e^{2x}", "(^ e (* 2 x))"),
    (r"2\pi", "(* 2 pi)"),
    (r"\log_2 8", "(/ (ln 8) (ln 2))"),
    ("x = 4", "(= x 4)"),
    ("x=2 or x=3", "(set (= x 2) (= x 3))"),
    ("{-2, 3}", "(set -2 3)"),
    (r"\{1, 2\}", "(set 1 2)"),
    ("(1, 2)", "(tuple 1 2)"),
    ("x=1, y=2", "(tuple (= x 1) (= y 2))"),
    ("1, 2", "(set 1 2)"),
    (r"\emptyset", "(set)"),
    ("\u22122 \u00d7 3", "(* -2 3)"),
    ("derive(x^2, x)", "(derive (^ x 2) x)"),
    (r"x \cdot 2", "(* x 2)"),
]


@pytest.mark.parametrize(("text", "prefix"), READ)
def test_what_people_write_is_read(text: str, prefix: str) -> None:
    found = read(text, ("x", "y"))
    expected = parse(prefix)
    same = found == expected or equal(found, expected).kind == "equal"
    assert same, found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5 5",
        "5.0.0",
        "1e3",
        "((",
        "2 +",
        r"\frac{1}",
        r"\int x",
        "sin^-1 x",
        "5!",
        "x =",
        "#",
        "{1,",
        "|x",
        "1/(",
        "3 3/4",
    ],
)
def test_what_is_doubtful_is_refused(text: str) -> None:
    with pytest.raises(LanguageError):
        read(text)


@given(st.text(alphabet="()[]{}+-*/^%|=,. 0123456789xyesincoqrt\\fra$_", max_size=40) | st.text(max_size=30))
def test_any_text_is_an_answer_or_a_language_error(text: str) -> None:
    try:
        found = read(text)
    except LanguageError:
        return
    assert parse(found.text()) == found


def grown(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    rows = [(row.name, n) for row in OPERATORS.values() if row.kind in ("operator", "function") for n in row.arities]
    return st.sampled_from(rows).flatmap(lambda row: st.tuples(*[inner] * row[1]).map(lambda args: Apply(row[0], args)))


EXPRESSIONS = st.recursive(
    st.fractions(-9, 9, max_denominator=9).map(Number) | st.sampled_from("xyz").map(Symbol), grown
)


def plain(expr: Expr) -> Expr:
    """Signs and fractions of numbers as operators, exp as a power of e: what infix and LaTeX do not tell apart."""
    if isinstance(expr, Number):
        above = Number(abs(expr.value.numerator))
        found: Expr = above
        if expr.value.denominator != 1:
            found = Apply("/", (above, Number(expr.value.denominator)))
        return Apply("-", (found,)) if expr.value < 0 else found
    if not isinstance(expr, Apply):
        return expr
    args = tuple(plain(arg) for arg in expr.args)
    if expr.op == "exp":
        return Apply("^", (parse("e"), *args))
    if expr.op == "/" and isinstance(args[0], Apply) and args[0].op == "-" and len(args[0].args) == 1:
        return Apply("-", (Apply("/", (args[0].args[0], args[1])),))
    if (
        expr.op == "-"
        and len(args) == 1
        and isinstance(args[0], Apply)
        and args[0].op == "-"
        and len(args[0].args) == 1
    ):
        return args[0].args[0]
    return Apply(expr.op, args)


@given(EXPRESSIONS)
def test_infix_and_latex_are_read_back(expr: Expr) -> None:
    for written in (to_infix(expr), to_latex(expr)):
        again = read(written, ("x", "y", "z"))
        assert plain(again) == plain(expr), (written, again)


@pytest.mark.parametrize(
    ("prefix", "latex"),
    [
        ("(/ (+ x 1) 2)", r"\frac{x + 1}{2}"),
        ("(^ (- x) 2)", r"\left(-x\right)^{2}"),
        ("-1/2", r"-\frac{1}{2}"),
        ("(sqrt (/ 1 x))", r"\sqrt{\frac{1}{x}}"),
        ("(integrate (^ x 2) x 0 1)", r"\int_{0}^{1} x^{2} \,dx"),
        ("(derive (sin x) x)", r"\frac{d}{dx}\left(\sin\left(x\right)\right)"),
        ("(set 1 2)", r"\left\{1, 2\right\}"),
        ("(floor pi)", r"\lfloor \pi \rfloor"),
    ],
)
def test_pinned_latex(prefix: str, latex: str) -> None:
    assert to_latex(parse(prefix)) == latex

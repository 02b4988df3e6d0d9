"""The prefix language: reading and writing are inverses, and what cannot be read is refused at its place."""

from __future__ import annotations

import ast
import copy
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.errors import LanguageError
from alexandra.maths import Apply, Constant, Expr, ExpressionError, Number, Symbol, parse, symbols, to_infix
from alexandra.maths.expr import MAX_BITS, MAX_CHARACTERS, MAX_DEPTH, OPERATORS, RESERVED

NUMBERS = st.one_of(st.integers(-120, 120), st.integers(), st.fractions()).map(Number)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z_0-9]{0,5}", fullmatch=True).filter(lambda name: name.lower() not in RESERVED)
SYMBOLS = NAMES.map(Symbol)
CONSTANT = st.sampled_from(["pi", "e"]).map(Constant)


def applied(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    rows = [
        (row.name, arity) for row in OPERATORS.values() if row.kind in ("operator", "function") for arity in row.arities
    ]
    return st.sampled_from(rows).flatmap(lambda row: st.tuples(*[inner] * row[1]).map(lambda args: Apply(row[0], args)))


VALUES = st.recursive(NUMBERS | SYMBOLS | CONSTANT, applied, max_leaves=25)


def tasks(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    """derive, integrate, solve of one and two equations, sets and tuples."""
    equation = st.tuples(inner, inner).map(lambda sides: Apply("=", sides))
    by = st.tuples(inner, SYMBOLS)
    return st.one_of(
        by.map(lambda args: Apply("derive", args)),
        by.map(lambda args: Apply("integrate", args)),
        st.tuples(inner, SYMBOLS, inner, inner).map(lambda args: Apply("integrate", args)),
        equation,
        st.tuples(equation, SYMBOLS).map(lambda args: Apply("solve", args)),
        st.tuples(equation, equation).map(lambda both: Apply("solve", (*both, Symbol("x"), Symbol("y")))),
        st.lists(inner, max_size=4).map(lambda args: Apply("set", tuple(args))),
        st.lists(inner, min_size=1, max_size=4).map(lambda args: Apply("tuple", tuple(args))),
    )


EXPRESSIONS = VALUES | tasks(VALUES)


@given(EXPRESSIONS)
def test_reading_what_was_written_gives_the_same_tree(expr: Expr) -> None:
    again = parse(expr.text())
    assert again == expr and hash(again) == hash(expr) and again.text() == str(expr)
    assert (again.depth, again.size) == (expr.depth, expr.size)


@given(EXPRESSIONS, st.randoms(use_true_random=False))
def test_spacing_and_square_brackets_do_not_matter(expr: Expr, random: object) -> None:
    text = expr.text().replace("(", "[\t ").replace(")", " \n]").replace(" ", "  ")
    assert parse(f"\n {text} ").text() == expr.text()


@given(EXPRESSIONS, EXPRESSIONS)
def test_texts_are_equal_exactly_when_trees_are(a: Expr, b: Expr) -> None:
    def shape(expr: Expr) -> object:
        if isinstance(expr, Apply):
            return (expr.op, *map(shape, expr.args))
        return ("n", expr.value) if isinstance(expr, Number) else ("s", expr.name)  # type: ignore[attr-defined]

    assert (a == b) == (shape(a) == shape(b))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("( +  2\n3 )", "(+ 2 3)"),
        ("[- 2]", "(- 2)"),
        ("-2", "-2"),
        ("(- 2 -3)", "(- 2 -3)"),
        ("0.1", "1/10"),
        ("-2.50", "-5/2"),
        ("6/4", "3/2"),
        ("-0", "0"),
        ("007", "7"),
        ("(^ x_1 2)", "(^ x_1 2)"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_a_text_has_one_canonical_writing(text: str, written: str) -> None:
    assert parse(text).text() == written


def test_decimals_are_read_exactly() -> None:
    assert parse("0.1") == Number(Fraction(1, 10)) != Number(Fraction(0.1))
    assert parse("3.000000000000000000000000000001") == Number(3 + Fraction(1, 10**30))


def test_a_sign_is_told_from_an_operator_by_the_blank() -> None:
    assert parse("(- 2)") == Apply("-", (Number(2),))
    assert parse("-2") == Number(-2)
    assert parse("(- -2)") == Apply("-", (Number(-2),))


REFUSED = [
    ("", 1, 1, "the text is empty", "for instance (+ 2 3)"),
    ("  \n ", 1, 1, "the text is empty", ""),
    ("(+ 2 3", 1, 1, "'(' is never closed", "add ')'"),
    ("(+ [* 2 3", 1, 4, "'[' is never closed", "add ']'"),
    ("(+ 2 3))", 1, 8, "')' follows a complete expression", "one expression"),
    ("(+ 2 3) 4", 1, 9, "'4' follows a complete expression", "one expression"),
    ("2 3", 1, 3, "'3' follows a complete expression", ""),
    (")", 1, 1, "')' closes nothing", ""),
    ("(+ 1 2]", 1, 7, "']' closes '('", "close '(' with ')'"),
    ("()", 1, 2, "the brackets are empty", "operators: + - * / % ^"),
    ("((+ 1 2))", 1, 2, "'(' stands where an operator must", "operators:"),
    ("(foo 2 3)", 1, 2, "unknown operator 'foo'", "operators: + - * / % ^."),
    ("(plus 2 3)", 1, 2, "unknown operator 'plus'", "Did you mean '+'?"),
    ("(** 2 3)", 1, 2, "unknown operator '**'", "Did you mean '^'?"),
    ("(2 + 3)", 1, 2, "the number 2 stands where an operator must", "operators:"),
    ("(-3 2)", 1, 2, "'-3' stands where an operator must", "put a blank after the operator: (- 3 ...)"),
    ("(+ 2)", 1, 1, "'+' takes 2 operands, got 1", "+: sum"),
    ("(- 1 2 3)", 1, 1, "'-' takes 1 or 2 operands, got 3", "negative"),
    ("(+ 1 +)", 1, 6, "the operator '+' stands where an operand must", "open it: (+ ...)"),
    ("(+ 2 .5)", 1, 6, "'.5' is neither a number nor a symbol", "write 0.5"),
    ("(+ 2 5.)", 1, 6, "'5.' is neither a number nor a symbol", "0.25"),
    ("(+ 2 1e3)", 1, 6, "'1e3' is neither", "no exponent form"),
    ("(+ 2 +3)", 1, 6, "'+3' is neither", "write 3"),
    ("(+ 2x 1)", 1, 4, "'2x' is neither", "a product is written (* 2 x)"),
    ("(+ 2\n   -x)", 2, 4, "'-x' is neither", "(- x)"),
    ("(+ 2 sin)", 1, 6, "the operator 'sin' stands where an operand must", "open it: (sin ...)"),
    ("(+ 2 E)", 1, 6, "'E' is a reserved word", "reserved: abs"),
    ("(sin 1 2)", 1, 1, "'sin' takes 1 operand, got 2", "sine of radians"),
    ("(derive (^ x 2) 2)", 1, 1, "the second operand of 'derive' is a symbol, got 2", "(derive f x)"),
    ("(solve x x)", 1, 1, "'solve' takes equations first, got x", "(solve equation x)"),
    ("(solve (= x 1) (= y 2) x x)", 1, 1, "'solve' takes 2 different symbols", ""),
    ("(+ (= x 1) 2)", 1, 1, "'+' takes values, not '='", "an equation"),
    ("(sin (set 1 2))", 1, 1, "'sin' takes values, not 'set'", "in any order"),
    ("(integrate x x 1)", 1, 1, "'integrate' takes 2 or 4 operands, got 3", ""),
    ("(differentiate x x)", 1, 2, "unknown operator", "Did you mean 'derive'?"),
    ("Pi", 1, 1, "'Pi' is a reserved word", ""),
    ("(+ 1 1/0)", 1, 6, "'1/0' has the denominator zero", ""),
    ("(+ 1 \u0663)", 1, 6, "is neither a number nor a symbol", ""),
    ("(\u2212 1 2)", 1, 2, "unknown operator", "Did you mean '-'?"),
    ("x-1", 1, 1, "'x-1' is not a symbol", "letters, digits and underscores"),
]


@pytest.mark.parametrize(("text", "line", "column", "message", "hint"), REFUSED)
def test_what_cannot_be_read_is_refused_at_its_place(
    text: str, line: int, column: int, message: str, hint: str
) -> None:
    with pytest.raises(LanguageError) as caught:
        parse(text, "task.txt")
    error = caught.value
    assert (error.file, error.line, error.column) == ("task.txt", line, column)
    assert message in error.message and hint in error.hint


@given(st.text(alphabet="()[]+-*/^% 01239.xyz_\ne", max_size=60) | st.text(max_size=40))
def test_any_text_is_an_expression_or_a_language_error(text: str) -> None:
    try:
        expr = parse(text)
    except LanguageError as error:
        assert 1 <= error.line <= text.count("\n") + 1 and 1 <= error.column <= len(text) + 1
    else:
        assert parse(expr.text()) == expr


@pytest.mark.parametrize("opening", ["(- ", "(", "[+ 1 "])
def test_deep_nesting_ends_at_the_stated_limit(opening: str) -> None:
    with pytest.raises(LanguageError, match="nested deeper than 100 levels|where an operator must"):
        parse(opening * 20_000)


def test_the_deepest_allowed_tree_can_be_written_compared_and_copied() -> None:
    text = "(- " * MAX_DEPTH + "x" + ")" * MAX_DEPTH
    expr = parse(text)
    assert expr.depth == MAX_DEPTH and expr.text() == text and expr == parse(text)
    assert pickle.loads(pickle.dumps(expr)) == copy.deepcopy(expr) == expr
    assert to_infix(expr).count("-") == MAX_DEPTH
    with pytest.raises(ExpressionError, match="nested deeper than 100 levels"):
        Apply("-", (expr,))


def test_length_and_digits_end_at_stated_limits() -> None:
    with pytest.raises(LanguageError, match=f"at most {MAX_CHARACTERS:,} are read"):
        parse("x" * (MAX_CHARACTERS + 1))
    with pytest.raises(LanguageError, match="more than 3,900 digits"):
        parse("9" * 4000)
    assert parse("9" * 3900).text() == "9" * 3900
    with pytest.raises(ExpressionError, match="13,000 bits"):
        Number(1 << MAX_BITS)
    twice: Expr = Number(1)
    with pytest.raises(ExpressionError, match="more than 100,000 characters"):
        for _ in range(MAX_DEPTH):
            twice = Apply("+", (twice, twice))


@pytest.mark.parametrize("value", [True, 0.5, "3", None])
def test_a_number_holds_an_exact_value_only(value: object) -> None:
    with pytest.raises(ExpressionError, match="a Number holds an int or a Fraction"):
        Number(value)  # type: ignore[arg-type]


def test_trees_do_not_change() -> None:
    expr = parse("(+ x 1)")
    with pytest.raises(AttributeError, match="does not change"):
        expr.op = "-"  # type: ignore[attr-defined]
    with pytest.raises(ExpressionError, match="an operand is an expression, got 3"):
        Apply("+", (expr, 3))  # type: ignore[arg-type]
    with pytest.raises(ExpressionError, match="'2x' is not a symbol"):
        Symbol("2x")


def test_symbols_are_named_once_in_order() -> None:
    assert symbols(parse("(+ (* b a) (^ b 2))")) == ("a", "b")


# --- infix -----------------------------------------------------------------------------------------------------

_PYTHON = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%", ast.Pow: "^"}


def by_python(node: ast.expr) -> Expr:
    """The tree that Python's own grammar reads from infix."""
    if isinstance(node, ast.BinOp):
        return Apply(_PYTHON[type(node.op)], (by_python(node.left), by_python(node.right)))
    if isinstance(node, ast.UnaryOp):
        return Apply("-", (by_python(node.operand),))
    return Symbol(node.id) if isinstance(node, ast.Name) else Number(node.value)  # type: ignore[attr-defined]


def spelled_out(expr: Expr) -> Expr:
    """Signs and fractions of numbers as the operators that infix shows."""
    if isinstance(expr, Apply):
        return Apply(expr.op, tuple(spelled_out(arg) for arg in expr.args))
    if isinstance(expr, Number) and (expr.value < 0 or expr.value.denominator != 1):
        above: Expr = Number(abs(expr.value.numerator))
        if expr.value < 0 and expr.value.denominator == 1:
            return Apply("-", (above,))
        above = Apply("-", (above,)) if expr.value < 0 else above
        return Apply("/", (above, Number(expr.value.denominator)))
    return expr


def signs_only(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    rows = [(row.name, arity) for row in OPERATORS.values() if row.kind == "operator" for arity in row.arities]
    return st.sampled_from(rows).flatmap(lambda row: st.tuples(*[inner] * row[1]).map(lambda args: Apply(row[0], args)))


@given(st.recursive(st.integers(-9, 9).map(Number) | st.sampled_from("xyz").map(Symbol), signs_only, max_leaves=25))
def test_infix_read_by_pythons_grammar_is_the_same_tree(expr: Expr) -> None:
    read = by_python(ast.parse(to_infix(expr).replace("^", "**"), mode="eval").body)
    assert read == spelled_out(expr)


@pytest.mark.parametrize(
    ("prefix", "infix"),
    [
        ("(+ (* 2 x) 1)", "2 * x + 1"),
        ("(* 2 (+ x 1))", "2 * (x + 1)"),
        ("(- a (- b c))", "a - (b - c)"),
        ("(- (- a b) c)", "a - b - c"),
        ("(^ (- x) 2)", "(-x) ^ 2"),
        ("(- (^ x 2))", "-x ^ 2"),
        ("(^ -2 1/2)", "(-2) ^ (1/2)"),
        ("(^ a (^ b c))", "a ^ b ^ c"),
        ("(/ 1/2 3)", "1/2 / 3"),
        ("(/ 3 1/2)", "3 / (1/2)"),
        ("(+ 1 -2)", "1 + (-2)"),
        ("-1/2", "-1/2"),
    ],
)
def test_infix_has_brackets_where_they_are_needed(prefix: str, infix: str) -> None:
    assert to_infix(parse(prefix)) == infix

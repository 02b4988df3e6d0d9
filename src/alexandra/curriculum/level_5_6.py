"""Levels 5 and 6: derivatives and integrals by x. Integrals are made backwards: what is asked is the derivative of
the answer, so that every item has an answer of the size that its pins say; definite ones are polynomials."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

from alexandra.curriculum.checks import check_expression, check_integral
from alexandra.curriculum.pins import Dice, Level, drawn
from alexandra.curriculum.questions import Answer, Question
from alexandra.maths import Apply, DomainError, Expr, Number, Symbol, derivative, evaluate, tidy
from alexandra.maths.expr import nodes
from alexandra.maths.normal import surely_same

X = Symbol("x")
SMALL, LARGE = (1, 9), (10, 99)  # coefficients in and out of distribution


def _scaled(c: int, expr: Expr) -> Expr:
    return expr if c == 1 else Apply("*", (Number(c), expr))


def _power(base: Expr, n: int) -> Expr:
    return base if n == 1 else Apply("^", (base, Number(n)))


def _line(dice: Dice, sizes: tuple[int, int]) -> Expr:
    """a x, a x + b or a x - b."""
    line = _scaled(dice.between(*sizes), X)
    b = dice.below(10)
    return Apply("+-"[dice.below(2)], (line, Number(b))) if b else line


def top_terms(expr: Expr) -> int:
    """How many terms the outermost sum has."""
    if isinstance(expr, Apply) and expr.op in "+-":
        return sum(top_terms(arg) for arg in expr.args)
    return 1


def largest_number(expr: Expr) -> int | None:
    """The largest numerator or denominator of its numbers."""
    values = [node.value for node in nodes(expr) if isinstance(node, Number)]
    return max([max(abs(value.numerator), value.denominator) for value in values], default=0)


def _functions_within(expr: Expr, names: tuple[str, ...]) -> bool:
    """Only these operators and functions, and no symbol but x."""
    return all(
        node.op in names if isinstance(node, Apply) else isinstance(node, Number) or node == X for node in nodes(expr)
    )


# --- level 5 -------------------------------------------------------------------------------------------------------

DERIVATIVE = {
    "functions": "sin cos tan exp ln sqrt",
    "operators": "+-*/^",
    "coefficients": SMALL,
    "exponents": (2, 5),
    "terms": (1, 2),
    "depth": 6,
    "ood": "a number from 10 to 99, or 3 terms",
}
_D_FUNCTIONS = ("sin", "cos", "tan", "exp", "ln", "sqrt")
_D_ALLOWED = ("+", "-", "*", "/", "^", *_D_FUNCTIONS)
_D_KINDS = ((3, "mono"), (10, "func"), (5, "prod"), (2, "quot"), (3, "power"))
# (+ (* c (f u)) (* d (g v))) and with -: c, d, a, b from 1 to 9, six functions, u = (+ (* a x) b) or (- (* a x) b)
_D_POOL = 9 * 6 * 9 * 9 * 2
_D_FAMILY = _D_POOL * (_D_POOL - 1) // 2 + _D_POOL * (_D_POOL - 1)
_D_OOD_POOL = 90 * 6 * 90 * 9 * 2
_D_OOD_FAMILY = _D_OOD_POOL * (_D_OOD_POOL - 1) // 2


def _inner(dice: Dice, sizes: tuple[int, int]) -> Expr:
    return _power(X, dice.between(2, 5)) if dice.below(6) == 0 else _line(dice, sizes)


def _d_term(dice: Dice, sizes: tuple[int, int]) -> Expr:
    kind = dice.weighted(_D_KINDS)
    if kind == "mono":
        return _scaled(dice.between(*sizes), _power(X, dice.between(1, 5)))
    if kind == "power":
        return _power(_line(dice, sizes), dice.between(2, 5))
    wave = Apply(dice.one_of(_D_FUNCTIONS), (_inner(dice, sizes),))
    if kind == "func":
        return _scaled(dice.between(*sizes), wave)
    return Apply("*" if kind == "prod" else "/", (_power(X, dice.between(1, 3)), wave)[:: 1 if kind == "prod" else -1])


def _draw_derivative(ood: bool, dice: Dice) -> Question | None:
    deeper = ood and dice.below(2) == 1
    sizes = LARGE if ood and not deeper else SMALL
    shape = 3 if deeper else dice.weighted(((1, 1), (8, 0), (55, 2)))
    if shape == 0:
        waves = [Apply(dice.one_of(_D_FUNCTIONS), (_inner(dice, sizes),)) for _ in range(2)]
        body: Expr = Apply("*", (waves[0], waves[1]))
    else:
        body = _d_term(dice, sizes)
        for _ in range(shape - 1):
            body = Apply("+-"[dice.below(2)], (body, _d_term(dice, sizes)))
    question = Question(Apply("derive", (body, X)))
    return question if holds_derivative(question, ood) else None


def holds_derivative(question: Question, ood: bool) -> bool:
    """Level 5's inputs."""
    task = question.expr
    if question.bindings or not isinstance(task, Apply) or task.op != "derive" or task.args[1] != X:
        return False
    body = task.args[0]
    largest, terms = largest_number(body) or 0, _body_terms(body)
    if not _functions_within(body, _D_ALLOWED) or body.depth > 6 or largest > 99 or terms > 3:
        return False
    return (largest <= 9 and terms <= 2) != ood


def _body_terms(body: Expr) -> int:
    """Terms of the outermost sum; a sum inside a lone power or function is one."""
    if isinstance(body, Apply) and body.op in "+-" and len(body.args) == 2 and not _is_line(body):
        return _body_terms(body.args[0]) + 1
    return 1


def _is_line(expr: Apply) -> bool:
    return isinstance(expr.args[1], Number)


def answer_derivative(question: Question) -> Answer:
    """The derivative, tidy."""
    task = question.expr
    assert isinstance(task, Apply)
    found = derivative(task.args[0], "x")
    return found.value if isinstance(found, Number) else found


def proves_derivative(question: Question, answer: Answer) -> bool:
    """The engine's derivative, in the same writing or proved equal by normal forms."""
    given = Number(answer) if isinstance(answer, Fraction) else answer
    task = question.expr
    assert isinstance(task, Apply)
    found = derivative(task.args[0], "x")
    return found == given or surely_same(found, given)


# --- level 6 -------------------------------------------------------------------------------------------------------

INTEGRAL = {
    "functions": "sin cos exp ln",
    "operators": "+-*/^",
    "indefinite": "the derivative of a sum of two terms: c x^n (c to 20, n to 6), c f(u), x^n f(u) (n to 2), u^n "
    "(n from 3 to 6), c ln(u), with c from 1 to 9 and u = a x + b, a from 1 to 9, b from -9 to 9",
    "definite": "2 or 3 terms c x^n, c from 1 to 20, n from 0 to 4, between whole numbers from 0 to 5",
    "largest_numerator": 99_999,
    "largest_denominator": 60,
    "largest_number": 540,
    "terms": 4,
    "ood": "a number over 540, or more than 4 terms, or an end of integration from 6 to 9",
}
_I_FUNCTIONS = ("sin", "cos", "exp")
_I_ALLOWED = ("+", "-", "*", "/", "^", "sin", "cos", "exp", "ln")
_I_KINDS = ((2, "mono"), (7, "func"), (4, "prod"), (2, "power"), (1, "ln"))
MOST_NUMBER, MOST_TERMS = 540, 4
# answers (+ (* c (f u)) (* d (g v))) as in level 5 with three functions, f u and g v different
_I_WAVES = 3 * 9 * 9 * 2
_I_FAMILY = _I_WAVES * (_I_WAVES - 1) // 2 * 81
# (+ (* c (sin (+ (* a x) b))) (* d (cos (+ (* g x) h)))): 7,580 pairs c, a from 10 to 99 have a product over 540
_I_OOD_FAMILY = (7_580 * 9) ** 2


def _i_term(dice: Dice, sizes: tuple[int, int]) -> Expr:
    kind = dice.weighted(_I_KINDS)
    if kind == "mono":
        return _scaled(dice.between(sizes[0], 2 * sizes[1] + 2), _power(X, dice.between(1, 6)))
    line = _line(dice, SMALL if kind == "power" else sizes)
    if kind == "power":
        return _power(line, dice.between(3, 6))
    if kind == "ln":
        return _scaled(dice.between(*sizes), Apply("ln", (line,)))
    wave = Apply(dice.one_of(_I_FUNCTIONS), (line,))
    if kind == "func":
        return _scaled(dice.between(*sizes), wave)
    return Apply("*", (_power(X, dice.between(1, 2)), wave))


def _draw_integral(ood: bool, dice: Dice) -> Question | None:
    if dice.below(5) == 0:
        return _draw_definite(ood, dice)
    deeper = ood and dice.below(2) == 1
    sizes = LARGE if ood and not deeper else SMALL
    whole = _i_term(dice, sizes)
    for _ in range(3 if deeper else 1):
        whole = Apply("+-"[dice.below(2)], (whole, _i_term(dice, sizes)))
    answer = tidy(whole)
    integrand = derivative(answer, "x")
    if not isinstance(answer, Apply) or integrand.depth < 1:
        return None
    question = Question(Apply("integrate", (integrand, X)), (), answer)
    return question if holds_integral(question, ood) else None


def _draw_definite(ood: bool, dice: Dice) -> Question | None:
    count = 3 if dice.below(10) else 2
    terms: dict[int, int] = {}
    for _ in range(count):
        sign = 1 if not terms or dice.below(2) else -1
        terms[dice.below(5)] = sign * dice.between(1, 20)
    low = dice.below(6)
    high = dice.between(6, 9) if ood else dice.between(1, 5)
    if low >= high or len(terms) < count:
        return None
    parts: Expr | None = None
    value = Fraction(0)
    for n in sorted(terms, reverse=True):
        c = terms[n]
        value += Fraction(c * (high ** (n + 1) - low ** (n + 1)), n + 1)
        one = _scaled(abs(c), _power(X, n)) if n else Number(abs(c))
        if parts is None:
            parts = one if c > 0 else Apply("-", (one,))
        else:
            parts = Apply("+" if c > 0 else "-", (parts, one))
    assert parts is not None
    question = Question(Apply("integrate", (parts, X, Number(low), Number(high))), (), value)
    fits = abs(value.numerator) <= 99_999 and value.denominator <= 60
    return question if fits and holds_integral(question, ood) else None


def holds_integral(question: Question, ood: bool) -> bool:
    """Level 6's inputs."""
    task = question.expr
    if question.bindings or not isinstance(task, Apply) or task.op != "integrate" or task.args[1] != X:
        return False
    body, ends = task.args[0], task.args[2:]
    if not _functions_within(body, _I_ALLOWED) or body.depth > 12:
        return False
    if not all(isinstance(end, Number) and type(end.exact) is int and 0 <= end.exact <= 9 for end in ends):
        return False
    furthest = max([end.exact for end in ends if isinstance(end, Number)], default=0)
    inside = (largest_number(body) or 0) <= MOST_NUMBER and top_terms(body) <= MOST_TERMS and furthest <= 5
    return inside != ood


def answer_integral(question: Question) -> Answer:
    """The engine's own antiderivative or number."""
    return evaluate(question.expr)


def proves_integral(question: Question, answer: Answer) -> bool:
    """The derivative of the answer is the integrand; a definite integral is worked out."""
    task = question.expr
    assert isinstance(task, Apply)
    try:
        if isinstance(answer, Fraction) or len(task.args) == 4:
            return evaluate(task) == answer
        found = derivative(answer, "x")
    except DomainError:
        return False
    return found == task.args[0] or surely_same(found, task.args[0])


LEVEL_5 = Level(
    number=5,
    skill="differentiation",
    example="(derive (^ x 2) x)",
    size=100_000,
    distinct=_D_FAMILY,
    distinct_ood=_D_OOD_FAMILY,
    at_least=True,
    pins=DERIVATIVE,
    draw=drawn(5, "pool", partial(_draw_derivative, False)),
    draw_ood=drawn(5, "ood", partial(_draw_derivative, True)),
    holds=holds_derivative,
    answer=answer_derivative,
    check=check_expression,
    proves=proves_derivative,
)
LEVEL_6 = Level(
    number=6,
    skill="integration",
    example="(integrate (^ x 2) x 0 1)",
    size=100_000,
    distinct=_I_FAMILY,
    distinct_ood=_I_OOD_FAMILY,
    at_least=True,
    pins=INTEGRAL,
    draw=drawn(6, "pool", partial(_draw_integral, False)),
    draw_ood=drawn(6, "ood", partial(_draw_integral, True)),
    holds=holds_integral,
    answer=answer_integral,
    check=check_integral,
    proves=proves_integral,
)

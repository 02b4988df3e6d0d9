"""Level 7: equations made from their solutions: linear, quadratic, systems of two, one function of a linear term."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

from alexandra.curriculum.checks import check_solution
from alexandra.curriculum.pins import Dice, Level, drawn
from alexandra.curriculum.questions import Answer, Question
from alexandra.maths import Apply, DomainError, Expr, Number, Symbol, equal, evaluate
from alexandra.maths.expr import nodes

X, Y = Symbol("x"), Symbol("y")
EQUATIONS = {
    "linear": "a x + b = c; a x + b = c x + d; a (x + b) = c x + d: a and c from 1 to 20, b from 0 to 99 with either "
    "sign, the solution whole from -20 to 20 or a fraction with a denominator up to 9",
    "quadratic": "a x^2 + b x + c = d x + e: a from 1 to 5, whole solutions from -12 to 12, d to 20, e to 50",
    "systems": "two linear equations in x and y: coefficients from 1 to 9 with either sign, whole solutions -9 to 9",
    "functions": "exp ln sqrt abs of a x + b (a from 1 to 9, b from -9 to 9), 2 ^ (a x + b), equal to a number",
    "largest_factor": 160,
    "ood": "a factor of a symbol from 161 to 9999",
}
MOST_FACTOR, MOST_OOD_FACTOR = 160, 9999
_KINDS = ((2, "one side"), (18, "two sides"), (14, "brackets"), (16, "quadratic"), (10, "system"), (4, "function"))
# a x + b = c x + d with c < a <= 20, b from 0 to 99 with +, whole solutions from -20 to 20: one item each
_FAMILY_LINEAR = 190 * 100 * 41
# one item for each a, unordered pair of solutions, d and e
_FAMILY_QUADRATIC = 5 * 325 * 21 * 51
# a x + b = c x + d with a from 161 to 499
_FAMILY_OOD = 339 * 100 * 41 * 20


def _signed(left: Expr, value: int | Fraction, name: Expr | None = None) -> Expr:
    """left + value * name with the sign of value; left alone for a value of 0."""
    if not value:
        return left
    size = value if value > 0 else -value
    right: Expr = name or Number(size)
    if name is not None and size != 1:
        right = Apply("*", (Number(size), name))
    return Apply("+" if value > 0 else "-", (left, right))


def _times(c: int, expr: Expr) -> Expr:
    return expr if c == 1 else Apply("*", (Number(c), expr))


def _solve(left: Expr, right: Expr, answer: Answer) -> Question:
    return Question(Apply("solve", (Apply("=", (left, right)), X)), (), answer)


def _draw_equation(ood: bool, dice: Dice) -> Question | None:
    kind = dice.weighted(_KINDS[:3] if ood else _KINDS)
    question = _MAKERS[kind](dice, (161, 499) if ood else (1, 20))
    return question if question is not None and holds_equation(question, ood) else None


def _one_side(dice: Dice, sizes: tuple[int, int]) -> Question | None:
    a, x = max(2, dice.between(*sizes)), dice.between(-20, 20)
    b = dice.between(-99, 99)
    return _solve(_signed(_times(a, X), b), Number(a * x + b), Fraction(x))


def _solution(dice: Dice, slope: int) -> Fraction | None:
    """A whole solution, or one time in four a fraction whose denominator divides the slope."""
    whole = dice.between(-20, 20)
    if dice.below(4):
        return Fraction(whole)
    q = dice.between(2, 9)
    return Fraction(whole, q) if slope % q == 0 else None


def _two_sides(dice: Dice, sizes: tuple[int, int]) -> Question | None:
    a, c, b = dice.between(*sizes), dice.between(1, 20), dice.between(-99, 99)
    x = _solution(dice, a - c)
    if a == c or x is None:
        return None
    return _solve(_signed(_times(a, X), b), _signed(_times(c, X), (a - c) * x + b), x)


def _brackets(dice: Dice, sizes: tuple[int, int]) -> Question | None:
    a, c, b = dice.between(*sizes), dice.between(1, 20), dice.between(-99, 99)
    x = _solution(dice, a - c)
    if a in (c, 1) or x is None or not b:
        return None
    left = Apply("*", (Number(a), _signed(X, b)))
    return _solve(left, _signed(_times(c, X), (a - c) * x + a * b), x)


def _quadratic(dice: Dice, sizes: tuple[int, int]) -> Question | None:
    a, p, q = dice.between(1, 5), dice.between(-12, 12), dice.between(-12, 12)
    d, e = dice.below(21), dice.below(51)
    left = _signed(_signed(_times(a, Apply("^", (X, Number(2)))), d - a * (p + q), X), a * p * q + e)
    right: Expr = _signed(_times(d, X), e) if d else Number(e)
    low, high = min(p, q), max(p, q)
    return _solve(left, right, Fraction(p) if p == q else Apply("set", (Number(low), Number(high))))


def _system(dice: Dice, sizes: tuple[int, int]) -> Question | None:
    x, y = dice.between(-9, 9), dice.between(-9, 9)
    rows = [(dice.between(1, 9), dice.between(1, 9) * (1 - 2 * dice.below(2))) for _ in range(2)]
    (a, b), (c, d) = rows
    if a * d == b * c:
        return None
    equations = [Apply("=", (_signed(_times(m, X), n, Y), Number(m * x + n * y))) for m, n in rows]
    return Question(Apply("solve", (*equations, X, Y)), (), Apply("tuple", (Number(x), Number(y))))


def _function(dice: Dice, sizes: tuple[int, int]) -> Question | None:
    name = dice.one_of(("exp", "ln", "sqrt", "abs", "2"))
    inner = _signed(_times(dice.between(1, 9), X), dice.between(-9, 9))
    if name == "2":
        left, right = Apply("^", (Number(2), inner)), 2 ** dice.below(13)
    else:
        left = Apply(name, (inner,))
        right = {"exp": 1 + dice.below(99), "ln": dice.between(-5, 5), "sqrt": dice.below(31), "abs": dice.below(100)}[
            name
        ]
    task = Apply("solve", (Apply("=", (left, Number(right))), X))
    return Question(task, (), evaluate(task))


_MAKERS = {
    "one side": _one_side,
    "two sides": _two_sides,
    "brackets": _brackets,
    "quadratic": _quadratic,
    "system": _system,
    "function": _function,
}
_ALLOWED = ("+", "-", "*", "^", "=", "solve", "exp", "ln", "sqrt", "abs")


def _of_a_function(question: Question) -> bool:
    """Whether the equation is one function of a linear term, equal to a number."""
    match question.expr:
        case Apply("solve", (Apply("=", (Apply("exp" | "ln" | "sqrt" | "abs") | Apply("^", (Number(), _)), _)), _)):
            return True
    return False


def holds_equation(question: Question, ood: bool) -> bool:
    """Level 7's inputs."""
    task = question.expr
    if question.bindings or not isinstance(task, Apply) or task.op != "solve" or task.depth > 6:
        return False
    factors = [1]
    for node in nodes(task):
        if isinstance(node, Apply):
            if node.op not in _ALLOWED:
                return False
            if node.op == "*" and isinstance(node.args[0], Number):
                factors.append(abs(node.args[0].value.numerator))
        elif node not in (X, Y) and not (isinstance(node, Number) and type(node.exact) is int):
            return False
    if max(factors) > MOST_OOD_FACTOR:
        return False
    return (max(factors) <= MOST_FACTOR) != ood


def answer_equation(question: Question) -> Answer:
    """The engine's solution."""
    return evaluate(question.expr)


def proves_equation(question: Question, answer: Answer) -> bool:
    """Solved again, whatever the item was made from."""
    try:
        found = evaluate(question.expr)
    except DomainError:
        return False
    if found == answer:
        return True
    texts = [Number(one) if isinstance(one, Fraction) else one for one in (found, answer)]
    return equal(texts[0], texts[1]).kind == "equal"


LEVEL_7 = Level(
    number=7,
    skill="equation solving",
    example="(solve (= (+ (* 2 x) 5) 13) x)",
    size=100_000,
    distinct=_FAMILY_LINEAR + _FAMILY_QUADRATIC,
    distinct_ood=_FAMILY_OOD,
    at_least=True,
    pins=EQUATIONS,
    draw=drawn(7, "pool", partial(_draw_equation, False)),
    draw_ood=drawn(7, "ood", partial(_draw_equation, True)),
    holds=holds_equation,
    answer=answer_equation,
    check=check_solution,
    proves=proves_equation,
    common=_of_a_function,
)

"""Levels 3 and 4: symbols with values, and functions at arguments where their values are rational."""

from __future__ import annotations

from functools import partial

from alexandra.curriculum.checks import check_number
from alexandra.curriculum.level_1_2 import has_small_value, value_of, value_proves
from alexandra.curriculum.pins import Dice, Level, drawn
from alexandra.curriculum.questions import Question
from alexandra.maths import Apply, Constant, Expr, Number, Symbol
from alexandra.maths.expr import nodes

# --- level 3 -------------------------------------------------------------------------------------------------------

SUBSTITUTION = {
    "operators": "+-*^",
    "operands": (0, 20),
    "values": (0, 20),
    "exponents": (2, 3),
    "symbols": (1, 2),
    "operators_used": (1, 3),
    "largest_numerator": 9999,
    "largest_denominator": 1,
    "ood": "an operand or a value from 21 to 99, or 4 operators",
}
SYMBOLS = "xyz"
_SIGNS = ((4, "+"), (4, "-"), (4, "*"), (2, "^"))
_COUNTS = ((1, 1), (15, 2), (48, 3))
_CHAINS_3 = 12_387_939  # one symbol, then three times + - or * with an operand: counted in tests/curriculum
_CHAINS_4 = 1_028_201_298  # four times


def _draw_substitution(ood: bool, dice: Dice) -> Question | None:
    deeper = ood and dice.below(2) == 1
    largest = 99 if ood and not deeper else 20
    first = dice.below(3)
    names = SYMBOLS[first], SYMBOLS[(first + 1 + dice.below(2)) % 3]
    used: dict[str, None] = {}

    def grow(count: int) -> Expr:
        if not count:
            kind = dice.below(6)
            if kind > 2:
                return Number(dice.below(largest + 1))
            name = names[kind == 2]
            used[name] = None
            return Symbol(name)
        op = dice.weighted(_SIGNS)
        if op == "^":
            return Apply("^", (grow(count - 1), Number(dice.between(2, 3))))
        left = dice.below(count)
        return Apply(op, (grow(left), grow(count - 1 - left)))

    expr = grow(4 if deeper else dice.weighted(_COUNTS))
    values = tuple((name, Number(dice.below(largest + 1)).value) for name in sorted(used))
    question = Question(expr, values)
    return question if holds_substitution(question, ood) else None


def _few_operators(question: Question) -> bool:
    return sum(isinstance(node, Apply) for node in nodes(question.expr)) < 3


def holds_substitution(question: Question, ood: bool) -> bool:
    """Level 3's inputs."""
    used, largest, names = 0, 0, set()
    exponents = []
    for node in nodes(question.expr):
        if isinstance(node, Apply):
            if len(node.args) != 2 or node.op not in "+-*^":
                return False
            used += 1
            if node.op == "^":
                exponents.append(node.args[1].text())
        elif isinstance(node, Number):
            if type(node.exact) is not int or node.exact < 0:
                return False
            largest = max(largest, node.exact)
        elif isinstance(node, Symbol):
            names.add(node.name)
        else:
            return False
    values = [value for _, value in question.bindings]
    if not set(exponents) <= {"2", "3"} or not 1 <= len(names) <= 2 or names - set(SYMBOLS):
        return False
    if {name for name, _ in question.bindings} != names or len(values) != len(names):
        return False
    if any(value.denominator != 1 or value < 0 for value in values):
        return False
    largest = max(largest, *map(int, values))
    inside = largest <= 20 and used <= 3
    if inside == ood or not 1 <= used <= 4 or largest > 99:
        return False
    return has_small_value(question, 9999, 1)


# --- level 4 -------------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "functions": "sin cos tan log ln exp sqrt abs floor ceil",
    "operators": "+-*",
    "terms": (1, 2),
    "operands": (0, 20),
    "sqrt": "(sqrt n), n a square up to 900; (sqrt (+ a b)) with such a sum",
    "abs": "(abs (- a b)), a and b from 0 to 99",
    "floor_ceil": "(floor (/ a b)), a from -99 to 99, b from 2 to 12",
    "log": "(log n), n a power of ten from 1/1000 to 1000000",
    "ln_exp": "(ln (exp k)), k from -20 to 20; (exp (ln k)), k from 1 to 99; (exp 0); (ln 1)",
    "circular": "sin cos tan of 0 or (/ (* k pi) d), k from 1 to 24, d of 1 2 3 4 6, where they are rational",
    "largest_numerator": 9999,
    "largest_denominator": 99,
    "ood": "an operand of abs, floor or ceil from 100 to 999, or 3 terms",
}
_TERMS = (
    (6, "abs"), (6, "floor"), (6, "ceil"), (4, "sum"), (2, "sqrt"), (1, "log"), (2, "ln"), (2, "exp"), (1, "sin"),
    (1, "cos"), (1, "tan"),
)  # fmt: skip
_SHAPES = ((1, "T"), (3, "Tc"), (20, "TT"), (40, "TcT"))
_TERM_FAMILY = 10_000 * 21 * 199 * 11  # (+ (* c (abs (- a b))) (floor (/ p q)))


def _term(dice: Dice, largest: int) -> Expr:
    kind = dice.weighted(_TERMS)
    if kind == "abs":
        inner: Expr = Apply("-", (Number(dice.below(largest + 1)), Number(dice.below(largest + 1))))
    elif kind in ("floor", "ceil"):
        inner = Apply("/", (Number(dice.between(-largest, largest)), Number(dice.between(2, 12))))
    elif kind == "sum":
        square = dice.between(1, 30) ** 2
        a = dice.below(square + 1)
        kind, inner = "sqrt", Apply("+", (Number(a), Number(square - a)))
    elif kind == "sqrt":
        inner = Number(dice.below(31) ** 2)
    elif kind == "log":
        k = dice.between(-3, 6)
        inner = Number(10**k) if k >= 0 else Apply("/", (Number(1), Number(10**-k)))
    elif kind == "ln":
        inner = Apply("exp", (Number(dice.between(-20, 20)),))
    elif kind == "exp":
        k = dice.below(100)
        inner = Apply("ln", (Number(k),)) if k else Number(0)
    else:
        k, d = dice.below(25), dice.one_of((1, 2, 3, 4, 6))
        inner = Apply("/", (Apply("*", (Number(k), Constant("pi"))), Number(d))) if k else Number(0)
    return Apply(kind, (inner,))


def _draw_functions(ood: bool, dice: Dice) -> Question | None:
    deeper = ood and dice.below(2) == 1
    largest = 999 if ood and not deeper else 99
    shape = "TTT" if deeper else dice.weighted(_SHAPES)
    expr = _term(dice, largest)
    if shape in ("Tc", "TcT"):
        c = Number(dice.below(21))
        expr = Apply(dice.one_of("+-*"), (expr, c) if dice.below(2) else (c, expr))
    for _ in range(shape.count("T") - 1):
        other = _term(dice, largest)
        expr = Apply(dice.one_of("+-*"), (expr, other) if dice.below(2) else (other, expr))
    question = Question(expr)
    return question if holds_functions(question, ood) else None


def holds_functions(question: Question, ood: bool) -> bool:
    """Level 4's inputs."""
    if question.bindings:
        return False
    found = _outside(question.expr)
    if found is None:
        return False
    terms, signs, largest = found
    inside = terms <= 2 and largest <= 99
    if inside == ood or not 1 <= terms <= 3 or signs > 3 or largest > 999:
        return False
    return has_small_value(question, 9999, 99)


def _outside(expr: Expr) -> tuple[int, int, int] | None:
    """How many terms and signs between them, and the largest operand of a term; None when the form is another."""
    if isinstance(expr, Number):
        return (0, 0, 0) if type(expr.exact) is int and 0 <= expr.exact <= 20 else None
    if not isinstance(expr, Apply):
        return None
    if len(expr.args) == 2 and expr.op in "+-*":
        left, right = _outside(expr.args[0]), _outside(expr.args[1])
        if left is None or right is None:
            return None
        return left[0] + right[0], left[1] + right[1] + 1, max(left[2], right[2])
    largest = _largest_of_term(expr)
    return None if largest is None else (1, 0, largest)


def _largest_of_term(term: Apply) -> int | None:
    """The largest operand of abs, floor, ceil, 0 for other terms; None for what is no term of the level."""
    inner = term.args[0]
    whole = [node.exact for node in nodes(inner) if isinstance(node, Number) and type(node.exact) is int]
    form = tuple(node.op for node in nodes(inner) if isinstance(node, Apply))
    if len(whole) != sum(isinstance(node, Number) for node in nodes(inner)) or not whole:
        return None
    if term.op == "abs" and form == ("-",):
        return max(whole) if min(whole) >= 0 else None
    if term.op in ("floor", "ceil") and form == ("/",):
        return abs(whole[0]) if 2 <= whole[1] <= 12 else None
    if term.op == "sqrt" and form in ((), ("+",)):
        return 0 if min(whole) >= 0 and sum(whole) <= 900 else None
    if term.op == "log" and form in ((), ("/",)):
        return 0 if max(whole) <= 10**6 else None
    if term.op == "ln":
        return 0 if (form == ("exp",) and abs(whole[0]) <= 20) or (not form and whole[0] == 1) else None
    if term.op == "exp":
        return 0 if (form == ("ln",) and 1 <= whole[0] <= 99) or (not form and not whole[0]) else None
    if term.op in ("sin", "cos", "tan") and form in ((), ("/", "*")):
        pi = [node for node in nodes(inner) if isinstance(node, Constant)]
        return 0 if (not form and not whole[0]) or (len(pi) == 1 and whole[0] <= 24 and whole[1] <= 6) else None
    return None


LEVEL_3 = Level(
    number=3,
    skill="symbol substitution",
    example="(+ x 3) at x = 2",
    size=50_000,
    distinct=_CHAINS_3,
    distinct_ood=_CHAINS_4,
    at_least=True,
    pins=SUBSTITUTION,
    draw=drawn(3, "pool", partial(_draw_substitution, False)),
    draw_ood=drawn(3, "ood", partial(_draw_substitution, True)),
    holds=holds_substitution,
    answer=value_of,
    check=check_number,
    proves=value_proves,
    common=_few_operators,
)
LEVEL_4 = Level(
    number=4,
    skill="functions",
    example="(sin 0)",
    size=100_000,
    distinct=_TERM_FAMILY,
    distinct_ood=900 * 900 * 199 * 11,  # (+ (abs (- a b)) (floor (/ p q))), a and b from 100 to 999
    at_least=True,
    pins=FUNCTIONS,
    draw=drawn(4, "pool", partial(_draw_functions, False)),
    draw_ood=drawn(4, "ood", partial(_draw_functions, True)),
    holds=holds_functions,
    answer=value_of,
    check=check_number,
    proves=value_proves,
)

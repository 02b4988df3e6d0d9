"""Tidy expressions: numbers folded, like terms and powers collected, one writing for each; sums are not multiplied
out.

plus, times, over, to and apply build trees that are tidy when their operands are; `tidy` rebuilds a whole tree so. A
fold that could change where an expression has a value (x / x, 0 * ln x) is made, as in any table of formulas. Values
are exact: what is not rational stays as it is written.
"""

from __future__ import annotations

from fractions import Fraction

from alexandra.maths.arithmetic import FUNCTIONS, IrrationalError, Rational, power, rational_value
from alexandra.maths.expr import Apply, Constant, DomainError, Expr, Number, Symbol

ZERO, ONE, MINUS_ONE, TWO, HALF = Number(0), Number(1), Number(-1), Number(2), Number(Fraction(1, 2))
E = Constant("e")
MAX_EXPONENT = 64  # of a number that is worked out


def number(value: Rational) -> Number:
    return Number(value)


# --- sums ----------------------------------------------------------------------------------------------------------


def _terms(expr: Expr, factor: Rational, into: dict[str, tuple[Rational, Expr | None]]) -> None:
    """Add `factor * expr` to a table: text of the rest -> (coefficient, rest); numbers under ""."""
    while isinstance(expr, Apply):
        op, args = expr.op, expr.args
        if op == "+" or (op == "-" and len(args) == 2):
            _terms(args[0], factor, into)
            factor = factor if op == "+" else -factor
            expr = args[1]
        elif op == "-":
            factor, expr = -factor, args[0]
        else:
            break
    coefficient, rest = split(expr)
    coefficient = coefficient * factor
    text = "" if rest is None else rest.text()
    before = into.get(text)
    into[text] = (coefficient + before[0] if before else coefficient, rest)


def split(expr: Expr) -> tuple[Rational, Expr | None]:
    """A term as its number and the rest (None for a number alone)."""
    if isinstance(expr, Number):
        return expr.exact, None
    if isinstance(expr, Apply):
        op, args = expr.op, expr.args
        if op == "*" and isinstance(args[0], Number):
            return args[0].exact, args[1]
        if op == "/" and isinstance(args[1], Number):
            value, rest = split(args[0])
            return Fraction(value) / args[1].exact, rest
        if op == "/":
            value, rest = split(args[0])
            if value != 1:
                return value, Apply("/", (rest or ONE, args[1]))
        if op == "-" and len(args) == 1:
            value, rest = split(args[0])
            return -value, rest
    return 1, expr


def term(coefficient: Rational, rest: Expr | None) -> Expr:
    """coefficient * rest, written with one fraction bar."""
    if rest is None:
        return Number(coefficient)
    if coefficient == 1:
        return rest
    if not coefficient:
        return ZERO
    if coefficient == -1:
        return Apply("-", (rest,))
    above, below = coefficient.numerator, coefficient.denominator
    if isinstance(rest, Apply) and rest.op == "/":
        inner, divisor = rest.args
        top = Number(above) if inner == ONE else term(above, inner)
        return Apply("/", (top, divisor if below == 1 else term(below, divisor)))
    if below == 1:
        return Apply("*", (Number(above), rest))
    top = rest if above == 1 else Apply("-", (rest,)) if above == -1 else Apply("*", (Number(above), rest))
    return Apply("/", (top, Number(below)))


def plus(*parts: Expr) -> Expr:
    """The sum; terms in order of falling degree, then by text, the number last."""
    table: dict[str, tuple[Rational, Expr | None]] = {}
    for part in parts:
        _terms(part, 1, table)
    found = [(value, rest) for value, rest in table.values() if value]
    if not found:
        return ZERO
    if len(found) > 1:
        found.sort(key=lambda one: (1, 0, "") if one[1] is None else (0, -degree(one[1]), one[1].text()))
        place = next((i for i, one in enumerate(found) if one[0] > 0), 0)
        if place:
            found.insert(0, found.pop(place))
    total = term(*found[0])
    for value, rest in found[1:]:
        total = Apply("-", (total, term(-value, rest))) if value < 0 else Apply("+", (total, term(value, rest)))
    return total


def degree(expr: Expr) -> Rational:
    """The degree in all symbols of products of powers; 0 for what is no such product."""
    if isinstance(expr, Symbol):
        return 1
    if isinstance(expr, Apply):
        if expr.op == "*":
            return degree(expr.args[0]) + degree(expr.args[1])
        if expr.op == "/":
            return degree(expr.args[0]) - degree(expr.args[1])
        if expr.op == "^" and isinstance(expr.args[1], Number):
            return degree(expr.args[0]) * expr.args[1].exact
    return 0


def minus(a: Expr, b: Expr | None = None) -> Expr:
    return plus(negative(a)) if b is None else plus(a, negative(b))


def negative(a: Expr) -> Expr:
    value, rest = split(a)
    if rest is a and isinstance(a, Apply) and a.op in "+-":
        return Apply("-", (a,))
    return term(-value, rest)


# --- products ------------------------------------------------------------------------------------------------------


class _Factors:
    """A product being collected: a number, and powers by the text of their base."""

    def __init__(self) -> None:
        self.value: Rational = 1
        self.powers: dict[str, tuple[Expr, Expr]] = {}

    def take(self, expr: Expr, exponent: Expr = ONE) -> None:
        if isinstance(expr, Number):
            self._number(expr, exponent)
        elif isinstance(expr, Apply) and expr.op == "*":
            self.take(expr.args[0], exponent)
            self.take(expr.args[1], exponent)
        elif isinstance(expr, Apply) and expr.op == "/":
            self.take(expr.args[0], exponent)
            self.take(expr.args[1], negative(exponent))
        elif isinstance(expr, Apply) and expr.op == "-" and len(expr.args) == 1 and _is_whole(exponent):
            self._number(MINUS_ONE, exponent)
            self.take(expr.args[0], exponent)
        elif isinstance(expr, Apply) and expr.op == "^" and (_is_whole(exponent) or exponent == ONE):
            self._add(expr.args[0], product(expr.args[1], exponent) if exponent != ONE else expr.args[1])
        elif isinstance(expr, Apply) and expr.op == "sqrt":
            self._add(expr.args[0], product(HALF, exponent))
        elif isinstance(expr, Apply) and expr.op == "exp":
            self._add(E, product(expr.args[0], exponent) if exponent != ONE else expr.args[0])
        else:
            self._add(expr, exponent)

    def _number(self, expr: Number, exponent: Expr) -> None:
        if isinstance(exponent, Number) and _is_small(exponent.exact):
            try:
                self.value *= power(expr.exact, exponent.exact)
                return
            except IrrationalError:
                pass
        self._add(expr, exponent)

    def _add(self, base: Expr, exponent: Expr) -> None:
        before = self.powers.get(base.text())
        self.powers[base.text()] = base, plus(before[1], exponent) if before else exponent

    def expr(self) -> Expr:
        if not self.value:
            return ZERO
        above: list[Expr] = []
        below: list[Expr] = []
        for base, exponent in self.powers.values():
            value, _ = split(exponent)
            if isinstance(exponent, Number) and not value:
                continue
            down = value < 0 and (isinstance(exponent, Number) or base == E)
            if base == E and not isinstance(exponent, Number):
                down = False
            made = to(base, negative(exponent) if down else exponent)
            (below if down else above).append(made)
        above.sort(key=_place)
        below.sort(key=_place)
        top, bottom = _joined(above), _joined(below)
        if bottom is None:
            return term(self.value, top)
        return term(self.value, Apply("/", (top or ONE, bottom)))


def _is_small(exponent: Rational) -> bool:
    return -MAX_EXPONENT <= exponent <= MAX_EXPONENT


def _is_whole(expr: Expr) -> bool:
    return isinstance(expr, Number) and type(expr.exact) is int


def _place(expr: Expr) -> tuple[int, str]:
    """Symbols and their powers first, then functions, then sums."""
    if isinstance(expr, Number | Constant):
        return 0, expr.text()
    base = expr.args[0] if isinstance(expr, Apply) and expr.op == "^" else expr
    if isinstance(base, Symbol):
        return 1, expr.text()
    return (3 if isinstance(base, Apply) and base.op in "+-" else 2), expr.text()


def _joined(parts: list[Expr]) -> Expr | None:
    found: Expr | None = None
    for part in reversed(parts):
        found = part if found is None else Apply("*", (part, found))
    return found


def product(*parts: Expr) -> Expr:
    """The product of tidy parts, powers of one base collected, with one fraction bar at most."""
    if len(parts) == 2:
        a, b = parts
        if isinstance(a, Number) and isinstance(b, Number):
            return Number(a.exact * b.exact)
        if a == ONE:
            return b
        if b == ONE:
            return a
        if a == ZERO or b == ZERO:
            return ZERO
    factors = _Factors()
    for part in parts:
        factors.take(part)
    return factors.expr()


def over(a: Expr, b: Expr) -> Expr:
    """The quotient; DomainError for a divisor that is the number zero."""
    if b == ZERO:
        raise DomainError("division_by_zero", f"{a} is divided by zero")
    if b == ONE:
        return a
    factors = _Factors()
    factors.take(a)
    factors.take(b, MINUS_ONE)
    return factors.expr()


def to(base: Expr, exponent: Expr) -> Expr:
    """base ^ exponent."""
    if exponent == ONE:
        return base
    if isinstance(exponent, Number):
        if not exponent.exact:
            return ONE
        if isinstance(base, Number) and _is_small(exponent.exact):
            try:
                return Number(power(base.exact, exponent.exact))
            except IrrationalError:
                pass
        if exponent == HALF and base != E:
            return apply("sqrt", base)
        if _is_whole(exponent) and isinstance(base, Apply):
            if base.op in ("*", "/", "exp") or (base.op == "-" and len(base.args) == 1):
                factors = _Factors()
                factors.take(base, exponent)
                return factors.expr()
            if base.op == "^" and _is_whole(base.args[1]):
                return to(base.args[0], product(base.args[1], exponent))
            if base.op == "sqrt" and exponent.exact % 2 == 0:
                return to(base.args[0], Number(exponent.exact // 2))
    if base == E:
        return apply("exp", exponent)
    if base == ONE:
        return ONE
    value = split(exponent)[0]
    if value < 0 and isinstance(exponent, Number):
        return Apply("/", (ONE, to(base, Number(-value))))
    return Apply("^", (base, exponent))


# --- functions -----------------------------------------------------------------------------------------------------

_ODD = ("sin", "tan")
_EVEN = ("cos", "abs")
_INVERSE = {"ln": "exp", "exp": "ln"}


def apply(name: str, arg: Expr) -> Expr:
    """A function of a tidy operand, worked out where its value is rational."""
    try:
        return Number(rational_value(Apply(name, (arg,)), {}))
    except (IrrationalError, DomainError) as error:
        if isinstance(error, DomainError) and error.name not in ("unbound_symbol", "too_large"):
            raise
    if name == "exp" and arg == ONE:
        return E
    if name == "ln" and arg == E:
        return ONE
    if isinstance(arg, Apply) and _INVERSE.get(name) == arg.op:
        return arg.args[0]
    if name in _ODD + _EVEN and split(arg)[0] < 0:
        inner = Apply(name, (negative(arg),))
        return inner if name in _EVEN else negative(inner)
    if name == "sqrt" and isinstance(arg, Number):
        return _surd(arg.exact)
    return Apply(name, (arg,))


def _surd(value: Rational) -> Expr:
    """sqrt of a rational as a rational times the root of a whole number without square factors."""
    below = value.denominator
    inside = value.numerator * below
    outside, p = 1, 2
    while p * p <= inside and p < 1000:
        while inside % (p * p) == 0:
            inside //= p * p
            outside *= p
        p += 1
    return term(Fraction(outside, below), Apply("sqrt", (Number(inside),)))


def tidy(expr: Expr) -> Expr:
    """The tidy writing of a tree of operators and functions; parts of tasks, sets and equations are made tidy alone."""
    if not isinstance(expr, Apply):
        return expr
    args = [tidy(arg) for arg in expr.args]
    return rebuilt(expr.op, args)


def rebuilt(op: str, args: list[Expr]) -> Expr:
    """`op` of tidy operands, tidy."""
    if op == "+":
        return plus(*args)
    if op == "-":
        return minus(*args)
    if op == "*":
        return product(*args)
    if op == "/":
        return over(*args)
    if op == "^":
        return to(*args)
    if op in FUNCTIONS:
        return apply(op, args[0])
    if op == "%" and isinstance(args[0], Number) and isinstance(args[1], Number):
        return Number(rational_value(Apply(op, tuple(args)), {}))
    return Apply(op, tuple(args))


def replaced(expr: Expr, name: str, value: Expr) -> Expr:
    """`expr` with a symbol replaced; not tidied."""
    if isinstance(expr, Symbol):
        return value if expr.name == name else expr
    if not isinstance(expr, Apply):
        return expr
    return Apply(expr.op, tuple([replaced(arg, name, value) for arg in expr.args]))


def occurs(name: str, expr: Expr) -> bool:
    """Whether a symbol occurs."""
    if isinstance(expr, Symbol):
        return expr.name == name
    return isinstance(expr, Apply) and any(occurs(name, arg) for arg in expr.args)

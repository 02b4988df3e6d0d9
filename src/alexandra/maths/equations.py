"""Equations: every real solution of a stated class, each put back into what was asked before it is given.

One unknown: linear with any coefficients; quotients of polynomials over the rationals whose factors have rational
roots or are quadratic; one occurrence of the unknown inside exp, ln, log, sqrt, abs and powers; polynomials in one
such part (exp x, ln x, sqrt x ...). Several unknowns: linear systems over the rationals; two equations of which one
is linear in an unknown. The rest is a DomainError "not_solved"; what holds for every value is "every_value".
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from alexandra.maths import univariate as uni
from alexandra.maths.arithmetic import IrrationalError, Rational, rational_value
from alexandra.maths.derivative import derivative
from alexandra.maths.expr import Apply, DomainError, Expr, Number, Symbol, nodes, symbols
from alexandra.maths.interval import enclose
from alexandra.maths.normal import surely_same
from alexandra.maths.partial_fractions import rational_function
from alexandra.maths.tidy import ONE, ZERO, apply, minus, negative, occurs, over, plus, product, replaced, tidy, to

DEEPEST = 4


def solve(equations: Sequence[Expr], names: Sequence[str]) -> Expr:
    """What the unknowns are: a value for one unknown with one solution, a tuple for several unknowns, else a set."""
    sides = [tidy(minus(tidy(one.args[0]), tidy(one.args[1]))) for one in equations if isinstance(one, Apply)]
    if len(names) == 1:
        found = _ordered(_zeros(sides[0], names[0], 0))
        found = [value for value in found if _holds(equations[0], {names[0]: value})]
        return found[0] if len(found) == 1 else Apply("set", tuple(found))
    pairs = _system(sides, list(names))
    kept = [
        Apply("tuple", tuple(one))
        for one in pairs
        if all(_holds(equation, dict(zip(names, one, strict=True))) for equation in equations)
    ]
    return kept[0] if len(kept) == 1 else Apply("set", tuple(kept))


def _not_solved(side: Expr) -> DomainError:
    return DomainError(
        "not_solved", f"{side.text()[:120]} = 0 is outside the class", hint="the class that is solved: docs/maths.md"
    )


def _ordered(values: list[Expr]) -> list[Expr]:
    distinct = list({value.text(): value for value in values}.values())
    try:
        return sorted(distinct, key=lambda value: sum(enclose(value)))
    except DomainError:
        return sorted(distinct, key=Expr.text)


def _holds(equation: Expr, values: dict[str, Expr]) -> bool:
    """Whether the equation is true there: proved by normal forms, or by exact values."""
    assert isinstance(equation, Apply)
    sides = []
    for side in equation.args:
        for name, value in values.items():
            side = replaced(side, name, value)
        sides.append(side)
    try:
        return rational_value(sides[0], {}) == rational_value(sides[1], {})
    except IrrationalError:
        pass
    except DomainError as error:
        if error.name != "unbound_symbol":
            return False
        return surely_same(*sides)
    try:
        low, high = enclose(Apply("-", (sides[0], sides[1])), digits=40)
    except DomainError as error:
        return error.name == "undecided" and surely_same(*sides)
    return low <= 0 <= high and surely_same(*sides)


# --- one unknown ---------------------------------------------------------------------------------------------------


def _zeros(side: Expr, name: str, depth: int) -> list[Expr]:
    """Candidates for side = 0: all real solutions, and perhaps some that are none."""
    if not occurs(name, side):
        if side == ZERO:
            raise DomainError("every_value", f"the equation holds for every {name}")
        return []
    quotient = rational_function(side, name)
    if quotient is not None:
        return _of_quotient(*quotient, side)
    slope = derivative(side, name)
    if not occurs(name, slope):
        return [over(negative(tidy(replaced(side, name, ZERO))), slope)]
    if depth >= DEEPEST:
        raise _not_solved(side)
    if sum(isinstance(node, Symbol) and node.name == name for node in nodes(side)) == 1:
        return _peeled(side, ZERO, name, depth)
    return _in_one_part(side, name, depth)


def _of_quotient(above: uni.Coefficients, below: uni.Coefficients, side: Expr) -> list[Expr]:
    if not above:
        raise DomainError("every_value", "the equation holds for every value")
    roots, left = uni.rational_roots(above)
    found: list[Expr] = [Number(root) for root, _ in roots if uni.at(below, root)]
    if len(left) == 3:
        found += _quadratic(left)
    elif len(left) == 5 and not left[1] and not left[3]:
        for square in _real_zeros([left[0], left[2], left[4]]):
            found += _square_roots(square)
    elif len(left) > 2:
        found += _pure_power(left, side)
    return found


def _real_zeros(a: uni.Coefficients) -> list[Expr]:
    roots, left = uni.rational_roots(a)
    return [Number(root) for root, _ in roots] + (_quadratic(left) if len(left) == 3 else [])


def _quadratic(a: uni.Coefficients) -> list[Expr]:
    """(-b +- sqrt(b^2 - 4 a c)) / (2 a), nothing when that is not real."""
    c, b, lead = a
    inside = b * b - 4 * lead * c
    if inside < 0:
        return []
    root = apply("sqrt", Number(inside))
    middle, scale = Number(Fraction(-b) / (2 * lead)), Number(Fraction(1) / (2 * lead))
    return [plus(middle, product(scale, root)), plus(middle, negative(product(scale, root)))]


def _square_roots(value: Expr) -> list[Expr]:
    low, high = enclose(value)
    if high < 0:
        return []
    root = apply("sqrt", value)
    return [root, negative(root)]


def _pure_power(a: uni.Coefficients, side: Expr) -> list[Expr]:
    """a x^n + c = 0 with a rational n-th root taken as a power."""
    if any(a[1:-1]):
        raise _not_solved(side)
    n, value = len(a) - 1, Fraction(-a[0]) / a[-1]
    if value < 0 and n % 2 == 0:
        return []
    root = to(Number(abs(value)), Number(Fraction(1, n)))
    if n % 2:
        return [negative(root) if value < 0 else root]
    return [root, negative(root)]


def _peeled(expr: Expr, value: Expr, name: str, depth: int) -> list[Expr]:
    """Solve expr = value where the unknown occurs once in expr: undo one operation after the other."""
    while isinstance(expr, Apply):
        if rational_function(expr, name) is not None and rational_function(value, name) is not None:
            return _zeros(minus(expr, value), name, depth + 1)
        inside = [occurs(name, arg) for arg in expr.args]
        if len(expr.args) == 1:
            branches = _undone(expr.op, value)
            if branches is None:
                raise _not_solved(expr)
            if len(branches) != 1:
                return [zero for one in branches for zero in _peeled(expr.args[0], one, name, depth)]
            expr, value = expr.args[0], branches[0]
            continue
        left, right = expr.args
        if expr.op == "^" and not inside[1]:
            return _power_undone(left, right, value, name, depth)
        if expr.op == "^":
            expr, value = right, over(apply("ln", value), apply("ln", left)) if _is_positive(value) else _none()
            continue
        expr, value = _operand(expr, value, inside[0])
    return [value]


class _NoSolutionError(DomainError):
    """There is nothing to undo: the equation has no solution."""


def _none() -> Expr:
    raise _NoSolutionError("not_solved", "no real value")


def _is_positive(value: Expr) -> bool:
    return enclose(value)[0] > 0


def _undone(op: str, value: Expr) -> list[Expr] | None:
    """The values u with op(u) = value; None for what is not undone here (sin has infinitely many, floor a range)."""
    if op == "-":
        return [negative(value)]
    if op == "exp":
        return [apply("ln", value)] if _is_positive(value) else []
    if op == "ln":
        return [apply("exp", value)]
    if op == "log":
        return [to(Number(10), value)]
    if op in ("sqrt", "abs"):
        low, high = enclose(value)
        if high < 0:
            return []
        if op == "sqrt":
            return [to(value, Number(2))]
        return [value] if value == ZERO else [value, negative(value)]
    return None


def _power_undone(base: Expr, exponent: Expr, value: Expr, name: str, depth: int) -> list[Expr]:
    if not isinstance(exponent, Number) or not exponent.exact:
        raise _not_solved(Apply("^", (base, exponent)))
    if value == ZERO:
        return _peeled(base, ZERO, name, depth) if exponent.exact > 0 else []
    negative_value = not _is_positive(value)
    root_exponent = Number(1 / Fraction(exponent.exact))
    whole = type(exponent.exact) is int
    if negative_value and (not whole or exponent.exact % 2 == 0):
        return []
    root = to(negative(value) if negative_value else value, root_exponent)
    branches = [negative(root)] if negative_value else [root]
    if whole and exponent.exact % 2 == 0:
        branches.append(negative(root))
    return [zero for one in branches for zero in _peeled(base, one, name, depth)]


def _operand(expr: Apply, value: Expr, first: bool) -> tuple[Expr, Expr]:
    """One of + - * / undone: the operand with the unknown and what it is equal to."""
    left, right = expr.args
    kept, other = (left, right) if first else (right, left)
    if expr.op == "+":
        return kept, minus(value, other)
    if expr.op == "-":
        return kept, plus(value, other) if first else minus(other, value)
    if expr.op == "*" and other != ZERO:
        return kept, over(value, other)
    if expr.op == "/":
        if first:
            return kept, product(value, other)
        if value != ZERO:
            return kept, over(other, value)
    raise _not_solved(expr)


def _in_one_part(side: Expr, name: str, depth: int) -> list[Expr]:
    """A function of one part such as exp x: solve for the part, then for the unknown."""
    side = _one_exponential(side, name)
    fresh = Symbol("u_" if name != "u_" else "v_")
    parts = {node.text(): node for node in nodes(side) if isinstance(node, Apply) and occurs(name, node)}
    for part in sorted(parts.values(), key=lambda node: node.size):
        if part == side or part.op in "+-*/":
            continue
        rest = _swapped(side, part, fresh)
        if occurs(name, rest) and part.op == "sqrt":
            rest = _without_root(rest, part.args[0], name, fresh)
        if occurs(name, rest) or rational_function(rest, fresh.name) is None:
            continue
        found: list[Expr] = []
        for value in _zeros(rest, fresh.name, depth + 1):
            try:
                found += _zeros(minus(part, value), name, depth + 1)
            except _NoSolutionError:
                continue
        return found
    raise _not_solved(side)


def _without_root(rest: Expr, inside: Expr, name: str, fresh: Symbol) -> Expr:
    """With u = sqrt(a x + b) the unknown is (u^2 - b) / a."""
    line = uni.coefficients(inside, name)
    if line is None or len(line) != 2:
        return rest
    square = minus(to(fresh, Number(2)), Number(line[0]))
    return tidy(replaced(rest, name, over(square, Number(line[1]))))


def _swapped(expr: Expr, part: Expr, by: Expr) -> Expr:
    if expr == part:
        return by
    if not isinstance(expr, Apply):
        return expr
    return Apply(expr.op, tuple([_swapped(arg, part, by) for arg in expr.args]))


def _one_exponential(side: Expr, name: str) -> Expr:
    """exp(2 x) beside exp(x) as (exp x)^2."""
    exponents = [
        node.args[0] for node in nodes(side) if isinstance(node, Apply) and node.op == "exp" and occurs(name, node)
    ]
    if len(set(exponents)) < 2:
        return side
    least = min(exponents, key=lambda one: one.size)

    def rewritten(node: Expr) -> Expr:
        if isinstance(node, Apply) and node.op == "exp" and occurs(name, node):
            times = over(node.args[0], least)
            if isinstance(times, Number) and type(times.exact) is int:
                return node if times == ONE else Apply("^", (Apply("exp", (least,)), times))
        return Apply(node.op, tuple([rewritten(arg) for arg in node.args])) if isinstance(node, Apply) else node

    return rewritten(side)


# --- systems -------------------------------------------------------------------------------------------------------


def _system(sides: list[Expr], names: list[str]) -> list[list[Expr]]:
    """All solutions of several equations, a value for each name."""
    rows = [_linear_row(side, names) for side in sides]
    found = [row for row in rows if row is not None]
    if len(found) == len(rows):
        return _eliminated(found)
    if len(names) != 2:
        raise _not_solved(sides[0])
    for i, row in enumerate(rows):
        if row is not None:
            return _substituted(row, sides[1 - i], names)
    raise _not_solved(sides[0])


def _linear_row(side: Expr, names: list[str]) -> list[Rational] | None:
    """Coefficients of the names and the constant, when the side is linear over the rationals."""
    if not set(symbols(side)) <= set(names):
        return None
    row: list[Rational] = []
    constant = side
    for name in names:
        slope = derivative(side, name)
        if not isinstance(slope, Number):
            return None
        row.append(slope.exact)
        constant = replaced(constant, name, ZERO)
    rest = tidy(constant)
    return [*row, rest.exact] if isinstance(rest, Number) else None


def _eliminated(rows: list[list[Rational]]) -> list[list[Expr]]:
    """Gauss and Jordan."""
    size = len(rows)
    for column in range(size):
        pivot = next((i for i in range(column, size) if rows[i][column]), None)
        if pivot is None:
            if any(row[-1] and not any(row[:-1]) for row in rows):
                return []
            raise DomainError("every_value", "the equations have no solution, or more than can be written")
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = rows[column][column]
        rows[column] = [Fraction(value) / lead for value in rows[column]]
        for i in range(size):
            if i != column and rows[i][column]:
                factor = rows[i][column]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[column], strict=True)]
    return [[Number(Fraction(-row[-1])) for row in rows]]


def _substituted(row: list[Rational], other: Expr, names: list[str]) -> list[list[Expr]]:
    """Two equations, the one of `row` linear: put it into the other."""
    place = 0 if row[0] else 1
    if not row[place]:
        raise _not_solved(other)
    kept = names[1 - place]
    line = uni.expression([Fraction(-row[2]) / row[place], Fraction(-row[1 - place]) / row[place]], kept)
    values = _zeros(tidy(replaced(other, names[place], line)), kept, 1)
    pairs = []
    for value in _ordered(values):
        first = tidy(replaced(line, kept, value))
        pairs.append([first, value] if place == 0 else [value, first])
    return pairs

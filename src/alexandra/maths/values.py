"""What an expression comes to: `evaluate`, with tasks (derive, integrate, solve) worked out first.

A value is a Fraction where it is rational, else an exact expression such as (* 2 (sqrt 3)), whose float() is its
value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from alexandra.errors import suggest
from alexandra.maths.arithmetic import IrrationalError, Rational, checked, rational_value
from alexandra.maths.derivative import derivative
from alexandra.maths.equations import solve
from alexandra.maths.expr import OPERATORS, Apply, DomainError, Expr, ExpressionError, Number, Symbol, nodes, symbols
from alexandra.maths.forms import FinerAnglesError, NowhereDefinedError
from alexandra.maths.integral import antiderivative
from alexandra.maths.interval import Arithmetic, UndecidedError, enclose
from alexandra.maths.language import parse
from alexandra.maths.normal import ExpressionForms
from alexandra.maths.tidy import minus, replaced, tidy

Value = int | Fraction | float | str
Bindings = Mapping[str, Value]
CUTS = 2_000  # pieces into which a range of integration is cut to show that the integrand has values on it


def evaluate(expr: Expr | str, bindings: Bindings | None = None) -> Fraction | Expr:
    """The exact value of `expr`, its symbols replaced by `bindings`; DomainError when there is none.

    A binding is an int, a Fraction, text ("1/3", "0.1") or a float, which stands for its exact binary value. The value
    is a Fraction, or an expression where it is irrational and where `expr` asks for one: (derive (^ x 2) x) gives
    (* 2 x), and a solve the number, (set ...) or (tuple ...) that it asks for.
    """
    tree = parse(expr) if isinstance(expr, str) else expr
    point = {name: exact(value, name) for name, value in (bindings or {}).items()}
    try:
        return Fraction(rational_value(tree, point))
    except IrrationalError:
        pass
    except DomainError as error:
        if error.name == "unbound_symbol" and not has_tasks(tree):
            raise _unbound(tree, point) from None
        if error.name != "unbound_symbol":
            raise
    return _worked(tree, point)


def rational(expr: Expr | str, bindings: Bindings | None = None) -> Fraction:
    """The value of an expression that has a rational one; DomainError when it has none, or is irrational."""
    value = evaluate(expr, bindings)
    if isinstance(value, Fraction):
        return value
    raise DomainError("not_a_value", f"{value.text()[:80]} is no rational number", hint="float(...) is near it")


def exact(value: Value, what: str = "a value") -> Rational:
    """The rational that `value` is; ExpressionError when it is none."""
    if isinstance(value, str):
        number = parse(value)
        if not isinstance(number, Number):
            raise ExpressionError(f"{what}: {value!r} is not a number", hint="write 3, -3, 0.25 or 1/3")
        return number.exact
    if isinstance(value, bool) or not isinstance(value, int | Fraction | float):
        raise ExpressionError(f"{what}: {value!r} is not a number", hint="give an int, a Fraction, a float or text")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError(f"{what}: {value!r} is not finite")
    return checked(Fraction(value))


def has_tasks(expr: Expr) -> bool:
    """Whether a derive, an integrate or a solve occurs."""
    return any(isinstance(node, Apply) and OPERATORS[node.op].kind == "task" for node in nodes(expr))


def _unbound(tree: Expr, point: Mapping[str, Rational]) -> DomainError:
    name = next(name for name in symbols(tree) if name not in point)
    known = suggest(name, point) if point else f"bind it: {{{name!r}: 2}}"
    return DomainError("unbound_symbol", f"the symbol {name!r} has no value", hint=known)


def _worked(tree: Expr, point: Mapping[str, Rational]) -> Fraction | Expr:
    found = tidy(worked_out(tree))
    for name, value in point.items():
        found = replaced(found, name, Number(value))
    found = tidy(found)
    if symbols(found):
        if has_tasks(tree):
            return found
        raise _unbound(found, point)
    return closed(found)


def closed(expr: Expr) -> Fraction | Expr:
    """The value of an expression without symbols: a Fraction when normal forms show that it is one."""
    if isinstance(expr, Apply) and OPERATORS[expr.op].kind in ("collection", "relation"):
        values = [closed(arg) for arg in expr.args]
        return Apply(expr.op, tuple([Number(value) if isinstance(value, Fraction) else value for value in values]))
    try:
        return Fraction(rational_value(expr, {}))
    except IrrationalError:
        pass
    constant = _constant(expr)
    if constant is None:
        enclose(expr)  # DomainError when there is no value
        return expr
    try:
        enclose(expr)
    except DomainError as error:
        if error.name != "undecided":
            raise
    return constant


def _constant(expr: Expr) -> Fraction | None:
    for expand in (False, True):
        try:
            value = ExpressionForms(expand).of(expr).constant
        except (NowhereDefinedError, FinerAnglesError, ExpressionError):
            return None
        if value is not None:
            return value
    return None


def worked_out(expr: Expr) -> Expr:
    """`expr` with every task replaced by what it asks for."""
    if not isinstance(expr, Apply) or not has_tasks(expr):
        return expr
    args = [worked_out(arg) for arg in expr.args]
    if expr.op == "derive":
        return derivative(args[0], _name(args[1]))
    if expr.op == "integrate":
        if len(args) == 2:
            return antiderivative(args[0], _name(args[1]))
        return definite(args[0], _name(args[1]), args[2], args[3])
    if expr.op == "solve":
        half = len(args) // 2
        return solve(args[:half], [_name(arg) for arg in args[half:]])
    return Apply(expr.op, tuple(args))


def _name(expr: Expr) -> str:
    assert isinstance(expr, Symbol)
    return expr.name


def definite(integrand: Expr, name: str, low: Expr, high: Expr) -> Expr:
    """The integral from `low` to `high`; DomainError "outside_domain" where the integrand has no value on the way."""
    whole = antiderivative(integrand, name)
    if not _is_entire(integrand):
        _refuse_gaps(integrand, name, low, high)
    return tidy(minus(tidy(replaced(whole, name, high)), tidy(replaced(whole, name, low))))


_ENTIRE = ("+", "-", "*", "sin", "cos", "exp")


def _is_entire(expr: Expr) -> bool:
    for node in nodes(expr):
        if isinstance(node, Apply) and node.op not in _ENTIRE:
            divisor = node.op == "/" and isinstance(node.args[1], Number) and node.args[1].value != 0
            exponent = node.args[1] if node.op == "^" else None
            power = isinstance(exponent, Number) and exponent.value >= 0 and exponent.value.denominator == 1
            if not divisor and not power:
                return False
    return True


def _refuse_gaps(integrand: Expr, name: str, low: Expr, high: Expr) -> None:
    try:
        ends = sorted((enclose(low), enclose(high)))
    except DomainError:
        raise DomainError("outside_domain", "the ends of an integral must be numbers here") from None
    waiting = [(ends[0][0], ends[1][1])]
    left = CUTS
    while waiting:
        a, b = waiting.pop()
        left -= 1
        try:
            if left < 0:
                raise DomainError("outside_domain", "")
            Arithmetic(30, {name: (a, b)}).of(integrand)
        except UndecidedError:
            middle = (a + b) / 2
            waiting += [(a, middle), (middle, b)]
        except DomainError:
            words = f"{integrand.text()[:80]} may have no value somewhere from {low} to {high}"
            raise DomainError("outside_domain", words) from None

"""Are two expressions equal? Proved by normal forms, refuted by counterexamples, else unknown.

"equal" means: the same value wherever both have one, and there is such a point. It is said when normal forms agree
(normal.py), or when probing leaves no doubt: a quotient of polynomials too large to write out is compared modulo a
prime of 61 bits at random points; functions that are analytic wherever they have a value (no root, logarithm, abs,
floor or %) are compared at a dozen random points with more digits than both have in their numbers. "different" comes
with a point at which exact values, or intervals around them, lie apart. Random points follow from the two texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from alexandra.maths.arithmetic import IrrationalError, Rational, rational_value
from alexandra.maths.expr import OPERATORS, Apply, Constant, DomainError, Expr, Number, Symbol, nodes, symbols
from alexandra.maths.forms import Form, NowhereDefinedError
from alexandra.maths.interval import Arithmetic, UndecidedError, enclose
from alexandra.maths.language import parse
from alexandra.maths.normal import ExpressionForms, expanded_forms
from alexandra.maths.polynomial import TooManyTermsError
from alexandra.maths.values import has_tasks, worked_out
from alexandra.rng import derive

PROBES = 200
PROBED_NODES = 200_000  # the larger the expressions, the fewer points are tried, but at least FEWEST_PROBES
FEWEST_PROBES = 5
FIRST_PROBES = 4  # before angles are expanded
AGREEMENTS = 12  # points at which analytic functions must agree
PRIME = 2**61 - 1
KINDS = ("equal", "different", "unknown")

Point = Mapping[str, Fraction]
# What is known of a value: an exact rational, an interval, or None where there is none
Known = Rational | tuple[Decimal, Decimal] | None


@dataclass(frozen=True)
class Equality:
    """kind: "equal", "different" or "unknown". A counterexample binds every symbol to a value at which the two differ
    (or only one of them has a value anywhere); it is empty when there are no symbols. `reason` says it in words.
    """

    kind: str
    counterexample: Mapping[str, Fraction] | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.kind == "equal"


def equal(a: Expr | str, b: Expr | str) -> Equality:
    """Whether `a` and `b` have the same value wherever both have one; see the module header.

    Tasks are worked out first; sets are compared in any order, tuples and equations part by part (an equation also
    when its sides are multiplied by a number).
    """
    left = parse(a) if isinstance(a, str) else a
    right = parse(b) if isinstance(b, str) else b
    try:
        left, right = (worked_out(one) if has_tasks(one) else one for one in (left, right))
    except DomainError as error:
        return Equality("unknown", None, f"{error.name}: {error.message}")
    if _is_structure(left) or _is_structure(right):
        return _structures(left, right)
    names = tuple(sorted({*symbols(left), *symbols(right)}))
    return _with_symbols(left, right, names) if names else _ground(left, right)


# --- sets, tuples, equations ---------------------------------------------------------------------------------------


def _is_structure(expr: Expr) -> bool:
    return isinstance(expr, Apply) and OPERATORS[expr.op].kind in ("relation", "collection")


def _structures(left: Expr, right: Expr) -> Equality:
    if not (isinstance(left, Apply) and isinstance(right, Apply) and left.op == right.op):
        other = [one for one in (left, right) if not _is_structure(one)]
        sets = [one for one in (left, right) if isinstance(one, Apply) and one.op == "set" and len(one.args) == 1]
        if other and sets:
            return equal(sets[0].args[0], other[0])
        return Equality("different", {}, "one is no such collection")
    if left.op == "=":
        return _equations(left, right)
    if len(left.args) != len(right.args):
        if left.op == "set" and _has_twins(left) | _has_twins(right):
            return Equality("unknown", None, "values of a set occur twice")
        return Equality("different", {}, f"{len(left.args)} and {len(right.args)} values")
    if left.op == "tuple":
        return _all([equal(x, y) for x, y in zip(left.args, right.args, strict=True)])
    rest, found = list(right.args), []
    for value in left.args:
        verdicts = [equal(value, other) for other in rest]
        match = next((i for i, verdict in enumerate(verdicts) if verdict.kind == "equal"), None)
        if match is None:
            unknown = any(verdict.kind == "unknown" for verdict in verdicts)
            found.append(
                Equality("unknown" if unknown else "different", None if unknown else {}, f"{value} is missing")
            )
            break
        rest.pop(match)
    return _all(found)


def _has_twins(one: Apply) -> bool:
    return any(equal(x, y).kind != "different" for i, x in enumerate(one.args) for y in one.args[:i])


def _all(verdicts: list[Equality]) -> Equality:
    for kind in ("different", "unknown"):
        for verdict in verdicts:
            if verdict.kind == kind:
                return verdict
    return Equality("equal", None, "value by value")


def _equations(left: Apply, right: Apply) -> Equality:
    one, other = (Apply("-", (side.args[0], side.args[1])) for side in (left, right))
    forms = ExpressionForms()
    try:
        a, b = forms.of(one), forms.of(other)
        if not a.num or not b.num:
            kind = "equal" if a.num == b.num else "unknown"
            return Equality(kind, None, "an equation that always holds")
        shared = next(iter(a.num))
        factor = forms.product(a, forms.inverse(b)).constant
        ratio = Fraction(a.num[shared] * b.over, b.num[shared] * a.over) if shared in b.num else None
        for value in (ratio, factor):
            if value and forms.same(a, forms.product(b, forms.number(value))):
                return Equality("equal", None, f"the first is {value} times the second")
    except (NowhereDefinedError, TooManyTermsError):
        pass
    return Equality("unknown", None, "the equations are no multiples of each other")


# --- without symbols -----------------------------------------------------------------------------------------------


def _ground(left: Expr, right: Expr) -> Equality:
    """Exact values decide, then normal forms, then intervals."""
    try:
        values = _known(left, {}, 0), _known(right, {}, 0)
    except (UndecidedError, TooLargeError):
        return Equality("unknown", None, "a value could not be computed")
    a, b = values
    if a is None and b is None:
        return Equality("unknown", None, "neither has a value")
    if a is None or b is None:
        return Equality("different", {}, _words(a, b, {}))
    if not isinstance(a, tuple) and not isinstance(b, tuple):
        kind = "equal" if a == b else "different"
        return Equality(kind, None if a == b else {}, f"both are {a}" if a == b else _words(a, b, {}))
    if _apart(a, b):
        return Equality("different", {}, _words(a, b, {}))
    if _same_forms(left, right):
        return Equality("equal", None, "one normal form")
    for digits in (60, 240, 960):
        try:
            a, b = _known(left, {}, digits), _known(right, {}, digits)
        except (UndecidedError, TooLargeError):
            break
        if a is None or b is None:
            break
        if _apart(a, b):
            return Equality("different", {}, _words(a, b, {}))
    return Equality("unknown", None, "no difference in 960 digits, and no proof that there is none")


def _same_forms(left: Expr, right: Expr) -> bool:
    try:
        forms = ExpressionForms()
        if forms.same(forms.of(left), forms.of(right)):
            return True
        expanded, one, other = expanded_forms(left, right)
        return expanded.same(one, other)
    except (NowhereDefinedError, TooManyTermsError):
        return False


class TooLargeError(Exception):
    """A value is too large to be computed."""


def _known(expr: Expr, point: Mapping[str, Rational], digits: int) -> Known:
    """The value exactly, else an interval of so many digits; None where there is none."""
    try:
        try:
            return rational_value(expr, point)
        except IrrationalError:
            return Arithmetic(digits or 24, point).of(expr) if digits else enclose(expr, point, 24)
    except DomainError as error:
        if error.name == "too_large":
            raise TooLargeError from None
        if error.name == "undecided":
            raise UndecidedError from None
        return None


def _apart(a: Known, b: Known) -> bool:
    """Whether two values that exist surely differ."""
    if not isinstance(a, tuple) and not isinstance(b, tuple):
        return a != b
    (low, high), (least, most) = (
        one if isinstance(one, tuple) else Arithmetic(60).rational(one) for one in (a, b) if one is not None
    )
    return high < least or most < low


def _words(left: Known, right: Known, point: Point) -> str:
    place = ", ".join(f"{name} = {value}" for name, value in point.items())
    texts = []
    for value in (left, right):
        about = f"{value[0]:.8g}..." if isinstance(value, tuple) else str(value)
        texts.append("no value" if value is None else about)
    return f"at {place}: {texts[0]} and {texts[1]}" if place else f"{texts[0]} and {texts[1]}"


# --- with symbols --------------------------------------------------------------------------------------------------


def _with_symbols(left: Expr, right: Expr, names: tuple[str, ...]) -> Equality:
    forms = ExpressionForms()
    try:
        one, other = _form_or_none(forms, left), _form_or_none(forms, right)
        if one is None or other is None:
            return _half_defined(left, right, names, one is None and other is None)
        if forms.same(one, other):
            return _somewhere(left, right, names, forms.restricted)
    except TooManyTermsError as error:
        found = _modular(left, right, names)
        return _probed(left, right, names, f"no normal form: {error.message}") if found is None else found
    points = _points(names, left.size + right.size)
    found = _counterexample(left, right, points, FIRST_PROBES)
    if found is not None:
        return found
    try:
        expanded, one, other = expanded_forms(left, right)
        if expanded.same(one, other):
            return _somewhere(left, right, names, expanded.restricted)
    except (TooManyTermsError, NowhereDefinedError):
        pass
    verdict = _counterexample(left, right, points, PROBES)
    if verdict is not None:
        return verdict
    if all(key[0] == "symbol" for key in forms.keys):
        return Equality("different", None, "two normal forms; both are too large to be evaluated at small values")
    return _analytic(left, right, names)


def _form_or_none(forms: ExpressionForms, expr: Expr) -> Form | None:
    try:
        return forms.of(expr)
    except NowhereDefinedError:
        return None


def _somewhere(left: Expr, right: Expr, names: tuple[str, ...], restricted: bool) -> Equality:
    """Equal forms; where roots and logarithms occur, a point is wanted at which both have a value."""
    if restricted:
        for point in _points(names, left.size + right.size):
            values = _values(left, right, point)
            if values is not None and None not in values:
                break
        else:
            return Equality("unknown", None, "one normal form, but no point was found at which both have a value")
    return Equality("equal", None, "one normal form")


def _half_defined(left: Expr, right: Expr, names: tuple[str, ...], neither: bool) -> Equality:
    """At least one has no value anywhere."""
    if neither:
        return Equality("unknown", None, "neither has a value anywhere")
    for point in _points(names, left.size + right.size):
        values = _values(left, right, point)
        if values is not None and values != (None, None):
            return Equality("different", point, _words(*values, point))
    return Equality("unknown", None, "one has no value anywhere, and none was found for the other")


def _values(left: Expr, right: Expr, point: Point) -> tuple[Known, Known] | None:
    try:
        return _known(left, point, 0), _known(right, point, 0)
    except (UndecidedError, TooLargeError):
        return None


def _counterexample(left: Expr, right: Expr, points: Iterator[Point], most: int) -> Equality | None:
    """A point among the next `most` at which both have values that surely differ."""
    for _, point in zip(range(most), points, strict=False):
        values = _values(left, right, point)
        if values is not None and None not in values and _apart(*values):
            return Equality("different", point, _words(*values, point))
    return None


def _probed(left: Expr, right: Expr, names: tuple[str, ...], otherwise: str) -> Equality:
    found = _counterexample(left, right, _points(names, left.size + right.size), PROBES)
    return found if found is not None else Equality("unknown", None, f"{otherwise}, and no counterexample was found")


def _points(names: tuple[str, ...], size: int) -> Iterator[dict[str, Fraction]]:
    """Small whole numbers first, then larger ones and fractions; the same points every time."""
    for values in _all_coordinates(len(names))[: max(FEWEST_PROBES, min(PROBES, PROBED_NODES // size))]:
        yield dict(zip(names, values, strict=True))


@lru_cache(maxsize=64)
def _all_coordinates(count: int) -> list[tuple[Fraction, ...]]:
    found: dict[tuple[Fraction, ...], None] = {}
    for number in range(2 * PROBES):
        words = derive(0, "maths", "probe", number).words(2 * count).tolist()
        spread = 3 + number // 4
        values = [word % (2 * spread + 1) - spread for word in words[:count]]
        below = [1 + word % 7 if number % 4 == 3 else 1 for word in words[count:]]
        found[tuple(Fraction(v, d) for v, d in zip(values, below, strict=True))] = None
    return list(found)[:PROBES]


# --- probing that proves -------------------------------------------------------------------------------------------


def _seed(left: Expr, right: Expr) -> int:
    texts = "\n".join(sorted((left.text(), right.text())))
    return int.from_bytes(hashlib.blake2b(texts.encode(), digest_size=8).digest(), "little")


def _modular(left: Expr, right: Expr, names: tuple[str, ...]) -> Equality | None:
    """Quotients of polynomials modulo a prime at random points (Schwartz 1980, Zippel 1979); None for others.

    A degree of 10^6 would let two different ones pass three points with a probability under 10^-36.
    """
    agreed = 0
    for number in range(12):
        words = derive(_seed(left, right), "maths", "modular", number).words(2 * len(names)).tolist()
        point = {name: words[2 * i] << 29 ^ words[2 * i + 1] for i, name in enumerate(names)}
        try:
            if _residue(left, point) != _residue(right, point):
                return None
            agreed += 1
        except ZeroDivisionError:
            continue
        except IrrationalError:
            return None
        if agreed == 3:
            return Equality("equal", None, "equal modulo 2^61 - 1 at three random points")
    return None


_RESIDUES: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: (a + b) % PRIME,
    "-": lambda a, b: (a - b) % PRIME,
    "*": lambda a, b: a * b % PRIME,
    "/": lambda a, b: a * _inverse(b) % PRIME,
}


def _inverse(b: int) -> int:
    if not b:
        raise ZeroDivisionError
    return pow(b, -1, PRIME)


def _residue(expr: Expr, point: Mapping[str, int]) -> int:
    """The value modulo PRIME; ZeroDivisionError where a divisor is zero, IrrationalError outside the class."""
    if isinstance(expr, Number):
        return expr.value.numerator * _inverse(expr.value.denominator % PRIME) % PRIME
    if isinstance(expr, Symbol):
        return point[expr.name] % PRIME
    if not isinstance(expr, Apply):
        raise IrrationalError
    if expr.op == "^":
        exponent = expr.args[1]
        if not isinstance(exponent, Number) or type(exponent.exact) is not int or abs(exponent.exact) > 10**6:
            raise IrrationalError
        base = _residue(expr.args[0], point)
        return pow(base if exponent.exact >= 0 else _inverse(base), abs(exponent.exact), PRIME)
    if expr.op not in _RESIDUES:
        raise IrrationalError
    values = [_residue(arg, point) for arg in expr.args]
    return -values[0] % PRIME if len(values) == 1 else _RESIDUES[expr.op](values[0], values[1])


def _is_analytic(expr: Expr) -> bool:
    """Analytic wherever it has a value, and that on a set that is connected up to isolated points."""
    if isinstance(expr, Number | Symbol | Constant) or not symbols(expr):
        return True
    assert isinstance(expr, Apply)
    if expr.op == "^":
        base, exponent = expr.args
        if isinstance(exponent, Number):
            return exponent.value.denominator == 1 and _is_analytic(base)
        positive = isinstance(base, Constant) or (isinstance(base, Number) and base.value > 0)
        return positive and _is_analytic(exponent)
    return expr.op in ("+", "-", "*", "/", "sin", "cos", "tan", "exp") and all(map(_is_analytic, expr.args))


def _bits(expr: Expr) -> int:
    found = (node.value for node in nodes(expr) if isinstance(node, Number))
    return sum(value.numerator.bit_length() + value.denominator.bit_length() for value in found)


def _analytic(left: Expr, right: Expr, names: tuple[str, ...]) -> Equality:
    """Compare at random points with many digits."""
    unknown = Equality("unknown", None, "the normal forms differ, and no counterexample was found")
    bits = _bits(left) + _bits(right)
    if bits > 4_000 or not (_is_analytic(left) and _is_analytic(right)):
        return unknown
    digits, agreed = 60 + 2 * bits, 0
    for number in range(4 * AGREEMENTS):
        words = derive(_seed(left, right), "maths", "analytic", number).words(len(names)).tolist()
        point = {
            name: Fraction(word % 6_000_011 - 3_000_005, 1_000_003) for name, word in zip(names, words, strict=True)
        }
        try:
            a, b = _known(left, point, digits), _known(right, point, digits)
        except (UndecidedError, TooLargeError):
            continue
        if a is None or b is None:
            continue
        if _apart(a, b):
            return Equality("different", point, _words(a, b, point))
        agreed += 1
        if agreed == AGREEMENTS:
            return Equality("equal", None, f"{digits} digits agree at {AGREEMENTS} random points")
    return unknown

"""Are two expressions equal? Decided exactly for rational functions, refuted by exact counterexamples, else unknown.

"equal" means: the same value wherever both have one. Sums, products, quotients and whole powers are compared as
quotients of polynomials (polynomial.py), which decides them. Around % with symbols and powers with symbols in the
exponent nothing is simplified; such parts count as equal when they are written alike in normal form, and the answer
may be "unknown". No floating point is involved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from alexandra.maths import polynomial as poly
from alexandra.maths.arithmetic import evaluate
from alexandra.maths.expr import Apply, DomainError, Expr, Number, Symbol, symbols
from alexandra.maths.language import parse
from alexandra.maths.polynomial import Quotient
from alexandra.rng import derive

PROBES = 200
PROBED_NODES = 200_000  # the larger the expressions, the fewer points are tried, but at least FEWEST_PROBES
FEWEST_PROBES = 5
KINDS = ("equal", "different", "unknown")


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


class _NowhereDefinedError(Exception):
    """A part divides by zero, or raises zero to a negative power, whatever its symbols are."""


def equal(a: Expr | str, b: Expr | str) -> Equality:
    """Whether `a` and `b` have the same value wherever both have one; see the module header."""
    left = parse(a) if isinstance(a, str) else a
    right = parse(b) if isinstance(b, str) else b
    names = tuple(sorted({*symbols(left), *symbols(right)}))
    if not names:
        return _ground(left, right)
    try:
        work = poly.Work()
        one, other = _form_or_none(left, work), _form_or_none(right, work)
        same = one is not None and other is not None and not poly.difference_of(one, other, work)
    except poly.TooManyTermsError as error:
        return _probed(left, right, names, f"no normal form: {error.message}")
    if same:
        return Equality("equal", None, "one normal form")
    if one is None or other is None:
        return _half_defined(left, right, names, one is None and other is None)
    found = _probed(left, right, names, "the parts with % or ^ are not simplified")
    if found.kind == "unknown" and _is_rational(one) and _is_rational(other):
        return Equality("different", None, "two normal forms; both are too large to be evaluated at small values")
    return found


def _ground(left: Expr, right: Expr) -> Equality:
    """Without symbols the values decide."""
    values = _values(left, right, {})
    if values is None:
        return Equality("unknown", None, "a value is too large to be computed")
    if values == (None, None):
        return Equality("unknown", None, "neither has a value")
    if values[0] == values[1]:
        return Equality("equal", None, f"both are {values[0]}")
    return Equality("different", {}, _words(*values, {}))


def _values(left: Expr, right: Expr, point: Mapping[str, Fraction]) -> tuple[Fraction | None, Fraction | None] | None:
    """Both values at a point, None for one that does not exist; None when one is too large to be known."""
    found: list[Fraction | None] = []
    for expr in (left, right):
        try:
            found.append(evaluate(expr, point))
        except DomainError as error:
            if error.name == "too_large":
                return None
            found.append(None)
    return found[0], found[1]


def _words(left: Fraction | None, right: Fraction | None, point: Mapping[str, Fraction]) -> str:
    place = ", ".join(f"{name} = {value}" for name, value in point.items())
    texts = ["no value" if value is None else str(value) for value in (left, right)]
    return f"at {place}: {texts[0]} and {texts[1]}" if place else f"{texts[0]} and {texts[1]}"


def _half_defined(left: Expr, right: Expr, names: tuple[str, ...], neither: bool) -> Equality:
    """At least one has no value anywhere."""
    if neither:
        return Equality("unknown", None, "neither has a value anywhere")
    for point in _points(names, left.size + right.size):
        values = _values(left, right, point)
        if values is not None and values != (None, None):
            return Equality("different", point, _words(*values, point))
    return Equality("unknown", None, "one has no value anywhere, and none was found for the other")


def _probed(left: Expr, right: Expr, names: tuple[str, ...], otherwise: str) -> Equality:
    """Look for a point at which both have values that differ."""
    for point in _points(names, left.size + right.size):
        values = _values(left, right, point)
        if values is not None and None not in values and values[0] != values[1]:
            return Equality("different", point, _words(*values, point))
    return Equality("unknown", None, f"{otherwise}, and no counterexample was found")


def _points(names: tuple[str, ...], size: int) -> Iterator[dict[str, Fraction]]:
    """Small whole numbers first, then larger ones and fractions; the same points every time."""
    for number in range(max(FEWEST_PROBES, min(PROBES, PROBED_NODES // size))):
        words = derive(0, "maths", "probe", number).words(2 * len(names)).tolist()
        spread = 3 + number // 4
        values = [word % (2 * spread + 1) - spread for word in words[: len(names)]]
        below = [1 + word % 7 if number % 4 == 3 else 1 for word in words[len(names) :]]
        yield {name: Fraction(v, d) for name, v, d in zip(names, values, below, strict=True)}


# --- normal forms -----------------------------------------------------------------------------------------------


def _is_rational(form: Quotient) -> bool:
    """No part of it stands for an expression outside the class."""
    monomials = [monomial for part in (form.above, form.below) for monomial in part]
    return not any(name.startswith("(") for monomial in monomials for name, _ in monomial)


def _form_or_none(expr: Expr, work: poly.Work) -> Quotient | None:
    try:
        return normal_form(expr, work)
    except _NowhereDefinedError:
        return None


def normal_form(expr: Expr, work: poly.Work) -> Quotient:
    """The quotient of polynomials that `expr` is; a part outside the class becomes a symbol "(op ...)" of its own."""
    if isinstance(expr, Number):
        return Quotient(poly.constant(expr.value), poly.ONE)
    if isinstance(expr, Symbol):
        return Quotient({((expr.name, 1),): Fraction(1)}, poly.ONE)
    assert isinstance(expr, Apply)
    forms = [normal_form(arg, work) for arg in expr.args]
    if len(forms) == 1:
        return Quotient(poly.negate(forms[0].above), forms[0].below)
    return _combined(expr.op, forms[0], forms[1], work)


def _combined(op: str, a: Quotient, b: Quotient, work: poly.Work) -> Quotient:
    if op == "+":
        return poly.sum_of(a, b, work)
    if op == "-":
        return poly.sum_of(a, Quotient(poly.negate(b.above), b.below), work)
    if op == "*":
        return poly.product_of(a, b, work)
    if op in "/%" and b.is_zero:
        raise _NowhereDefinedError
    if op == "/":
        return poly.product_of(a, poly.quotient(b.below, b.above), work)
    if op == "^":
        exponent = b.constant
        if exponent is not None and exponent.denominator == 1:
            if a.is_zero and exponent < 0:
                raise _NowhereDefinedError
            return poly.power_of(a, int(exponent), work)
    values = a.constant, b.constant
    if op == "%" and values[0] is not None and values[1] is not None:
        return Quotient(poly.constant(values[0] % values[1]), poly.ONE)
    return Quotient({((f"({op} {_text(a)} {_text(b)})", 1),): Fraction(1)}, poly.ONE)


def _text(form: Quotient) -> str:
    """A name for a normal form: equal texts are equal forms (not the other way round)."""
    return "|".join(repr(sorted(part.items())) for part in (form.above, form.below))

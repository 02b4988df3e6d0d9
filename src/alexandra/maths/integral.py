"""Antiderivatives of a stated class; every answer is differentiated again before it is given.

The class: sums and constant multiples of (a x + b)^q for rational q; polynomials, also multiplied out; rational
functions whose denominators split into rational linear factors and quadratics with their derivative above; sin, cos,
tan, exp, ln, log, c^u of linear u; polynomials times one of these (by parts); exp times sin or cos; products and
powers of sin and cos of linear arguments; and whatever a substitution u = a part of the integrand brings into it
(three deep).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from alexandra.maths import univariate as uni
from alexandra.maths.arithmetic import Rational
from alexandra.maths.derivative import derivative
from alexandra.maths.expr import Apply, DomainError, Expr, Number, Symbol, nodes
from alexandra.maths.normal import surely_same
from alexandra.maths.partial_fractions import parts_of, rational_function
from alexandra.maths.tidy import (
    HALF,
    MINUS_ONE,
    ONE,
    TWO,
    ZERO,
    apply,
    negative,
    occurs,
    over,
    plus,
    product,
    replaced,
    tidy,
    to,
)

DEEPEST = 3  # substitutions inside one another
MAX_POWER = 12  # of sin and cos


def antiderivative(expr: Expr, name: str) -> Expr:
    """One antiderivative by the symbol `name`, without a constant; DomainError "no_antiderivative"."""
    integrand = tidy(expr)
    found = _Integrator(name).sum(integrand, 0)
    if found is None or not surely_same(derivative(found, name), integrand):
        raise DomainError(
            "no_antiderivative",
            f"no antiderivative of {integrand.text()[:120]} was found",
            hint="the class that is integrated: docs/maths.md",
        )
    return found


class _Integrator:
    """The rules, by one symbol."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.x = Symbol(name)

    def sum(self, expr: Expr, depth: int) -> Expr | None:
        """Term by term, else as one."""
        if isinstance(expr, Apply) and expr.op in "+-":
            parts = [self.sum(arg, depth) for arg in expr.args]
            if all(part is not None for part in parts):
                left, *right = [part for part in parts if part is not None]
                if not right:
                    return negative(left)
                return plus(left, right[0] if expr.op == "+" else negative(right[0]))
        return self.one(expr, depth)

    def one(self, expr: Expr, depth: int) -> Expr | None:
        """A term: its constant factors are set aside."""
        if not occurs(self.name, expr):
            return product(expr, self.x)
        fixed, moving = self._split(expr)
        if fixed != ONE:
            inner = self.sum(moving, depth)
            return None if inner is None else product(fixed, inner)
        for rule in (self.polynomial, self.power, self.function, self.by_parts, self.rational, self.waves):
            found = rule(expr, depth)
            if found is not None:
                return found
        return self.substitution(expr, depth) if depth < DEEPEST else None

    def _split(self, expr: Expr) -> tuple[Expr, Expr]:
        fixed: Expr = ONE
        moving: Expr = ONE
        for factor, below in factors(expr):
            if occurs(self.name, factor):
                moving = over(moving, factor) if below else product(moving, factor)
            else:
                fixed = over(fixed, factor) if below else product(fixed, factor)
        return fixed, moving

    def linear(self, expr: Expr) -> tuple[Expr, Expr] | None:
        """(a, b) when expr is a x + b with an a that is not zero."""
        if expr == self.x:
            return ONE, ZERO
        if not isinstance(expr, Apply) or not occurs(self.name, expr):
            return None
        slope = derivative(expr, self.name)
        if slope == ZERO or occurs(self.name, slope):
            return None
        try:
            return slope, tidy(replaced(expr, self.name, ZERO))
        except DomainError:
            return None

    # --- rules --------------------------------------------------------------------------------------------------

    def polynomial(self, expr: Expr, depth: int) -> Expr | None:
        found = uni.coefficients(expr, self.name)
        if found is None or (isinstance(expr, Apply) and expr.op == "^" and len(found) > 6):
            return None
        return self._of_coefficients(found)

    def _of_coefficients(self, a: uni.Coefficients) -> Expr:
        return uni.expression([0, *[Fraction(value) / (i + 1) for i, value in enumerate(a)]], self.name)

    def power(self, expr: Expr, depth: int) -> Expr | None:
        """(a x + b) ^ q, also below a fraction bar and under a root."""
        base, exponent = base_and_exponent(expr)
        if occurs(self.name, exponent):
            return self._exponential(base, exponent)
        line = self.linear(base)
        if line is None:
            return self._squared_cosine(base, exponent)
        if exponent == MINUS_ONE:
            return over(apply("ln", apply("abs", base)), line[0])
        raised = plus(exponent, ONE)
        return over(to(base, raised), product(line[0], raised))

    def _squared_cosine(self, base: Expr, exponent: Expr) -> Expr | None:
        """1 / cos^2 has the integral tan, 1 / sin^2 has -1 / tan."""
        if exponent != Number(-2) or not isinstance(base, Apply) or base.op not in ("cos", "sin"):
            return None
        line = self.linear(base.args[0])
        tangent = apply("tan", base.args[0])
        if line is None:
            return None
        return over(tangent if base.op == "cos" else negative(over(ONE, tangent)), line[0])

    def _exponential(self, base: Expr, exponent: Expr) -> Expr | None:
        line = self.linear(exponent)
        if line is None or occurs(self.name, base):
            return None
        return over(to(base, exponent), product(line[0], apply("ln", base)))

    def function(self, expr: Expr, depth: int) -> Expr | None:
        if not isinstance(expr, Apply) or expr.op not in _OF_LINEAR:
            return None
        line = self.linear(expr.args[0])
        return None if line is None else over(_OF_LINEAR[expr.op](expr.args[0]), line[0])

    def by_parts(self, expr: Expr, depth: int) -> Expr | None:
        """A polynomial times exp, sin, cos or ln of a linear argument; exp times sin or cos."""
        parts = [(factor, below) for factor, below in factors(expr)]
        chosen = [
            f for f, below in parts if not below and isinstance(f, Apply) and f.op in ("exp", "sin", "cos", "ln", "log")
        ]
        if len(chosen) == 2 and len(parts) == 2:
            return self._damped(chosen)
        if len(chosen) != 1:
            return None
        (wave,) = chosen
        line = self.linear(wave.args[0])
        rest = over(expr, wave)
        cofactor = uni.coefficients(rest, self.name)
        if line is None:
            return None
        if wave.op in ("ln", "log"):
            return self._logarithm(rest, wave, depth)
        if cofactor is None:
            return None
        total: Expr = ZERO
        whole: Expr = wave
        sign = 1
        while cofactor:
            whole = self._once(whole, line[0])
            piece = product(uni.expression(cofactor, self.name), whole)
            total = plus(total, piece if sign > 0 else negative(piece))
            cofactor, sign = uni.derived(cofactor), -sign
        return total

    def _once(self, wave: Expr, slope: Expr) -> Expr:
        """The integral of c * f(u) for f exp, sin or cos of a linear u."""
        fixed, moving = self._split(wave)
        assert isinstance(moving, Apply)
        return product(fixed, over(_OF_LINEAR[moving.op](moving.args[0]), slope))

    def _logarithm(self, rest: Expr, wave: Apply, depth: int) -> Expr | None:
        whole = self.sum(rest, DEEPEST)
        if whole is None or any(isinstance(node, Apply) and node.op in ("ln", "log") for node in nodes(whole)):
            return None
        inner = self.sum(tidy(product(whole, derivative(wave, self.name))), DEEPEST)
        return None if inner is None else plus(product(whole, wave), negative(inner))

    def _damped(self, chosen: list[Apply]) -> Expr | None:
        """exp(a x + b) sin(c x + d) and with cos."""
        chosen = sorted(chosen, key=lambda one: one.op != "exp")
        grows, wave = chosen
        if grows.op != "exp" or wave.op not in ("sin", "cos"):
            return None
        one, other = self.linear(grows.args[0]), self.linear(wave.args[0])
        if one is None or other is None:
            return None
        a, c = one[0], other[0]
        sine, cosine = apply("sin", wave.args[0]), apply("cos", wave.args[0])
        inner = plus(product(a, sine), negative(product(c, cosine)))
        if wave.op == "cos":
            inner = plus(product(a, cosine), product(c, sine))
        return over(product(grows, inner), plus(product(a, a), product(c, c)))

    def rational(self, expr: Expr, depth: int) -> Expr | None:
        found = rational_function(expr, self.name)
        if found is None:
            return None
        fractions = parts_of(*found)
        if fractions is None:
            return None
        total = self._of_coefficients(fractions.whole)
        for value, root, times in fractions.simple:
            base = uni.expression([-root.numerator, root.denominator], self.name)
            scale = value * Fraction(root.denominator) ** times
            if times == 1:
                piece = product(Number(value), apply("ln", apply("abs", base)))
            else:
                piece = over(Number(scale / ((1 - times) * root.denominator)), to(base, Number(times - 1)))
            total = plus(total, piece)
        for value, base_coefficients in fractions.logarithmic:
            base = uni.expression(base_coefficients, self.name)
            total = plus(total, product(Number(value), apply("ln", apply("abs", base))))
        return total

    def waves(self, expr: Expr, depth: int) -> Expr | None:
        """Products of whole powers of sin and cos of linear arguments, as a sum of sin and cos."""
        found: list[tuple[Rational, Expr, bool]] = [(1, ZERO, True)]  # value, angle, whether it is a cosine
        count = 0
        for factor, below in factors(expr):
            base, exponent = base_and_exponent(factor)
            if below or not isinstance(base, Apply) or base.op not in ("sin", "cos"):
                return None
            if not isinstance(exponent, Number) or type(exponent.exact) is not int or self.linear(base.args[0]) is None:
                return None
            count += exponent.exact
            if count > MAX_POWER:
                return None
            for _ in range(exponent.exact):
                found = _times_wave(found, base.args[0], base.op == "cos")
        if count < 2:
            return None
        parts = [product(Number(v), apply("cos" if cosine else "sin", angle)) for v, angle, cosine in found]
        return self.sum(plus(*parts), DEEPEST)

    def substitution(self, expr: Expr, depth: int) -> Expr | None:
        """Try every part of the integrand as u."""
        fresh = Symbol("u_" if self.name != "u_" else "v_")
        for part in self._candidates(expr):
            slope = derivative(part, self.name)
            if slope == ZERO:
                continue
            rest = _replace_part(over(expr, slope), part, fresh)
            if occurs(self.name, rest):
                continue
            inner = _Integrator(fresh.name).sum(tidy(rest), depth + 1)
            if inner is not None:
                return tidy(replaced(inner, fresh.name, part))
        return None

    def _candidates(self, expr: Expr) -> Iterator[Expr]:
        seen: set[str] = set()
        for node in sorted(nodes(expr), key=lambda node: -node.size):
            if isinstance(node, Apply) and node is not expr and node.text() not in seen and occurs(self.name, node):
                seen.add(node.text())
                yield node


_OF_LINEAR: dict[str, Callable[[Expr], Expr]] = {
    "sin": lambda u: negative(apply("cos", u)),
    "cos": lambda u: apply("sin", u),
    "tan": lambda u: negative(apply("ln", apply("abs", apply("cos", u)))),
    "exp": lambda u: apply("exp", u),
    "ln": lambda u: plus(product(u, apply("ln", u)), negative(u)),
    "log": lambda u: over(plus(product(u, apply("ln", u)), negative(u)), Apply("ln", (Number(10),))),
    "abs": lambda u: over(product(u, apply("abs", u)), TWO),
}


def factors(expr: Expr, below: bool = False) -> Iterator[tuple[Expr, bool]]:
    """The factors of a product of quotients, each with whether it divides."""
    if isinstance(expr, Apply) and expr.op in ("*", "/"):
        yield from factors(expr.args[0], below)
        yield from factors(expr.args[1], below != (expr.op == "/"))
    elif isinstance(expr, Apply) and expr.op == "-" and len(expr.args) == 1:
        yield MINUS_ONE, below
        yield from factors(expr.args[0], below)
    else:
        yield expr, below


def base_and_exponent(expr: Expr) -> tuple[Expr, Expr]:
    """u and v of u ^ v, sqrt u, 1 / u ^ v; an expression by itself has the exponent 1."""
    if isinstance(expr, Apply):
        if expr.op == "^":
            return expr.args[0], expr.args[1]
        if expr.op == "sqrt":
            return expr.args[0], HALF
        if expr.op == "/" and expr.args[0] == ONE:
            base, exponent = base_and_exponent(expr.args[1])
            return base, negative(exponent)
    return expr, ONE


def _times_wave(
    waves: list[tuple[Rational, Expr, bool]], angle: Expr, cosine: bool
) -> list[tuple[Rational, Expr, bool]]:
    """A sum of sines and cosines times one more: products to sums."""
    table: dict[tuple[str, bool], tuple[Rational, Expr, bool]] = {}
    for value, inner, is_cosine in waves:
        total, apart = plus(inner, angle), plus(inner, negative(angle))
        half = Fraction(value) / 2
        if is_cosine and cosine:
            pieces = [(half, apart, True), (half, total, True)]
        elif not is_cosine and not cosine:
            pieces = [(half, apart, True), (-half, total, True)]
        elif is_cosine:
            pieces = [(half, total, False), (-half, apart, False)]
        else:
            pieces = [(half, total, False), (half, apart, False)]
        for amount, where, kind in pieces:
            before = table.get((where.text(), kind))
            table[where.text(), kind] = (amount + (before[0] if before else 0), where, kind)
    return [one for one in table.values() if one[0]]


def _replace_part(expr: Expr, part: Expr, by: Expr) -> Expr:
    """`expr` with every occurrence of a part replaced; a power of the part's base counts as one."""
    if expr == part:
        return by
    if not isinstance(expr, Apply):
        return expr
    return Apply(expr.op, tuple([_replace_part(arg, part, by) for arg in expr.args]))

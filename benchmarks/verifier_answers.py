"""2,000 pairs of answers to mathematical questions: equal ones in different writing, and near misses.

Written by rules from seeded numbers, half equal and half not; the truth of each pair is its rule's, not an engine's.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

Pair = tuple[str, str, bool, str]


def pairs(n: int = 2000, seed: int = 0) -> list[Pair]:
    """(answer, other answer, are they equal, kind)."""
    source = np.random.default_rng(seed)
    out: list[Pair] = []
    seen: set[tuple[str, str]] = set()
    while len(out) < n:
        kind = KINDS[len(out) % len(KINDS)]
        a, b, c = (int(x) for x in source.integers(2, 40, 3))
        left, right, near = kind(a, b + (a == b), c)
        equal = len(out) // len(KINDS) % 2 == 0
        pair = (left, right if equal else near)
        if pair not in seen:
            seen.add(pair)
            out.append((*pair, equal, kind.__name__.strip("_")))
    return out


def _fraction_decimal(a: int, b: int, c: int) -> tuple[str, str, str]:
    d = (2, 4, 5, 8, 20, 25)[b % 6]
    value = Fraction(a, d)
    return f"\\frac{{{a}}}{{{d}}}", f"{float(value)}", f"{float(value) + 0.01:g}"


def _fraction_terms(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"{a}/{b}", f"\\dfrac{{{a * c}}}{{{b * c}}}", f"\\dfrac{{{a * c + 1}}}{{{b * c}}}"


def _mixed_number(a: int, b: int, c: int) -> tuple[str, str, str]:
    top = c % b or 1
    return f"{a}\\frac{{{top}}}{{{b}}}", f"\\frac{{{a * b + top}}}{{{b}}}", f"\\frac{{{a * top}}}{{{b}}}"


def _percent(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"{a}\\%", f"{a / 100:g}", f"{a / 10:g}"


def _thousands(a: int, b: int, c: int) -> tuple[str, str, str]:
    value = a * 1000 + b * 10 + c
    return f"{value:,}", str(value), str(value + 1)


def _money(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"\\${a}.{b:02d}", f"{a}.{b:02d}", f"{a}.{(b + 1) % 100:02d}"


def _units(a: int, b: int, c: int) -> tuple[str, str, str]:
    unit = ("\\text{ cm}", " meters", "^\\circ", "\\text{ square units}")[b % 4]
    return f"{a}{unit}", str(a), str(a + 1)


def _boxed(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"\\boxed{{{a}x + {b}}}", f"{b}+{a}x", f"{a}+{b}x"


def _dollars(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"${a} - {b}$", str(a - b), str(b - a)


def _root(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}", f"\\sqrt{{{a * b}}}"


def _rationalised(a: int, b: int, c: int) -> tuple[str, str, str]:
    b = b if int(b**0.5) ** 2 != b else b + 1
    return (
        f"\\frac{{{a}}}{{\\sqrt{{{b}}}}}",
        f"\\frac{{{a}\\sqrt{{{b}}}}}{{{b}}}",
        f"\\frac{{{a}\\sqrt{{{b}}}}}{{{b + 1}}}",
    )


def _pi(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"\\frac{{{a}\\pi}}{{{b}}}", f"{a}/{b} * pi", f"{float(Fraction(a, b)) * 3.14159:.5f}"


def _expanded(a: int, b: int, c: int) -> tuple[str, str, str]:
    left = f"(x+{a})(x-{b})"
    return left, f"x^2 {a - b:+d}x - {a * b}", f"x^2 {b - a:+d}x - {a * b}" if a != b else f"x^2 + {a * b}"


def _factored_square(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"(x+{a})^2", f"x^2+{2 * a}x+{a * a}", f"x^2+{a * a}"


def _terms_order(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"{a}y^2 + {b}x - {c}", f"-{c} + {b}x + {a}y^2", f"-{c} + {a}x + {b}y^2"


def _quotient(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"\\frac{{x^2-{a * a}}}{{x-{a}}}", f"x+{a}", f"x-{a}"


def _powers(a: int, b: int, c: int) -> tuple[str, str, str]:
    p, q = a % 7 + 2, b % 7 + 2
    return f"x^{{{p}}} \\cdot x^{{{q}}}", f"x^{{{p + q}}}", f"x^{{{p * q if p * q != p + q else p + q + 1}}}"


def _negative_power(a: int, b: int, c: int) -> tuple[str, str, str]:
    p = b % 4 + 1
    return f"{a}^{{-{p}}}", f"\\frac{{1}}{{{a**p}}}", f"-{a**p}"


def _tuple(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"({a}, {b})", f"\\left({2 * a}/2,{b}\\right)", f"({b},{a})"


def _set(a: int, b: int, c: int) -> tuple[str, str, str]:
    return (
        f"\\{{{a}, {b}, {a + b}\\}}",
        f"\\{{{a + b},{a},{b}\\}}",
        f"\\{{{a + b},{a},{b + 1 if b + 1 != a else b + 2}\\}}",
    )


def _solutions(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"x = {a} or x = {b}", f"x={b} or x={a}", f"x={a} or x={-b}"


def _equation(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"y = {a}x + {b}", f"y={b}+{a}x", f"y={a}x-{b}"


def _logarithm(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"\\ln {a} + \\ln {b}", f"\\ln {a * b}", f"\\ln {a + b if a + b != a * b else a * b + 1}"


def _angle(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"{a}\\sin^2 x + {a}\\cos^2 x", str(a), str(a + 1)


def _double_angle(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"{2 * a}\\sin x \\cos x", f"{a}\\sin 2x", f"{2 * a}\\sin 2x"


def _absolute(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"|{a} - {b}|", str(abs(a - b)), str(-abs(a - b))


def _sum_fractions(a: int, b: int, c: int) -> tuple[str, str, str]:
    total = Fraction(1, a) + Fraction(1, b)
    return f"1/{a} + 1/{b}", f"{total.numerator}/{total.denominator}", f"2/{a + b}"


def _scientific(a: int, b: int, c: int) -> tuple[str, str, str]:
    p = b % 5 + 2
    return f"{a} \\times 10^{{{p}}}", str(a * 10**p), str(a * 10 ** (p + 1))


def _assigned(a: int, b: int, c: int) -> tuple[str, str, str]:
    return f"x = {a}/{b}", f"\\frac{{{a}}}{{{b}}}", f"\\frac{{{b}}}{{{a}}}"


def _interval(a: int, b: int, c: int) -> tuple[str, str, str]:
    low, high = min(a, b), max(a, b)
    return f"[{low}, {high})", f"\\left[{2 * low}/2, {high}\\right)", f"({low}, {high}]"


def _choice(a: int, b: int, c: int) -> tuple[str, str, str]:
    letters = "ABCDE"
    return f"\\text{{({letters[a % 5]})}}", f"{' ' * (b + c * 40)}{letters[a % 5]}", f"{' ' * c}{letters[(a + 1) % 5]}"


def _mixed_plain(a: int, b: int, c: int) -> tuple[str, str, str]:
    top = c % b or 1
    return f"{a} {top}/{b}", f"{a * b + top}/{b}", f"{a * top}/{b}"


KINDS = (
    _fraction_decimal, _fraction_terms, _mixed_number, _percent, _thousands, _money, _units, _boxed, _dollars, _root,
    _rationalised, _pi, _expanded, _factored_square, _terms_order, _quotient, _powers, _negative_power, _tuple, _set,
    _solutions, _equation, _logarithm, _angle, _double_angle, _absolute, _sum_fractions, _scientific,
    _assigned, _interval, _choice, _mixed_plain,
)  # fmt: skip

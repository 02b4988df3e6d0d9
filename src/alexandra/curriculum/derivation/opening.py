"""The first graph of a derivation: what a question of each kind becomes before there is only arithmetic left.

A value question takes its bindings or its first step of arithmetic; `derive` is worked out term by term by the rules
of calculus, products and quotients left as the rules give them; an antiderivative is the one that the integrand was
made from, its terms in the order in which the integrand shows them; a definite integral is the sum of
c (h^k - l^k) / k; an equation becomes the formula of its solution.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm
from typing import Any

from alexandra.curriculum.derivation.rewrite import rewritten
from alexandra.curriculum.derivation.tree import Tree, is_ratio, negative, tree
from alexandra.curriculum.questions import Answer, Question

Node = tuple[Any, ...]


def opened(question: Question, answer: Answer | None) -> Tree:
    """The graph that follows the question's."""
    given = tree(question.expr)
    task: Node = given if isinstance(given, tuple) else ("",)
    if task[0] == "derive":
        return derived(task[1])
    if task[0] == "integrate":
        return _definite(task) if len(task) == 5 else _antiderivative(task[1], answer)
    if task[0] == "solve":
        return solution(task)
    if question.bindings:
        return _with_values(given, {name: int(value) for name, value in question.bindings})
    return rewritten(given)


def _with_values(part: Tree, values: dict[str, int]) -> Tree:
    if isinstance(part, str):
        return values.get(part, part)
    if isinstance(part, tuple):
        return (part[0], *[_with_values(arg, values) for arg in part[1:]])
    return part


# --- derivatives ---------------------------------------------------------------------------------------------------


def _scaled(c: int, part: Tree) -> Tree:
    """c * part, numbers in front folded."""
    if c == 0 or part == 0:
        return 0
    if c < 0:
        return negative(_scaled(-c, part))
    if c == 1:
        return part
    if isinstance(part, int):
        return c * part
    if part[0] == "~":
        return negative(_scaled(c, part[1]))
    if part[0] == "*" and isinstance(part[1], int):
        return ("*", c * part[1], part[2])
    if part[0] == "/" and isinstance(part[1], int):
        return ("/", c * part[1], part[2])
    return ("*", c, part)


def _power(base: Tree, n: int) -> Tree:
    return 1 if n == 0 else base if n == 1 else ("^", base, n)


def _joined(op: str, a: Tree, b: Tree) -> Tree:
    """a + b or a - b with signs and zeros folded."""
    if isinstance(b, tuple) and b[0] == "~":
        return _joined("-" if op == "+" else "+", a, b[1])
    if b == 0:
        return a
    if a == 0:
        return b if op == "+" else negative(b)
    return (op, a, b)


def _product(a: Tree, b: Tree) -> Tree:
    if 0 in (a, b):
        return 0
    if isinstance(a, tuple) and a[0] == "~":
        return negative(_product(a[1], b))
    if isinstance(b, tuple) and b[0] == "~":
        return negative(_product(a, b[1]))
    if isinstance(a, int):
        return _scaled(a, b)
    if isinstance(b, int):
        return _scaled(b, a)
    if b[0] == "/" and b[1] == 1:
        return ("/", a, b[2])
    if b[0] == "*" and isinstance(b[1], int):
        return ("*", b[1], ("*", a, b[2]))
    if a[0] == "*" and isinstance(a[1], int):
        return ("*", a[1], ("*", a[2], b))
    return ("*", a, b)


def derived(part: Tree) -> Tree:
    """The derivative by x, worked out by the rules and lightly folded."""
    if isinstance(part, int):
        return 0
    if isinstance(part, str):
        return 1
    op = part[0]
    if op in ("+", "-") and len(part) == 3:
        return _joined(op, derived(part[1]), derived(part[2]))
    if op == "~":
        return negative(derived(part[1]))
    if op == "*":
        a, b = part[1], part[2]
        if isinstance(a, int):
            return _scaled(a, derived(b))
        return _joined("+", _product(derived(a), b), _product(a, derived(b)))
    if op == "^":
        return _product(_scaled(part[2], _power(part[1], part[2] - 1)), derived(part[1]))
    if op == "/":
        return _quotient(part[1], part[2])
    u = part[1]
    return _chain(op, u, derived(u))


def _quotient(a: Tree, b: Tree) -> Tree:
    """(a / x^n)' = a' / x^n - n a / x^(n+1); other denominators by the quotient rule."""
    base, n = (b[1], b[2]) if isinstance(b, tuple) and b[0] == "^" else (b, 1)
    if base != "x":
        above = _joined("-", _product(derived(a), b), _product(a, derived(b)))
        return ("/", above, ("^", b, 2))
    return _joined("-", _divided(derived(a), b), ("/", _scaled(n, a), _power(base, n + 1)))


def _divided(a: Tree, b: Tree) -> Tree:
    if a == 0:
        return 0
    if isinstance(a, tuple) and a[0] == "~":
        return negative(_divided(a[1], b))
    return ("/", a, b)


def _chain(name: str, u: Tree, du: Tree) -> Tree:
    if du == 0:
        return 0
    if name == "sin":
        return _product(du, ("cos", u))
    if name == "cos":
        return negative(_product(du, ("sin", u)))
    if name == "exp":
        return _product(du, ("exp", u))
    if name == "ln":
        return _divided(du, u)
    if name == "tan":
        return _divided(du, ("^", ("cos", u), 2))
    if name == "sqrt":
        return _divided(du, ("*", 2, ("sqrt", u)))
    raise AssertionError(f"no rule for {name}")


# --- integrals -----------------------------------------------------------------------------------------------------


def terms(part: Tree, sign: int = 1) -> list[tuple[int, Tree]]:
    """The signed terms of the outermost sum, in their order."""
    if isinstance(part, tuple) and part[0] in ("+", "-") and len(part) == 3:
        return terms(part[1], sign) + terms(part[2], sign if part[0] == "+" else -sign)
    if isinstance(part, tuple) and part[0] == "~":
        return terms(part[1], -sign)
    return [(sign, part)]


def total(parts: list[tuple[int, Tree]]) -> Tree:
    """A sum of signed terms."""
    found: Tree = 0
    for sign, part in parts:
        found = _joined("+" if sign > 0 else "-", found, part)
    return found


def _antiderivative(integrand: Tree, answer: Answer | None) -> Tree:
    """The known antiderivative, its terms in the order in which the integrand begins to speak of them."""
    assert answer is not None and not isinstance(answer, Fraction)
    shown = [_kernel(part) for _, part in terms(integrand)]

    def place(term: tuple[int, Tree]) -> int:
        made = [_kernel(part) for _, part in terms(derived(term[1]))]
        return min([shown.index(one) for one in made if one in shown], default=len(shown))

    return total(sorted(terms(tree(answer)), key=place))


def _kernel(part: Tree) -> Tree:
    """A term without its factor."""
    if isinstance(part, tuple) and part[0] in "*/" and isinstance(part[1], int):
        rest: Tree = part[2]
        return rest if part[0] == "*" else ("/", 1, rest)
    return 1 if isinstance(part, int) else part


def _definite(task: Node) -> Tree:
    """The terms' c (h^k - l^k) / k over their common denominator."""
    low, high = task[3], task[4]
    parts = []
    for sign, part in terms(task[1]):
        c, n = _monomial(part)
        k = n + 1
        upper, lower = (high, low) if k == 1 else (("^", high, k), ("^", low, k))
        rise: Tree = upper if low == 0 else ("-", upper, lower)
        parts.append((sign, c // gcd(c, k), k // gcd(c, k), rise))
    below = lcm(*[k for _, _, k, _ in parts])
    found = []
    for sign, c, k, rise in parts:
        factor: Tree = c * (below // k) if 1 in (c, below // k) else ("*", c, below // k)
        found.append((sign, rise if factor == 1 else ("*", factor, rise)))
    return total(found) if below == 1 else ("/", total(found), below)


def _monomial(part: Tree) -> tuple[int, int]:
    """c and n of c x^n."""
    c = 1
    if isinstance(part, int):
        return part, 0
    if isinstance(part, tuple) and part[0] == "*":
        c, part = part[1], part[2]
    return (c, part[2]) if isinstance(part, tuple) else (c, 1)


# --- equations -----------------------------------------------------------------------------------------------------


def solution(task: Node) -> Tree:
    """The formula of the solution of an equation of level 7."""
    if len(task) == 5:
        return _system(task[1], task[2])
    left, right = task[1][1], task[1][2]
    if isinstance(left, tuple) and left[0] in ("exp", "ln", "sqrt", "abs") or _is_power_of_2(left):
        return _of_function(left, right)
    squares = [part for _, part in terms(left) if _has_square(part)]
    if squares:
        return _quadratic(left, right)
    if isinstance(left, tuple) and left[0] == "*" and isinstance(left[2], tuple):
        a = left[1]
        one, b = _line(left[2])
        assert one == 1
        c, d = _line(right)
        moved = d if b == 0 else _joined("-" if b > 0 else "+", d, ("*", a, abs(b)))
        return ("/", moved, a if c == 0 else ("-", a, c))
    a, b = _line(left)
    c, d = _line(right)
    return ("/", _difference(d, b), a if c == 0 else _difference(a, c))


def _is_power_of_2(left: Tree) -> bool:
    return isinstance(left, tuple) and left[0] == "^" and left[1] == 2


def _has_square(part: Tree) -> bool:
    if isinstance(part, tuple):
        return part == ("^", "x", 2) or any(_has_square(arg) for arg in part[1:])
    return False


def _difference(a: int, b: int) -> Tree:
    if b == 0:
        return a
    return ("-", a, b) if b > 0 else ("+", a, -b)


def _line(part: Tree, name: str = "x") -> tuple[int, int]:
    """a and b of a x + b, in any order and with either left out."""
    a = b = 0
    for sign, one in terms(part):
        if isinstance(one, int):
            b += sign * one
        elif one == name:
            a += sign
        else:
            assert isinstance(one, tuple) and one[0] == "*" and one[2] == name
            a += sign * one[1]
    return a, b


def _quadratic(left: Tree, right: Tree) -> Tree:
    """x^2 + (b - d) / a x + (c - e) / a = 0."""
    rest, a = [], 1
    for sign, part in terms(left):
        if _has_square(part):
            a = sign * (part[1] if isinstance(part, tuple) and part[0] == "*" else 1)
        else:
            rest.append((sign, part))
    b, c = _line(total(rest))
    d, e = _line(right)

    def over(part: Tree) -> Tree:
        return part if a == 1 or part == 0 else ("/", part, a)

    first, last = over(_difference(b, d)), over(_difference(c, e))
    return monic(first, last)


def monic(b: Tree, c: Tree) -> Tree:
    """The equation x^2 + b x + c = 0."""
    return ("solve", ("=", ("+", ("+", ("^", "x", 2), ("*", b, "x")), c), 0), "x")


def with_whole_coefficients(task: Node) -> Tree:
    """The monic equation with those quotients divided that are whole."""

    def whole(part: Tree) -> Tree:
        return part[1] // part[2] if isinstance(part, tuple) and is_ratio(part) and part[1] % part[2] == 0 else part

    outer = task[1][1]
    return monic(whole(outer[1][2][1]), whole(outer[2]))


def roots(task: Node) -> Tree | None:
    """The whole solutions of a monic equation whose coefficients are whole; None for anything else."""
    if len(task) != 3 or task[1][2] != 0 or not isinstance(task[1][1], tuple) or task[1][1][0] != "+":
        return None
    outer = task[1][1]
    b, c = outer[1][2][1], outer[2]
    if not isinstance(b, int) or not isinstance(c, int):
        return None
    square = b * b - 4 * c
    root = round(square**0.5) if square >= 0 else -1
    if root < 0 or root * root != square or (b + root) % 2:
        return None
    low, high = (-b - root) // 2, (-b + root) // 2
    return low if low == high else ("set", low, high)


def _system(first: Node, second: Node) -> Tree:
    """Cramer's rule."""
    (a, b, m), (c, d, n) = (_row(first), _row(second))
    below = ("-", ("*", a, d), ("*", c, b))
    x = ("/", ("-", ("*", m, d), ("*", n, b)), below)
    y = ("/", ("-", ("*", a, n), ("*", c, m)), below)
    return ("tuple", x, y)


def _row(equation: Node) -> tuple[int, int, int]:
    a = b = 0
    for sign, one in terms(equation[1]):
        factor, name = (one[1], one[2]) if isinstance(one, tuple) else (1, one)
        if name == "x":
            a = sign * factor
        else:
            b = sign * factor
    return a, b, equation[2]


def _of_function(left: Node, right: int) -> Tree:
    """The inner line equals what the inverse function makes of the right side."""
    inner = left[2] if left[0] == "^" else left[1]
    a, b = _line(inner)

    def solved(value: Tree) -> Tree:
        if isinstance(value, int):
            moved = _difference(value, b)
        else:
            moved = _joined("-" if b > 0 else "+", value, abs(b))
        return moved if a == 1 else ("/", moved, a)

    if left[0] == "^":
        return solved(right.bit_length() - 1)
    if left[0] == "exp":
        return solved(("ln", right))
    if left[0] == "ln":
        return solved(("exp", right))
    if left[0] == "sqrt":
        return solved(("^", right, 2) if right > 1 else right)
    return solved(0) if right == 0 else ("set", solved(-right), solved(right))

"""One step of exact arithmetic on a tree: every innermost operation that can be done is done, all at once.

What counts as one operation is kept small: sums and differences of positive or small numbers, products of two digits
or under 100, small powers, quotients of short numbers. A longer product becomes a sum of such products, an operation on
fractions becomes operations on whole numbers, a long division takes its highest digit first, an angle is brought into
one turn. Fractions are reduced where both parts are small; a finished number may be 18/24.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from math import gcd, isqrt
from typing import Any

from alexandra.curriculum.derivation.tree import Tree, negative

_TRIG = ("sin", "cos", "tan")
# cos of k sixths of a half turn where it is rational, by k from 0 to 11, times 2
_COS_SIXTHS = {0: 2, 2: 1, 3: 0, 4: -1, 6: -2, 8: -1, 9: 0, 10: 1}
_STUCK: Tree = ()
_ONES = tuple(10**place for place in range(9))
_SMALL = 99  # numbers up to here are added and taken away whatever their signs
Rule = Callable[[Tree], Tree]


def rewritten(part: Tree) -> Tree:
    """The tree after one step; the same tree when nothing can be done."""
    if not isinstance(part, tuple):
        return part
    done = _operation(part)
    if done != _STUCK:
        return done
    return _built(part[0], [rewritten(arg) for arg in part[1:]])


def _built(op: str, args: list[Tree]) -> Tree:
    return negative(args[0]) if op == "~" else (op, *args)


def _operation(part: tuple[Any, ...]) -> Tree:
    """What an operation on values becomes; _STUCK where it is none, or a value itself."""
    op, args = part[0], part[1:]
    if op in _FUNCTIONS:
        return _FUNCTIONS[op](args[0])
    if op not in "+-*/^" or len(args) != 2:
        return _STUCK
    a, b = args
    if isinstance(a, int) and isinstance(b, int):
        return _WHOLE[op](a, b)
    above, below = _ratio(a), _ratio(b)
    return _STUCK if above is None or below is None else _FRACTIONS[op](above, below)


# --- whole numbers -------------------------------------------------------------------------------------------------


def _times(a: int, b: int) -> Tree:
    if _digits(b) > _digits(a):
        a, b = b, a
    if b == 0 or _digits(b) < 2 and (_digits(a) < 2 or abs(a * b) < 100 or abs(b) in _ONES):
        return a * b
    if a * b < 0:
        return ("~", _times(abs(a), abs(b)))
    rows: list[Tree] = []
    for digit in _digits_of(abs(b)):
        rows.append(_total([part * digit for part in ([abs(a)] if digit in _ONES else _digits_of(abs(a)))]))
    return _total(rows)


def _digits_of(number: int) -> list[int]:
    """Its digits with the zeros behind them, lowest first, without those that are 0; their sum is `number`."""
    found = [int(digit) * 10**place for place, digit in enumerate(reversed(str(number)))]
    return [one for one in found if one]


def _total(parts: Sequence[Tree]) -> Tree:
    """Their sum in halves, so that it takes few steps."""
    half = len(parts) // 2
    return parts[0] if not half else ("+", _total(parts[:half]), _total(parts[half:]))


def _digits(number: int) -> int:
    """Digits without the zeros at the end."""
    return len(str(abs(number)).rstrip("0"))


def quotient(a: int, b: int) -> Tree:
    """a / b as a finished number: the sign above, small parts reduced."""
    if b == 0:
        return _STUCK
    if b < 0:
        a, b = -a, -b
    if a == 0 or b == 1:
        return a // b
    size = abs(a)
    if (size <= 99 and b <= 9) or (size <= 20 and b <= 20):
        common = gcd(a, b)
        a, b = a // common, b // common
    return a if b == 1 else ("/", a, b)


def _divided(a: int, b: int) -> Tree:
    if a and b < 0:
        return ("/", -a, -b)
    found = quotient(a, b)
    return _STUCK if found == ("/", a, b) else found


def _added(op: str, a: int, b: int) -> Tree:
    """a + b or a - b: at once where both are positive or small, else the sum or difference of positives."""
    if min(a, b) >= 0 or max(abs(a), abs(b)) <= _SMALL:
        return a + b if op == "+" else a - b
    b = b if op == "+" else -b
    if a < 0:
        return ("-", b, -a) if b >= 0 else ("~", ("+", -a, -b))
    return ("+", a, b) if b >= 0 else ("-", a, -b)


def _power(a: int, n: int) -> Tree:
    if n < 0:
        return _STUCK
    if n < 2 or abs(a) <= 9 or (n == 2 and abs(a) <= 20):
        return int(a**n)
    return ("*", a, a) if n == 2 else ("*", ("^", a, n - 1), a)


_WHOLE: dict[str, Callable[[int, int], Tree]] = {
    "+": partial(_added, "+"),
    "-": partial(_added, "-"),
    "*": _times,
    "/": _divided,
    "^": _power,
}


# --- fractions -----------------------------------------------------------------------------------------------------


def _ratio(part: Tree) -> tuple[int, int] | None:
    if isinstance(part, int):
        return part, 1
    if isinstance(part, tuple) and part[0] == "/" and isinstance(part[1], int) and isinstance(part[2], int):
        return (part[1], part[2]) if _divided(part[1], part[2]) == _STUCK and part[2] else None
    return None


def _product(a: int, b: int) -> Tree:
    if 1 in (a, b):
        return a * b
    return ("*", a, b)


def _over(above: Tree, below: Tree) -> Tree:
    return above if below == 1 else ("/", above, below)


Ratio = tuple[int, int]


def _sum(op: str, a: Ratio, b: Ratio) -> Tree:
    if a[1] == b[1]:
        return _over((op, a[0], b[0]), a[1])
    return _over((op, _product(a[0], b[1]), _product(b[0], a[1])), _product(a[1], b[1]))


def _ratio_power(a: Ratio, n: Ratio) -> Tree:
    return ("/", ("^", a[0], n[0]), ("^", a[1], n[0])) if n[1] == 1 and n[0] > 0 else _STUCK


_FRACTIONS: dict[str, Callable[[Ratio, Ratio], Tree]] = {
    "+": lambda a, b: _sum("+", a, b),
    "-": lambda a, b: _sum("-", a, b),
    "*": lambda a, b: _over(_product(a[0], b[0]), _product(a[1], b[1])),
    "/": lambda a, b: _over(_product(a[0], b[1]), _product(a[1], b[0])) if b[0] else _STUCK,
    "^": _ratio_power,
}


# --- functions -----------------------------------------------------------------------------------------------------


def _absolute(a: Tree) -> Tree:
    if isinstance(a, int):
        return abs(a)
    ratio = _ratio(a)
    return _STUCK if ratio is None else ("/", abs(ratio[0]), ratio[1])


def _root(a: Tree) -> Tree:
    return isqrt(a) if isinstance(a, int) and a >= 0 and isqrt(a) ** 2 == a else _STUCK


def _log(a: Tree) -> Tree:
    ratio = _ratio(a)
    if ratio is None or ratio[0] <= 0:
        return _STUCK
    above, below = str(ratio[0]), str(ratio[1])
    if above.strip("0") != "1" or below.strip("0") != "1" or "1" not in (above, below):
        return _STUCK
    return len(above) - len(below)


def _inverse(other: str, at: int, value: int) -> Rule:
    def step(a: Tree) -> Tree:
        if isinstance(a, tuple) and a[0] == other and isinstance(a[1], int):
            inner: Tree = a[1]
            return inner if other == "exp" or a[1] > 0 else _STUCK
        return value if a == at else _STUCK

    return step


def _rounded(name: str) -> Rule:
    def step(a: Tree) -> Tree:
        if isinstance(a, int):
            return a
        if not (isinstance(a, tuple) and a[0] == "/" and isinstance(a[1], int) and isinstance(a[2], int) and a[2] > 0):
            return _STUCK
        above, below = a[1], a[2]
        if above < 0:
            return ("~", ("ceil" if name == "floor" else "floor", ("/", -above, below)))
        whole = above // below if name == "floor" else -(-above // below)
        first = 10 ** (len(str(above // below)) - 1)
        if first == 1:
            return whole
        high = above // below // first * first
        return ("+", high, (name, ("/", above - high * below, below)))

    return step


def _circular(name: str) -> Rule:
    def step(a: Tree) -> Tree:
        turn = _half_turns(a)
        found = _STUCK if turn is None else _circular_value(name, turn)
        if found == _STUCK or turn is None or a == 0:
            return found
        period = 1 if name == "tan" else 2
        return found if 0 <= turn < period else (name, _angle(turn % period, a))

    return step


def _angle(turn: Fraction, like: Tree) -> Tree:
    """`turn` half turns over the denominator of another angle."""
    assert isinstance(like, tuple)
    return ("/", ("*", int(turn * like[2]), "pi"), like[2])


def _half_turns(a: Tree) -> Fraction | None:
    if a == 0:
        return Fraction(0)
    if isinstance(a, tuple) and a[0] == "/" and isinstance(a[1], tuple) and a[1][0] == "*" and a[1][2] == "pi":
        return Fraction(a[1][1], a[2])
    return None


def _circular_value(name: str, turn: Fraction) -> Tree:
    """sin, cos, tan of `turn` half turns, where rational."""
    if name == "tan":
        eighth = turn % 1
        known: dict[Fraction, Tree] = {Fraction(0): 0, Fraction(1, 4): 1, Fraction(3, 4): -1}
        return known.get(eighth, _STUCK)
    sixths = (turn if name == "cos" else turn - Fraction(1, 2)) * 6 % 12
    if sixths.denominator != 1 or int(sixths) not in _COS_SIXTHS:
        return _STUCK
    return quotient(_COS_SIXTHS[int(sixths)], 2)


def _negated(a: Tree) -> Tree:
    ratio = _ratio(a)
    return _STUCK if ratio is None else quotient(-ratio[0], ratio[1])


_FUNCTIONS: dict[str, Rule] = {
    "abs": _absolute, "sqrt": _root, "log": _log, "ln": _inverse("exp", 1, 0), "exp": _inverse("ln", 0, 1),
    "floor": _rounded("floor"), "ceil": _rounded("ceil"), "~": _negated,
    **{name: _circular(name) for name in _TRIG},
}  # fmt: skip

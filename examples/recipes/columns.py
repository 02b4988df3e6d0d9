"""Arithmetic on fractions written out in columns, and what each character of such an answer is worth.

A question is a list of operations on whole numbers 0 to 20 and on results before, each with a mark: "p-ECq*7!=" is
p: 14 - 12, whose result is "!"; q: 7 * "!". Digits are 0 to 9, then A for 10 to e for 40; numbers begin with the units.
The answer goes operation by operation. For each place it writes both digits, the digit of the result and the carry
(a product's further places: digit and carry of the product alone first); then the result behind its mark:
"p-EC20!+2q*7241@+41": 14 - 12 is 2, carry 0; "!" is +2; 7 * 2 is 4, carry 1; "@" is +14. A fraction is two numbers,
"+D&E" is 13/14; fractions are not reduced.

One coroutine knows the rules: it says which character is right next and is told what was written instead. Feeding it
its own characters gives the demonstration (`solve`), feeding it an answer judges each character by what the answer
itself has written before (`judged`): after a mistake the next column can be right again.
"""

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcde"
CARRIES = {"x": -1, "y": -2, "z": -3}
VALUES = {digit: value for value, digit in enumerate(DIGITS)} | CARRIES
WRITTEN = {value: digit for digit, value in VALUES.items()}
NAMES, RESULTS, BELOW = "pqrs", "!@#$", "&%^~"  # of an operation, of its result, of what stands below the line
Line = tuple[str, int | str, int | str]  # operator, operands: a number, or the mark of a result
Places = list[int]


class Lost(Exception):
    """What was written cannot be followed any further."""


@dataclass(frozen=True)
class Signed:
    sign: int
    places: Places

    def positive_zero(self) -> "Signed":
        return self if any(self.places) else Signed(1, self.places)


Said = Generator[str, str, None]  # gives the character that is right next, is sent the one that was written


def must(character: str) -> Said:
    """A character without which nobody knows what follows."""
    if (yield character) != character:
        raise Lost


def number(value: int) -> Generator[str, str, int]:
    said = yield WRITTEN.get(value, "?")
    if said not in VALUES:
        raise Lost
    return VALUES[said]


def numbers(values: Sequence[int]) -> Generator[str, str, Places]:
    found = []
    for value in values:
        found.append((yield from number(value)))
    return found


def signed(mark: str, value: Signed) -> Generator[str, str, Signed]:
    """A result behind its mark."""
    yield from must(mark)
    sign = yield "-" if value.sign < 0 else "+"
    if sign not in "+-":
        raise Lost
    return Signed(-1 if sign == "-" else 1, (yield from numbers(value.places)))


def digits(value: int) -> Places:
    return [int(digit) for digit in reversed(str(value))]


def carried(places: Places, carry: int) -> Places:
    return places + digits(carry) if carry > 0 else places


def columns(
    op: str, x: Places, y: Places, of: Callable[[int, int], int]
) -> Generator[str, str, tuple[Places, int]]:
    """The places of a result and the last carry."""
    yield from must(op)
    carry, found = 0, []
    for i in range(max(len(x), len(y))):
        a = yield from number(x[i] if i < len(x) else 0)
        b = yield from number(y[i] if i < len(y) else 0)
        total = of(a, b)
        if op == "*" and i:
            low = yield from number(total % 10)
            total = low + 10 * (yield from number(total // 10))
        total += carry
        found.append((yield from number(total % 10)))
        carry = yield from number(total // 10)
    return found, carry


def added(a: Signed, b: Signed, minus: bool) -> Generator[str, str, Signed]:
    """a + b or a - b. A difference of magnitudes that ends in a borrow is turned round: its sign too."""
    if a.sign == (-b.sign if minus else b.sign):
        places, carry = yield from columns("+", a.places, b.places, lambda x, y: x + y)
        return Signed(a.sign, carried(places, carry))
    places, carry = yield from columns("-", a.places, b.places, lambda x, y: x - y)
    if carry >= 0:
        return Signed(a.sign, carried(places, carry))
    value = sum(place * 10**i for i, place in enumerate(places))
    turned = (10 ** len(places) - value) % 10 ** len(places)
    rest = -carry - (1 if value else 0)
    return Signed(-a.sign, carried([turned // 10**i % 10 for i in range(len(places))], rest))


def row(x: Places, factor: int) -> Generator[str, str, Places]:
    places, carry = yield from columns("*", x, [factor] * len(x), lambda a, b: a * b)
    return carried(places, carry)


def times(x: Places, y: Places) -> Generator[str, str, Places]:
    """A row for each place of y, added up one after the other."""
    if len(x) == 1 and len(y) > 1:
        x, y = y, x
    if len(y) == 1:
        return (yield from row(x, y[0]))
    total: Places = []
    for i, factor in enumerate(y):
        found = yield from row(x, factor)
        yield from must("u" if i else "t")
        found = yield from numbers(found)
        if i == 0:
            total = found
            continue
        places, carry = yield from columns("+", total, [0] * i + found, lambda a, b: a + b)
        total = carried(places, carry)
        if i < len(y) - 1:
            yield from must("t")
            total = yield from numbers(total)
    return total


Ratio = tuple[Signed, Places | None]  # what stands below the line, if anything


def operation(place: int, op: str, x: Ratio, y: Ratio) -> Generator[str, str, Ratio]:
    (above, below), (other, under) = x, y
    yield from must(NAMES[place])
    if op in "+-":
        if under is not None:
            above = yield from signed("v", Signed(above.sign, (yield from times(above.places, under))).positive_zero())
        if below is not None:
            other = yield from signed("w", Signed(other.sign, (yield from times(other.places, below))).positive_zero())
        result = yield from added(above, other, op == "-")
    else:
        factor, under = (under, other.places) if op == "/" else (other.places, under)
        places = above.places if factor is None else (yield from times(above.places, factor))
        result = Signed(above.sign * other.sign, places)
    result = yield from signed(RESULTS[place], result.positive_zero())
    if below is not None and under is not None:
        under = yield from times(below, under)
    under = below if under is None else under
    if under is not None:
        yield from must(BELOW[place])
        under = yield from numbers(under)
    return result, under


def derivation(lines: Sequence[Line]) -> Said:
    found: dict[int | str, Ratio] = {i: (Signed(1, [i]), None) for i in range(21)}
    for place, (op, a, b) in enumerate(lines):
        found[RESULTS[place]] = yield from operation(place, op, found[a], found[b])


def operations(expression: Any) -> list[Line]:
    """The operations of an expression of the curriculum, the inner ones first."""
    lines: list[Line] = []

    def operand(part: Any) -> int | str:
        if not hasattr(part, "args"):
            return int(part.value)
        first, second = map(operand, part.args)
        lines.append((part.op, first, second))
        return RESULTS[len(lines) - 1]

    operand(expression)
    return lines


def question(lines: Sequence[Line]) -> str:
    def written(operand: int | str) -> str:
        return operand if isinstance(operand, str) else DIGITS[operand]

    return "".join(NAMES[i] + op + written(a) + written(b) for i, (op, a, b) in enumerate(lines)) + "="


def lines_of(text: str) -> list[Line]:
    """The inverse of `question`."""

    def read(operand: str) -> int | str:
        return operand if operand in RESULTS else VALUES[operand]

    return [(text[i + 1], read(text[i + 2]), read(text[i + 3])) for i in range(0, len(text) - 1, 4)]


def solve(lines: Sequence[Line]) -> str:
    """The derivation of `lines`, written out."""
    going, text = derivation(lines), ""
    said = next(going)
    while True:
        text += said
        try:
            said = going.send(said)
        except StopIteration:
            return text


def value(text: str) -> Fraction | None:
    """The number that an answer ends with; None where it ends with none."""
    tail = text[max(text.rfind(mark) for mark in RESULTS) + 1 :]
    found = re.fullmatch(r"([+-])([0-9A-Za-e]+)(?:(?:\*.*)?[&%^~]([0-9A-Za-e]+))?", tail)
    if found is None:
        return None
    sign, above, below = found.groups()
    whole, part = (sum(VALUES[digit] * 10**i for i, digit in enumerate(places)) for places in (above, below or "1"))
    return Fraction(-whole if sign == "-" else whole, part) if part else None


def judged(completion: str, prompt: str, answer: str) -> dict[str, object]:
    """1 for the row's answer, and each character by what stands before it, as far as it can be followed."""
    going = derivation(lines_of(prompt))
    wanted: str | None = next(going)
    marks: list[tuple[int, float]] = []
    for end, character in enumerate(completion, 1):
        marks.append((end, float(character == wanted)))
        if wanted is None:  # the derivation was complete
            break
        try:
            wanted = going.send(character)
        except StopIteration:
            wanted = None
        except Lost:
            break
    else:
        marks.append((len(completion) + 1, float(wanted is None)))  # that it ends here
    return {"reward": float(completion == answer), "steps": marks}

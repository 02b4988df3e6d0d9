"""sin, cos and tan of normal forms: exact values, symmetry, and (when forms expand) sums and multiples of angles."""

from __future__ import annotations

from fractions import Fraction

from alexandra.maths.forms import HALF, MAX_MULTIPLE, ONE_FORM, ZERO_FORM, FinerAnglesError, Form, Functions
from alexandra.maths.polynomial import ONE, Monomial

Pair = tuple[Form, Form]  # sine and cosine


def circular(forms: Functions, angle: Form, name: str) -> Form:
    """The form of sin, cos or tan of a form."""
    sine, cosine = _both(forms, angle)
    if name == "tan":
        forms.restricted = True
        return forms.product(sine, forms.inverse(cosine))
    return sine if name == "sin" else cosine


def _both(forms: Functions, angle: Form) -> Pair:
    if not angle.num:
        return ZERO_FORM, ONE_FORM
    pi: Monomial = ((forms.atom("pi"), 1),)
    turns = Fraction(angle.num.get(pi, 0), angle.over) if angle.den == ONE else Fraction(0)
    if turns and len(angle.num) == 1:
        return _of_turns(forms, turns)
    if turns and (forms.expand or (2 * turns).denominator == 1):
        rest = Form({monomial: value for monomial, value in angle.num.items() if monomial != pi}, angle.over)
        return _sum(forms, _both(forms, rest), _of_turns(forms, turns))
    if forms.expand and angle.den == ONE:
        return _expanded(forms, angle)
    return _plain(forms, angle)


def _plain(forms: Functions, angle: Form) -> Pair:
    """Two atoms; the sign is taken out."""
    negative = angle.num[min(angle.num)] < 0
    key = (forms.negative(angle) if negative else angle).key()
    cosine = forms.of_atom(forms.cosine(key))
    sine = forms.of_atom(forms.atom("sin", key))
    return (forms.negative(sine) if negative else sine), cosine


def _sum(forms: Functions, a: Pair, b: Pair) -> Pair:
    sine = forms.sum(forms.product(a[0], b[1]), forms.product(a[1], b[0]))
    return sine, forms.sum(forms.product(a[1], b[1]), forms.product(a[0], b[0]), -1)


def _expanded(forms: Functions, angle: Form) -> Pair:
    found: Pair = (ZERO_FORM, ONE_FORM)
    for monomial, value in sorted(angle.num.items()):
        share = Fraction(value, angle.over)
        name = tuple((forms.keys[atom], exponent) for atom, exponent in monomial)
        parts = forms.angles.setdefault(name, share.denominator)
        if parts % share.denominator:
            forms.angles[name] = parts * share.denominator
            raise FinerAnglesError
        times = int(share * parts)
        unit = Form({monomial: 1}, parts)
        if abs(times) > MAX_MULTIPLE:
            one = _plain(forms, Form({monomial: value}, angle.over))
        else:
            one = _multiple(forms, _plain(forms, unit), times)
        found = _sum(forms, found, one)
    return found


def _multiple(forms: Functions, unit: Pair, times: int) -> Pair:
    found: Pair = (ZERO_FORM, ONE_FORM)
    power, left = unit, abs(times)
    while left:
        if left & 1:
            found = _sum(forms, found, power)
        left >>= 1
        if left:
            power = _sum(forms, power, power)
    return (forms.negative(found[0]) if times < 0 else found[0]), found[1]


def _of_turns(forms: Functions, turns: Fraction) -> Pair:
    """Sine and cosine of turns * pi."""
    return _sine(forms, turns), _sine(forms, turns + HALF)


def _sine(forms: Functions, turns: Fraction) -> Form:
    turns %= 2
    if turns > 1:
        return forms.negative(_sine(forms, turns - 1))
    if turns > HALF:
        turns = 1 - turns
    if turns == Fraction(1, 6) or turns in (0, HALF):
        return forms.number(turns / HALF if turns != Fraction(1, 6) else HALF)
    if turns in (Fraction(1, 4), Fraction(1, 3)):
        root = forms.of_atom(forms.prime(2 if turns == Fraction(1, 4) else 3), HALF)
        return forms.product(root, forms.number(HALF))
    pi: Monomial = ((forms.atom("pi"), 1),)
    angle = Form({pi: turns.numerator}, turns.denominator)
    if turns > Fraction(1, 4):  # the same atoms for an angle and its complement
        rest = HALF - turns
        return forms.of_atom(forms.cosine(Form({pi: rest.numerator}, rest.denominator).key()))
    return forms.of_atom(forms.atom("sin", angle.key()))

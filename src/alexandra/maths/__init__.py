"""Exact mathematics on expressions over the rationals: read, write, evaluate, compare, canonical form.

expr.py the trees and their limits; language.py and infix.py text in and out; arithmetic.py values; canonical_form.py
the key of an input; equality.py and polynomial.py equal, different (with a counterexample) or unknown.
"""

from alexandra.maths.arithmetic import evaluate
from alexandra.maths.canonical_form import canonical, key
from alexandra.maths.equality import Equality, equal
from alexandra.maths.expr import Apply, DomainError, Expr, ExpressionError, Number, Symbol, symbols
from alexandra.maths.infix import to_infix
from alexandra.maths.language import parse

__all__ = [
    "Apply",
    "DomainError",
    "Equality",
    "Expr",
    "ExpressionError",
    "Number",
    "Symbol",
    "canonical",
    "equal",
    "evaluate",
    "key",
    "parse",
    "symbols",
    "to_infix",
]

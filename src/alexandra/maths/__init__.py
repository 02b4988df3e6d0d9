"""Exact mathematics: read, write, evaluate, differentiate, integrate, solve, compare.

expr.py the trees and their limits; language.py, infix.py, latex.py, reader.py text in and out; arithmetic.py and
values.py values; tidy.py, derivative.py, integral.py, equations.py calculus; canonical_form.py the key of an input;
equality.py on normal.py, forms.py, polynomial.py and interval.py: equal, different (with a counterexample) or
unknown; edit_distance.py how far two trees or graphs are apart.
"""

from alexandra.maths.arithmetic import IrrationalError, rational_value
from alexandra.maths.canonical_form import canonical, canonical_text, key
from alexandra.maths.derivative import derivative
from alexandra.maths.edit_distance import graph_arrays, graph_distance, tree_distance
from alexandra.maths.equality import Equality, equal
from alexandra.maths.equations import solve
from alexandra.maths.expr import Apply, Constant, DomainError, Expr, ExpressionError, Number, Symbol, symbols
from alexandra.maths.infix import to_infix
from alexandra.maths.integral import antiderivative
from alexandra.maths.interval import enclose
from alexandra.maths.language import parse
from alexandra.maths.latex import to_latex
from alexandra.maths.reader import read
from alexandra.maths.tidy import tidy
from alexandra.maths.values import evaluate, rational, worked_out

__all__ = [
    "Apply",
    "Constant",
    "DomainError",
    "Equality",
    "Expr",
    "ExpressionError",
    "IrrationalError",
    "Number",
    "Symbol",
    "antiderivative",
    "canonical",
    "canonical_text",
    "derivative",
    "enclose",
    "equal",
    "evaluate",
    "graph_arrays",
    "graph_distance",
    "key",
    "parse",
    "rational",
    "rational_value",
    "read",
    "solve",
    "symbols",
    "tidy",
    "to_infix",
    "to_latex",
    "tree_distance",
    "worked_out",
]

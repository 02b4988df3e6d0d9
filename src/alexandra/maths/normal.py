"""Expressions as normal forms (forms.py): one method for each operator and function.

Tasks (derive, integrate, solve) are worked out before, in values.py. Roots of powers and exponentials of logarithms
are read off the tree, where the signs are still known.
"""

from __future__ import annotations

from fractions import Fraction

from alexandra.maths.angles import circular
from alexandra.maths.expr import Apply, Constant, Expr, ExpressionError, Number, Symbol
from alexandra.maths.forms import HALF, FinerAnglesError, Form, Functions, NowhereDefinedError
from alexandra.maths.polynomial import TooManyTermsError


class ExpressionForms(Functions):
    """The atoms of one comparison, and the forms of expressions over them."""

    def of(self, expr: Expr) -> Form:
        """The normal form; NowhereDefinedError when it has no value anywhere, TooManyTermsError over a limit."""
        if isinstance(expr, Number):
            return self.number(expr.exact)
        if isinstance(expr, Symbol):
            return Form({((self.atom("symbol", expr.name), 1),): 1})
        if isinstance(expr, Constant):
            return self.of_atom(self.atom("pi")) if expr.name == "pi" else self.of_atom(self.atom("exp", ()))
        assert isinstance(expr, Apply)
        op, args = expr.op, expr.args
        if op == "exp":
            return self._exponential(args[0])
        if op == "sqrt" or op == "^":
            found = self._nested_power(expr)
            if found is not None:
                return found
        forms = [self.of(arg) for arg in args]
        if op in "+-" and len(forms) == 2:
            return self.sum(forms[0], forms[1], 1 if op == "+" else -1)
        if op == "*":
            return self.product(forms[0], forms[1])
        if op == "-":
            return self.negative(forms[0])
        if op == "/":
            return self.product(forms[0], self.inverse(forms[1]))
        if op == "^":
            return self.general_power(forms[0], forms[1])
        return self._function(op, forms)

    def _function(self, op: str, forms: list[Form]) -> Form:
        a = forms[0]
        if op == "sqrt":
            return self.rational_power(a, HALF)
        if op == "ln":
            return self.ln(a)
        if op == "log":
            return self.product(self.ln(a), self.inverse(self.number_ln(Fraction(10))))
        if op == "abs":
            return self.absolute(a)
        if op == "floor":
            return self.floor(a)
        if op == "ceil":
            return self.negative(self.floor(self.negative(a)))
        if op == "%":
            return self.sum(a, self.product(forms[1], self.floor(self.product(a, self.inverse(forms[1])))), -1)
        if op in ("sin", "cos", "tan"):
            return circular(self, a, op)
        raise ExpressionError(f"({op} ...) has no normal form", hint="work it out first: ax.maths.evaluate")

    def floor(self, a: Form) -> Form:
        whole, rest = self.whole_part(a)
        value = rest.constant
        if value is not None:
            return self.number(whole + value.numerator // value.denominator)
        self.restricted = True
        return self.sum(self.of_atom(self.atom("floor", rest.key())), self.number(whole))

    def _exponential(self, arg: Expr) -> Form:
        """exp; of a logarithm or a multiple of one it is a power."""
        if isinstance(arg, Apply) and arg.op == "ln":
            self.restricted = True
            return self.of(arg.args[0])
        if isinstance(arg, Apply) and arg.op == "*":
            for one, other in (arg.args, arg.args[::-1]):
                if isinstance(other, Apply) and other.op == "ln" and isinstance(one, Number):
                    self.restricted = True
                    return self.general_power(self.of(other.args[0]), self.of(one))
        return self.exp(self.of(arg))

    def _nested_power(self, expr: Apply) -> Form | None:
        """A root of a whole power: (u^n)^r is |u|^(n r) for an even n, u^(n r) for an odd one."""
        inner = expr.args[0]
        if not isinstance(inner, Apply) or inner.op != "^" or not isinstance(inner.args[1], Number):
            return None
        outer = HALF if expr.op == "sqrt" else self.of(expr.args[1]).constant
        n = inner.args[1].value
        if outer is None or outer.denominator == 1 or n.denominator != 1 or n <= 0:
            return None
        self.restricted = True
        base = self.of(inner.args[0])
        exponent = self.number(n * outer)
        return self.general_power(self.absolute(base) if n % 2 == 0 else base, exponent)


def surely_same(a: Expr, b: Expr) -> bool:
    """Whether normal forms prove a = b wherever both have a value; False proves nothing."""
    try:
        forms = ExpressionForms()
        if forms.same(forms.of(a), forms.of(b)):
            return True
        expanded, one, other = expanded_forms(a, b)
        return expanded.same(one, other)
    except (NowhereDefinedError, TooManyTermsError):
        return False


def expanded_forms(a: Expr, b: Expr) -> tuple[ExpressionForms, Form, Form]:
    """Both with sums and multiples of angles expanded, over angles that are fine enough for both."""
    angles: dict[object, int] = {}
    while True:
        forms = ExpressionForms(expand=True, angles=angles)
        try:
            return forms, forms.of(a), forms.of(b)
        except FinerAnglesError:
            continue

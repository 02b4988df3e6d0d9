r"""LaTeX for people: fractions, roots and powers as they are printed; reader.py reads it."""

from __future__ import annotations

from alexandra.maths.expr import OPERATORS, Apply, Constant, Expr, Number, Symbol

_ATOM, _PRODUCT, _NEGATIVE, _LOOSEST = 9, 2, 0, 0
_BRACKETS = {"abs": (r"\left|", r"\right|"), "floor": (r"\lfloor", r"\rfloor"), "ceil": (r"\lceil", r"\rceil")}
_NAMES = {"sin": r"\sin", "cos": r"\cos", "tan": r"\tan", "ln": r"\ln", "log": r"\log"}


def to_latex(expr: Expr) -> str:
    r"""`(/ (+ x 1) 2)` as `\frac{x + 1}{2}`."""
    return _write(expr)[0]


def _write(expr: Expr) -> tuple[str, int]:
    """The text, and how tightly its outermost sign binds."""
    if isinstance(expr, Number):
        return _number(expr)
    if isinstance(expr, Constant):
        return (r"\pi" if expr.name == "pi" else "e"), _ATOM
    if isinstance(expr, Symbol):
        return _symbol(expr.name), _ATOM
    assert isinstance(expr, Apply)
    row, args = OPERATORS[expr.op], expr.args
    if row.name.isalpha():
        return _word(expr)
    if len(args) == 1:
        return f"-{_inside(args[0], _PRODUCT)}", _NEGATIVE
    if expr.op == "/":
        return rf"\frac{{{to_latex(args[0])}}}{{{to_latex(args[1])}}}", _ATOM - 1
    if expr.op == "^":
        return f"{_inside(args[0], _ATOM)}^{{{to_latex(args[1])}}}", _ATOM - 1
    level = row.precedence
    left, right = _inside(args[0], level), _inside(args[1], level + 1)
    sign = {"*": r"\cdot", "%": r"\bmod"}.get(expr.op, expr.op)
    return f"{left} {sign} {right}", level


def _number(expr: Number) -> tuple[str, int]:
    value = expr.value
    if value.denominator == 1:
        return str(value), _ATOM if value >= 0 else _NEGATIVE
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}", _NEGATIVE if sign else _ATOM - 1


def _symbol(name: str) -> str:
    if len(name) == 1:
        return name
    escaped = name.replace("_", r"\_")
    return rf"\mathit{{{escaped}}}"


def _word(expr: Apply) -> tuple[str, int]:
    args = expr.args
    inner = [to_latex(arg) for arg in args]
    if expr.op in _BRACKETS:
        left, right = _BRACKETS[expr.op]
        return f"{left} {inner[0]} {right}", _ATOM
    if expr.op in _NAMES:
        return rf"{_NAMES[expr.op]}\left({inner[0]}\right)", _ATOM
    if expr.op == "sqrt":
        return rf"\sqrt{{{inner[0]}}}", _ATOM
    if expr.op == "exp":
        return f"e^{{{inner[0]}}}", _ATOM - 1
    if expr.op == "derive":
        return rf"\frac{{d}}{{d{inner[1]}}}\left({inner[0]}\right)", _LOOSEST
    if expr.op == "integrate":
        ends = f"_{{{inner[2]}}}^{{{inner[3]}}}" if len(args) == 4 else ""
        return rf"\int{ends} {_inside(args[0], _PRODUCT)} \,d{inner[1]}", _LOOSEST
    if expr.op == "set":
        return (rf"\left\{{{', '.join(inner)}\right\}}" if inner else r"\emptyset"), _ATOM
    if expr.op == "tuple":
        return rf"\left({', '.join(inner)}\right)", _ATOM
    return rf"\operatorname{{{expr.op}}}\left({', '.join(inner)}\right)", _ATOM


def _inside(expr: Expr, wanted: int) -> str:
    text, level = _write(expr)
    return text if level >= wanted else rf"\left({text}\right)"

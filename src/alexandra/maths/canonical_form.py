"""The canonical form of an input: commutative operands sorted, symbols renamed, nothing evaluated.

Two inputs have one canonical form exactly when they differ by the order of operands of + and * and by the names of
their symbols: (+ 2 (* y 3)) and (+ (* 3 x) 2) do, (+ 2 3) and (- 8 3) do not. Data sets count and divide items by it.
Symbols are named by individualisation and refinement (McKay, "Practical graph isomorphism", 1981) on the sorted tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from alexandra.maths.expr import OPERATORS, Apply, Expr, ExpressionError, Symbol, symbols
from alexandra.maths.language import parse

_COMMUTATIVE = frozenset(name for name, row in OPERATORS.items() if row.commutative)
MAX_SYMBOLS = 32
MAX_NAMINGS = 120  # complete namings that are compared


def canonical(expr: Expr | str) -> Expr:
    """The one representative of all inputs that differ by operand order and symbol names; symbols become x1, x2 ...

    ExpressionError for more than MAX_SYMBOLS symbols, and when symbols play parts so alike that more than MAX_NAMINGS
    namings would have to be compared.
    """
    tree = parse(expr) if isinstance(expr, str) else expr
    return ordered(tree, naming(tree))


def canonical_text(expr: Expr) -> str:
    """The text of the canonical form, without building it."""
    return ordered_text(expr, naming(expr))


def naming(tree: Expr) -> dict[str, str]:
    """The canonical name of each symbol."""
    names = symbols(tree)
    if len(names) < 2:
        return dict.fromkeys(names, "x1")
    if len(names) > MAX_SYMBOLS:
        raise ExpressionError(f"a canonical form has at most {MAX_SYMBOLS} symbols, got {len(names)}")
    best: tuple[str, dict[str, str]] | None = None
    for count, colours in enumerate(_namings(tree, _refined(tree, dict.fromkeys(names, 0)))):
        if count >= MAX_NAMINGS:
            raise ExpressionError(
                f"{len(names)} symbols play parts so alike that over {MAX_NAMINGS:,} namings would be compared",
                hint="use fewer symbols",
            )
        found = {name: f"x{rank + 1}" for name, rank in colours.items()}
        text = ordered_text(tree, found)
        best = (text, found) if best is None or text < best[0] else best
    assert best is not None
    return best[1]


def key(expr: Expr | str) -> str:
    """32 hex digits: BLAKE2b of the canonical form's text."""
    tree = parse(expr) if isinstance(expr, str) else expr
    return hashlib.blake2b(canonical_text(tree).encode(), digest_size=16).hexdigest()


def ordered_text(expr: Expr, names: Mapping[str, str]) -> str:
    """The text of `ordered`."""
    if type(expr) is Apply:
        args = [ordered_text(arg, names) for arg in expr.args]
        if expr.op in _COMMUTATIVE:
            args.sort()
        return f"({' '.join([expr.op, *args])})"
    return names[expr.name] if type(expr) is Symbol else expr.text()


def ordered(expr: Expr, names: Mapping[str, str]) -> Expr:
    """`expr` with its symbols renamed and the operands of commutative operators sorted by their text."""
    if isinstance(expr, Symbol):
        return Symbol(names[expr.name])
    if not isinstance(expr, Apply):
        return expr
    args = [ordered(arg, names) for arg in expr.args]
    if OPERATORS[expr.op].commutative:
        args.sort(key=Expr.text)
    return Apply(expr.op, tuple(args))


def _refined(expr: Expr, colours: dict[str, int]) -> dict[str, int]:
    """Split equal colours by how the tree looks from each symbol, until nothing splits; independent of names."""
    while True:
        names = {name: f"c{colour}" for name, colour in colours.items()}
        seen = {name: (colours[name], ordered_text(expr, {**names, name: "me"})) for name in colours}
        ranks = {view: rank for rank, view in enumerate(sorted(set(seen.values())))}
        finer = {name: ranks[view] for name, view in seen.items()}
        if len(ranks) == len(set(colours.values())):
            return finer
        colours = finer


def _namings(expr: Expr, colours: dict[str, int]) -> Iterator[dict[str, int]]:
    """Every complete ranking of the symbols that refinement leaves open, one for each class of exchangeable ones."""
    classes: dict[int, list[str]] = {}
    for name, colour in colours.items():
        classes.setdefault(colour, []).append(name)
    tied = [classes[colour] for colour in sorted(classes) if len(classes[colour]) > 1]
    if not tied:
        yield colours
        return
    tried: list[str] = []
    for name in tied[0]:
        if any(_exchangeable(expr, colours, name, other) for other in tried):
            continue
        tried.append(name)
        apart = {other: 2 * colour + (other != name) for other, colour in colours.items()}
        yield from _namings(expr, _refined(expr, apart))


def _exchangeable(expr: Expr, colours: Mapping[str, int], a: str, b: str) -> bool:
    """Swapping two symbols of one colour gives the same tree again, so that trying both would be in vain."""
    same = {name: name for name in colours}
    return ordered_text(expr, same) == ordered_text(expr, {**same, a: b, b: a})

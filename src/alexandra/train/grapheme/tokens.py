"""Graphs as tokens and back: prefix order, fixed arities, a number's digits as nodes, least significant first.

A digit's token carries its place (position coupling, Cho et al., 2024; Abacus, McLeish et al., 2024), so that
equal places look alike wherever a number stands and a number needs no end. A quotient of two whole numbers has a head
of its own, ratio. A document is

    BOS question [where name value ...] ? graph => graph => ... => answer EOS

Questions begin with their task's head (derive, integrate, integral for a definite one, solve) or are values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alexandra.curriculum.derivation.tree import Tree, is_ratio, negative, tree
from alexandra.curriculum.questions import Question
from alexandra.errors import DataError

PLACES = 9
_MARKS = ("<pad>", "<bos>", "<eos>", "?", "=>", "where", "end")
_ARITIES = {
    "+": 2, "-": 2, "*": 2, "/": 2, "^": 2, "ratio": 2, "~": 1, "sin": 1, "cos": 1, "tan": 1, "log": 1, "ln": 1,
    "exp": 1, "sqrt": 1, "abs": 1, "floor": 1, "ceil": 1, "derive": 2, "integrate": 2, "integral": 4, "solve": 2,
    "system": 4, "=": 2, "set": -1, "tuple": -1,
}  # fmt: skip
_ATOMS = ("x", "y", "z", "pi", "e")
WORDS = (*_MARKS, *_ARITIES, *_ATOMS, *(f"{digit}@{place}" for place in range(PLACES) for digit in range(10)))
NUMBER = {word: number for number, word in enumerate(WORDS)}
PAD, BOS, EOS, ASK, STEP, WHERE, END = range(len(_MARKS))
VOCABULARY = len(WORDS)
_FIRST_DIGIT = NUMBER["0@0"]
_LONGER = {("integrate", 4): "integral", ("solve", 4): "system"}
_SHORTER = {"integral": "integrate", "system": "solve", "ratio": "/"}


def arity(token: int) -> int:
    """How many operands a token has; -1: as many as there are before an end."""
    return _ARITIES.get(WORDS[token], 0)


def _written(part: Tree, into: list[int]) -> None:
    if isinstance(part, int):
        if part < 0:
            into.append(NUMBER["~"])
        digits = str(abs(part))[::-1]
        if len(digits) > PLACES:
            raise DataError(f"{part} has more than {PLACES} digits", hint="the network's numbers end there")
        into.extend([_FIRST_DIGIT + 10 * place + ord(digit) - 48 for place, digit in enumerate(digits)])
    elif isinstance(part, str):
        if part not in _ATOMS:
            raise DataError(f"the network knows no symbol {part!r}", hint="it reads " + ", ".join(_ATOMS))
        into.append(NUMBER[part])
    else:
        op = "ratio" if is_ratio(part) else _LONGER.get((part[0], len(part) - 1), part[0])
        if op not in _ARITIES or _ARITIES[op] not in (len(part) - 1, -1):
            raise DataError(f"the network knows no {part[0]!r} of {len(part) - 1} operands")
        into.append(NUMBER[op])
        for arg in part[1:]:
            _written(arg, into)
        if _ARITIES[op] < 0:
            into.append(END)


def encode(part: Tree) -> list[int]:
    """A graph in prefix order."""
    found: list[int] = []
    _written(part, found)
    return found


def prompt(question: Question) -> list[int]:
    """What the network reads: BOS, the question, its bindings, ?. DataError for what has no token."""
    found = [BOS]
    _written(tree(question.expr), found)
    if question.bindings:
        found.append(WHERE)
        for name, value in question.bindings:
            found.append(_atom(name))
            if value.denominator != 1:
                raise DataError(f"the network binds whole numbers, {name} is {value}")
            _written(int(value), found)
    return [*found, ASK]


def _atom(name: str) -> int:
    if name not in _ATOMS:
        raise DataError(f"the network knows no symbol {name!r}", hint="it reads " + ", ".join(_ATOMS))
    return NUMBER[name]


def document(question: Question, steps: Sequence[Tree]) -> tuple[list[int], int]:
    """Prompt and derivation as tokens, and how many of them are the prompt's."""
    found = prompt(question)
    asked = len(found)
    for number, step in enumerate(steps):
        if number:
            found.append(STEP)
        _written(step, found)
    return [*found, EOS], asked


def graphs(tokens: Sequence[int]) -> list[list[int]]:
    """What was written after ?, cut at its steps; without the end."""
    found: list[list[int]] = [[]]
    for token in tokens:
        if token == EOS:
            break
        if token == STEP:
            found.append([])
        else:
            found[-1].append(token)
    return found


def decode(tokens: Sequence[int]) -> Tree | None:
    """The graph that the tokens are, all of them; None when they are none."""
    reader = _Reader(tokens)
    found = reader.node()
    return found if reader.whole and reader.place == len(tokens) else None


class _Reader:
    """One reading of tokens; `whole` turns false at the first that cannot stand where it is."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.words = [WORDS[token] if 0 <= token < VOCABULARY else "" for token in tokens]
        self.place, self.whole, self.depth = 0, True, 0

    def _next(self) -> str:
        return self.words[self.place] if self.place < len(self.words) else ""

    def node(self) -> Tree:
        self.depth += 1
        word = self._next()
        self.place += 1
        found: Tree = 0
        if self.depth > 60:
            self.whole = False
        elif word.endswith("@0"):
            found = self._number(word)
        elif word in _ATOMS:
            found = word
        elif word in _ARITIES:
            args = tuple(self._many() if _ARITIES[word] < 0 else (self.node() for _ in range(_ARITIES[word])))
            found = negative(args[0]) if word == "~" else (_SHORTER.get(word, word), *args)
        else:
            self.whole = False
        self.depth -= 1
        return found

    def _many(self) -> Iterator[Tree]:
        while self.whole and self._next() != "end":
            yield self.node()
        self.place += 1

    def _number(self, word: str) -> int:
        value, place = int(word[0]), 1
        while self._next().endswith(f"@{place}"):
            value += int(self._next()[0]) * 10**place
            self.place += 1
            place += 1
        return value

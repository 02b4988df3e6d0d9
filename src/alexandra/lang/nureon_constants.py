"""Constants of a program given from outside: `LET layers = 12;` becomes what the caller says, before it develops.

Only LETs at the outermost level can be given; the text of the program stays what it is, so that one file describes
a network in every size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from alexandra.errors import LanguageError, suggest
from alexandra.lang.lexis import Source
from alexandra.lang.nureon_ast import Block, Let, Number, Statement

Constants = Mapping[str, int | float]


def with_constants(source: Source, program: tuple[Statement, ...], constants: Constants) -> tuple[Statement, ...]:
    """`program` with other values; LanguageError for a name that no outermost LET defines."""
    known: list[str] = []
    changed = tuple(_given(statement, constants, known) for statement in program)
    for name in constants:
        if name not in known:
            raise LanguageError(f"no LET {name!r} to give a value", file=source.file, hint=suggest(name, known))
    return changed


def _given(statement: Statement, constants: Constants, known: list[str]) -> Statement:
    if isinstance(statement, Block):
        return replace(statement, body=tuple(_given(inner, constants, known) for inner in statement.body))
    if not isinstance(statement, Let) or statement.index is not None:
        return statement
    known.append(statement.name)
    if statement.name not in constants:
        return statement
    value = constants[statement.name]
    return replace(statement, value=Number(value, repr(value), statement.span))

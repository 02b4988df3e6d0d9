"""One shallow tree of exceptions for users; each class carries its exit code and HTTP status.

A message says what was given (quoted), what is allowed and what to do next. Broken invariants of our own
are `assert`s, never these. `suggest` builds the "Did you mean" half of a message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AlexandraError(Exception):
    """Base of every error that a user can cause or mend; `hint` is the way out, printed on its own line."""

    exit_code = 1
    http_status = 400

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(AlexandraError):
    """The command line or the call itself is malformed."""

    exit_code = 2


class ConfigError(AlexandraError):
    """A configuration file or value is not understood."""


class DataError(AlexandraError):
    """A table, file or array cannot be used as data."""


class TaskError(AlexandraError):
    """A task cannot be met as it is written."""


class GraphError(AlexandraError):
    """A network is ill-formed: shapes, arity, cycles, unbound sizes."""


class BackendError(AlexandraError):
    """A backend does not support what it was asked for."""


class WeightsError(AlexandraError):
    """Weights are missing, unexpected, of the wrong shape, or damaged."""


class VerifierError(AlexandraError):
    """A verifier cannot be loaded or returned something that is not a verdict."""


class RegistryError(AlexandraError):
    """A registry operation was refused."""


class NotFoundError(AlexandraError):
    """A named thing does not exist."""

    http_status = 404


class StorageError(AlexandraError):
    """A file is missing, damaged or cannot be written."""

    http_status = 500


class AbstainError(AlexandraError):
    """Nothing qualifies to answer; the message says which rule or stage would."""

    http_status = 409


class MissingExtraError(AlexandraError):
    """An optional dependency is not installed; the message names the command that installs it."""

    http_status = 501


class LanguageError(AlexandraError):
    """A program in one of the three languages is wrong at a position.

    `line` and `column` count from 1; `source_line` is the offending line; `length` is the width to underline.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str = "<text>",
        line: int = 1,
        column: int = 1,
        length: int = 1,
        source_line: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.line = line
        self.column = column
        self.length = length
        self.source_line = source_line

    def __str__(self) -> str:
        head = f"{self.file}:{self.line}:{self.column}: {self.message}"
        if self.source_line:
            caret = " " * (self.column - 1) + "^" * max(1, self.length)
            head += f"\n    {self.source_line}\n    {caret}"
        return f"{head}\n{self.hint}" if self.hint else head


def suggest(value: str, allowed: Iterable[str]) -> str:
    """ "known: a, b. Did you mean 'a'?" for an unknown `value`; the second sentence only when one is near."""
    names = sorted(str(name) for name in allowed)
    near = difflib.get_close_matches(value.lower(), [name.lower() for name in names], n=1, cutoff=0.6)
    known = "known: " + ", ".join(names) + "."
    if not near:
        return known
    match = next(name for name in names if name.lower() == near[0])
    return f"{known} Did you mean '{match}'?"


def missing_extra(what: str, extra: str) -> MissingExtraError:
    """The error for an optional dependency that is not installed."""
    return MissingExtraError(
        f"{what} needs the extra '{extra}', which is not installed",
        hint=f"install it with: pip install 'alexandra-foundry[{extra}]'",
    )

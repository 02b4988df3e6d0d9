"""A constitution: principles that an answer should keep, as text for a model to read and, where possible, as rules.

A TOML file with a table [[principle]] for each; without a file the four of the project (helpful, harmless, honest,
ethical). Each has a request for a critique and one for a revision (Bai et al. 2022, "Constitutional AI"). One that also
has a rule is formal: whether an answer keeps it can be decided, so a small model can be taught to see it.

    clean = "none"                # what a critique says when there is nothing to change
    [[principle]]
    name = "harmless"
    critique = "Quote what insults the reader. If nothing does, say: none"
    revise = "Rewrite the answer without it."
    never = '\\b(fool|idiot)\\b'     # or must, echo, most_words, check = "rules.py:function"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from alexandra.config import Config, load_config
from alexandra.errors import ConfigError, UsageError
from alexandra.train.lm.rewards import Answer

Check = Callable[[str, str], str]  # (prompt, answer) -> what is wrong with it, "" when it is kept


class Principle(Config):
    """`must` and `never` are patterns that an answer has or has not; what `echo` finds in the prompt, the answer has
    too; `check` names a function of (prompt, answer) that says what is wrong, or nothing ("")."""

    name: str
    critique: str
    revise: str
    must: str = ""
    never: str = ""
    echo: str = ""
    most_words: int = Field(default=0, ge=0)
    check: str = ""

    @property
    def is_formal(self) -> bool:
        """Whether it can be decided."""
        return bool(self.must or self.never or self.echo or self.most_words or self.check)


class ConstitutionFile(Config):
    """What the TOML file holds."""

    clean: str = "none"
    principle: tuple[Principle, ...] = ()


def _default(name: str, lack: str, better: str) -> Principle:
    critique = f"Say where the answer above is not {name}: {lack} If it is {name} throughout, say only: none"
    return Principle(name=name, critique=critique, revise=f"Rewrite the answer so that {better}")


DEFAULT = ConstitutionFile(
    principle=(
        _default(
            "helpful", "what was asked and is not answered?", "it answers what was asked, fully and to the point."
        ),
        _default("harmless", "what in it could hurt somebody?", "nothing in it can hurt anybody."),
        _default("honest", "what in it is untrue or more certain than it can be?", "it says what is true, and doubts."),
        _default("ethical", "what in it is unfair or deceives?", "it is fair to everybody and deceives nobody."),
    )
)


@dataclass(frozen=True)
class Constitution:
    """Principles in their order; `checks` are the functions that formal ones name."""

    principles: tuple[Principle, ...]
    clean: str = "none"
    checks: dict[str, Check] = field(default_factory=dict)

    @property
    def formal(self) -> tuple[Principle, ...]:
        """Those that can be decided."""
        return tuple(principle for principle in self.principles if principle.is_formal)

    def broken(self, principle: Principle, prompt: str, answer: str) -> str:
        """What breaks a formal principle in an answer, in a few words; "" when it is kept."""
        if principle.never and (found := re.search(principle.never, answer)):
            return found.group(0) or "forbidden"
        if principle.must and not re.search(principle.must, answer):
            return "missing"
        if principle.echo:
            for wanted in re.finditer(principle.echo, prompt):
                if wanted.group(wanted.re.groups and 1) not in answer:
                    return str(wanted.group(wanted.re.groups and 1))
        if principle.most_words and len(answer.split()) > principle.most_words:
            return "long"
        return str(self.checks[principle.name](prompt, answer)) if principle.check else ""


def read_constitution(path: Path | None, load: Callable[[str], Any]) -> Constitution:
    """The file's constitution, or the default one; `load` finds a function by "file.py:name". Raises ConfigError."""
    found = load_config(path, ConstitutionFile) if path is not None else DEFAULT
    if not found.principle:
        raise ConfigError(f"{str(path)!r} has no principle", hint='[[principle]] name = "honest" critique = ".." ..')
    names = [principle.name for principle in found.principle]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{str(path)!r} has two principles called {twice!r}")
    for principle in found.principle:
        for pattern in (principle.must, principle.never, principle.echo):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"principle {principle.name!r}: {pattern!r} is no pattern: {error}") from None
    checks = {principle.name: load(principle.check) for principle in found.principle if principle.check}
    return Constitution(found.principle, found.clean, checks)


class RuleJudge:
    """1 for an answer that keeps a formal principle, else 0: a reward, or the measure of held-out answers."""

    def __init__(self, constitution: Constitution, principle: Principle) -> None:
        self.constitution, self.principle, self.name = constitution, principle, principle.name

    def judge(self, answers: Sequence[Answer]) -> list[tuple[float | None, bool]]:
        found = [self.constitution.broken(self.principle, one.prompt, one.completion) for one in answers]
        return [(float(not reason), False) for reason in found]


def rule_judges(constitution: Constitution) -> tuple[RuleJudge, ...]:
    """A judge for each formal principle; UsageError without one."""
    if not constitution.formal:
        raise UsageError(
            "no principle of this constitution can be checked by rule",
            hint="give a principle must, never, echo, most_words or check",
        )
    return tuple(RuleJudge(constitution, principle) for principle in constitution.formal)

"""The formatter of the three languages: one statement a line, keywords in capitals, comments kept.

TaskLang and RuleLang are laid out here from their tokens, NureonLang by its own formatter. Formatting never
changes what a program means, formatting twice changes nothing, and a text that does not parse is refused with
its LanguageError. Comments inside a statement move to its end, those on lines of their own stand before it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from alexandra.errors import UsageError, suggest
from alexandra.lang.lexis import Comment, Source, comments, parser
from alexandra.lang.rules import parse_rules
from alexandra.lang.task import masked, parse_task
from alexandra.lang.task_parts import dedented
from alexandra.lang.task_spec import joined

SUFFIXES = {".nl": "nureon", ".task": "task", ".rules": "rules"}

# Which words open a line, and how deep it stands.
_OPENERS = {
    "task": {"TASK": 0, "BEGIN": 0, "END": 0}
    | dict.fromkeys(("ABOUT", "TAGS", "DATA", "TARGET", "POSITIVE", "DROP", "SPLIT", "SEED", "METRIC"), 1)
    | dict.fromkeys(("VERIFY", "ACCEPT", "NETWORKS", "BUDGET", "PROTECT", "BEHAVIOUR", "ENCODE"), 1),
    "rules": {"RULES": 0, "GATE": 0, "BEGIN": 0, "END": 0, "RULE": 1, "OTHERWISE": 1, "REQUIRE": 1, "QUARANTINE": 1}
    | dict.fromkeys(("WHEN", "SCORE", "SELECT"), 2),
}
# Words that go on inside a line which another word has opened.
_INSIDE = {"QUARANTINE": ("WHEN",), "OTHERWISE": ("SCORE", "SELECT")}
# Lines that belong together: (first, those that may follow it).
_TOGETHER = {"DATA": ("TARGET", "POSITIVE", "DROP"), "SPLIT": ("SEED",)}


def format_text(text: str, kind: str = "", file: str = "<text>") -> str:
    """The text laid out; `kind` is "nureon", "task" or "rules", by default that of the file's suffix or first word."""
    kind = kind or kind_of_program(text, file)
    if kind == "nureon":
        from alexandra.lang.nureon import format_nureon

        return format_nureon(text, file)
    if kind not in _OPENERS:
        raise UsageError(f"unknown language {kind!r}", hint=suggest(kind, (*_OPENERS, "nureon")))
    if kind == "task":
        parse_task(text, file)
    else:
        parse_rules(text, file)
    source = masked(Source.of(text, file))
    return "".join(f"{line}\n" for line in _lay_out(kind, source))


def kind_of_program(text: str, file: str = "<text>") -> str:
    """The language of a text: by the suffix of its file, otherwise by its first word."""
    known = SUFFIXES.get(PurePath(file).suffix.lower())
    if known:
        return known
    first = re.match(r"(?:\s|//[^\n]*|/\*[\s\S]*?\*/)*([A-Za-z_]*)", text.removeprefix("\ufeff"))
    word = first.group(1).upper() if first else ""
    return {"TASK": "task", "RULES": "rules", "GATE": "rules"}.get(word, "nureon")


@dataclass
class _Line:
    """One statement on its way out."""

    word: str
    indent: int
    text: str = ""
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    gap: bool = False  # a blank line stands before it


def _lay_out(kind: str, source: Any) -> Iterator[str]:
    lines = _lines(kind, source)
    done = 0
    previous = ""
    while done < len(lines):
        line = lines[done]
        group = _group(lines, done)
        starts_block = line.indent == 0 and line.word not in ("BEGIN", "END", "")
        wanted = starts_block or (line.gap and previous != "BEGIN" and line.word not in ("BEGIN", "END"))
        if previous and wanted:
            yield ""
        pad = "  " * line.indent
        for comment in line.before:
            yield ("  " * max(line.indent, int(line.word == "END")) + comment).rstrip()
        texts = joined([part.text for part in group]) if line.word in _TOGETHER else [line.text]
        for number, part in enumerate(texts):
            last = group[-1] if len(texts) == 1 else group[number]
            tail = "".join(f"  {comment}" for comment in last.after)
            body = re.sub(r"\n(?!\n)", f"\n{pad}", part)
            if part:
                yield f"{pad}{body}{tail}"
        previous = line.word
        done += len(group)


def _group(lines: list[_Line], first: int) -> list[_Line]:
    """The line and those that stand beside it: nothing between them but the statements themselves."""
    group = [lines[first]]
    followers = _TOGETHER.get(lines[first].word, ())
    for line in lines[first + 1 :]:
        if line.word not in followers or line.before or group[-1].after:
            break
        followers = followers[followers.index(line.word) + 1 :]
        group.append(line)
    return group


def _lines(kind: str, source: Any) -> list[_Line]:
    """The statements with their comments; the last line may hold comments alone."""
    lines: list[_Line] = []
    waiting: list[str] = []
    waiting_gap = False
    previous: _Previous | None = None
    last_end = 0
    for item in _items(kind, source):
        start, end = (item.span.start, item.span.end) if isinstance(item, Comment) else (item.start_pos, item.end_pos)
        gap = source.text.count("\n", last_end, start) > 1
        last_end = end
        if isinstance(item, Comment):
            if item.own_line or not lines:
                waiting_gap = waiting_gap if waiting else gap
                waiting += [""] * bool(waiting and gap) + [item.text]
            else:
                _attach(lines[-1], item)
            continue
        if item.type in _OPENERS[kind] and item.type not in _INSIDE.get(lines[-1].word if lines else "", ()):
            lines.append(_Line(item.type, _OPENERS[kind][item.type], gap=waiting_gap if waiting else gap))
            waiting += [""] * bool(waiting and gap and item.type not in ("BEGIN", "END"))
            previous = None
        lines[-1].before += waiting
        waiting = []
        lines[-1].text += _token_text(previous, item, source)
        previous = _Previous(item, previous)
    if waiting:
        lines.append(_Line("", 0, before=waiting, gap=waiting_gap))
    return lines


def _attach(line: _Line, comment: Comment) -> None:
    """Put a comment behind the statement; one to the end of the line that has another after it goes before it."""
    if line.after and line.after[-1].startswith("//"):
        line.before.append(line.after.pop())
    line.after.append(comment.text)


def _items(kind: str, source: Any) -> Iterator[Any]:
    """Tokens, typed by the grammar, and comments, in the order of the text; semicolons are left out."""
    machine = parser(kind).parse_interactive(source.text)
    pending = deque(comments(source))
    for token in machine.iter_parse():
        while pending and pending[0].span.start < (token.start_pos or 0):
            yield pending.popleft()
        if token.type != "SEMICOLON":
            yield token
    yield from pending


@dataclass(frozen=True)
class _Previous:
    """The token before, and whether it ends an operand (so that a minus after it is an operator)."""

    token: Any
    before: Any

    @property
    def is_sign(self) -> bool:
        """A minus that belongs to what follows it."""
        operand = self.before is not None and self.before.token.type in _OPERAND_ENDS
        return self.token.type == "MINUS" and not operand


_OPERAND_ENDS = ("NAME", "STRING", "INT", "FLOAT", "PERCENT", "DURATION", "SIZE", "RPAR", "RSQB")
_CALLED = ("NAME", "STRING", "BETTER", "NO_WORSE")


def _token_text(previous: _Previous | None, token: Any, source: Any) -> str:
    """The token as it is written, with the space that belongs before it."""
    if token.type == "NETWORK":
        body = dedented(source.original[token.start_pos : token.end_pos])
    elif token.type in ("NAME", "STRING", "COMPARE"):
        body = str(token)
    elif token.type in ("BETTER", "NO_WORSE"):
        body = str(token).lower()
    elif token.type in ("DURATION", "SIZE", "FLOAT"):
        body = str(token)
    else:
        body = re.sub(r"\s", "", str(token)).upper()
    return body if previous is None or not _spaced(previous, token) else f" {body}"


def _spaced(previous: _Previous, token: Any) -> bool:
    before, after = previous.token.type, token.type
    if before in ("LPAR", "LSQB", "EQUAL", "RANGE") or after in ("RPAR", "RSQB", "COMMA", "EQUAL", "RANGE"):
        return False
    if after == "LPAR" and before in _CALLED:
        return False
    return not previous.is_sign

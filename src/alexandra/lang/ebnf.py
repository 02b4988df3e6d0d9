"""The .lark grammars as EBNF text, for the reference pages and for editors: what they say, without lark's marks.

A rule keeps its name and its alternatives; aliases, inlining marks and priorities are left out, terminals that are
one fixed word stand where they are used, and a terminal with a pattern keeps its name. Lark itself parses programs;
this module only reads the grammar files as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GRAMMARS = {"nureonlang": "nureon", "tasklang": "task", "rulelang": "rules"}
LINE_WIDTH = 96

_DEFINITION = re.compile(r"^[!?]*([A-Za-z_][A-Za-z_0-9]*)(?:\.[0-9]+)?[ \t]*:", re.MULTILINE)
_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"i?|/(?:\\.|[^/\\\n])+/[imslux]*|->[ \t]*[A-Za-z_]+|[A-Za-z_][A-Za-z_0-9]*|[()\[\]|*+?]'
)
_COMMENT = re.compile(r"^[ \t]*//.*$", re.MULTILINE)
_DIRECTIVE = re.compile(r"^%import[ \t]+\.([a-z]+).*$|^%.*$", re.MULTILINE)


@dataclass(frozen=True)
class Production:
    """One rule or terminal: the tokens to the right of its colon; `file` is the grammar that defines it."""

    name: str
    tokens: tuple[str, ...]
    file: str

    @property
    def is_terminal(self) -> bool:
        return self.name.lstrip("_").isupper()

    @property
    def word(self) -> str:
        """The fixed text of a terminal that is one, keywords in capitals; "" for others."""
        return _literal(self.tokens[0]) if self.is_terminal and len(self.tokens) == 1 else ""

    @property
    def pattern(self) -> str:
        """The regular expression of a terminal that is one; "" for others."""
        one = self.tokens[0] if self.is_terminal and len(self.tokens) == 1 else ""
        return one[1 : one.rindex("/")] if one.startswith("/") else ""


@cache
def productions(grammar: str) -> dict[str, Production]:
    """Everything that `<grammar>.lark` defines or imports, by name; its own definitions come first."""
    text = Path(__file__).with_name(f"{grammar}.lark").read_text(encoding="utf-8")
    plain = _COMMENT.sub("", text)
    body = _DIRECTIVE.sub("", plain)
    heads = list(_DEFINITION.finditer(body))
    found = {}
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        tokens = _tokens(body[head.end() : after.start() if after else len(body)])
        found[head[1]] = Production(head[1], tokens, grammar)
    for directive in _DIRECTIVE.finditer(plain):
        if directive[1]:
            found = {**found, **{name: p for name, p in productions(directive[1]).items() if name not in found}}
    return found


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(token for token in _TOKEN.findall(text) if not token.startswith("->"))


def keywords(grammar: str) -> list[str]:
    """The words of a language as the grammar and the formatter write them, sorted; they are known in any case."""
    texts = {_literal(t) for p in reachable(grammar) for t in p.tokens if t.startswith('"') and t.endswith("i")}
    return sorted(text for text in texts if re.fullmatch(r"[A-Za-z_]+", text))


def reachable(grammar: str) -> list[Production]:
    """The productions that `start` needs, in the order of the files: the grammar's own, then imported ones."""
    known = productions(grammar)
    wanted, seen = ["start"], set()
    while wanted:
        name = wanted.pop()
        if name not in seen:
            seen.add(name)
            wanted += [token for token in known[name].tokens if token in known]
    return [production for name, production in known.items() if name in seen]


def rules(grammar: str) -> list[Production]:
    """The reachable rules, without terminals."""
    return [production for production in reachable(grammar) if not production.is_terminal]


def words(grammar: str) -> list[Production]:
    """The reachable terminals that are patterns: names, numbers, texts."""
    return [production for production in reachable(grammar) if production.pattern]


def text_of(production: Production, grammar: str) -> str:
    """`name ::= ...`, alternatives on lines of their own where one line is too short."""
    known = productions(grammar)
    shown = _Reader(production.tokens, known).alternatives()
    head = f"{_plain(production.name)} ::= "
    line = head + " | ".join(shown)
    if len(line) <= LINE_WIDTH:
        return line
    return head + f"\n{' ' * (len(head) - 2)}| ".join(shown)


class _Reader:
    """The tokens of a definition as text; [x] becomes x? or (x)?."""

    def __init__(self, tokens: tuple[str, ...], known: dict[str, Production]) -> None:
        self.tokens, self.known, self.place = tokens, known, 0

    def alternatives(self) -> list[str]:
        """Up to a closing bracket or the end."""
        found: list[list[str]] = [[]]
        while self.place < len(self.tokens) and self.tokens[self.place] not in (")", "]"):
            token = self._next()
            if token == "|":
                found.append([])
            elif token in ("(", "["):
                found[-1].append(self._group(optional=token == "["))
            elif token in ("*", "+", "?"):
                found[-1][-1] += token
            else:
                found[-1].append(self._symbol(token))
        return [" ".join(parts) for parts in found]

    def _group(self, optional: bool) -> str:
        inner = " | ".join(self.alternatives())
        self._next()
        mark = "?" if optional else ""
        return f"{inner}{mark}" if optional and " " not in inner and inner[-1] not in "*+?" else f"({inner}){mark}"

    def _symbol(self, token: str) -> str:
        if token.startswith('"'):
            return f'"{_literal(token)}"'
        if token.startswith("/"):
            return token
        word = self.known[token].word if token in self.known else ""
        return f'"{word}"' if word else _plain(token)

    def _next(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1]


def _plain(name: str) -> str:
    return name.lstrip("_")


def _literal(token: str) -> str:
    """The text of a quoted token ("WORD"i is WORD); "" for others."""
    return token.rstrip("i")[1:-1] if token.startswith('"') else ""


def blocks(grammar: str) -> Iterator[tuple[str, str]]:
    """(file, EBNF of its rules) for each grammar file that takes part, the language's own first."""
    found = rules(grammar)
    for file in dict.fromkeys(production.file for production in found):
        yield file, "\n".join(text_of(production, grammar) for production in found if production.file == file)

"""The EBNF reading of the grammars agrees with what lark itself makes of them."""

from __future__ import annotations

import re

import pytest
from lark.lexer import PatternStr

from alexandra.lang.ebnf import GRAMMARS, blocks, keywords, productions, reachable, rules, text_of, words
from alexandra.lang.lexis import parser

LANGUAGES = sorted(GRAMMARS.values())


def plain(name: str) -> str:
    """A rule's own name: lark puts the grammar's name before an imported one."""
    return name.rpartition("__")[2].lstrip("_")


@pytest.mark.parametrize("grammar", LANGUAGES)
def test_the_rules_are_those_that_lark_reads(grammar: str) -> None:
    theirs = {plain(rule.origin.name) for rule in parser(grammar).rules}
    theirs = {name for name in theirs if not re.search(r"_(star|plus|opt)_\d+$", name)}  # lark's own, for * and +
    assert {plain(one.name) for one in rules(grammar)} == theirs


@pytest.mark.parametrize("grammar", LANGUAGES)
def test_the_words_are_lark_s_terminals(grammar: str) -> None:
    terminals = parser(grammar).terminals
    fixed = {t.pattern.value for t in terminals if isinstance(t.pattern, PatternStr) and t.pattern.value.isidentifier()}
    assert set(keywords(grammar)) == fixed
    patterns = {plain(t.name) for t in terminals if not isinstance(t.pattern, PatternStr)}
    assert {one.name for one in words(grammar)} - {"COMMENT", "WS"} == patterns - {"COMMENT", "WS"}


@pytest.mark.parametrize("grammar", LANGUAGES)
def test_every_name_in_the_text_is_explained(grammar: str) -> None:
    text = "\n".join(part for _, part in blocks(grammar))
    defined = set(re.findall(r"^(\w+) ::=", text, re.MULTILINE))
    named = set(re.findall(r"\b[A-Za-z_]+\b", re.sub(r'"[^"]*"', "", text)))
    assert named - defined <= {one.name for one in words(grammar)}
    assert not re.search(r"->|\?\?|[\[\]](?!\")", re.sub(r'"[^"]*"', "", text)), "lark's marks are gone"


def test_optional_parts_and_aliases_are_shown_as_ebnf() -> None:
    known = productions("task")
    assert text_of(known["metric"], "task") == 'metric ::= "METRIC" NAME ("(" arguments ")")?'
    assert text_of(known["literal"], "task") == 'literal ::= "-"? (INT | FLOAT | DURATION | SIZE | PERCENT)'
    assert text_of(productions("nureon")["if_else"], "nureon") == (
        'if_else ::= "IF" expression comparison expression block ("ELSE" (block | if_else))?'
    )


def test_what_start_does_not_need_is_left_out() -> None:
    assert "start" in productions("conditions")
    assert [one.file for one in reachable("rules") if one.name == "start"] == ["rules"]

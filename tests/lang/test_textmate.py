"""The editors' grammar covers every word of the languages, and no example shows an invalid scope.

The walk below does what an editor does with this grammar: at each place of a line the earliest match wins, of
several at one place the first rule.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from alexandra.ir.ops import OPS
from alexandra.lang.ebnf import GRAMMARS, keywords
from alexandra.lang.expr import FUNCTIONS
from alexandra.lang.facts import FACTS
from alexandra.lang.fmt import SUFFIXES
from alexandra.lang.textmate import SCOPE, extension, grammar

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "examples", ROOT / "tests/lang/programs", ROOT / "src/alexandra/lang")
PROGRAMS = [path for folder in FOLDERS for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]


def flat(rules: list[dict[str, Any]], repository: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules with every include put in its place."""
    found = []
    for rule in rules:
        if "include" in rule:
            found += flat(repository[rule["include"].removeprefix("#")]["patterns"], repository)
        else:
            found.append(rule)
    return found


def scopes(text: str) -> list[tuple[str, str]]:
    """(scope, text) of every token in order, block comments as one token a line."""
    body = grammar()
    rules = flat(body["patterns"], body["repository"])
    inside: dict[str, Any] | None = None
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        place = 0
        while place <= len(line):
            if inside is not None:
                end = re.compile(inside["end"]).search(line, place)
                found.append((inside["name"], line[place : end.end() if end else len(line)]))
                if end is None:
                    break
                place, inside = end.end(), None
                continue
            tries = [(re.compile(rule.get("match") or rule["begin"]).search(line, place), rule) for rule in rules]
            hits = [(match.start(), number) for number, (match, _) in enumerate(tries) if match]
            if not hits:
                break
            match, rule = tries[min(hits)[1]]
            assert match is not None
            if "begin" in rule:
                inside, place = rule, match.end()
                continue
            if "name" in rule:
                found.append((rule["name"], match.group()))
            else:
                found += captured(rule, match)
            place = max(match.end(), place + 1)
    return found


def captured(rule: dict[str, Any], match: re.Match[str]) -> list[tuple[str, str]]:
    found = []
    for number, capture in sorted(rule["captures"].items()):
        text = match.group(int(number))
        named = capture.get("name") or next(r["name"] for r in capture["patterns"] if re.match(r["match"], text))
        found.append((named, text))
    return found


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_no_example_holds_an_invalid_scope(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = scopes(text)
    assert [token for scope, token in found if scope.startswith("invalid")] == []
    assert len(found) > 10


@pytest.mark.parametrize("language", sorted(GRAMMARS))
def test_every_word_of_the_grammar_is_a_keyword_in_any_case(language: str) -> None:
    for word in keywords(GRAMMARS[language]):
        for written in (word, word.lower()):
            [(scope, token), *_] = scopes(f"{written} (")
            assert (token, scope.split(".")[0]) in [(written, "keyword"), (written, "support")], written


def test_layers_facts_and_functions_have_scopes_of_their_own() -> None:
    for op in OPS:
        assert scopes(f"LAYER {op.upper()} name=h")[:2] == [
            ("keyword.control", "LAYER"),
            ("support.class.layer", op.upper()),
        ]
    statements = {word.lower() for grammar_name in GRAMMARS.values() for word in keywords(grammar_name)}
    plain = [name for name in FACTS if name not in statements]  # METRIC is a statement, metric a fact: one word
    assert all(scopes(name)[0][0].split(".")[0] in ("support", "constant") for name in plain)
    assert len(plain) >= len(FACTS) - 1
    assert all(scopes(f"{name}(x)")[0][0] == "support.function" for name in FUNCTIONS)


def test_a_parameter_is_no_keyword_and_units_belong_to_their_number() -> None:
    assert scopes("group=city") == [
        ("variable.parameter", "group"),
        ("keyword.operator", "="),
        ("variable.other", "city"),
    ]
    line = 'BUDGET time=5m memory=2GB margin=1% 0..4 "a \\" b" // end'
    assert [(s, t) for s, t in scopes(line) if s.startswith(("constant", "string", "comment"))] == [
        ("constant.numeric.duration", "5m"),
        ("constant.numeric.size", "2GB"),
        ("constant.numeric.percent", "1%"),
        ("constant.numeric", "0"),
        ("constant.numeric", "4"),
        ("string.quoted.double", '"a \\" b"'),
        ("comment.line.double-slash", "// end"),
    ]
    assert [s for s, _ in scopes("/* one\ntwo */ LET a = 1")][:4] == ["comment.block"] * 2 + [
        "keyword.control",
        "variable.parameter",
    ]


def test_what_the_lexer_refuses_is_shown_as_invalid() -> None:
    for text, token in (('ABOUT "open', '"'), ("LET a = 3abc", "3abc"), ("LET a = $", "$")):
        assert [t for s, t in scopes(text) if s.startswith("invalid")] == [token]


def test_the_extension_names_every_suffix_and_the_one_grammar() -> None:
    body = extension("0.0.0")["contributes"]
    assert {suffix for language in body["languages"] for suffix in language["extensions"]} == set(SUFFIXES)
    assert {one["scopeName"] for one in body["grammars"]} == {SCOPE}
    assert {one["language"] for one in body["grammars"]} == {one["id"] for one in body["languages"]} == set(GRAMMARS)

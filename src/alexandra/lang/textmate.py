"""A TextMate grammar of the three languages, made from their grammars and tables: keywords, layers, facts, functions.

One grammar serves .nl, .task and .rules, since they have one lexis. Its expressions are kept to what every engine
reads alike (no possessive quantifiers, no lookbehind of open length). The file in editors/ is written by
`python -m alexandra.api.reference`; a test holds it equal to this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from alexandra.ir.ops import ACTIVATIONS, OPS
from alexandra.lang.ebnf import GRAMMARS, keywords
from alexandra.lang.expr import FUNCTIONS, GAPS, REFERENCES, SUBJECTS
from alexandra.lang.facts import FACTS
from alexandra.lang.fmt import SUFFIXES
from alexandra.lang.task_parts import FRAMEWORKS, SOURCES

SCOPE = "source.alexandra"
LOGIC = ("AND", "OR", "NOT", "HAS")
BLOCKS = ("BEGIN", "END")
_NAME = "[A-Za-z_][A-Za-z_0-9]*"
_END = "(?![A-Za-z_0-9])"
_START = "(?<![A-Za-z_0-9])"

Rule = dict[str, Any]


def grammar() -> Rule:
    """The whole grammar, ready for JSON."""
    rules = _repository()
    return {
        "name": "Alexandra",
        "scopeName": SCOPE,
        "fileTypes": [suffix.removeprefix(".") for suffix in SUFFIXES],
        "patterns": [{"include": f"#{name}"} for name in rules],
        "repository": rules,
    }


def _repository() -> dict[str, Rule]:
    """The rules in their order: where two match at one place the earlier wins."""
    every = {word for name in GRAMMARS.values() for word in keywords(name)}
    statements = sorted(every - set(LOGIC) - set(BLOCKS) - {"better", "no_worse"})
    return {
        "comments": _patterns(
            {"name": "comment.line.double-slash", "match": "//.*$"},
            {"name": "comment.block", "begin": r"/\*", "end": r"\*/"},
        ),
        "texts": _patterns(
            {
                "name": "string.quoted.double",
                "match": r'"(?:\\.|[^"\\])*"',
                "captures": {"0": {"patterns": [{"name": "constant.character.escape", "match": r"\\."}]}},
            },
            {"name": "invalid.illegal.open-string", "match": '"'},
        ),
        "parameters": _patterns({"name": "variable.parameter", "match": rf"{_START}{_NAME}(?=\s*=(?!=))"}),
        "layers": _patterns(
            {
                "match": rf"(?i){_START}(LAYER)\s+({_NAME})",
                "captures": {
                    "1": {"name": "keyword.control"},
                    "2": {"patterns": [_words("support.class.layer", OPS), {"name": "entity.name", "match": r"\w+"}]},
                },
            },
        ),
        "blocks": _patterns(_words("keyword.control.block", BLOCKS)),
        "logic": _patterns(_words("keyword.operator.word", LOGIC)),
        "keywords": _patterns(_words("keyword.control", statements)),
        "functions": _patterns(
            _words("support.function", ["better", "no_worse", "gap", *FUNCTIONS, *SOURCES, *FRAMEWORKS]),
        ),
        "constants": _patterns(
            _words("constant.language", ["TRUE", "FALSE", "AUTO", "NONE", *REFERENCES, *SUBJECTS, *GAPS]),
            _words("support.constant.activation", ACTIVATIONS),
            _words("support.variable.fact", [name for name in FACTS if name not in GAPS]),
        ),
        "numbers": _patterns(
            {"name": "constant.numeric.shape", "match": rf"{_START}[0-9]+(?:[ \t]*[xX][ \t]*[0-9]+)+{_END}"},
            {"name": "constant.numeric.axes", "match": rf"{_START}[0-9]+[ \t]*[dD]{_END}"},
            {"name": "constant.numeric.duration", "match": rf"{_START}[0-9]+(?:\.[0-9]+)?(?:us|ms|s|m|h|d){_END}"},
            {"name": "constant.numeric.size", "match": rf"{_START}[0-9]+(?:\.[0-9]+)?(?:[kKMGT]i?)?B{_END}"},
            {"name": "constant.numeric.percent", "match": rf"{_START}[0-9]+(?:\.[0-9]+)?%(?![A-Za-z_0-9(])"},
            {"name": "constant.numeric", "match": rf"{_START}[0-9]+(?:\.(?!\.)[0-9]*)?(?:[eE][+-]?[0-9]+)?{_END}"},
            {"name": "invalid.illegal.number", "match": rf"{_START}[0-9][A-Za-z_0-9]*"},
        ),
        "names": _patterns({"name": "variable.other", "match": rf"{_NAME}|(?<=\])[A-Za-z_0-9]+"}),
        "operators": _patterns(
            {"name": "keyword.operator.arrow", "match": "->"},
            {"name": "keyword.operator.range", "match": r"\.\."},
            {"name": "keyword.operator.comparison", "match": "==|!=|<=|>=|<|>"},
            {"name": "keyword.operator", "match": r"[-+*/%^=]"},
            {"name": "punctuation", "match": r"[()\[\],;:.]"},
            {"name": "invalid.illegal.character", "match": r"[^\s]"},
        ),
    }


def _patterns(*rules: Rule) -> Rule:
    return {"patterns": list(rules)}


def _words(scope: str, words: Iterable[str]) -> Rule:
    """Any of `words`, whole, in any case."""
    return {"name": scope, "match": f"(?i){_START}(?:{'|'.join(sorted(set(words)))}){_END}"}


def extension(version: str) -> Rule:
    """package.json of the VS Code extension: three languages, one grammar."""
    names = {"nureon": "NureonLang", "task": "TaskLang", "rules": "RuleLang"}
    languages = [
        {
            "id": names[kind].lower(),
            "aliases": [names[kind]],
            "extensions": [suffix],
            "configuration": "./language-configuration.json",
        }
        for suffix, kind in SUFFIXES.items()
    ]
    return {
        "name": "alexandra-languages",
        "displayName": "Alexandra: NureonLang, TaskLang, RuleLang",
        "description": "Highlighting for networks (.nl), tasks (.task) and rules (.rules).",
        "version": version,
        "publisher": "alexandra",
        "license": "Apache-2.0",
        "engines": {"vscode": "^1.75.0"},
        "categories": ["Programming Languages"],
        "contributes": {
            "languages": languages,
            "grammars": [
                {"language": one["id"], "scopeName": SCOPE, "path": "./alexandra.tmLanguage.json"} for one in languages
            ],
        },
    }


CONFIGURATION: Rule = {
    "comments": {"lineComment": "//", "blockComment": ["/*", "*/"]},
    "brackets": [["(", ")"], ["[", "]"]],
    "autoClosingPairs": [["(", ")"], ["[", "]"], ['"', '"']],
    "surroundingPairs": [["(", ")"], ["[", "]"], ['"', '"']],
    "indentationRules": {"increaseIndentPattern": r"^\s*BEGIN\b", "decreaseIndentPattern": r"^\s*END\b"},
}

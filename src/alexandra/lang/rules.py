"""RuleLang: one text becomes Rules with their gates; every refusal is a LanguageError with position and way out.

The grammar is rules.lark; the inverse is `Rules.text()`. `default_rules()` are those that ship with the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from alexandra.lang.checks import check_expression
from alexandra.lang.clauses import DEFAULT_LIMITS, Reader, Tree, is_token, read_program
from alexandra.lang.expr import Condition, Expr
from alexandra.lang.facts import FACTS, FactSpec
from alexandra.lang.lexis import Limits, Source, parse, string_value
from alexandra.lang.rules_spec import Abstain, Fallback, Gate, Pipeline, Rule, Rules, Select

DEFAULT_FILE = Path(__file__).with_name("defaults.rules")


def parse_rules(
    text: str, file: str = "<text>", *, known_facts: Mapping[str, FactSpec] = FACTS, limits: Limits = DEFAULT_LIMITS
) -> Rules:
    """The rules and gates that a RuleLang program describes; raises LanguageError."""
    source = Source.of(text, file)
    tree = parse("rules", source, limits=limits)
    return RulesReader(source, known_facts, limits).rules(tree)


def load_rules(path: str | Path) -> Rules:
    """`parse_rules` of a file; StorageError when it cannot be read."""
    return parse_rules(read_program(path), str(path))


@cache
def default_rules() -> Rules:
    """The rules and the gate that hold when a project has none of its own."""
    return parse_rules(default_text(), DEFAULT_FILE.name)


def default_text() -> str:
    """The shipped RuleLang program, comments included."""
    return DEFAULT_FILE.read_text(encoding="utf-8")


class RulesReader(Reader):
    """Reads the blocks of one RuleLang text."""

    def rules(self, tree: Tree) -> Rules:
        block: Tree | None = None
        gates: dict[str, Gate] = {}
        for part in tree.children:
            name = part.children[0]
            if part.data == "gate":
                if str(name) in gates:
                    raise self.fail(name, f"a second gate {str(name)!r}", "give it another name")
                gates[str(name)] = self._gate(part)
            elif block is not None:
                raise self.fail(name, "a second RULES block", "one file holds one; put the rules together in order")
            else:
                block = part
        given = self._block(block) if block is not None else {}
        return self.made(tree, lambda: Rules(**given, gates=tuple(gates.values())))

    def _block(self, tree: Tree) -> dict[str, Any]:
        rules: dict[str, Rule] = {}
        given: dict[str, Any] = {"name": str(tree.children[0])}
        for part in (part for part in tree.children if not is_token(part)):
            if "otherwise" in given:
                raise self.fail(part, "OTHERWISE is the last of the rules", "nothing may follow it")
            if part.data == "otherwise":
                given["otherwise"] = self._otherwise(part)
                continue
            name = part.children[0]
            if str(name) in rules:
                raise self.fail(name, f"a second rule {str(name)!r}", "give it another name")
            rules[str(name)] = self._rule(part)
        return {**given, "rules": tuple(rules.values())}

    def _rule(self, tree: Tree) -> Rule:
        name, *clauses = tree.children
        found: dict[str, Tree] = {}
        for clause in clauses:
            kind = str(clause.data)
            if kind in found:
                raise self.fail(clause, f"a second {kind.upper()} in rule {str(name)!r}", "join conditions with AND")
            found[kind] = clause
        if "select" not in found:
            raise self.fail(name, f"rule {str(name)!r} selects nothing", "end it with SELECT 1 or SELECT PIPELINE a, b")
        when = self.condition(found["when"].children[0], "select") if "when" in found else None
        score = self._score(found["score"]) if "score" in found else None
        select = self._select(found["select"])
        return self.made(found.get("score", name), lambda: Rule(str(name), select, when, score))

    def _score(self, tree: Tree) -> Expr:
        score = self.expression(tree.children[0], "select")
        self.made(tree.children[0], lambda: check_expression(score, "select", self.known))
        return score

    def _select(self, tree: Tree) -> Select | Pipeline:
        kind = tree.children[0]
        if kind.data == "pipeline":
            stages = tuple(self.label(item) for item in kind.children)
            return self.made(kind, lambda: Pipeline(stages))
        count, *combine = kind.children
        number = self.whole(count)
        return self.made(kind, lambda: Select(number, str(combine[0]).lower() if combine else "best"))

    def _otherwise(self, tree: Tree) -> Abstain | Fallback:
        *score, last = tree.children
        if last.data == "abstain":
            return Abstain(string_value(self.source, last.children[0]))
        select, ranking = self._select(last), self._score(score[0]) if score else None
        return self.made(tree, lambda: Fallback(select, ranking))

    def _gate(self, tree: Tree) -> Gate:
        conditions: dict[str, list[Condition]] = {"require": [], "quarantine": []}
        for part in (part for part in tree.children if not is_token(part)):
            kind = str(part.data)
            conditions[kind].append(self.condition(part.children[0], kind))
        return Gate(str(tree.children[0]), tuple(conditions["require"]), tuple(conditions["quarantine"]))

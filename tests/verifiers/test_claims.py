"""Claims as JSON: every kind round-trips, mistakes are named with what is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alexandra.errors import VerifierError
from alexandra.records import Claim
from alexandra.verifiers.base import claim_hash
from alexandra.verifiers.claims import KINDS, claim_from, claim_json, domain_of, read_claims

EXAMPLES: dict[str, Any] = {
    "text": "Paris is the capital of France.",
    "expression": {"left": "(x+1)^2", "relation": "=", "right": "x^2+2*x+1", "where": {"x": "int"}},
    "derivation": {"steps": ["(2+3)*4", "5*4", "20"]},
    "table": {"columns": {"a": [1, 2]}, "statement": "count is 2"},
    "triples": {"turtle": "<a:1> <a:2> <a:3> .", "ask": "ASK { ?s ?p ?o }"},
    "logic": {"program": "p(a).", "query": "p(a)"},
    "formulas": {"premises": ["∀x P(x)"], "conclusion": "P(a)"},
    "code": {"source": "def f(x): return x", "tests": ["assert f(1) == 1"]},
    "proof": {"system": "coq", "statement": "1 = 1", "proof": "reflexivity."},
    "plan": {"maximise": True, "objective": {"x": 1}, "constraints": [[{"x": 1}, "<=", 3]], "values": {"x": 3}},
    "decision": {"options": {"a": [[1.0, 2.0]]}, "chosen": "a"},
    "game": {"row_payoffs": [[1]], "column_payoffs": [[1]], "row_strategy": [1], "column_strategy": [1]},
    "forecast": {"cases": [[1.0]], "outcomes": [1], "case": [1.0], "outcome": 1},
    "series": {"values": [1.0, 2.0]},
    "samples": {"answers": ["4", "4"], "answer": "4"},
    "perturbed": {"answer": "4", "variants": ["4"]},
    "swap": {"answers": {"women": 1, "men": 1}},
    "influence": {"edges": [["a", "b"]], "limit": 0.9},
    "perspectives": {"texts": ["a", "b"], "count": 2},
    "bound": {"expression": "x*x", "box": {"x": [-1, 1]}, "relation": "<=", "limit": 1},
}


def test_there_is_an_example_of_every_kind() -> None:
    assert set(EXAMPLES) == set(KINDS)


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_a_claim_round_trips_through_its_json(kind: str) -> None:
    claim = claim_from({"kind": kind, "content": EXAMPLES[kind], "context": {"domain": "social"}, "source": "test"})
    again = claim_from(json.loads(json.dumps(claim_json(claim))))
    assert again == claim and claim_hash(again) == claim_hash(claim)
    assert domain_of(claim) == "social" and claim.source == "test"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "claim is a int"),
        ({"kind": "txt", "content": ""}, "unknown kind 'txt'\n.*Did you mean 'text'"),
        ({"content": "a", "kin": "text"}, "unknown field 'kin'"),
        ({"kind": "text", "content": 3}, "the content of kind 'text' is text, got a int"),
        ({"kind": "series", "content": [1]}, "the content of kind 'series' is an object"),
        ({"kind": "series", "content": {}}, "series needs the field 'values'"),
        ({"kind": "series", "content": {"values": [1], "statment": "x"}}, "no field 'statment'\n.*'statement'"),
        ({"kind": "series", "content": {"values": 3}}, "series.values is a list, got a int"),
        ({"kind": "bound", "content": {**EXAMPLES["bound"], "limit": True}}, "bound.limit is a number, got a bool"),
        ({"content": "a", "context": [1]}, "the context is a list"),
    ],
)
def test_mistakes_are_named(value: Any, words: str) -> None:
    with pytest.raises(VerifierError, match=words):
        claim_from(value)


def test_deep_nesting_is_refused_not_followed() -> None:
    deep: Any = 0
    for _ in range(200):
        deep = [deep]
    with pytest.raises(VerifierError, match="nested deeper than 64"):
        claim_from({"content": "a", "context": {"x": deep}})
    line = '{"content": "a", "context": ' + "[" * 200_000 + "]" * 200_000 + "}"
    with pytest.raises(VerifierError, match="claims.jsonl:1: not JSON"):
        list(read_claims([line], "claims.jsonl"))


def test_a_file_of_claims_may_carry_labels() -> None:
    lines = ['"plain text"', "", '{"content": "a", "label": true}']
    assert list(read_claims(lines)) == [(Claim("text", "plain text"), None), (Claim("text", "a"), True)]

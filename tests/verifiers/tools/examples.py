"""For every tool a true and a false claim that differ in one token; shared by the tests of tools and of the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from alexandra.records import Claim
from alexandra.verifiers.claims import claim_from

AXIOMS = """$c 0 + = -> ( ) term wff |- $. $v t r s P Q $. tt $f term t $. tr $f term r $. ts $f term s $.
wp $f wff P $. wq $f wff Q $. tze $a term 0 $. tpl $a term ( t + r ) $. weq $a wff t = r $. wim $a wff ( P -> Q ) $.
a1 $a |- ( t = r -> ( t = s -> r = s ) ) $. a2 $a |- ( t + 0 ) = t $.
${ min $e |- P $. maj $e |- ( P -> Q ) $. mp $a |- Q $. $}"""
_SAME = "tt tze tpl tt weq"
PROOF = f"{_SAME} tt tt weq tt a2 {_SAME} {_SAME} tt tt weq wim tt a2 tt tze tpl tt tt a1 mp mp"
_cases = np.random.default_rng(0).normal(size=(120, 3)).round(3)
_topics = {
    "finance": ["the bank raised interest rates", "stocks and bonds fell on the market", "the loan has high interest"],
    "cooking": ["boil the pasta in salted water", "bake the bread with butter", "season the soup with salt and pepper"],
}
_program = "cold(lion). big(lion). nice(X) :- cold(X), big(X). -rough(X) :- nice(X)."
_plan = {
    "maximise": True,
    "objective": {"rickshaws": 50, "ox carts": 30},
    "constraints": [
        [{"rickshaws": 10, "ox carts": 8}, "<=", 200],
        [{"rickshaws": 1, "ox carts": -1}, "<=", 0],
    ],
}
_matching = {"row_payoffs": [[1, -1], [-1, 1]], "column_payoffs": [[-1, 1], [1, -1]], "column_strategy": [0.5, 0.5]}
_texts = [
    "taxes on carbon protect the climate", "a carbon tax protects the climate best", "carbon taxes protect our climate",
    "jobs in coal towns vanish", "coal towns lose jobs", "jobs vanish from coal towns",
]  # fmt: skip
_career = (
    "He joined Torpedo in 1990 .",
    "In 1994 he moved on to Spartak .",
    "He ended his career with Dynamo ( 1998–2001 ) .",
)
_passages = ("The tower was built in 1889.", "Penguins do not fly.", "Bread is baked from flour and water.")


def _pair(kind: str, true: Any, false: Any, context: Any = None, other: Any = None) -> tuple[Claim, Claim]:
    made = [claim_from({"kind": kind, "content": content, "context": context or {}}) for content in (true, false)]
    return made[0], replace(made[1], context=other) if other is not None else made[1]


def _logic(answer: str) -> dict[str, str]:
    return {"program": _program, "query": "rough(lion)", "answer": answer}


def _bound(limit: float) -> dict[str, Any]:
    return {"expression": "x*(4-x) + sin(y)", "box": {"x": [0, 4], "y": [0, 3]}, "relation": "<=", "limit": limit}


# tool -> (true claim, false claim)
PAIRS: dict[str, tuple[Claim, Claim]] = {
    "exact_maths": _pair(
        "expression",
        {"left": "(x+1)^2", "relation": "=", "right": "x^2+2*x+1"},
        {"left": "(x+1)^2", "relation": "=", "right": "x^2+2*x+2"},
    ),
    "z3_arithmetic": _pair(
        "expression",
        {"left": "2*x+1", "relation": "!=", "right": "2*y", "where": {"x": "int", "y": "int"}},
        {"left": "2*x+2", "relation": "!=", "right": "2*y", "where": {"x": "int", "y": "int"}},
    ),
    "cvc5_arithmetic": _pair(
        "expression", {"left": "x^2", "relation": ">=", "right": "0"}, {"left": "x^2", "relation": ">", "right": "0"}
    ),
    "coq": _pair(
        "proof",
        {"system": "coq", "statement": "forall n : nat, n + 0 = n", "proof": "intros n. lia."},
        {"system": "coq", "statement": "forall n : nat, n + 1 = n", "proof": "intros n. lia."},
    ),
    "metamath": _pair(
        "proof",
        {"system": "metamath", "statement": "|- t = t", "proof": PROOF},
        {"system": "metamath", "statement": "|- t = r", "proof": PROOF},
        {"axioms": AXIOMS},
    ),
    "lean": _pair(
        "proof",
        {"system": "lean", "statement": "2 + 2 = 4", "proof": "rfl"},
        {"system": "lean", "statement": "2 + 2 = 5", "proof": "rfl"},
    ),
    "duckdb_tables": _pair(
        "table",
        {"columns": {"price": [1, 2, 3.5]}, "statement": "median of price is 2"},
        {"columns": {"price": [1, 2, 3.5]}, "statement": "median of price is 3"},
    ),
    "oxigraph": _pair(
        "triples",
        {"turtle": "<a:paris> <a:capital> <a:france> .", "ask": "ASK { <a:paris> <a:capital> <a:france> }"},
        {"turtle": "<a:paris> <a:capital> <a:france> .", "ask": "ASK { <a:rome> <a:capital> <a:france> }"},
    ),
    "code_tests": _pair(
        "code",
        {"source": "def f(x):\n    return x + 1", "tests": ["assert f(1) == 2"]},
        {"source": "def f(x):\n    return x - 1", "tests": ["assert f(1) == 2"]},
    ),
    "form": _pair("text", "Paris is the capital.", "Rome is the capital.", {"required": ("Paris",)}),
    "spacy_text": _pair(
        "text",
        "Penguins swim well but cannot fly.",
        "Sparrows swim well but cannot fly.",
        {"prompt": "What can a penguin do?"},
    ),
    "gensim_topics": _pair("text", "interest", "salted", {"corpus": _topics, "topic": "finance"}),
    "faiss_similarity": _pair(
        "text", "penguins never fly", "bread never fly", {"passages": _passages, "passage": 1},
        {"passages": _passages, "passage": 0},
    ),  # fmt: skip
    "vader_sentiment": _pair("text", "The film was great", "The film was awful", {"sentiment": "positive"}),
    "language": _pair(
        "text", "the house on the hill is old and grey", "the house on the hill is old and grey", {"language": "en"},
        {"language": "de"},
    ),  # fmt: skip
    "z3_logic": _pair("logic", _logic("false"), _logic("true")),
    "prolog_logic": _pair("logic", _logic("false"), _logic("true")),
    "clingo_logic": _pair("logic", _logic("false"), _logic("true")),
    "souffle_logic": _pair("logic", _logic("false"), _logic("true")),
    "z3_formulas": _pair(
        "formulas",
        {"premises": ["∀x (Dog(x) → Animal(x))", "Dog(rex)"], "conclusion": "Animal(rex)", "answer": "true"},
        {"premises": ["∀x (Dog(x) → Animal(x))", "Dog(rex)"], "conclusion": "Animal(tom)", "answer": "true"},
    ),
    "derivation_steps": _pair(
        "derivation", {"steps": ["2*(x+3)", "2*x+6", "6+2*x"]}, {"steps": ["2*(x+3)", "2*x+5", "6+2*x"]}
    ),
    "passages_fts": _pair("text", "Penguins do not fly", "Penguins do really fly", {"passages": _passages}),
    "agreement": _pair(
        "samples",
        {"answers": ["4", "4.0", "5", "4"], "answer": "4"},
        {"answers": ["4", "4.0", "5", "4"], "answer": "5"},
    ),
    "swap_invariance": _pair(
        "swap", {"answers": {"women": 0.7, "men": 0.7}}, {"answers": {"women": 0.7, "men": 0.8}}
    ),
    "influence": _pair(
        "influence",
        {"edges": [["a", "b"], ["b", "c"], ["c", "a"]], "limit": 0.34},
        {"edges": [["a", "b"], ["b", "a"], ["c", "a"]], "limit": 0.34},
    ),
    "perspectives": _pair("perspectives", {"texts": _texts, "count": 2}, {"texts": _texts, "count": 5}),
    "lexicon": _pair(
        "text", "he is clever", "he is stupid", {"lexicon": ("stupid", "clever boy", "idiot")}
    ),
    "ortools_plan": _pair(
        "plan",
        {**_plan, "values": {"rickshaws": 11, "ox carts": 11}},
        {**_plan, "values": {"rickshaws": 11, "ox carts": 12}},
    ),
    "expected_utility": _pair(
        "decision",
        {"options": {"sure": [[1, 40]], "gamble": [[0.5, 100], [0.5, 0]]}, "chosen": "sure", "risk_aversion": 0.05},
        {"options": {"sure": [[1, 40]], "gamble": [[0.5, 100], [0.5, 0]]}, "chosen": "gamble", "risk_aversion": 0.05},
    ),
    "nash_equilibrium": _pair(
        "game", {**_matching, "row_strategy": [0.5, 0.5]}, {**_matching, "row_strategy": [0.5, 0.4]}
    ),
    "lightgbm_outcome": _pair(
        "forecast",
        {
            "cases": _cases.tolist(), "outcomes": [int(c[0] > 0) for c in _cases], "case": [1.5, 0.0, 0.0],
            "outcome": 1,
        },
        {
            "cases": _cases.tolist(), "outcomes": [int(c[0] > 0) for c in _cases], "case": [1.5, 0.0, 0.0],
            "outcome": 0,
        },
    ),  # fmt: skip
    "track_record": _pair(
        "text", "a claim", "a claim", {"history": (True,) * 20}, {"history": (False,) * 20}
    ),
    "drift": _pair(
        "series",
        {"values": [0.1, 0.2, 0.15] * 10 + [0.9, 0.8, 0.85] * 10, "statement": "drifting"},
        {"values": [0.1, 0.2, 0.15] * 10 + [0.9, 0.8, 0.85] * 10, "statement": "stable"},
    ),
    "novelty": _pair(
        "text", "an idea nobody wrote down", "the cat sat on the mat", {"archive": ("the cat sat on the mat",)}
    ),
    "robustness": _pair(
        "perturbed", {"answer": "12", "variants": ["12", "12.0"]}, {"answer": "13", "variants": ["12", "12.0"]}
    ),
    "deap_search": _pair("bound", _bound(5.0), _bound(4.9)),
    "jax_search": _pair("bound", _bound(5.0), _bound(4.9)),
    "rllib_search": _pair("bound", _bound(5.0), _bound(4.9), {"probe": "rllib"}),
    "valid_time": _pair(
        "text", "Torpedo", "Dynamo", {"prompt": "Which team was his from 1990 to 1994?", "passages": _career}
    ),
}  # fmt: skip

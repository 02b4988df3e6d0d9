"""Over the whole table: each tool tells a true claim from a false one that differs in one token, and only by itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from alexandra.records import Claim
from alexandra.verifiers.base import claim_hash, run
from alexandra.verifiers.claims import KINDS
from alexandra.verifiers.loading import FRAMEWORKS, toolbox
from alexandra.verifiers.tool import MAX_SIZE, OFF
from alexandra.verifiers.weights import BASE

_path = Path(__file__).with_name("examples.py")
_spec = importlib.util.spec_from_file_location("verifier_examples", _path)
assert _spec is not None and _spec.loader is not None
examples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(examples)
TOOLS = toolbox()
SLOW = {"coq", "jax_search", "rllib_search", "gensim_topics", "spacy_text", "expected_utility"}
names = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in TOOLS]


def needed(name: str) -> None:
    absent = TOOLS[name].absent()
    if absent:
        pytest.skip(absent)


def test_the_table_is_whole() -> None:
    assert set(examples.PAIRS) == set(TOOLS) and len(TOOLS) >= 35
    assert {tool.framework for tool in TOOLS.values()} == set(FRAMEWORKS) == set(BASE)
    read = {kind for tool in TOOLS.values() for kind in tool.reads}
    assert read == set(KINDS)
    files = {path.stem for path in (Path(__file__).parents[3] / "src/alexandra/verifiers/tools").glob("*.py")}
    shared = {"__init__", "answers", "proofs", "search_bound", "z3_warm", "candidate_side", "tests_side"}
    assert files - shared == set(TOOLS), "one file each"


@pytest.mark.parametrize("name", names)
def test_a_true_and_a_false_claim_get_different_verdicts(name: str) -> None:
    needed(name)
    tool, (true, false) = TOOLS[name], examples.PAIRS[name]
    yes, no = run(tool, [true, false])
    assert yes.score is not None and no.score is not None, (yes.reason, no.reason)
    assert yes.score > 0.5 > no.score, (yes, no)
    assert not yes.vetoes and no.vetoes == (tool.hard and no.score == 0)
    if tool.hard:
        assert no.vetoes
    for verdict, claim in ((yes, true), (no, false)):
        (evidence,) = verdict.evidence
        assert evidence.tool == name and evidence.version == tool.version() and evidence.output
        assert evidence.input_hash == claim_hash(claim)


@pytest.mark.parametrize("name", names)
def test_the_same_claim_gets_the_same_verdict_alone_and_in_a_batch(name: str) -> None:
    needed(name)
    tool, (true, false) = TOOLS[name], examples.PAIRS[name]
    together = run(tool, [false, true, false])
    alone = [run(tool, [claim])[0] for claim in (false, true, false)]
    assert [(v.score, v.confidence) for v in together] == [(v.score, v.confidence) for v in alone]


@pytest.mark.parametrize("name", list(TOOLS))
def test_a_tool_that_is_switched_off_judges_nothing_and_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFF, f"other,{name}")
    for verdict in run(TOOLS[name], examples.PAIRS[name]):
        assert verdict.score is None and verdict.reason == f"{name} is switched off by {OFF}"


@pytest.mark.parametrize("name", list(TOOLS))
def test_what_is_missing_is_said_with_the_way_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = TOOLS[name]
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    missing = tool.missing()
    if not missing:
        return  # it runs on the standard library or the core alone
    assert any(word in missing for word in ("pip install", "apt-get install", "install")), missing
    verdict = run(tool, examples.PAIRS[name])[0]
    assert verdict.score is None and verdict.reason == missing


@pytest.mark.parametrize("name", list(TOOLS))
def test_other_kinds_and_long_claims_are_abstained_from(name: str) -> None:
    tool = TOOLS[name]
    other = next(kind for kind in ("swap", "game") if kind not in tool.reads) if name != "track_record" else ""
    if other:
        (verdict,) = run(tool, [Claim(other, None)])
        assert verdict.score is None and "this claim is of kind" in verdict.reason
    needed(name)
    if "text" in tool.reads and name != "form":
        true = examples.PAIRS[name][0]
        (verdict,) = run(tool, [Claim("text", "word " * MAX_SIZE, true.context)])
        assert verdict.score is None and "too long" in verdict.reason


@pytest.mark.parametrize("name", [n for n in TOOLS if n not in SLOW | {"track_record", "code_tests", "coq"}])
def test_a_claim_that_cannot_be_judged_costs_only_itself(name: str) -> None:
    needed(name)
    tool, (true, _) = TOOLS[name], examples.PAIRS[name]
    broken = Claim(true.kind, "broken" if true.kind != "text" else 7, true.context)
    before, bad, after = run(tool, [true, broken, true])
    assert before.score == after.score and before.score is not None
    assert bad.score is None and bad.reason

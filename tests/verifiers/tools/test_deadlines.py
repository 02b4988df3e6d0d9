"""What comes to no end is refuted only where it used its time: a busy machine vetoes nothing."""

from __future__ import annotations

import pytest

from alexandra.records import Claim
from alexandra.verifiers.claims import Code, Proof
from alexandra.verifiers.sandbox.host import Ran
from alexandra.verifiers.tools import code_tests, coq, lean, metamath, proofs

PROGRAM = Claim("code", Code("def f(): return 1", ("assert f() == 1",)))


def ended(why: str, cpu_seconds: float) -> Ran:
    return Ran(-9, why, b"", b"", 3.0, cpu_seconds)


def test_an_endless_program_is_refuted_and_a_starved_one_abstained_from() -> None:
    waiting = ended("", 0.1)
    endless = code_tests._verdict(code_tests.TOOL, PROGRAM, ended("timeout", 2.9), ended("timeout", 0.1))
    assert endless.score == 0 and endless.hard and "timeout" in endless.reason
    starved = code_tests._verdict(code_tests.TOOL, PROGRAM, ended("timeout", 0.2), waiting)
    assert starved.score is None and "of which it had 0.3 s of a processor" in starved.reason


@pytest.mark.parametrize("checker", [coq, lean, metamath])
def test_a_proof_checker_that_comes_to_no_end_refutes_nothing(checker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "check", lambda *_: ended("timeout", 1.0))
    claim = Claim("proof", Proof(checker.TOOL.name, "True", "exact I"), {"axioms": "$c x $."})
    verdict = checker._judge(checker.TOOL, claim)
    assert verdict.score is None and verdict.reason == "it did not answer within 20 s"
    monkeypatch.setattr(proofs, "check", lambda *_: ended("", 1.0))
    assert checker._judge(checker.TOOL, claim).score == 0

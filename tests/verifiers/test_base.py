"""The protocol: functions become verifiers, what comes back is checked, errors name verifier and claim."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from alexandra.errors import VerifierError, missing_extra
from alexandra.metrics import metric
from alexandra.records import Claim, Interval, Verdict
from alexandra.verifiers.base import FunctionVerifier, Verifier, claim_hash, run, verifier

TEXTS = [Claim("text", text) for text in ("one", "two", "three")]


@dataclass(frozen=True)
class Fixed:
    """A verifier that returns what it was made with."""

    verdicts: object
    name: str = "fixed"
    hard: bool = False

    def verify(self, claims: Sequence[Claim]) -> list[Verdict]:
        return self.verdicts  # type: ignore[return-value]


def test_a_function_becomes_a_verifier_in_five_lines() -> None:
    @verifier
    def short(claim):
        return len(claim.content) <= 3

    assert isinstance(short, Verifier)
    verdicts = run(short, TEXTS)
    assert [verdict.score for verdict in verdicts] == [1.0, 1.0, 0.0]
    assert {verdict.verifier for verdict in verdicts} == {"short"}
    assert not any(verdict.hard for verdict in verdicts)


def test_a_hard_function_vetoes_with_false() -> None:
    @verifier(name="exact", hard=True)
    def anything(claim):
        return claim.content == "one"

    assert [(verdict.verifier, verdict.vetoes) for verdict in run(anything, TEXTS)] == [
        ("exact", False),
        ("exact", True),
        ("exact", True),
    ]


def test_scores_abstentions_and_whole_verdicts_may_be_returned() -> None:
    answers = {"one": 0.25, "two": None, "three": Verdict("other name", 0.5, 0.9, "because")}
    verdicts = run(verifier(lambda claim: answers[claim.content]), TEXTS)
    assert [verdict.score for verdict in verdicts] == [0.25, None, 0.5]
    assert verdicts[1].reason == "the function returned None"
    assert (verdicts[2].verifier, verdicts[2].confidence, verdicts[2].reason) == ("<lambda>", 0.9, "because")


def test_the_parameters_name_says_what_the_function_gets(good) -> None:
    @verifier
    def rows(outcomes):
        return min(1.0, outcomes.n / 3000)

    @verifier
    def batch(claims):
        return [index / 10 for index, _ in enumerate(claims)]

    scores = [verdict.score for verdict in run(rows, [good(n=1500), TEXTS[0]])]
    assert scores == [0.5, None]
    assert [verdict.score for verdict in run(batch, TEXTS)] == [0.0, 0.1, 0.2]
    with pytest.raises(VerifierError, match="'short' returned 1 answers for 3 claims"):
        run(FunctionVerifier("short", lambda claims: [1.0], takes="claims"), TEXTS)


def test_a_function_with_the_wrong_parameters_is_refused() -> None:
    with pytest.raises(VerifierError, match="exactly one parameter without a default, it has a, b\nwrite def"):
        verifier(lambda a, b: 1.0)
    with pytest.raises(VerifierError, match="it has none"):
        verifier(lambda: 1.0)
    assert run(verifier(lambda claim, limit=5: len(claim.content) < limit), TEXTS[:1])[0].score == 1.0


def test_an_exception_names_the_verifier_and_the_claim() -> None:
    @verifier
    def picky(claim):
        if claim.content == "two":
            raise ValueError("two is not allowed")
        return 1.0

    with pytest.raises(VerifierError, match="verifier 'picky' failed on claim 1: ValueError: two is not allowed"):
        run(picky, TEXTS)
    with pytest.raises(VerifierError, match="verifier 'picky' failed on claim 0: ValueError"):
        run(picky, TEXTS[1:2])


def test_a_failure_of_the_batch_alone_is_said_to_be_one() -> None:
    @verifier
    def lonely(claims):
        if len(claims) > 1:
            raise RuntimeError("one at a time")
        return [1.0]

    with pytest.raises(VerifierError, match="'lonely' failed on 3 claims together: RuntimeError: one at a time"):
        run(lonely, TEXTS)


def test_a_missing_extra_keeps_its_own_words() -> None:
    def needs(claim):
        raise missing_extra("the prover", "verify")

    with pytest.raises(Exception, match="pip install 'alexandra-foundry\\[verify\\]'"):
        run(verifier(needs), TEXTS)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ([Verdict("fixed", 1.5)], "claim 0: score 1.5 is not in 0..1\nreturn None to abstain"),
        ([Verdict("fixed", -0.1)], "score -0.1 is not in 0..1"),
        ([Verdict("fixed", float("nan"))], "score nan is not in 0..1"),
        ([Verdict("fixed", 1.0, float("inf"))], "confidence inf is not in 0..1"),
        ([Verdict("fixed", None)], "claim 0: abstained without a reason"),
        ([Verdict("fixed", 1.0, facts={"f": 3})], "fact 'f' is not an Interval of finite numbers: 3"),
        ([Verdict("fixed", 1.0, facts={"f": Interval(0, 0, float("nan"))})], "fact 'f' is not an Interval of finite"),
        ([0.5], "claim 0: returned a float where a Verdict belongs"),
        ([], "verifier 'fixed' returned 0 verdicts for 1 claims"),
        ([Verdict("fixed", 1.0)] * 2, "verifier 'fixed' returned 2 verdicts for 1 claims"),
        (None, "verifier 'fixed' returned a NoneType of verdicts for 1 claims"),
    ],
)
def test_what_comes_back_is_checked(returned: object, words: str) -> None:
    with pytest.raises(VerifierError, match=words.replace("(", r"\(")):
        run(Fixed(returned), TEXTS[:1])


def test_a_word_is_not_a_score() -> None:
    with pytest.raises(VerifierError, match="claim 0: TypeError: returned a str: return a score in 0..1, True, False"):
        run(verifier(lambda claim: "good"), TEXTS[:1])
    with pytest.raises(VerifierError, match="int is not a verifier: it needs name, hard and verify"):
        run(3, TEXTS)  # type: ignore[arg-type]


def test_only_a_hard_verifier_can_veto() -> None:
    cheat = Fixed([Verdict("fixed", 0.0, hard=True)])
    assert not run(cheat, TEXTS[:1])[0].vetoes
    assert run(replace(cheat, hard=True), TEXTS[:1])[0].vetoes
    assert not run(Fixed([Verdict("fixed", None, reason="no")], hard=True), TEXTS[:1])[0].vetoes


def test_time_is_measured_per_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    @verifier
    def slow(claim):
        clock[0] += 3.0 if claim.content == "three" else 0.25
        return 1.0

    assert [verdict.seconds for verdict in run(slow, TEXTS)][:3] == [0.25, 0.25, 3.0]
    monkeypatch.undo()
    assert run(Fixed([Verdict("fixed", 1.0)]), TEXTS[:1])[0].seconds > 0


def test_evidence_states_tool_version_input_and_output() -> None:
    def length(claim):
        return 0.5

    (evidence,) = run(verifier(length), TEXTS[:1])[0].evidence
    assert (evidence.tool, evidence.output, evidence.input_hash) == ("length", "0.5", claim_hash(TEXTS[0]))
    assert evidence.version.startswith("source ")


def test_a_claims_hash_follows_every_part_of_it(good) -> None:
    claim = good(n=50, metric=metric("f1"))
    content = claim.content
    changed = content.predictions.copy()
    changed[7] = changed[7][::-1]
    variants = [
        claim,
        replace(claim, kind="other"),
        replace(claim, context={"metric": "accuracy"}),
        replace(claim, content=replace(content, predictions=changed)),
        replace(claim, content=replace(content, keys=content.keys[::-1])),
        replace(claim, content=replace(content, columns={**content.columns, "gender": content.columns["age"]})),
        replace(claim, content=replace(content, columns={"gender": content.columns["gender"].astype(object)})),
    ]
    assert len({claim_hash(variant) for variant in variants}) == len(variants)
    assert claim_hash(claim) == claim_hash(replace(claim, source="elsewhere"))
    assert claim_hash(claim) == claim_hash(replace(claim, context={"metric": "f1"}))


def test_a_claims_hash_is_the_same_in_another_process() -> None:
    content = {"b": np.arange(3), "a": [1, 2.5, None, "x", b"y"]}
    claim = Claim("answer", content, {"column": np.array(["u"], dtype=object)})
    code = (
        "import numpy as np; from alexandra.records import Claim; from alexandra.verifiers.base import claim_hash;"
        "print(claim_hash(Claim('answer', {'a': [1, 2.5, None, 'x', b'y'], 'b': np.arange(3)},"
        " {'column': np.array(['u'], dtype=object)})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == claim_hash(claim)

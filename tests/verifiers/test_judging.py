"""Asking tools: equal answers with and without workers, each question once, and what hangs costs only itself."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from pathlib import Path

import pytest

from alexandra.records import Claim, Verdict
from alexandra.verifiers.cache import Cache
from alexandra.verifiers.claims import Expression, Series
from alexandra.verifiers.framework import Framework
from alexandra.verifiers.judging import Judges
from alexandra.verifiers.loading import six, toolbox
from alexandra.verifiers.tool import Tool, own_version

_spec = importlib.util.spec_from_file_location("examples_", Path(__file__).parent / "tools" / "examples.py")
assert _spec is not None and _spec.loader is not None
examples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(examples)
QUICK = (
    "exact_maths",
    "duckdb_tables",
    "agreement",
    "swap_invariance",
    "drift",
    "robustness",
    "lexicon",
)


def counting(calls: list[int]) -> Tool:
    def batch(tool: Tool, claims: list[Claim]) -> list[Verdict]:
        calls.append(len(claims))
        return [tool.says(claim, 0.7, "counted") for claim in claims]

    return Tool("counting", "evolution", ("series",), own_version("1"), batch=batch)


def test_each_question_is_asked_once() -> None:
    calls: list[int] = []
    tool, judges = counting(calls), Judges()
    claims = [Claim("series", Series((float(i % 3),))) for i in range(9)]
    first = judges.ask(tool, claims)
    again = judges.ask(tool, claims)
    assert calls == [3]
    assert [v.score for v in first] == [v.score for v in again] == [0.7] * 9
    assert all(v.seconds < 1e-6 for v in again)
    judges.ask(replace(tool, version=own_version("2")), claims)
    assert calls == [3, 3]


def test_without_a_cache_every_question_is_asked() -> None:
    calls: list[int] = []
    judges = Judges(cache=None)
    for _ in range(2):
        judges.ask(counting(calls), [Claim("series", Series((1.0,)))])
    assert calls == [1, 1]


def test_what_was_missing_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tool, judges = toolbox()["drift"], Judges()
    claim = examples.PAIRS["drift"][0]
    monkeypatch.setenv("ALEXANDRA_WITHOUT", "drift")
    assert judges.ask(tool, [claim])[0].score is None
    monkeypatch.delenv("ALEXANDRA_WITHOUT")
    assert judges.ask(tool, [claim])[0].score is not None


@pytest.fixture(scope="module")
def workers():
    with Judges(workers=2, cache=None) as judges:
        yield judges


def test_workers_answer_as_this_process_does(workers: Judges) -> None:
    tools = toolbox()
    for name in QUICK:
        if tools[name].absent():
            continue
        claims = [claim for _ in range(33) for claim in examples.PAIRS[name]]
        there, here = workers.ask(tools[name], claims), Judges(cache=None).ask(tools[name], claims)
        assert [replace(v, seconds=0) for v in there] == [replace(v, seconds=0) for v in here]


def test_prefetch_leaves_nothing_to_ask() -> None:
    claims = [claim for name in QUICK if not toolbox()[name].absent() for claim in examples.PAIRS[name]] * 5
    with Judges(workers=2, cache=Cache()) as judges:
        frameworks = [replace(one, tools=lambda one=one: _only_quick(one)) for one in six(judges.ask)]
        judges.prefetch(frameworks, claims)
        assert judges.cache is not None
        misses = judges.cache.misses
        for framework in frameworks:
            framework.verify(claims)
        assert judges.cache.misses == misses


def _only_quick(framework: Framework) -> tuple[Tool, ...]:
    names = [tool.name for tool in next(one for one in six() if one.name == framework.name).tools()]
    return tuple(toolbox()[name] for name in names if name in QUICK and not toolbox()[name].absent())


def test_prefetched_answers_keep_their_time_and_are_given_once() -> None:
    claims = [claim for _ in range(33) for claim in examples.PAIRS["drift"]]
    tool = toolbox()["drift"]
    with Judges(workers=2, cache=Cache()) as judges:
        judges.prefetch([replace(six()[-1], tools=lambda: (tool,))], claims)
        assert all(verdict.seconds > 1e-6 for verdict in judges.ask(tool, claims))
        assert all(verdict.seconds < 1e-6 for verdict in judges.ask(tool, claims))


def test_a_claim_that_cannot_travel_is_judged_here(workers: Judges) -> None:
    strange = Claim("series", Series((1.0,) * 20, "stable"), {"history": {1, 2}})
    claims = [strange, *[claim for _ in range(40) for claim in examples.PAIRS["drift"]]]
    assert workers.ask(toolbox()["drift"], claims)[0].score is not None


@pytest.mark.slow
def test_a_claim_that_hangs_costs_only_itself() -> None:
    """Whether 114 is a sum of three cubes nobody knows: Z3 ignores no deadline, because its worker is killed."""
    pytest.importorskip("z3")
    hard = Claim("expression", Expression("x*x*x + y*y*y + z*z*z", "!=", "114", dict.fromkeys("xyz", "int")))
    easy = [Claim("expression", Expression("x+1", ">", "x")) for _ in range(3)]
    tool = replace(toolbox()["z3_arithmetic"], seconds=0.5)
    with Judges(workers=2, cache=None) as judges:
        judges._warm[tool.name] = 99
        judges.ask(tool, easy)
        began = time.monotonic()
        verdicts = judges.ask(tool, [easy[0], hard, easy[1]])
    assert verdicts[0].score == verdicts[2].score == 1.0
    assert verdicts[1].score is None and time.monotonic() - began < 120

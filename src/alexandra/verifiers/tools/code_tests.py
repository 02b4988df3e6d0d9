"""Tool `code_tests`: a program and its assertions, executed in two sandboxes that talk over a pipe.

The program (candidate_side.py) never shares a process with the tests (tests_side.py): it sees the arguments of calls
and answers with values, so that it cannot read what is expected, leave early with success, or redefine equality. Only
plain values cross; other objects stay behind handles.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from alexandra.records import Claim, Verdict
from alexandra.verifiers.sandbox.host import Job, Limits, Ran, shared
from alexandra.verifiers.tool import Tool, own_version

LIMITS = Limits(seconds=3.0, memory_bytes=512 << 20, output_bytes=64 << 10, files_bytes=4 << 20)
AT_ONCE = 4


def jobs(claim: Claim) -> list[Job]:
    """The program's job and the tests' job, linked."""
    calls_out, calls_in = os.pipe()
    answers_out, answers_in = os.pipe()
    content = claim.content
    files = {f"test_{i}.py": f"{content.setup}\n{test}\n" for i, test in enumerate(content.tests)}
    return [
        Job(_side("candidate_side.py"), {"candidate.py": content.source}, (), LIMITS, (calls_out, answers_in)),
        Job(_side("tests_side.py"), files, (), LIMITS, (answers_out, calls_in)),
    ]


@cache
def _side(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _judge(tool: Tool, claims: Sequence[Claim]) -> list[Verdict]:
    verdicts = []
    for start in range(0, len(claims), AT_ONCE):
        some = claims[start : start + AT_ONCE]
        asked = [claim for claim in some if claim.content.tests]
        ran = shared().run_many([job for claim in asked for job in jobs(claim)])
        pairs = {id(claim): (ran[2 * i], ran[2 * i + 1]) for i, claim in enumerate(asked)}
        for claim in some:
            if id(claim) in pairs:
                verdicts.append(_verdict(tool, claim, *pairs[id(claim)]))
            else:
                verdicts.append(tool.abstains("there are no tests"))
    return verdicts


def _verdict(tool: Tool, claim: Claim, program: Ran, tests: Ran) -> Verdict:
    num = len(claim.content.tests)
    if tests.why == "lost" or program.why == "lost":
        return tool.abstains("the sandbox did not answer")
    used = program.cpu_seconds + tests.cpu_seconds
    if "timeout" in (tests.why, program.why) and used < LIMITS.seconds / 2:
        words = f"it did not answer within {LIMITS.seconds:g} s, of which it had {used:.2g} s of a processor"
        return tool.abstains(words)  # it waits, or the machine is busy
    try:
        report = json.loads(tests.stdout) if tests.ok else {}
    except ValueError:
        report = {}
    passed, first = report.get("passed", []), str(report.get("first", ""))
    if len(passed) == num and all(passed):
        return tool.holds(claim, True, f"{num} of {num} tests pass", json.dumps(report))
    ended = tests.why or program.why or (f"exit code {program.code}" if program.code else "")
    said = first or (program.stderr.decode("utf-8", "replace").strip().splitlines() or [ended or "no answer"])[-1]
    words = f"{sum(passed)} of {num} tests pass; {said[:200]}" + (f" ({ended})" if ended and ended not in said else "")
    return tool.holds(claim, False, words, json.dumps(report)[:500])


TOOL = Tool(
    "code_tests", "empirical", ("code",), own_version("code 2"), batch=_judge, hard=True, seconds=8.0
)  # fmt: skip

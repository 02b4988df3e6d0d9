"""What the proof tools share: a proof checker run in the sandbox over a file that we compose, never the claimant.

The statement and the proof are separate texts: the checker is asked about the statement that is claimed, so a proof of
something else does not pass. What could change the meaning of the statement is refused before the checker runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping

from alexandra.records import Claim
from alexandra.verifiers.sandbox.host import Job, Limits, Ran, shared

LIMITS = Limits(seconds=20.0, memory_bytes=2 << 30, output_bytes=64 << 10, files_bytes=16 << 20)


def written_for(system: str) -> Callable[[Claim], str]:
    """A claim's applicability: proofs of one system."""

    def applies(claim: Claim) -> str:
        given = claim.content.system
        return "" if given == system else f"it checks proofs of {system}, this one is for {given!r}"

    return applies


def check(program: str, arguments: tuple[str, ...], files: Mapping[str, str], limits: Limits = LIMITS) -> Ran:
    """Run a proof checker over `files` in the sandbox."""
    path = shutil.which(program)
    assert path is not None, "the capability check comes first"
    return shared().run_many([Job(files=files, program=(path, *arguments), limits=limits)])[0]


def unanswered(ran: Ran) -> str:
    """Why the checker came to no end, or "": what took too long is neither proved nor refuted."""
    if ran.why == "lost":
        return "the sandbox did not answer"
    return f"it did not answer within {LIMITS.seconds:g} s" if ran.why == "timeout" else ""


def words(ran: Ran) -> str:
    """The last lines of what the checker said, stdout before stderr."""
    said = (ran.stdout + b"\n" + ran.stderr).decode("utf-8", "replace").strip()
    return " ".join(said.split())[-400:] or ran.why or f"exit code {ran.code}"

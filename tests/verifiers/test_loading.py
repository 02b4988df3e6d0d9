"""A verifier by name: frameworks from the table, functions and values from a file; every mistake in words."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alexandra.errors import VerifierError
from alexandra.records import Claim
from alexandra.verifiers.base import run
from alexandra.verifiers.loading import FRAMEWORKS, import_function, load

CHECKS = """
from dataclasses import dataclass
from alexandra.records import Verdict
from alexandra.verifiers.base import verifier

LIMIT = 3

@dataclass
class Local:
    x: int = 1

def has_rows(outcomes):
    return outcomes.n >= 10

def short(claim, limit=4):
    return len(claim.content) < limit

def fails(claim):
    raise KeyError("boom")

def unsure(claim):
    return None

@verifier(hard=True)
def never(claim):
    return False
"""


@pytest.fixture
def checks(tmp_path: Path) -> Path:
    (tmp_path / "checks.py").write_text(CHECKS)
    return tmp_path


def test_every_framework_of_the_table_loads_by_name() -> None:
    params = {"power_dynamics": {"groups": ("gender",)}}
    for name in FRAMEWORKS:
        assert load(name, params.get(name, {})).name == name
    assert load("empirical").hard


def test_a_function_in_a_file_beside_the_task_is_a_verifier(checks: Path, good) -> None:
    made = load("checks.py:has_rows", folder=checks)
    (verdict,) = run(made, [good()])
    assert (verdict.score, verdict.verifier) == (1.0, "checks.py:has_rows")
    assert verdict.evidence[0].version.startswith("file ")


def test_a_function_gets_its_parameters_by_name(checks: Path) -> None:
    claim = Claim("text", "hello")
    assert run(load("checks.py:short", folder=checks), [claim])[0].score == 0.0
    assert run(load("checks.py:short", {"limit": 9}, checks), [claim])[0].score == 1.0
    with pytest.raises(VerifierError, match="has no parameter 'limits'\nknown: limit. Did you mean 'limit'"):
        load("checks.py:short", {"limits": 9}, checks)


def test_a_decorated_function_keeps_its_hardness(checks: Path) -> None:
    made = load("checks.py:never", folder=checks)
    assert run(made, [Claim("text", "x")])[0].vetoes
    with pytest.raises(VerifierError, match="'checks.py:never' is a finished verifier and takes no parameters: limit"):
        load("checks.py:never", {"limit": 1}, checks)


def test_an_exception_in_the_function_names_the_file_and_the_claim(checks: Path) -> None:
    with pytest.raises(VerifierError, match="verifier 'checks.py:fails' failed on claim 1: KeyError: 'boom'"):
        run(_after_one(load("checks.py:fails", folder=checks)), [Claim("text", "a"), Claim("text", "b")])


def _after_one(made):
    """The same verifier, failing only on the second claim."""
    inner = made.function
    return replace(made, function=lambda claim: inner(claim) if claim.content == "b" else 1.0)


def test_none_from_the_function_abstains(checks: Path) -> None:
    (verdict,) = run(load("checks.py:unsure", folder=checks), [Claim("text", "a")])
    assert verdict.abstained and verdict.reason


def test_an_edited_file_is_read_anew_and_nothing_goes_on_the_path(checks: Path) -> None:
    before = list(sys.path)
    claim = [Claim("text", "hello")]
    assert run(load("checks.py:short", folder=checks), claim)[0].score == 0.0
    (checks / "checks.py").write_text(CHECKS.replace("limit=4", "limit=40"))
    assert run(load("checks.py:short", folder=checks), claim)[0].score == 1.0
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empirica", r"unknown verifier 'empirica'\nknown: consistency, .* mean 'empirical'\? Your own"),
        ("checks.py:shot", "has no function 'shot'\nknown: .*Did you mean 'short'"),
        ("check.py:short", "cannot read .*check.py': No such file or directory\nfiles there: .*checks.py"),
        ("nowhere/check.py:short", "No such file or directory\nlooked in"),
        ("checks.py:LIMIT", "'checks.py:LIMIT' is a int, not a function or a verifier"),
        ("checks.py:Local", "'checks.py:Local' is a type, not a function or a verifier"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_is_there(name: str, words: str, checks: Path) -> None:
    with pytest.raises(VerifierError, match=words):
        load(name, folder=checks)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(claim:\n    return 1", "cannot import .*: SyntaxError"),
        ("import no_such_module_at_all\ndef f(claim): return 1", "ModuleNotFoundError: No module named 'no_such"),
        ("raise SystemExit(3)", "cannot import .*: SystemExit: 3"),
        ("def f(a, b): return 1", "needs exactly one parameter without a default, it has a, b"),
    ],
)
def test_a_file_that_does_not_import_is_named(source: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(source)
    with pytest.raises(VerifierError, match=words):
        load("broken.py:f", folder=tmp_path)
    left = [module for name, module in sys.modules.items() if name.startswith("alexandra_file_")]
    assert not [module for module in left if "broken" in str(module) and not hasattr(module, "f")]


def test_parameters_of_a_framework_are_checked(checks: Path) -> None:
    with pytest.raises(VerifierError, match="has no parameter 'group'\nknown: .*Did you mean 'groups'"):
        load("power_dynamics", {"group": "gender"})


def test_a_plain_function_is_imported_for_other_uses(checks: Path) -> None:
    assert import_function("checks.py:short", checks)(Claim("text", "abc")) is True
    with pytest.raises(VerifierError, match="'checks.py:LIMIT' is a int, not a function"):
        import_function("checks.py:LIMIT", checks)

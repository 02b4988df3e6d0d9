"""The committed reference pages and editor files are what the grammars and tables say now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alexandra.api.reference import EDITORS, FOLDER, STATEMENTS, files, page, statement_rules, write
from alexandra.api.reference_words import COMBINE, IGNORED, REFERENCES, SAMPLES, SOURCES, WORDS
from alexandra.ir.ops import OPS
from alexandra.lang import expr, rules_spec, task_parts
from alexandra.lang.ebnf import GRAMMARS, words
from alexandra.lang.facts import FACTS
from alexandra.lang.fmt import format_text
from alexandra.lang.lexis import Limits
from alexandra.metrics import METRICS
from alexandra.verifiers.loading import FRAMEWORKS

HOW = "write them anew: .venv/bin/python -m alexandra.api.reference"


@pytest.mark.parametrize("name", sorted(files()))
def test_the_committed_file_is_the_generated_one(repository: Path, name: str) -> None:
    assert (repository / name).read_bytes().decode() == files()[name].decode(), HOW


def test_nothing_else_lies_beside_the_generated_files(repository: Path) -> None:
    found = {p.relative_to(repository).as_posix() for f in (FOLDER, EDITORS) for p in (repository / f).iterdir()}
    assert found == set(files())


@pytest.mark.parametrize("language", sorted(GRAMMARS))
def test_every_statement_and_literal_of_the_grammar_has_its_sentence(language: str) -> None:
    assert set(STATEMENTS[language]) == statement_rules(language)
    assert {one.name for one in words(GRAMMARS[language])} - set(IGNORED) <= set(WORDS)


def test_the_pages_walk_their_tables() -> None:
    nureon, task, rules = page("nureonlang"), page("tasklang"), page("rulelang")
    for op in OPS.values():
        assert f"| `LAYER {op.name.upper()}` |" in nureon
        assert all(f"| `{op.name.upper()}` | `{name}` |" in nureon for name in op.attrs)
    assert all(f"`{name}" in task for name in (*METRICS, *FRAMEWORKS))
    for name, spec in FACTS.items():
        if name not in METRICS:
            assert (f"| `{name}` |" in task) == ("accept" in spec.places)
            assert f"| `{name}` |" in rules
    assert all(f"| `{limit}` |" in text for limit in vars(Limits()) for text in (nureon, task, rules))


def test_tables_of_words_name_what_the_languages_know() -> None:
    assert set(COMBINE) == set(rules_spec.COMBINE)
    assert set(REFERENCES) == set(expr.REFERENCES)
    assert set(SOURCES) == set(task_parts.SOURCES)


@pytest.mark.parametrize("language", sorted(SAMPLES))
def test_samples_are_laid_out_as_the_formatter_does(language: str) -> None:
    assert format_text(SAMPLES[language], GRAMMARS[language]) == SAMPLES[language]


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    assert {path.relative_to(tmp_path).as_posix() for path in write(tmp_path)} == set(files())
    assert write(tmp_path) == []
    assert json.loads((tmp_path / EDITORS / "package.json").read_text())["contributes"]

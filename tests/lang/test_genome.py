"""Edits of a program: whatever `mutate` gives develops into a verified network, and every kind of edit occurs."""

from collections import Counter
from pathlib import Path

import pytest

from alexandra.errors import LanguageError
from alexandra.ir.check import verify
from alexandra.lang import genome
from alexandra.lang.nureon import format_nureon
from alexandra.rng import derive

NETWORKS = Path(__file__).parents[2] / "examples" / "networks"
RESIDUAL = (NETWORKS / "tabular_residual.nl").read_text()
SIZES = {"x": 8, "y": 3}

PLAIN = """LET rate = 0.5;
LET sizes = (8, 4);
LAYER INPUT name=x size=6
LAYER DENSE name=h size=sizes[0] activation=relu
LAYER DROPOUT name=d rate=rate
LAYER OUTPUT name=y size=2
CONNECT x -> h -> d -> y
"""


def test_a_long_walk_of_mutations_only_meets_verified_networks() -> None:
    text = RESIDUAL
    for step in range(40):
        text, _ = genome.mutate(text, derive(3, "walk", step), SIZES)
        verify(genome.develop(text, SIZES))
        assert format_nureon(text) == text
    assert genome.develop(text, SIZES).spec_hash != genome.develop(RESIDUAL, SIZES).spec_hash


def test_equal_streams_give_equal_edits_and_others_give_others() -> None:
    first = [genome.mutate(RESIDUAL, derive(0, "m", i), SIZES)[0] for i in range(12)]
    assert first == [genome.mutate(RESIDUAL, derive(0, "m", i), SIZES)[0] for i in range(12)]
    assert len(set(first)) >= 8


def test_every_kind_of_edit_is_offered_and_verifies_somewhere() -> None:
    verified: Counter[str] = Counter()
    for program, sizes in ((RESIDUAL, SIZES), (PLAIN, None)):
        for edit in genome.edits(program):
            try:
                result = genome.apply(program, edit, sizes)
            except LanguageError:
                continue
            assert result != format_nureon(program), edit
            verified[edit.kind] += 1
    assert set(verified) == set(genome.KINDS)


def test_what_the_edit_says_is_what_changes() -> None:
    by_words = {edit.what: edit for edit in genome.edits(PLAIN)}
    assert "LET rate = 0.25;" in genome.apply(PLAIN, by_words["LET rate: 0.5 -> 0.25"])
    assert "LET sizes = (16, 4);" in genome.apply(PLAIN, by_words["LET sizes: 8 -> 16"])
    assert "activation=tanh" in genome.apply(PLAIN, by_words["dense activation: tanh"])
    without = genome.apply(PLAIN, by_words["without d"])
    assert "CONNECT x -> h -> y" in without and "DROPOUT" not in without
    more = genome.apply(PLAIN, by_words["rmsnorm before d"])
    assert "LAYER RMSNORM name=d_rmsnorm" in more and "CONNECT x -> h -> d_rmsnorm -> d -> y" in more


def test_an_edit_that_breaks_the_network_is_refused_where_it_breaks() -> None:
    broken = next(edit for edit in genome.edits(RESIDUAL) if edit.what == "a RESIDUAL around dense")
    with pytest.raises(LanguageError, match="needs equal shapes"):
        genome.apply(RESIDUAL, broken, SIZES)


def test_a_program_that_is_wrong_is_not_mutated() -> None:
    with pytest.raises(LanguageError):
        genome.mutate("LAYER INPUT name=x size=2", derive(0, "m"))


def test_growth_ends_at_the_limit_of_layers() -> None:
    ends = "LAYER INPUT name=x size=2 LAYER OUTPUT name=y size=1 CONNECT x -> t -> y"
    huge = f"REPEAT 4000 AS t BEGIN LAYER RELU END {ends}"
    doubled = next(edit for edit in genome.edits(huge) if edit.what == "REPEAT: 4000 -> 8000")
    with pytest.raises(LanguageError, match="layers"):
        genome.apply(huge, doubled)

"""The recipe of arithmetic in columns: what it writes is what the curriculum proves, and each character is judged by
what stands before it."""

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import alexandra as ax
from alexandra.rng import derive
from alexandra.verifiers.loading import import_function

RECIPES = Path(__file__).resolve().parents[3] / "examples/recipes"


@pytest.fixture(scope="module")
def columns() -> Any:
    return sys.modules[import_function("columns.py:judged", RECIPES).__module__]


def test_derivations_end_with_the_number_that_the_curriculum_proves(columns: Any) -> None:
    for item in ax.curriculum.level(2, count=3000, seed=5):
        lines = columns.operations(item.expr)
        question, answer = columns.question(lines), columns.solve(lines)
        assert columns.lines_of(question) == lines
        assert columns.value(answer) == item.expected, str(item.expr)
        judged = columns.judged(answer, question, answer)
        assert judged["reward"] == 1 and judged["steps"] == [(end, 1.0) for end in range(1, len(answer) + 2)]


def test_the_lines_of_the_docstring(columns: Any) -> None:
    lines = [("-", 14, 12), ("*", 7, "!")]
    assert columns.question(lines) == "p-ECq*7!=" and columns.solve(lines) == "p-EC20!+2q*7241@+41"
    assert columns.value("p/DE!+D&E") == Fraction(13, 14)


def test_behind_a_mistake_the_next_column_can_be_right_again(columns: Any) -> None:
    """14 - 12 = 3 is wrong once; 7 * 3 = 21 is then right."""
    answer = "p-EC20!+2q*7241@+41"
    given = "p-EC30!+3q*7312@+12"
    judged = columns.judged(given, "p-ECq*7!=", answer)
    assert judged["reward"] == 0
    assert [given[end - 1] for end, worth in judged["steps"][:-1] if not worth] == ["3"]
    assert judged["steps"][-1] == (len(given) + 1, 1.0)


@pytest.mark.parametrize(
    ("given", "worth"),
    [
        ("", [0.0]),  # ended at once
        ("q", [0.0]),  # what follows a wrong name nobody knows
        ("p-EC20!+2", [1.0] * 9 + [0.0]),  # ended before the second operation
        ("p-EC20!+2q*7241@+41!", [1.0] * 19 + [0.0]),  # went on
        ("p-EC=0", [1.0] * 4 + [0.0]),  # no digit
    ],
)
def test_an_answer_is_judged_as_far_as_it_can_be_followed(columns: Any, given: str, worth: list[float]) -> None:
    judged = columns.judged(given, "p-ECq*7!=", "p-EC20!+2q*7241@+41")
    assert judged["reward"] == 0 and [one for _, one in judged["steps"]] == worth


def test_no_text_stops_the_judge(columns: Any) -> None:
    alphabet = columns.DIGITS + "+-*/!@#$&%^~pqrsxyztuvw="
    items = list(ax.curriculum.level(2, count=300, seed=6))
    for number, item in enumerate(items):
        lines = columns.operations(item.expr)
        question, answer = columns.question(lines), columns.solve(lines)
        stream = derive(1, "damage", number)
        place, letter = int(stream.at(0).below(len(answer), 1)[0]), int(stream.at(1).below(len(alphabet), 1)[0])
        given = answer[:place] + alphabet[letter] + answer[place + 1 :]
        judged = columns.judged(given, question, answer)
        ends = [end for end, _ in judged["steps"]]
        assert ends == list(range(1, len(ends) + 1)) and judged["reward"] == float(given == answer)
        assert all(worth == 1 for _, worth in judged["steps"][:place])
        assert judged["steps"][place][1] == float(given == answer)


@pytest.mark.parametrize("text", ["", "abc", "!", "!+", "!+1&", "!+1&0", "p!+1&2q", "!1", "!+x"])
def test_what_ends_with_no_number_has_no_value(columns: Any, text: str) -> None:
    assert columns.value(text) is None

"""The exact calculator: bindings, infix and prefix, tasks, verdicts; a model's answer is never passed as proved."""

from __future__ import annotations

import json

import pytest

from alexandra.api.repl import Repl
from alexandra.cli import main


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2/3 + 1/6", "5/6   (about 0.833333333333)"),
        ("(+ 2 (* 3 4))", "14"),
        ("derive(x^2 * sin(x), x)", "x ^ 2 * cos(x) + 2 * (x * sin(x))"),
        ("integrate(x^2, x, 0, 1)", "1/3"),
        ("solve(2x + 5 = 13, x)", "4"),
        ("solve(x^2 = 2, x)", "{-sqrt(2), sqrt(2)}"),
        ("sqrt(8)", "2 * sqrt(2)"),
        ("x + x", "2 * x"),
        ("1/0", "divided by zero"),
        ("2 +", "ends too early"),
        ("sin(x)^2 + cos(x)^2 == 1", "equal: one normal form"),
        ("x^2 == x", "different: at x = -1: 1 and -1"),
        ("help", "let x = 3"),
    ],
)
def test_lines_are_answered(line: str, words: str) -> None:
    found = Repl().answer(line)
    assert found is not None and words in "\n".join(found)


def test_bindings_hold_until_they_are_cleared() -> None:
    repl = Repl()
    assert repl.answer("let a = 3") == ["a = 3"] and repl.answer("let b = a + 1") == ["b = 4"]
    assert repl.answer("a * b") == ["12"] and repl.answer("derive(a^2, a)") == ["2 * a"]
    assert repl.answer("vars") == ["a = 3", "b = 4"]
    assert repl.answer("clear") == ["nothing is bound"] and repl.answer("a") == ["a"]
    assert repl.answer("prefix") == ["answers are in prefix"] and repl.answer("a + a") == ["(* 2 a)"]
    assert repl.answer("quit") is None


def test_a_models_answer_is_marked_by_the_engine() -> None:
    answers = {"(+ 2 3)": "5", "(+ 2 4)": "7", "(+ 2 5)": "", "(+ 2 6)": "?"}
    repl = Repl(ask=lambda text: answers[text])
    marks = [repl.answer(line) for line in ("2 + 3", "2 + 4", "2 + 5", "2 + 6")]
    assert [found[-1] for found in marks if found] == [
        "model: 5   (proved)",
        "model: 7   (wrong)",
        "model: no answer",
        "model: ?   (not proved: it is not understood)",
    ]


def test_the_command_answers_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["repl", "-e", "let x = 3", "-e", "x^2", "--json"])
    assert not end.value.code
    assert json.loads(capsys.readouterr().out)[1] == {"line": "x^2", "answer": ["9"]}

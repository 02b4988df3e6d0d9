"""`alexandra train scorer` and `verify --scorer` as a user types them: from labelled lines to a measured say."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

import alexandra as ax
from alexandra.api.scorer_training import read_labelled
from alexandra.api.verify import Judge
from alexandra.cli import main
from alexandra.errors import UsageError, VerifierError
from alexandra.records import Claim
from alexandra.verifiers.scorers import folder
from alexandra.verifiers.scorers.ngrams import SEPARATOR

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def written(path: Path, n: int, seed: int = 0) -> Path:
    """Answers with "sky" to prompts about the sky are right, others are wrong."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, label in enumerate(rng.integers(0, 2, n).tolist()):
        words = " ".join(rng.choice(["well", "so", "then", "indeed", "there"], 4))
        answer = f"{words} {'sky' if label else 'floor'}"
        rows.append({"prompt": f"what is above {i}", "answer": answer, "label": bool(label)})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def run(*words: str | Path) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def train(data: Path, base: str | Path, out: Path, *more: str) -> int:
    words = ("--framework", "contextual", "--data", data, "--base", base, "--out", out)
    return run("train", "scorer", *words, *more)


def test_a_scorer_without_torch_is_trained_measured_and_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "data.jsonl", 300)
    assert train(data, "ngrams", tmp_path / "s") == 0
    text = capsys.readouterr().out
    assert "on 300 claims that it was not fitted on precision 1.00, recall" in text and "--scorer" in text
    rows = [
        {"kind": "text", "content": f"well so then {word}", "context": {"prompt": "what is above 3"}}
        for word in ("sky", "floor")
    ]
    claims = tmp_path / "claims.jsonl"
    claims.write_text("\n".join(map(json.dumps, rows)))
    words = ("verify", claims, "--verifier", "contextual", "--workers", "0", "--json")
    assert run(*words) == 0
    alone = json.loads(capsys.readouterr().out)["claims"]
    assert run(*words, "--scorer", tmp_path / "s") == 0
    right, wrong = json.loads(capsys.readouterr().out)["claims"]
    assert right["score"] > wrong["score"] + 0.3 and right["confidence"] <= 0.6  # beside the framework's own tools
    assert alone[0]["score"] is None or abs(alone[0]["score"] - alone[1]["score"]) < 0.3


def test_a_scorer_that_learnt_nothing_is_called_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"what is above {i}", "answer": "so", "label": i % 3 == 0} for i in range(200)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert train(tmp_path / "data.jsonl", "ngrams", tmp_path / "s") == 0
    assert "not shown to be better than always giving the more frequent label" in capsys.readouterr().out


def test_a_fine_tuned_scorer_has_onnx_int8_and_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("torch", "transformers"):
        pytest.importorskip(name)
    from alexandra.train.scorer import Size, small

    data = written(tmp_path / "data.jsonl", 360)
    base = small("bert", read_labelled(data)[0], tmp_path / "base", Size(hidden=32, length=32, vocabulary=300))
    settings = ("--set", "epochs=6", "--set", "learning_rate=0.003", "--set", "max_length=32", "--json")
    capsys.readouterr()
    assert train(data, base, tmp_path / "s", *settings) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"model.onnx", "model.int8.onnx", "scorer.json", "tokenizer.json"} <= set(found["files"])
    card = found["card"]
    assert 50 <= card["n"] < 110 and card["precision"] > 0.85 and card["recall"] > 0.85 > card["floor"]
    assert card["int8"]["n"] == card["n"] and card["fitted_on"] + card["n"] < 360
    small_one = folder.load(tmp_path / "s/model.int8.onnx")
    assert small_one.int8 and small_one.measured == card["int8"]
    claims = [Claim("text", f"so then {word}", {"prompt": "what is above 9"}) for word in ("sky", "floor")]
    right, wrong = ax.verify(claims, ["contextual"], scorers=[tmp_path / "s/model.int8.onnx"])
    assert right.score is not None and wrong.score is not None and right.score > wrong.score + 0.3


def test_progress_tells_every_step(tmp_path: Path) -> None:
    for name in ("torch", "transformers"):
        pytest.importorskip(name)
    from alexandra.train.scorer import Recipe, Size, fine_tune, small, split

    texts, labels = read_labelled(written(tmp_path / "data.jsonl", 120))
    base = small("bert", texts, tmp_path / "base", Size(hidden=16, layers=1, length=32, vocabulary=200))
    heard: list[tuple[str, int, int]] = []
    recipe = Recipe(epochs=2, batch_size=32)
    fine_tune(base, tmp_path / "out", texts, labels, recipe, lambda *told: heard.append(told))
    steps = 2 * -(-len(split(texts).fit) // 32)
    assert [done for _, done, _ in heard] == list(range(1, steps + 1)) and {total for *_, total in heard} == {steps}
    assert "held loss" not in heard[0][0] and "held loss" in heard[-1][0]


def test_workers_leave_a_scorer_to_the_callers_process(tmp_path: Path) -> None:
    assert train(written(tmp_path / "data.jsonl", 200), "ngrams", tmp_path / "s") == 0
    claims = [Claim("text", f"so then {i} sky", {"prompt": f"what is above {i}"}) for i in range(70)]
    with Judge(["contextual"], workers=1, scorers=[tmp_path / "s"]) as judge:
        verdicts = judge.verify(claims)
    for verdict in verdicts:
        assert any(part.verifier == "contextual_scorer" and part.score for part in verdict.parts[0].parts)


def test_a_scorer_that_was_measured_again_is_asked_again(tmp_path: Path) -> None:
    from dataclasses import replace

    assert train(written(tmp_path / "data.jsonl", 200), "ngrams", tmp_path / "s") == 0
    made = folder.load(tmp_path / "s")
    other = replace(made, card={**made.card, "precision": 0.51})
    assert folder.tool(made).version() != folder.tool(other).version()


def test_lines_are_read_in_three_forms(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"prompt": "p", "answer": "a", "label": true}\n\n{"text": "t", "label": 0}\n'
        '{"kind": "text", "content": "c", "context": {"prompt": "q"}, "label": "yes"}\n'
    )
    assert read_labelled(path) == ([f"p{SEPARATOR}a", "t", f"q{SEPARATOR}c"], [1, 0, 1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "rows.jsonl:2: not JSON"),
        ("3", "rows.jsonl:2: this line is no JSON object"),
        ('{"text": "t"}', "rows.jsonl:2: the label is none"),
        ('{"text": "t", "label": "maybe"}', "the label is 'maybe'"),
        ('{"label": 1}', "no text in 'answer' or 'text'"),
        ('{"kind": "derivation", "content": {"steps": ["1"]}, "label": 1}', "kind 'text', not 'derivation'"),
    ],
)
def test_a_line_that_is_no_labelled_claim_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "t", "label": 0}\n' + line)
    with pytest.raises(UsageError) as caught:
        read_labelled(path)
    assert message in caught.value.message


def test_what_was_asked_wrongly_is_one_message(tmp_path: Path) -> None:
    data, out = written(tmp_path / "data.jsonl", 100), tmp_path / "s"
    few = written(tmp_path / "few.jsonl", 4)
    for words, message in (
        (("--framework", "empiric", "--data", data, "--base", "ngrams", "--out", out), "Did you mean 'empirical'?"),
        (("--framework", "empirical", "--data", data, "--out", out), "or a family for random weights: t5, bert"),
        (("--framework", "empirical", "--data", few, "--base", "ngrams", "--out", out), "give more prompts"),
        (("--framework", "empirical", "--data", data, "--base", "ngrams", "--out", tmp_path), "not empty"),
        (("--framework", "empirical", "--data", tmp_path / "no", "--base", "ngrams", "--out", out), "cannot read"),
        (
            ("--framework", "empirical", "--data", data, "--base", "ngrams", "--out", out, "--set", "epoch=3"),
            "Did you mean 'epochs'?",
        ),
    ):
        with contextlib.redirect_stderr(io.StringIO()) as told:
            assert run("train", "scorer", *words) in (1, 2), words
        assert message in " ".join(told.getvalue().split()), (words, told.getvalue())
    assert not out.exists()


def test_a_scorer_of_a_framework_that_is_not_asked_is_refused(tmp_path: Path) -> None:
    assert train(written(tmp_path / "data.jsonl", 200), "ngrams", tmp_path / "s") == 0
    with pytest.raises(VerifierError, match="a scorer for 'contextual', which is not among: empirical"):
        ax.verify([Claim("text", "sky")], ["empirical"], scorers=[tmp_path / "s"])
    with pytest.raises(VerifierError, match="no scorer in"):
        ax.verify([Claim("text", "sky")], scorers=[tmp_path])

"""The page on a run says how it went, draws what changed, shows answers, and needs nothing from elsewhere."""

import json
from pathlib import Path

import pytest
from tests.train.lm.test_more_stages import RECORDS, exact, model_folder

import alexandra as ax
from alexandra.api.run_report import curves, write_report
from alexandra.errors import NotFoundError
from alexandra.train.watch import read_lines


def likes_b(completion: str) -> float | None:
    return None if completion.startswith("a") else float(completion.startswith("B"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    settings = {
        "train": {"steps": 6, "lr": 0.03, "eval_every": 3},
        "rollout": {"prompts": 4, "group": 4, "max_tokens": 2, "kl": 0.05},
    }
    data = [*RECORDS, {"prompt": "dd", "completion": "x", "answer": "<b>&"}]
    ax.train(
        "grpo",
        model=model_folder(),
        data=data,
        rewards=[exact, likes_b],
        checks=[exact],
        folder=folder,
        settings=settings,
    )
    return folder


def test_the_page_has_curves_by_framework_answers_and_the_alarm(run: Path) -> None:
    page = write_report(run).read_text()
    assert page.startswith("<!doctype html>") and "http" not in page.split("<style>")[1].split("</style>")[1]
    for part in ("all 6 steps", "reward by framework", "entropy of the policy", "KL to the reference", "did not ring"):
        assert part in page
    assert "first measure, after 3 steps" in page and "last measure, after 6 steps" in page
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert {line["step"] for line in samples} == {2, 5} and set(samples[0]["parts"]) == {"exact", "likes_b"}


def test_a_number_that_never_changes_gets_a_line_and_no_chart(run: Path) -> None:
    steps = read_lines(run / "metrics.jsonl")
    shown = " ".join(str(caption) for caption, _ in curves(steps))
    assert len({line["ratio"] for line in steps if "ratio" in line}) == 1 and "ratio" not in shown
    assert "The same at every step" in write_report(run).read_text()


def test_what_the_model_says_is_text_and_never_markup(run: Path) -> None:
    place = run / "samples.jsonl"
    before = place.read_text()
    line = {"step": 5, "prompt": "<script>alert(1)</script>", "answer": "a&b", "reward": None, "parts": {}}
    place.write_text(before + json.dumps(line) + "\n")
    page = write_report(run).read_text()
    place.write_text(before)
    assert "<script>" not in page and "&lt;script&gt;" in page and "a&amp;b" in page and "abstained" in page


def test_a_folder_without_numbers_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no metrics"):
        write_report(tmp_path)

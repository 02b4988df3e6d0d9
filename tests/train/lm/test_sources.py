"""Mixtures of data: shares of rows and of tokens by weight, every stage, resumed to the same bytes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.train.lm.test_more_stages import TOKENIZER, network

from alexandra.config import parse_config, validate
from alexandra.errors import DataError, UsageError
from alexandra.train.lm.build import Given, build
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.likelihood import LikelihoodSettings, Pretraining
from alexandra.train.lm.recipe import STAGES, Recipe
from alexandra.train.lm.run import run
from alexandra.train.lm.sources import mixture, rows_taken

SIZES = {"a": 30, "b": 12, "c": 100}


def files(folder: Path) -> Path:
    for name, count in SIZES.items():
        rows = [
            {
                "prompt": f"{'abcd'[i % 4]}{'abcd'[i // 4 % 4]}{name}",
                "completion": "AB"[i % 2],
                "answer": "AB"[i % 2],
                "chosen": "AB",
                "rejected": "BA",
                "label": bool(i % 2),
                "number": i,
                "of": name,
            }
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe(stage: str = "sft", weights: str = "3 1 0.5", steps: int = 50, more: str = "") -> Recipe:
    sources = "".join(
        f'[[data.sources]]\npath = "{name}.jsonl"\nweight = {float(weight)}\n'
        for name, weight in zip(SIZES, weights.split(), strict=True)
    )
    text = f'stage = "{stage}"\n[model]\nbackend = "reference"\n[train]\nsteps = {steps}\nbatch = 8\n{more}\n'
    return parse_config(text + f"[data]\nheld_out = 0.0\n{sources}", Recipe)


def model() -> ModelFolder:
    return ModelFolder(network(vocab="AUTO"), None, None)


def built(one: Recipe, folder: Path) -> Any:
    return build(one, Given(model()), folder)


def test_every_source_has_its_share_and_repeats_only_when_it_is_used_up(tmp_path: Path) -> None:
    rows = built(recipe(), files(tmp_path)).records
    count = Counter(row["of"] for row in rows)
    assert len(rows) == 400 == rows_taken(recipe())
    assert [count[name] for name in "abc"] == [267, 89, 44]
    seen = Counter((row["of"], row["number"]) for row in rows)
    for name, size in SIZES.items():
        uses = [seen[name, i] for i in range(size)]
        assert max(uses) - min(uses) <= 1


def test_no_more_rows_than_it_takes_for_each_to_be_there_once() -> None:
    parts = [[{"of": name, "number": i} for i in range(size)] for name, size in SIZES.items()]
    rows = mixture(parts, [1.0, 1.0, 1.0], 10**9, 0)
    assert len(rows) == 300 and Counter(row["of"] for row in rows) == {"a": 100, "b": 100, "c": 100}
    assert len({(row["of"], row["number"]) for row in rows}) == 142
    again, other = (mixture(parts, [1.0, 1.0, 1.0], 10**9, seed) for seed in (0, 1))
    assert rows == again != other
    assert mixture(parts, [0.0, 0.0, 0.0], 5, 0) == [row for part in parts for row in part]
    first = [row["number"] for row in rows if row["of"] == "b"]
    assert len(first) == 100 and first[:12] != first[12:24]


def test_held_out_rows_are_nowhere_in_the_mixture(tmp_path: Path) -> None:
    one = recipe().model_copy(update={"data": recipe().data.model_copy(update={"held_out": 0.2})})
    found = built(one, files(tmp_path))
    train, aside = ({(row["of"], row["number"]) for row in rows} for rows in (found.records, found.aside))
    assert aside and not train & aside and {name for name, _ in aside} == set(SIZES)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in ("pretrain", "distill")])
def test_every_stage_takes_a_mixture(stage: str, tmp_path: Path) -> None:
    folder = files(tmp_path)
    (folder / "rewards.py").write_text("def exact(completion, answer): return float(completion[:1] == answer)\n")
    more = (
        '[rollout]\nprompts = 2\ngroup = 2\nmax_tokens = 2\n[reward]\nfunctions = ["rewards.py:exact"]\ntimeout = 0.0'
    )
    rules = 'clean = "ab"\n[[principle]]\nname = "plain"\ncritique = "a"\nrevise = "b"\nnever = "A"\n'
    (folder / "rules.toml").write_text(rules)
    more += '\n[constitution]\npath = "rules.toml"\nlearn = 1\nrounds = 1\ncritique_tokens = 2'
    found = built(recipe(stage, steps=12, more=more), folder)
    count = Counter(row["of"] for row in found.records)
    taken = rows_taken(found.recipe)
    assert sum(count.values()) == taken and count["a"] == pytest.approx(taken * 3 / 4.5, abs=1)
    found.stage.step(0)


def test_a_run_that_was_cut_sees_the_rows_of_the_one_that_was_not(tmp_path: Path) -> None:
    one = recipe(steps=12, more="save_every = 4\neval_every = 6")
    folder = files(tmp_path)
    whole = run(one, folder=tmp_path / "whole", given=Given(model()), base=folder)
    run(one, folder=tmp_path / "cut", given=Given(model()), base=folder)
    for path in (tmp_path / "cut" / "checkpoints").iterdir():
        if path.name > "step-00000004.safetensors":
            path.unlink()
    again = run(one, folder=tmp_path / "cut", given=Given(model()), base=folder, resume=True)
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)


def test_windows_of_pre_training_lie_in_one_source_and_are_drawn_by_weight() -> None:
    texts = [np.full(size, value, np.int32) for value, size in enumerate((40, 400, 90))]
    sources = [(len(text), weight) for text, weight in zip(texts, (5.0, 1.0, 4.0), strict=True)]
    stage = Pretraining(None, np.concatenate(texts), LikelihoodSettings(16, 100, seed=3), None, sources)  # type: ignore[arg-type]
    drawn = np.concatenate([stage.batch(number).tokens_BT for number in range(50)])
    assert (drawn == drawn[:, :1]).all()
    share = np.bincount(drawn[:, 0], minlength=3) / len(drawn)
    np.testing.assert_allclose(share, [0.5, 0.1, 0.4], atol=0.02)
    np.testing.assert_array_equal(stage.batch(7).tokens_BT, stage.batch(7).tokens_BT)
    with pytest.raises(DataError, match="has 17 tokens, a window needs 17"):
        Pretraining(None, np.zeros(417, np.int32), LikelihoodSettings(16), None, [(400, 1.0), (17, 1.0)])  # type: ignore[arg-type]


def test_pre_training_holds_out_the_end_of_each_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab" * 200)
    (tmp_path / "b.txt").write_text("cd" * 300)
    text = """stage = "pretrain"
[model]
[data]
length = 8
[[data.sources]]
path = "a.txt"
weight = 1.0
[[data.sources]]
path = "b.txt"
weight = 3.0
"""
    found = build(parse_config(text, Recipe), Given(ModelFolder(network(vocab="AUTO"), None, TOKENIZER)), tmp_path)
    assert isinstance(found.stage, Pretraining)
    assert len(found.stage.tokens) == 360 + 540 and len(found.stage.held_out) == 40 + 60 + 2
    windows = np.concatenate([found.stage.batch(number).tokens_BT for number in range(40)])
    letters = set(TOKENIZER.encode("ab"))
    assert np.mean([int(row[0]) in letters for row in windows]) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"path": "a.jsonl", "sources": [{"path": "b.jsonl"}]}, "name data twice"),
        ({"sources": [{"path": "a.jsonl", "weight": 1.0}, {"path": "b.jsonl"}]}, "'b.jsonl' has no weight"),
        ({}, "names no data"),
    ],
)
def test_what_cannot_be_mixed_is_refused(data: dict[str, Any], says: str, tmp_path: Path) -> None:
    one = validate({"stage": "sft", "model": {}, "data": data}, Recipe)
    with pytest.raises(UsageError, match=says):
        built(one, files(tmp_path))

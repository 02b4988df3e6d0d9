"""The gradient's norm in a stage's numbers: that of the loss's own gradient, before clipping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.train.lm.test_more_stages import RECORDS, TOKENIZER, network

from alexandra.api.run_report import write_report
from alexandra.backends.bind import available
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.run import train


def model() -> ModelFolder:
    return ModelFolder(network(vocab="AUTO"), None, TOKENIZER)


def run(folder: Path | None = None, stage: str = "sft", **sections: Any) -> Any:
    plain = {"optimizer": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warmup": 0}
    train_keys = plain | {"steps": 2, "batch": 8, "clip": 0.0, "eval_every": 0} | sections.pop("train", {})
    settings = {"train": train_keys, "data": {"held_out": 0.0}, **sections}
    return train(stage, model=model(), data=RECORDS, folder=folder, settings=settings)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_the_norm_is_that_of_the_step_that_plain_descent_takes(backend: str) -> None:
    if available(backend):
        pytest.skip(available(backend))
    before = run(model={"backend": backend}, train={"steps": 1, "lr": 1e-30}).weights
    done = run(model={"backend": backend}, train={"steps": 1})
    step = [np.asarray(done.weights[name], np.float64) - before[name] for name in before]
    norm = np.sqrt(sum(float((change**2).sum()) for change in step)) / 0.5
    assert done.result.last["grad_norm"] == pytest.approx(norm, rel=1e-4) and norm > 0


def test_clipping_does_not_change_what_is_told_and_it_is_in_the_log_and_the_report(tmp_path: Path) -> None:
    plain = run(model={"backend": "reference"})
    clipped = run(tmp_path / "run", model={"backend": "reference"}, train={"clip": 1e-3})
    lines = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first = run(model={"backend": "reference"}, train={"steps": 1}).result.last["grad_norm"]
    assert lines[0]["grad_norm"] == pytest.approx(first) and lines[0]["grad_norm"] > 1e-3
    assert plain.result.last["grad_norm"] != pytest.approx(clipped.result.last["grad_norm"], rel=1e-6)
    assert "norm of the gradient before clipping" in write_report(tmp_path / "run").read_text()


def test_every_stage_that_learns_tells_it_and_a_critic_its_own() -> None:
    rows = [{"prompt": one["prompt"], "chosen": "ab", "rejected": "ba"} for one in RECORDS]
    backend = {"model": {"backend": "reference"}, "data": {"held_out": 0.0}}
    few = {"train": {"steps": 1, "batch": 4, "eval_every": 0}, "rollout": {"prompts": 2, "group": 4, "max_tokens": 2}}
    for stage in ("dpo", "orpo", "reward"):
        done = train(stage, model=model(), data=rows, settings=backend | few)
        assert done.result.last["grad_norm"] > 0, stage

    def even(completion: str) -> float:
        return float(len(completion) % 2) + 0.1 * completion.count("a")

    done = train("ppo", model=model(), data=rows, rewards=[even], settings=backend | few)
    assert done.result.last["grad_norm"] > 0 and done.result.last["value_grad_norm"] > 0


@pytest.mark.skipif(bool(available("native")), reason="the native engine is not built")
def test_the_engine_tells_the_norm_that_it_clips() -> None:
    norms = [
        run(model={"backend": backend}, train={"clip": 1e-3}).result.last["grad_norm"]
        for backend in ("native", "reference")
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4) and norms[0] > 1e-3


def test_a_step_without_an_update_and_the_engine_without_clipping_tell_nothing() -> None:
    done = train(
        "grpo",
        model=model(),
        data=RECORDS,
        rewards=[lambda completion: 1.0],
        settings={"model": {"backend": "reference"}, "train": {"steps": 1, "eval_every": 0}},
    )
    assert done.result.last["informative"] == 0 and "grad_norm" not in done.result.last
    if not available("native"):
        assert "grad_norm" not in run(model={"backend": "native"}).result.last

"""What a recipe says of the optimiser, its schedule and the average of weights, and what it comes to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.train.lm.test_more_stages import RECORDS, TOKENIZER, network

import alexandra as ax
from alexandra.backends.bind import available
from alexandra.config import validate
from alexandra.objectives.spec import AdamW, Muon, Schedule
from alexandra.train.checkpoint import read
from alexandra.train.lm.folder import ModelFolder, read_model
from alexandra.train.lm.optimization import backend_of, optimization_of
from alexandra.train.lm.recipe import Recipe


def recipe(stage: str = "sft", **sections: Any) -> Recipe:
    return validate({"stage": stage, "model": {}, "data": {}, **sections}, Recipe, "test")


def model() -> ModelFolder:
    return ModelFolder(network(vocab="AUTO"), None, TOKENIZER)


def test_a_recipe_becomes_an_optimiser_and_its_schedule_over_all_updates() -> None:
    found = optimization_of(recipe(train={"optimizer": "muon", "steps": 100, "schedule": "wsd", "lr": 0.003}))
    assert found.optimizer == Muon(0.02, 0.95, 0.1, rest=AdamW(0.003, 0.9, 0.95, weight_decay=0.1))
    assert found.schedule == Schedule("wsd", 10, 100, 0.1, 20)
    ppo = optimization_of(recipe("ppo", train={"steps": 10}, rollout={"epochs": 3, "minibatches": 2}))
    assert ppo.schedule.total_steps == 60


def test_auto_means_a_backend_that_has_the_precision() -> None:
    assert backend_of(recipe(train={"optimizer": "muon"})) == "auto"
    assert backend_of(recipe(train={"precision": "bf16"})) == "torch"
    assert backend_of(recipe(model={"backend": "native"}, train={"precision": "bf16"})) == "native"


def test_muon_learns_by_recipe() -> None:
    train = {"steps": 40, "batch": 8, "optimizer": "muon", "schedule": "linear", "lr": 0.05, "eval_every": 20}
    found = ax.train("sft", model=model(), data=RECORDS, settings={"train": train})
    assert found.result.measures[-1][1]["eval_loss"] < 0.3


def test_the_average_of_weights_is_measured_saved_and_resumed_exactly(tmp_path: Path) -> None:
    train = {"steps": 12, "batch": 8, "lr": 0.03, "eval_every": 5, "save_every": 4, "ema": 0.7, "keep": 9}
    plain = ax.train(
        "sft",
        model=model(),
        data=RECORDS,
        folder=tmp_path / "plain",
        settings={"train": train | {"ema": 0.0, "save_every": 1, "keep": 99}},
    )
    found = ax.train("sft", model=model(), data=RECORDS, folder=tmp_path / "whole", settings={"train": train})
    for name, array in plain.weights.items():  # training does not see the average
        np.testing.assert_array_equal(found.built.model.weights[name], array)
    fresh = ax.train(
        "sft", model=model(), data=RECORDS, settings={"train": train | {"steps": 1, "lr": 1e-30, "ema": 0.0}}
    )
    average = {name: np.array(array, np.float64) for name, array in fresh.weights.items()}
    for step in range(1, 13):
        now = read(tmp_path / "plain" / "checkpoints" / f"step-{step:08d}.safetensors").arrays
        average = {name: 0.7 * array + 0.3 * now[f"weights/{name}"] for name, array in average.items()}
    saved = read_model(tmp_path / "whole" / "model").weights
    assert saved is not None
    for name, array in average.items():
        np.testing.assert_allclose(saved[name], array, atol=1e-6)
    assert found.result.measures[-1][1]["eval_loss"] != plain.result.measures[-1][1]["eval_loss"]

    ax.train("sft", model=model(), data=RECORDS, folder=tmp_path / "cut", settings={"train": train})
    for path in (tmp_path / "cut" / "checkpoints").iterdir():
        if path.name > "step-00000004.safetensors":
            path.unlink()
    again = ax.train(
        "sft", model=model(), data=RECORDS, folder=tmp_path / "cut", settings={"train": train}, resume=True
    )
    assert again.result.resumed_at == 4
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for name, array in found.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_an_average_disturbs_no_backend(backend: str) -> None:
    if available(backend):
        pytest.skip(available(backend))
    train = {"steps": 6, "batch": 8, "lr": 0.03, "eval_every": 2}
    runs = [
        ax.train(
            "sft", model=model(), data=RECORDS, settings={"train": train | {"ema": ema}, "model": {"backend": backend}}
        )
        for ema in (0.0, 0.9)
    ]
    for name, array in runs[0].weights.items():
        np.testing.assert_array_equal(runs[1].built.model.weights[name], array)

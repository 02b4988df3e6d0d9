"""Adapters on networks of one's own: every stage trains them alone, and what is written is the plain network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from alexandra.backends.bind import available
from alexandra.cli import app
from alexandra.config import validate
from alexandra.errors import GraphError, UsageError
from alexandra.ir import cost
from alexandra.ir.adapters import Adapted
from alexandra.ir.check import make_graph, param_specs
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import WeightSet, initialise
from alexandra.rng import derive
from alexandra.train import checkpoint
from alexandra.train.lm.build import Built, Given, build
from alexandra.train.lm.doctor import diagnose
from alexandra.train.lm.engines import NativeSampler
from alexandra.train.lm.folder import ModelFolder, read_model, write_model
from alexandra.train.lm.launch import launch_plan
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.run import Trained, train
from alexandra.train.lm.tokenizer import CharTokenizer
from alexandra.train.watch import METRICS, read_lines

LETTERS = "abcdefgh"
TOKENIZER = CharTokenizer(LETTERS + LETTERS.upper())
BACKENDS = [name for name in ("native", "reference", "torch") if not available(name)]
BACKEND = BACKENDS[0]
DENSE = {"a.q.weight", "a.k.weight", "a.v.weight", "a.out.weight", "h.weight", "y.weight"}


def network() -> Graph:
    return make_graph(
        "next",
        [
            Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
            Node("e", "embedding", ("tokens",), {"vocab": TOKENIZER.vocab_size, "size": 16}),
            Node("a", "attention", ("e",), {"heads": 2, "rope": True}),
            Node("s", "add", ("e", "a")),
            Node("h", "dense", ("s",), {"size": 24, "activation": "tanh"}),
            Node("y", "output", ("h",), {"size": TOKENIZER.vocab_size}),
        ],
    )


def rows(shift: int, count: int = 48, wrong: int = 0) -> list[dict[str, Any]]:
    """Two letters and the capital of the letter `shift` after the last; every `wrong`-th answer is another."""
    draws = derive(1, "rows").below(8, 2 * count).reshape(count, 2).tolist()
    found = []
    for i, (first, last) in enumerate(draws):
        right, other = (LETTERS[(last + by) % 8].upper() for by in (shift, shift + 1 + i % 7))
        said = other if wrong and i % wrong == 0 else right
        row = {"prompt": LETTERS[first] + LETTERS[last], "completion": said, "answer": right}
        found.append({**row, "chosen": right, "rejected": other, "label": i % wrong > 0 if wrong else True})
    return found


def exact(completion: str, answer: str) -> float:
    return float(completion == answer)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learnt the next letter, a third of it wrong."""
    keys = {"steps": 60, "batch": 16, "lr": 0.02, "eval_every": 0}
    place = tmp_path_factory.mktemp("base")
    model = ModelFolder(network(), None, TOKENIZER)
    done = train("sft", model=model, data=rows(1, 120, wrong=3), folder=place, settings={"train": keys})
    assert done.model is not None
    return done.model


def settings(**changes: Any) -> dict[str, Any]:
    train_keys = {"steps": 6, "batch": 8, "lr": 0.02, "warmup": 0, "weight_decay": 0.0, "eval_every": 0}
    return {
        "model": {"lora": 4, "backend": changes.pop("backend", BACKEND)},
        "rollout": {"prompts": 8, "group": 8, "max_tokens": 2, **changes.pop("rollout", {})},
        "train": {**train_keys, "save_every": 0, **changes.pop("train", {})},
        **changes,
    }


def built(base: Path, stage: str = "sft", **changes: Any) -> Built:
    record = {**settings(**changes), "stage": stage, "data": {"held_out": 0.0}}
    record["model"]["path"] = str(base)
    return build(validate(record, Recipe, "a test"), Given(data=rows(2), rewards=(exact,) if stage == "grpo" else ()))


def left_alone(done: Trained, base: Path) -> None:
    """The frozen weights are those of `base` to the bit, and adapters moved."""
    made, now, before = done.built.adapted, done.built.model.weights, read_model(base).weights
    assert made is not None and before is not None and set(made.frozen) <= set(before)
    for name in made.frozen:
        np.testing.assert_array_equal(now[name], before[name], err_msg=name)
    assert any(now[up].any() for _, up in made.pairs.values())


def test_the_command_trains_adapters_and_writes_the_plain_network(base: Path, tmp_path: Path) -> None:
    data, runs = tmp_path / "rows.jsonl", tmp_path / "runs"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(2, 200)))
    keys = ["steps=80", "lr=0.03", "weight_decay=0", "eval_every=10", "save_every=40"]
    command = ["train", "sft", "--model", str(base), "--data", str(data), "--lora", "4", "--runs", str(runs)]
    made = CliRunner().invoke(app, [*command, *(word for key in keys for word in ("--set", f"train.{key}"))])
    assert made.exit_code == 0, made.output
    assert "LoRA adapters of rank 4 beside 6 layers" in made.output
    (folder,) = runs.iterdir()
    measured = [line["eval_loss"] for line in read_lines(folder / METRICS) if "eval_loss" in line]
    assert measured[-1] < 0.5 * measured[0]
    before, after = read_model(base), read_model(folder / "model")
    assert before.weights is not None and after.weights is not None and after.graph == before.graph
    assert {name for name, array in after.weights.items() if not np.array_equal(array, before.weights[name])} == DENSE
    for name in DENSE:
        assert np.linalg.matrix_rank(after.weights[name] - before.weights[name], tol=1e-4) <= 4
    kept = checkpoint.read(folder / "checkpoints" / "step-00000080.safetensors").arrays
    assert {name for name in kept if "lora_" not in name} == {"run/step"}
    assert {path.name for path in (folder / "model").iterdir()} == {path.name for path in base.iterdir()}


def test_grpo_raises_the_reward_and_samples_with_the_adapters_of_now(base: Path, tmp_path: Path) -> None:
    keys = {"steps": 40, "lr": 0.03, "eval_every": 5}
    done = train("grpo", model=base, data=rows(1, 120), rewards=[exact], folder=tmp_path, settings=settings(train=keys))
    steps = read_lines(tmp_path / METRICS)
    assert done.result.measures[-1][1]["eval_reward"] > 0.9
    first, last = (np.mean([line["reward"] for line in part]) for part in (steps[:5], steps[-5:]))
    assert first < 0.7 and last > 0.85
    assert max(line.get("sampler_gap") or 0.0 for line in steps) < 1e-4
    if BACKEND == "native":
        assert isinstance(done.built.stage.actor.sampler, NativeSampler)  # type: ignore[attr-defined]
    left_alone(done, base)
    assert done.built.merge_gap(derive(0, "t").below(TOKENIZER.vocab_size, 24).reshape(4, 6)) < 1e-5


STAGES = ("pretrain", "dpo", "orpo", "kto", "reward", "ppo", "rejection", "distill", "grpo")


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_leaves_the_base_alone(stage: str, base: Path, tmp_path: Path) -> None:
    rollout = {"kl": 0.05, "entropy": 0.01} if stage in ("ppo", "grpo") else {}
    more = {"distill": {"teacher": str(tmp_path / "teacher")}} if stage == "distill" else {}
    if stage == "distill":
        write_model(tmp_path / "teacher", network(), initialise(network(), 9), TOKENIZER, {})
    data = [{"text": row["prompt"] + row["answer"]} for row in rows(2)] if stage == "pretrain" else rows(2, wrong=2)
    length = {"data": {"length": 16}} if stage == "pretrain" else {}
    rewards = [exact] if stage in ("ppo", "grpo", "rejection") else []
    given = settings(rollout=rollout, **more, **length)
    done = train(stage, model=base, data=data, rewards=rewards, folder=tmp_path / "run", settings=given)
    left_alone(done, base)
    assert done.model is not None and done.built.adapted is not None
    written = read_model(done.model)
    assert written.weights is not None and written.weights == done.weights
    assert set(written.weights) == set(param_specs(done.built.adapted.base)) == set(read_model(base).weights or ())
    if stage == "reward":
        assert written.weights["y.weight"].shape == (1, 24) and written.weights["y.weight"].any()


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_run_that_was_cut_goes_on_bit_by_bit(stage: str, base: Path, tmp_path: Path) -> None:
    given = settings(train={"save_every": 1, "ema": 0.7 if stage == "sft" else 0.0, "keep": 9})
    rewards = [exact] if stage == "grpo" else []
    whole = train(stage, model=base, data=rows(2), rewards=rewards, folder=tmp_path / "whole", settings=given)
    train(stage, model=base, data=rows(2), rewards=rewards, folder=tmp_path / "cut", settings=given)
    for path in (tmp_path / "cut" / "checkpoints").iterdir():
        if path.name > "step-00000003.safetensors":
            path.unlink()
    again = train(
        stage, model=base, data=rows(2), rewards=rewards, folder=tmp_path / "cut", settings=given, resume=True
    )
    assert again.result.resumed_at == 3 and again.weights == whole.weights
    assert again.built.model.weights == whole.built.model.weights
    arrays = whole.built.stage.arrays()
    assert all("lora_" in name for name in arrays if name.startswith(("weights/", "average/")))
    for name, array in again.built.stage.arrays().items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def test_backends_and_the_split_change_nothing(base: Path) -> None:
    sgd = {"optimizer": "sgd", "lr": 0.1, "clip": 0.0, "schedule": "constant"}
    runs = [built(base, backend=name, train={**sgd, "micro": micro}) for name in BACKENDS for micro in (0, 3)]
    losses = [[one.stage.step(number)["loss"] for number in range(4)] for one in runs]
    for found, one in zip(losses, runs, strict=True):
        np.testing.assert_allclose(found, losses[0], atol=1e-5)
        for name, array in runs[0].weights.items():
            np.testing.assert_allclose(one.weights[name], array, atol=1e-5, err_msg=name)
    assert losses[0][-1] < losses[0][0]


def test_the_plan_counts_what_is_trained(base: Path) -> None:
    one = built(base)
    assert one.adapted is not None
    sizes = {name: spec.size for name, spec in param_specs(one.model.graph).items()}
    plan = launch_plan(one)
    assert plan.trained == sum(sizes[name] for pair in one.adapted.pairs.values() for name in pair)
    assert plan.parameters == sum(sizes.values()) == cost.parameters(one.graph) + plan.trained
    if BACKEND == "native":
        one.stage.step(0)
        assert plan.memory_bytes == {**one.model.memory, "total": sum(one.model.memory.values())}
    other = launch_plan(built(base, backend="reference", train={"optimizer": "sgd"}))
    assert other.memory_bytes["optimizer"] == 8 * plan.trained


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_the_doctor_finds_a_merge_that_loses_the_adapters(
    stage: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {**settings(), "stage": stage, "data": {"held_out": 0.0}}
    record["model"]["path"] = str(base)
    recipe, given = validate(record, Recipe), Given(data=rows(2), rewards=(exact,) if stage == "grpo" else ())
    healthy = diagnose(recipe, given)
    assert healthy.findings == () and {"adapter", "gradients", "resume", "split"} <= set(healthy.passed)

    def lost(self: Adapted, weights: WeightSet) -> WeightSet:
        return WeightSet({name: weights[name] for name in param_specs(self.base)})

    monkeypatch.setattr(Adapted, "merged", lost)
    assert "adapter" in {finding.check for finding in diagnose(recipe, given).findings}


def test_adapters_without_a_trained_model_beside_them_are_refused() -> None:
    given = Given(ModelFolder(network(), tokenizer=TOKENIZER), rows(2))
    with pytest.raises(UsageError, match="LoRA learns beside weights that stay, and network 'next' has none"):
        build(validate({"stage": "sft", "data": {}, **settings()}, Recipe, "test"), given)


def test_a_rank_that_no_layer_has_room_for_is_refused_before_the_first_step(base: Path) -> None:
    record = {"stage": "sft", "model": {"path": str(base), "lora": 17}, "data": {}}
    with pytest.raises(GraphError, match="a rank of at most 16 fits every layer"):
        build(validate(record, Recipe), Given(data=rows(2)))

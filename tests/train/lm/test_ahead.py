"""Rollouts that are sampled ahead come from exactly the weights that the bound names, whatever the timing."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.config import validate
from alexandra.errors import StorageError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives.policy import GRPO
from alexandra.objectives.spec import AdamW
from alexandra.train.lm.ahead import Ahead
from alexandra.train.lm.build import Given, build
from alexandra.train.lm.chat import Message, render_prompt
from alexandra.train.lm.engines import engine_of
from alexandra.train.lm.examples import Prompt
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.grpo import GroupPolicy, GRPOSettings, greedy_rewards
from alexandra.train.lm.policy import NetworkPolicy
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.rewards import Mix, judge_of
from alexandra.train.lm.rollout import Actor, RolloutSettings, Task, collect
from alexandra.train.lm.sampling import Sampling, complete
from alexandra.train.lm.stage import rows_of_step
from alexandra.train.lm.tokenizer import CharTokenizer
from alexandra.train.stages import StagePlan, run_stage

LETTERS = "abcdefgh"
TOKENIZER = CharTokenizer(LETTERS + LETTERS.upper())
BACKEND = "native" if not available("native") else "reference"
SAMPLING = Sampling(3, stop=(TOKENIZER.eos,))


def network() -> Graph:
    size = TOKENIZER.vocab_size
    return make_graph(
        "small",
        [
            Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
            Node("e", "embedding", ("tokens",), {"vocab": size, "size": 16}),
            Node("a", "attention", ("e",), {"heads": 2, "rope": True}),
            Node("s", "add", ("e", "a")),
            Node("h", "dense", ("s",), {"size": 32, "activation": "tanh"}),
            Node("y", "output", ("h",), {"size": size}),
        ],
    )


def policy() -> NetworkPolicy:
    return NetworkPolicy(bind(network(), BACKEND, seed=1), Optimization(AdamW(lr=0.02, weight_decay=0.0)))


def task(prompt: str) -> Task:
    message = Message("user", prompt)
    return Task(tuple(render_prompt([message], TOKENIZER)), Prompt((message,), {"answer": prompt[-1].upper()}))


TASKS = [task(a + b) for a in LETTERS for b in LETTERS]


def first_letter(completion: str, answer: str) -> float | None:
    """Whether the answer begins right; who begins with a small letter gets no verdict."""
    return None if completion[:1] in ("a", "b") else float(completion[:1] == answer)


def half(completion: str) -> float:
    return float(len(completion) < 3)


def actor(own: NetworkPolicy, plain: bool = False) -> Actor:
    engine = engine_of(own)
    sampler = partial(complete, own) if plain else engine.sample
    return Actor(own, TOKENIZER, sampler, Mix((judge_of(first_letter), judge_of(half))), None, engine.exact)


def stage(staleness: int, plain: bool = False, **changes: Any) -> GroupPolicy:
    rollout = RolloutSettings(SAMPLING, 8, seed=1, staleness=staleness, redraws=changes.pop("redraws", 0))
    return GroupPolicy(actor(policy(), plain), TASKS, GRPOSettings(GRPO(), rollout, 8, prompts=4, **changes))


@pytest.mark.parametrize("plain", [False, True], ids=["engine", "plain"])
@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_step_n_learns_from_the_weights_of_step_n_minus_k(staleness: int, plain: bool) -> None:
    own = stage(staleness, plain)
    kept, settings = [], own.settings.rollout
    assert own.ahead.overlaps == (BACKEND == "native" and staleness > 0 and not plain)
    for number in range(6):
        kept.append(own.actor.policy.arrays())
        metrics = own.step(number)
        assert own.last is not None and metrics.get("staleness", 0.0) == min(number, staleness)
        older = policy()
        older.restore(kept[max(0, number - staleness)])
        chosen = rows_of_step(settings.seed, len(TASKS), 4, number)
        wanted = collect(actor(older, plain), settings, number, lambda _, chosen=chosen: [TASKS[i] for i in chosen])
        assert own.last.completions == wanted.completions and own.last.tasks == wanted.tasks
        np.testing.assert_array_equal(own.last.rewards_PG, wanted.rewards_PG)


@pytest.mark.parametrize("staleness", [1, 2])
@pytest.mark.parametrize("redraws", [0, 2])
def test_a_restored_stage_learns_from_the_rollouts_that_waited(staleness: int, redraws: int) -> None:
    whole, first, second = (stage(staleness, epochs=2, minibatches=2, redraws=redraws) for _ in range(3))
    wanted = [whole.step(number) for number in range(7)]
    for number in range(4):
        first.step(number)
    second.restore({name: np.array(array) for name, array in first.arrays().items()})
    found = [second.step(number) for number in range(4, 7)]
    assert found == wanted[4:]
    ours, theirs = second.arrays(), whole.arrays()
    assert ours.keys() == theirs.keys() and any(name.startswith("rollouts/") for name in ours)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_without_staleness_nothing_waits() -> None:
    own = stage(0)
    own.step(0)
    assert not any(name.startswith("rollouts/") for name in own.arrays()) and not own.ahead.overlaps


@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_one_step_of_staleness_learns_and_a_killed_run_goes_on_bit_by_bit(kind: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "stage": kind,
        "model": {"backend": BACKEND},
        "data": {"held_out": 0.0},
        "train": {"lr": 0.02, "weight_decay": 0.0, "steps": 60, "warmup": 0},
        "rollout": {"prompts": 8, "group": 8, "max_tokens": 2, "staleness": 1},
    }
    rows = [{"prompt": a + b, "answer": b.upper()} for a in LETTERS for b in LETTERS]

    def run(name: str, *parts: int) -> tuple[Any, Any]:
        for resume, steps in enumerate(parts):
            given = Given(ModelFolder(network(), tokenizer=TOKENIZER), rows, rewards=(first_letter,))
            built = build(validate(settings, Recipe, "a test"), given)
            run_stage(built.stage, StagePlan(steps, tmp_path / name, save_every=7, resume=bool(resume)))
        return built.stage, (tmp_path / name / "metrics.jsonl").read_bytes()

    whole, lines = run("whole", 60)
    cut, again = run("cut", 23, 41, 60)
    assert lines == again
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(cut.arrays()[name], array, err_msg=name)
    whole.ahead.settle()
    fresh = greedy_rewards(actor(policy()), RolloutSettings(SAMPLING), TASKS)["eval_reward/first_letter"]
    own = Actor(whole.actor.policy, TOKENIZER, whole.actor.sampler, Mix((judge_of(first_letter),)))
    assert fresh < 0.25 and greedy_rewards(own, RolloutSettings(SAMPLING), TASKS)["eval_reward"] > 0.5


def test_a_judge_that_fails_ahead_fails_the_run() -> None:
    def broken(completion: str) -> float:
        raise RuntimeError("the judge broke")

    own = policy()
    mixed = Actor(own, TOKENIZER, engine_of(own).sample, Mix((judge_of(broken),)))
    with pytest.raises(RuntimeError, match="the judge broke"):
        Ahead(mixed, RolloutSettings(SAMPLING, 2, staleness=1), TASKS, 2).take(0)


def test_rollouts_of_other_data_are_refused() -> None:
    own = stage(1)
    own.step(0)
    other = Ahead(own.actor, own.settings.rollout, TASKS[:1], 1)
    kept = own.arrays()
    kept["rollouts/1/tasks"] = np.array([5], np.int64)
    with pytest.raises(StorageError, match="of other prompts"):
        other.restore(kept)

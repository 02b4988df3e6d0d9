"""Distillation, rejection sampling, the entropy bonus: each learns what it says, through the public entrance too."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import alexandra as ax
from alexandra.backends.bind import available, bind
from alexandra.errors import BackendError, UsageError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives.distillation import Distillation
from alexandra.objectives.spec import SGD, AdamW, Schedule
from alexandra.objectives.tokens import count, sft
from alexandra.train.lm.batch import Row, padded
from alexandra.train.lm.distill import Distill, DistillSettings
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.outputs import EntropicPolicy, Outputs, logits_graph
from alexandra.train.lm.policy import NetworkPolicy
from alexandra.train.lm.sampling import Sampling, complete
from alexandra.train.lm.tokenizer import CharTokenizer
from alexandra.train.watch import read_lines

LETTERS = "abcd"
TOKENIZER = CharTokenizer(LETTERS + LETTERS.upper())
BACKEND = "native" if not available("native") else "reference"
OPTIONS = Optimization(AdamW(lr=0.03, weight_decay=0.0))


def network(size: int = 16, activation: str = "linear", vocab: int | str = TOKENIZER.vocab_size) -> Graph:
    return make_graph(
        "bigram",
        [
            Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
            Node("e", "embedding", ("tokens",), {"vocab": vocab, "size": 8}),
            Node("h", "dense", ("e",), {"size": size, "activation": "tanh"}),
            Node("y", "output", ("h",), {"size": vocab, "activation": activation}),
        ],
    )


def row(prompt: str, answer: str) -> Row:
    tokens = [*TOKENIZER.encode(prompt + answer), TOKENIZER.eos]
    return Row(tokens, [0] * len(prompt) + [1] * (len(answer) + 1))


def answer_of(prompt: str) -> str:
    return LETTERS[(LETTERS.index(prompt[-1]) + 1) % 4].upper()


PROMPTS = [a + b for a in LETTERS for b in LETTERS]
ROWS = [row(p, answer_of(p)) for p in PROMPTS]


def taught() -> Outputs:
    """A teacher that knows the task, softly."""
    model = bind(network(), BACKEND, seed=5)
    policy = NetworkPolicy(model, OPTIONS)
    for _ in range(40):
        batch = padded(ROWS, pad=TOKENIZER.pad)
        policy.update(batch, lambda logp, b=batch: sft(logp, b.mask_BT, count(b.mask_BT)), constant=True)
    return Outputs(model)


def distill(objective: Distillation, on_policy: float, rows: list[Row]) -> Distill:
    model = bind(network(12), BACKEND, seed=1)
    settings = DistillSettings(
        4, Sampling(2, stop=(TOKENIZER.eos,)), on_policy=on_policy, pad=TOKENIZER.pad, objective=objective
    )
    sampler = partial(complete, NetworkPolicy(model))
    return Distill(Outputs(model, OPTIONS), taught(), rows, settings, sampler, held_out=rows)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_a_student_comes_to_agree_with_its_teacher(divergence: str) -> None:
    stage = distill(Distillation(divergence), 0.0, ROWS)
    before = stage.evaluate()
    for number in range(40):
        stage.step(number)
    after = stage.evaluate()
    assert after["eval_loss"] < before["eval_loss"] / 4 and after["eval_agreed"] > 0.95 > before["eval_agreed"]


def test_a_student_learns_from_prompts_alone_on_its_own_answers() -> None:
    prompts = [Row(TOKENIZER.encode(p), [0] * len(p)) for p in PROMPTS]
    stage = distill(Distillation("reverse"), 1.0, prompts)
    before = stage.evaluate()["eval_loss"]
    for number in range(60):
        metrics = stage.step(number)
    assert metrics["own_answers"] == 1.0 and stage.evaluate()["eval_loss"] < before / 4


def test_half_of_the_steps_read_the_students_own_answers() -> None:
    stage = distill(Distillation(), 0.5, ROWS)
    own = [stage.samples_itself(number) for number in range(200)]
    assert 70 < sum(own) < 130 and own == [stage.samples_itself(number) for number in range(200)]
    with pytest.raises(UsageError, match="share of the steps"):
        DistillSettings(4, Sampling(2), on_policy=1.5)


def test_softmax_at_the_output_is_taken_off_without_touching_the_parameters() -> None:
    graph = network(activation="softmax")
    bare = logits_graph(graph)
    model = bind(graph, BACKEND, seed=3)
    batch = padded(ROWS, pad=TOKENIZER.pad)
    logits = Outputs(bind(bare, BACKEND, model.weights)).values(batch)
    np.testing.assert_allclose(
        Outputs(model).values(batch), np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), 1e-5
    )
    assert logits_graph(network()) == network()


def test_the_entropy_bonus_is_the_derivative_of_the_exact_entropy() -> None:
    """One step of SGD against finite differences of the whole loss by every weight."""
    batch, coefficient = padded(ROWS[:6], pad=TOKENIZER.pad), 0.3
    options = Optimization(SGD(lr=1.0), Schedule(), clip_norm=0.0)

    def whole(model: object) -> float:
        logits = Outputs(model).values(batch)  # type: ignore[arg-type]
        shifted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        own = np.take_along_axis(shifted, batch.targets_BT[..., None].astype(int), -1)[..., 0]
        entropies = -(np.exp(shifted) * shifted).sum(-1)
        return float(((-own - coefficient * entropies) * batch.mask_BT).sum() / batch.mask_BT.sum())

    model = bind(network(), "reference", seed=2)
    before = {name: np.array(array, np.float64) for name, array in model.weights.items()}
    policy = EntropicPolicy(model, options, coefficient)
    loss = whole(model)
    found = policy.update(batch, lambda logp: sft(logp, batch.mask_BT, count(batch.mask_BT)))
    assert found.value == pytest.approx(loss, rel=1e-5) and found.stats["entropy"] > 0
    moved = {name: before[name] - np.array(array, np.float64) for name, array in model.weights.items()}
    for name in ("y.weight", "h.bias"):
        for place in [(0,) * moved[name].ndim, (1,) * moved[name].ndim]:
            slopes = []
            for sign in (1, -1):
                probe = bind(network(), "reference", seed=2)
                weights = {n: np.array(a) for n, a in probe.weights.items()}
                weights[name][place] += sign * 1e-3
                probe.load(type(probe.weights)(weights))
                slopes.append(whole(probe))
            assert moved[name][place] == pytest.approx((slopes[0] - slopes[1]) / 2e-3, abs=2e-4)


def test_an_entropy_bonus_keeps_a_policy_open() -> None:
    batch = padded(ROWS, pad=TOKENIZER.pad)
    ends = []
    for coefficient in (0.0, 0.5):
        policy = EntropicPolicy(bind(network(), BACKEND, seed=1), OPTIONS, coefficient)
        for _ in range(40):
            found = policy.update(batch, lambda logp: sft(logp, batch.mask_BT, count(batch.mask_BT)))
        ends.append(found.stats["entropy"] / count(batch.mask_BT))
    assert ends[1] > ends[0] + 0.3
    with pytest.raises(BackendError, match="needs logits"):
        EntropicPolicy(bind(network(activation="softmax"), BACKEND), OPTIONS, 0.1)


RECORDS = [{"prompt": p, "completion": answer_of(p), "answer": answer_of(p)} for p in PROMPTS for _ in range(3)]
TRAIN = {"batch": 8, "lr": 0.03, "eval_every": 5, "save_every": 5}


def exact(completion: str, answer: str) -> float:
    return float(completion == answer)


def model_folder(vocab: int | str = "AUTO") -> ModelFolder:
    return ModelFolder(network(vocab=vocab), None, TOKENIZER)


def test_rejection_sampling_keeps_what_passed_and_learns_from_it(tmp_path: Path) -> None:
    settings = {
        "train": {**TRAIN, "steps": 60, "schedule": "constant", "weight_decay": 0.0},
        "rollout": {"prompts": 8, "group": 16, "max_tokens": 2},
    }
    found = ax.train(
        "rejection", model=model_folder(), data=RECORDS, rewards=[exact], folder=tmp_path, settings=settings
    )
    steps = read_lines(tmp_path / "metrics.jsonl")
    assert steps[-1]["yield"] > 0 and found.result.measures[-1][1]["eval_reward"] > 0.9
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert kept and all(one["messages"][1]["content"] == one["answer"] and one["reward"] == 1.0 for one in kept)
    assert sum(one["step"] == 59 for one in kept) == round(steps[-1]["solved"] * 8)
    again = ax.train("sft", model=model_folder(), data=tmp_path / "kept.jsonl", settings={"train": {"steps": 2}})
    assert again.built.rows + again.built.held_out == len(kept)


def test_rejection_without_learning_only_samples(tmp_path: Path) -> None:
    settings = {
        "train": {**TRAIN, "steps": 3},
        "rollout": {"prompts": 4, "group": 32, "max_tokens": 2},
        "rejection": {"learn": False, "keep": "all", "at_least": 0.0},
    }
    found = ax.train(
        "rejection", model=model_folder(), data=RECORDS[::3], rewards=[exact], folder=tmp_path, settings=settings
    )
    fresh = bind(found.built.model.graph, BACKEND, seed=0).weights
    for name, array in found.weights.items():
        np.testing.assert_array_equal(array, fresh[name])
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    first = [(one["step"], one["messages"][0]["content"], one["messages"][1]["content"]) for one in kept]
    assert len(set(first)) == len(first) > 3 * 4


def test_distillation_by_recipe_and_its_resume(tmp_path: Path) -> None:
    teacher = ax.train(
        "sft",
        model=model_folder(),
        data=RECORDS,
        folder=tmp_path / "teacher",
        settings={"train": TRAIN | {"steps": 30}},
    )
    settings = {"train": TRAIN | {"steps": 20}, "distill": {"teacher": str(teacher.model), "on_policy": 0.5}}
    whole = ax.train("distill", model=model_folder(), data=RECORDS, folder=tmp_path / "whole", settings=settings)
    assert whole.result.measures[-1][1]["eval_loss"] < whole.result.measures[0][1]["eval_loss"]
    samples = [json.loads(line) for line in (tmp_path / "whole" / "samples.jsonl").read_text().splitlines()]
    assert {one["step"] for one in samples} == {4, 9, 14, 19} and set(samples[0]) == {"step", "prompt", "answer"}
    with pytest.raises(UsageError, match="read different tokens"):
        other = ModelFolder(network(vocab="AUTO"), None, CharTokenizer(LETTERS + LETTERS.upper() + "x"))
        ax.train("distill", model=other, data=RECORDS, settings=settings)
    with pytest.raises(UsageError, match="needs a teacher"):
        ax.train("distill", model=model_folder(), data=RECORDS)


def test_the_alarm_rings_when_the_reward_rises_and_the_check_falls(tmp_path: Path) -> None:
    """The reward likes the letter A, the check the right answer: learning the reward unlearns the check."""

    def likes_a(completion: str) -> float:
        return float(completion.startswith("A"))

    taught_folder = ax.train(
        "sft", model=model_folder(), data=RECORDS, folder=tmp_path / "sft", settings={"train": TRAIN | {"steps": 25}}
    )
    settings = {
        "train": {**TRAIN, "steps": 40, "lr": 0.005, "eval_every": 2, "schedule": "constant"},
        "rollout": {"prompts": 8, "group": 8, "max_tokens": 2},
        "data": {"held_out": 0.4},
        "reward": {"on_alarm": "stop"},
    }
    with pytest.warns(UserWarning, match="reward hacking: since measurement"):
        found = ax.train(
            "grpo",
            model=str(taught_folder.model),
            data=RECORDS,
            rewards=[likes_a],
            checks=[exact],
            folder=tmp_path / "run",
            settings=settings,
        )
    assert found.result.alarm.startswith("reward hacking") and found.result.stopped == found.result.alarm
    assert found.result.steps < 40
    last = found.result.measures[-1][1]
    assert last["eval_alarm"] == 1.0 and last["eval_reward"] > last["eval_check"] == last["eval_check/exact"]
    quiet = {**settings, "reward": {}, "train": {**settings["train"], "steps": 12}}
    calm = ax.train(
        "grpo", model=str(taught_folder.model), data=RECORDS, rewards=[exact], checks=[exact], settings=quiet
    )
    assert not calm.result.alarm and not math.isnan(calm.result.last["entropy"])


def test_samples_and_metrics_are_the_same_after_a_resume(tmp_path: Path) -> None:
    settings = {"train": TRAIN | {"steps": 11, "save_every": 4}, "rollout": {"prompts": 4, "group": 4, "max_tokens": 2}}
    for name in ("whole", "cut"):
        ax.train(
            "rejection", model=model_folder(), data=RECORDS, rewards=[exact], folder=tmp_path / name, settings=settings
        )
    cut = tmp_path / "cut"
    for path in (cut / "checkpoints").iterdir():
        if path.name > "step-00000008.safetensors":
            path.unlink()
    ax.train(
        "rejection", model=model_folder(), data=RECORDS, rewards=[exact], folder=cut, settings=settings, resume=True
    )
    for name in ("metrics.jsonl", "samples.jsonl", "kept.jsonl"):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

"""What is wrong with data, rewards or numbers ends in a clear error or an abstention, and nothing done is lost."""

from pathlib import Path

import numpy as np
import pytest
from tests.train.lm.test_more_stages import RECORDS, exact, model_folder

import alexandra as ax
from alexandra.errors import BackendError, DataError, UsageError
from alexandra.records import Claim, Verdict
from alexandra.storage import read_bytes, read_tensors
from alexandra.train.lm.rewards import Answer, judge_of

TRAIN = {"steps": 6, "batch": 8, "lr": 0.01, "eval_every": 3, "save_every": 2}


@pytest.mark.parametrize(
    ("stage", "row", "message"),
    [
        ("sft", {"prompt": "ab", "reply": "B"}, "row 0 has no 'completion'; its columns are prompt, reply"),
        ("sft", {"prompt": "ab", "completion": ""}, "'completion' is empty"),
        ("dpo", {"prompt": "ab", "chosen": "B"}, "row 0 has no 'rejected'"),
        ("kto", {"prompt": "ab", "completion": "B"}, "row 0 has no 'label'"),
        ("grpo", {"question_text": "ab"}, "row 0 has no 'prompt'"),
        ("sft", {"messages": [{"role": "user", "content": "ab"}]}, "no assistant turn"),
    ],
)
def test_rows_that_a_stage_cannot_read_are_named(stage: str, row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ax.train(stage, model=model_folder(), data=[row], rewards=[exact], settings={"train": TRAIN})


def test_answers_that_are_all_cut_away_are_no_training(tmp_path: Path) -> None:
    rows = [{"prompt": "abcdabcd", "completion": "B"}] * 4
    with pytest.raises(DataError, match="no row to learn from"):
        settings = {"train": TRAIN, "data": {"length": 3}}
        ax.train("sft", model=model_folder(), data=rows, folder=tmp_path / "run", settings=settings)


def test_a_loss_that_is_not_a_number_keeps_its_batch_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    train = TRAIN | {"steps": 400, "lr": 1e30, "clip": 0.0, "optimizer": "sgd", "schedule": "constant", "warmup": 4}
    train |= {"save_every": 1, "eval_every": 0}
    with pytest.raises(BackendError, match="loss is") as caught:
        ax.train("sft", model=model_folder(), data=RECORDS, folder=tmp_path, settings={"train": train})
    kept = sorted(tmp_path.glob("failed-step-*.safetensors"))
    good = sorted((tmp_path / "checkpoints").glob("step-*.safetensors"))
    assert len(kept) == 1 and str(kept[0]) in caught.value.message
    assert f"the last good checkpoint is step {int(good[-1].stem.removeprefix('step-'))}" in caught.value.message
    arrays, _ = read_tensors(read_bytes(kept[0]), "kept")
    assert arrays["tokens"].shape == arrays["mask"].shape == (8, arrays["tokens"].shape[1])
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == int(good[-1].stem.removeprefix("step-"))


class Slow:
    """A verifier that ran out of time on every second claim."""

    name = "slow"

    def verify(self, claims: list[Claim]) -> list[Verdict]:
        return [Verdict("slow", None if i % 2 else 1.0) for i in range(len(claims))]


def test_a_verifier_that_runs_out_of_time_abstains_and_its_answers_count_in_no_mean() -> None:
    found = judge_of(Slow()).judge([Answer("p", "a")] * 4)
    assert [value for value, _ in found] == [1.0, None, 1.0, None]

    def late(completion: str) -> float:
        raise TimeoutError("the checker took too long")

    settings = {"train": TRAIN | {"steps": 2}, "rollout": {"prompts": 4, "group": 4, "max_tokens": 2}}
    half = ax.train("grpo", model=model_folder(), data=RECORDS, rewards=[Slow()], settings=settings).result.last
    assert half["abstained"] == 0.5 and half["reward"] == 1.0  # not 0.5: an abstention is no zero
    none = ax.train("grpo", model=model_folder(), data=RECORDS, rewards=[late], settings=settings)
    assert none.result.last["abstained"] == 1.0 and np.isnan(none.result.last["reward"])
    fresh = ax.train("grpo", model=model_folder(), data=RECORDS, rewards=[late], settings=settings)
    for name, array in none.weights.items():
        np.testing.assert_array_equal(fresh.weights[name], array)


def test_a_reward_that_is_no_number_is_named() -> None:
    def wordy(completion: str) -> str:
        return "good"

    with pytest.raises(UsageError, match="reward 'wordy' gave 'good', not a number"):
        ax.train("grpo", model=model_folder(), data=RECORDS, rewards=[wordy], settings={"rollout": {"max_tokens": 2}})

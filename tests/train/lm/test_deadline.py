"""Reward functions that hang, die or raise: abstained within the deadline, found one by one, and said by name."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from alexandra.errors import UsageError, VerifierError
from alexandra.train.lm.deadline import TimedJudge
from alexandra.train.lm.recipe import RewardConfig
from alexandra.train.lm.rewards import Answer
from alexandra.train.lm.run import train

SOURCE = """
import os
import time

def sleepy(completion):
    if completion.startswith("hang"):
        time.sleep(600)
    return float(len(completion))

def batched(prompts, completions):
    if "hang" in completions:
        while True:
            pass
    return [float(len(text)) for text in completions]

def wrong(completion, answer):
    return {"a": 1.0}[completion]

def much(completion):
    return "much"

def deadly(completion):
    if completion == "die":
        os._exit(3)
    return 1.0

def process(completion):
    return float(os.getpid())

def hangs_on_b(completion, answer):
    if completion.startswith(answer):
        time.sleep(600)
    return float(len(completion))
"""
SHORT = 0.3


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., TimedJudge]:
    (tmp_path / "rewards.py").write_text(SOURCE)
    return lambda name, seconds=SHORT: TimedJudge(f"rewards.py:{name}", tmp_path, seconds)


def answers(*texts: str) -> list[Answer]:
    return [Answer("p", text, {"answer": "a"}) for text in texts]


def test_answers_that_hang_abstain_and_all_others_keep_their_numbers(judge: Callable[..., TimedJudge]) -> None:
    with pytest.warns(UserWarning, match=r"reward 'sleepy' did not answer within 0\.3 s \(\[reward\] timeout\)"):
        found = judge("sleepy").judge(answers("a", "hang 1", "bb", "hang 2", "ccc"))
    assert found == [(1.0, False), (None, False), (2.0, False), (None, False), (3.0, False)]


def test_a_batch_that_hangs_abstains_as_a_whole_and_the_next_one_is_judged(judge: Callable[..., TimedJudge]) -> None:
    one = judge("batched")
    with pytest.warns(UserWarning, match="reward 'batched' .*: all 2 answers count as abstained"):
        assert one.judge(answers("a", "hang")) == [(None, False)] * 2
    assert one.judge(answers("a", "bb")) == [(1.0, False), (2.0, False)]


def test_a_call_waits_for_a_few_hanging_answers_only(judge: Callable[..., TimedJudge]) -> None:
    with pytest.warns(UserWarning, match="'sleepy' hung 4 times in a row: the 2 answers left are not judged"):
        found = judge("sleepy", 0.1).judge(answers("a", *(f"hang {i}" for i in range(5)), "b"))
    assert found == [(1.0, False)] + [(None, False)] * 6


def test_an_answer_that_kills_the_process_abstains(judge: Callable[..., TimedJudge]) -> None:
    with pytest.warns(UserWarning, match=r"reward 'deadly' ended its process .*exit code 3"):
        assert judge("deadly", 60.0).judge(answers("a", "die", "b")) == [(1.0, False), (None, False), (1.0, False)]


def test_what_a_function_raises_ends_the_run_with_its_name(judge: Callable[..., TimedJudge]) -> None:
    with pytest.raises(UsageError, match="reward 'wrong' failed: KeyError: 'b'") as caught:
        judge("wrong", 60.0).judge(answers("a", "b"))
    assert "timeout = 0" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="^reward 'much' gave 'much', not a number"):
        judge("much", 60.0).judge(answers("a"))
    with pytest.raises(VerifierError, match="no function 'none'"):
        judge("none")


def test_functions_run_in_one_process_that_is_not_the_trainers(judge: Callable[..., TimedJudge]) -> None:
    first, second = (judge("process", 60.0).judge(answers("a", "b")) for _ in range(2))
    assert first == second and first[0] == first[1] and first[0][0] != os.getpid()


NET = """
LAYER INPUT name=tokens shape=(SEQ) dtype=int32
LAYER EMBEDDING name=e vocab=AUTO size=8
LAYER OUTPUT name=y size=AUTO
CONNECT tokens -> e -> y
"""


def test_a_run_goes_on_past_a_reward_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "net.nl").write_text(NET)
    (tmp_path / "rewards.py").write_text(SOURCE)
    rows = [{"prompt": "ab"[i % 2] * (i + 1), "answer": "b"} for i in range(4)]
    settings = {
        "train": {"steps": 2, "eval_every": 0},
        "data": {"held_out": 0.0},
        "rollout": {"prompts": 2, "group": 4, "max_tokens": 2},
        "reward": {"functions": [str(tmp_path / "rewards.py") + ":hangs_on_b"], "timeout": SHORT},
    }
    with pytest.warns(UserWarning, match="'hangs_on_b' did not answer within"):
        done = train("grpo", model=tmp_path / "net.nl", data=rows, settings=settings, folder=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert done.result.steps == 2 and any(0 < line["abstained"] < 1 for line in lines)


def test_without_a_deadline_functions_run_in_the_training_process(tmp_path: Path) -> None:
    (tmp_path / "net.nl").write_text(NET)
    (tmp_path / "rewards.py").write_text("import os\ndef here(completion): return float(os.getpid())\n")
    settings = {
        "train": {"steps": 1, "eval_every": 0},
        "rollout": {"prompts": 1, "group": 2, "max_tokens": 1},
        "reward": {"functions": [str(tmp_path / "rewards.py") + ":here"], "timeout": 0.0},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = train("grpo", model=tmp_path / "net.nl", data=[{"prompt": "a"}], settings=settings)
    assert done.result.last["reward"] == os.getpid() and RewardConfig().timeout == 30.0

"""Rewards: weighted means over who answered, vetoes, abstentions, and every signature that is taken."""

import math

import pytest

from alexandra.errors import UsageError
from alexandra.train.lm.rewards import Answer, Mix, judge_of

ANSWERS = [Answer("p0", "aa", {"want": "a", "level": 1}), Answer("p1", "ab", {"want": "b"})]


class Fixed:
    """A judge whose numbers are given."""

    def __init__(self, name: str, *given: tuple[float | None, bool]) -> None:
        self.name, self.given = name, list(given)

    def judge(self, answers: list[Answer]) -> list[tuple[float | None, bool]]:
        return self.given[: len(answers)]


def test_a_mix_is_the_weighted_mean_of_those_that_answered() -> None:
    judges = Fixed("x", (1.0, False), (None, False)), Fixed("y", (0.0, False), (0.25, False))
    found = Mix(judges, (3.0, 1.0)).judge(ANSWERS)
    assert [one.reward for one in found] == [0.75, 0.25]
    assert found[0].parts == {"x": 1.0, "y": 0.0} and found[1].parts == {"x": None, "y": 0.25}
    assert Mix(judges).judge(ANSWERS)[0].reward == 0.5


def test_a_veto_decides_whatever_the_others_say_and_silence_is_no_zero() -> None:
    judges = Fixed("x", (0.0, True), (None, False)), Fixed("y", (1.0, False), (None, False))
    found = Mix(judges, veto_reward=-2.0).judge(ANSWERS)
    assert found[0].reward == -2.0 and found[1].reward is None


def test_functions_of_batches_get_lists_and_functions_of_one_answer_its_columns() -> None:
    def batched(prompts, completions, want):  # type: ignore[no-untyped-def]
        assert prompts == ["p0", "p1"] and want == ["a", "b"]
        return [completion.count(w) for completion, w in zip(completions, want, strict=True)]

    def everything(completions, **columns):  # type: ignore[no-untyped-def]
        assert columns["level"] == [1, None] and set(columns) == {"prompts", "want", "level"}
        return [0.5] * len(completions)

    def one(completion, want):  # type: ignore[no-untyped-def]
        return completion.count(want)

    def with_prompt(prompt, completion):  # type: ignore[no-untyped-def]
        return float(prompt == "p1")

    assert judge_of(batched).judge(ANSWERS) == [(2.0, False), (1.0, False)]
    assert judge_of(everything).judge(ANSWERS) == [(0.5, False)] * 2
    assert judge_of(one).judge(ANSWERS) == [(2.0, False), (1.0, False)]
    assert judge_of(with_prompt).judge(ANSWERS) == [(0.0, False), (1.0, False)]
    assert judge_of(one).name == "one"


def test_a_judge_that_runs_out_of_time_abstains() -> None:
    def late(completion: str) -> float:
        if completion == "ab":
            raise TimeoutError
        return 1.0

    def all_late(completions: list[str]) -> list[float]:
        raise TimeoutError

    assert judge_of(late).judge(ANSWERS) == [(1.0, False), (None, False)]
    assert judge_of(all_late).judge(ANSWERS) == [(None, False)] * 2


def test_objects_with_score_answer_read_the_entry_or_the_whole_row() -> None:
    class Counts:
        def score_answer(self, answer: str, entry: dict) -> float:  # type: ignore[type-arg]
            return answer.count(entry["want"]) / 2

    assert judge_of(Counts()).judge(ANSWERS) == [(1.0, False), (0.5, False)]
    inner = Answer("p", "bb", {"entry": {"want": "b"}, "want": "x"})
    assert judge_of(Counts()).judge([inner]) == [(1.0, False)] and judge_of(Counts()).name == "Counts"


def test_verifiers_give_scores_and_vetoes() -> None:
    from alexandra.verifiers.base import verifier

    @verifier(name="short")
    def short(claim):  # type: ignore[no-untyped-def]
        return 1.0 if len(claim.content) < 3 else 0.0

    judge = judge_of(short)
    assert judge.name == "short" and judge.judge(ANSWERS)[0][0] == 1.0


def test_what_is_no_reward_is_refused_by_name() -> None:
    for given in (lambda completions: [1.0], lambda completion: "much", lambda completion: math.nan):
        with pytest.raises(UsageError):
            Mix((judge_of(given),)).judge(ANSWERS)
    with pytest.raises(UsageError, match="is no reward"):
        judge_of(3)
    with pytest.raises(UsageError, match="at least one reward"):
        Mix(())
    for weights in ((1.0,), (1.0, 0.0), (1.0, -1.0)):
        with pytest.raises(UsageError, match="as many weights"):
            Mix((Fixed("x"), Fixed("y")), weights)

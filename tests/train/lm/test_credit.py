"""Credit by steps: marks in a text become numbers at tokens; a step on them climbs the likelihood of the verdicts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexandra.backends.bind import available
from alexandra.config import validate
from alexandra.errors import ConfigError, UsageError
from alexandra.lang.nureon import compile_network
from alexandra.objectives import advantages as adv
from alexandra.objectives.policy import GRPO, Sampled, policy_loss, variant
from alexandra.rng import derive
from alexandra.train.lm.build import Built, Given, build
from alexandra.train.lm.chat import Message
from alexandra.train.lm.credit import worth_of
from alexandra.train.lm.deadline import TimedJudge
from alexandra.train.lm.examples import Prompt
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.grpo import GRPOSettings
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.rewards import Answer, Judgement, Mix, Steps, judge_of
from alexandra.train.lm.rollout import Rollouts, RolloutSettings, Task
from alexandra.train.lm.sampling import Completion, Sampling
from alexandra.train.lm.tokenizer import CharTokenizer
from alexandra.train.stages import StagePlan, run_stage

NAN = math.nan
BACKEND = "native" if not available("native") else "reference"


# --- advantages -----------------------------------------------------------------------------------------------------


def drawn(rows: int, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Random steps worth 0 to 1 (a row without any among them), and log-probabilities."""
    stream = derive(1, "steps")
    worth = np.where(stream.at(0).uniform(rows * positions) < 0.4, stream.at(1).uniform(rows * positions), NAN)
    worth = worth.reshape(rows, positions)
    worth[2] = NAN
    worth[stream.at(2).uniform(rows * positions).reshape(rows, positions) < 0.1] = 0
    return worth, np.log(0.02 + 0.97 * stream.at(3).uniform(rows * positions)).reshape(rows, positions)


def test_verdicts_weigh_each_step_by_its_own_odds() -> None:
    worth, logp = drawn(7, 13)
    found = adv.verdicts(worth, logp, cap=4.0)
    for row in range(7):
        start = 0
        for t in range(13):
            if math.isnan(worth[row, t]):
                continue
            p = math.exp(sum(logp[row, start : t + 1]))
            wanted = worth[row, t] - (1 - worth[row, t]) * min(p / (1 - p), 4.0)
            np.testing.assert_allclose(found[row, start : t + 1], wanted, rtol=1e-12)
            start = t + 1
        assert (found[row, start:] == 0).all()
    assert adv.verdicts([[0.0]], [[0.0]], cap=4.0)[0, 0] == -4.0, "what is certain and wrong"


@pytest.mark.parametrize("group", [1, 3])
def test_process_supervision_sums_the_normalised_steps_to_come(group: int) -> None:
    worth, _ = drawn(6, 9)
    found = adv.process(worth, group)
    for p in range(6 // group):
        mine = worth[group * p : group * (p + 1)]
        judged = mine[~np.isnan(mine)]
        if judged.size < 2:
            assert not found[group * p : group * (p + 1)].any()
            continue
        for g in range(group):
            for t in range(9):
                ahead = [w for w in mine[g, t:] if not math.isnan(w)]
                wanted = sum((w - judged.mean()) / (judged.std(ddof=1) + 1e-4) for w in ahead)
                assert found[group * p + g, t] == pytest.approx(wanted, abs=1e-12)


def test_a_step_alone_in_its_group_says_nothing() -> None:
    assert not adv.process([[NAN, 0.7, NAN], [NAN, NAN, NAN]], 2).any()


def test_a_step_on_verdicts_has_the_slope_of_their_likelihood() -> None:
    """Of log p for what is right and log(1 - p) for what is wrong, by central differences on logits."""
    rows, positions, vocab = 4, 5, 6
    stream = derive(2, "slope")
    logits = stream.at(0).normal(rows * positions * vocab).reshape(rows, positions, vocab)
    said = stream.at(1).below(vocab, rows * positions).reshape(rows, positions)
    worth = np.where(np.arange(positions) % 2 == 1, stream.at(2).below(2, rows * positions).reshape(rows, -1), NAN)
    mask = np.ones((rows, positions))

    def logp_of(given: np.ndarray) -> np.ndarray:
        normal = given - np.log(np.exp(given).sum(-1, keepdims=True))
        return np.take_along_axis(normal, said[..., None], -1)[..., 0]

    def likelihood(given: np.ndarray) -> float:
        logp, total = logp_of(given), 0.0
        for row in range(rows):
            for end in (1, 3):
                p = math.exp(logp[row, end - 1 : end + 1].sum())
                total += math.log(p) if worth[row, end] else math.log(1 - p)
        return total / (rows * positions)

    logp = logp_of(logits)
    sampled = Sampled(logp, adv.verdicts(worth, logp, cap=1e9), mask)
    for settings in (GRPO(mean="token"), variant("dr_grpo", positions)):
        grad = policy_loss(logp, sampled, settings, rows * positions).grad_BT
        softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        ours = -grad[..., None] * (np.eye(vocab)[said] - softmax)
        for index in np.ndindex(logits.shape):
            step = np.zeros_like(logits)
            step[index] = 1e-6
            slope = (likelihood(logits + step) - likelihood(logits - step)) / 2e-6
            assert ours[index] == pytest.approx(slope, abs=1e-8)


def test_what_is_no_worth_is_refused() -> None:
    with pytest.raises(UsageError, match="worth 0 to 1"):
        adv.verdicts([[1.5]], [[0.0]])
    with pytest.raises(UsageError, match="no groups of 2"):
        adv.process([[1.0]], 2)
    with pytest.raises(UsageError, match="cap=0"):
        adv.verdicts([[1.0]], [[0.0]], cap=0)


# --- from text to tokens --------------------------------------------------------------------------------------------


class Words:
    """A tokenizer of words: token 0 ends, the others write `WORDS`."""

    WORDS = ("", "ab", "c", "def", "")
    eos = pad = 0

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self.WORDS[token] for token in tokens)


class Joined(Words):
    """One whose words are apart only beside others: the lengths of single tokens do not add up."""

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(self.WORDS[token] for token in tokens if self.WORDS[token])


def rollouts(tokens: list[int], marks: list[tuple[int, float]] | None, tokenizer: Words) -> Rollouts:
    task = Task((1, 1, 1), Prompt((Message("user", "q"),)))
    steps = None if marks is None else tuple(marks)
    one = Completion(tuple(tokens), (0.0,) * len(tokens), tokens[-1] == 0)
    return Rollouts((task,), (one,), (tokenizer.decode(tokens),), (Judgement(0.5, {}, steps),), np.array([[0.5]]))


def worth_at(tokens: list[int], marks: list[tuple[int, float]], tokenizer: Words) -> list[float]:
    given = rollouts(tokens, marks, tokenizer)
    found = worth_of(given, given.batch(10, 0), tokenizer)  # type: ignore[arg-type]
    assert np.isnan(found[0, :2]).all() and np.isnan(found[0, 2 + len(tokens) :]).all()
    return found[0, 2 : 2 + len(tokens)].tolist()


def test_a_step_is_worth_at_the_token_that_ends_it() -> None:
    tokens = [1, 2, 3, 0]  # ab c def end
    assert worth_at(tokens, [(2, 1.0), (3, 0.5), (6, 0.0), (7, 1.0)], Words()) == [1.0, 0.5, 0.0, 1.0]
    np.testing.assert_equal(worth_at(tokens, [(3, 0.5), (6, 1.0)], Words()), [NAN, 0.5, 1.0, NAN])
    np.testing.assert_equal(worth_at(tokens, [(1, 1.0), (2, 0.25), (5, 1.0)], Words()), [0.25, NAN, 1.0, NAN])
    np.testing.assert_equal(worth_at(tokens[:3], [(6, 1.0), (7, 0.0)], Words()), [NAN, NAN, 1.0]), "cut off"
    np.testing.assert_equal(worth_at([1, 4, 2, 0], [(2, 1.0), (3, 0.0)], Words()), [1.0, NAN, 0.0, NAN])
    np.testing.assert_equal(worth_at([1, 4], [(2, 1.0), (3, 1.0)], Words()), [1.0, NAN]), "silent, but no end"


def test_tokens_that_write_by_their_neighbours_are_measured_together() -> None:
    np.testing.assert_equal(worth_at([1, 2, 3, 0], [(4, 0.5), (8, 1.0), (9, 0.0)], Joined()), [NAN, 0.5, 1.0, 0.0])


def test_without_a_judge_of_steps_the_credit_is_refused() -> None:
    given = rollouts([1, 0], None, Words())
    with pytest.raises(UsageError, match="no reward says what the steps"):
        worth_of(given, given.batch(6, 0), Words())  # type: ignore[arg-type]


def test_where_all_abstain_no_step_is_worth_anything() -> None:
    given = rollouts([1, 0], None, Words())
    abstained = replace(given, judgements=(Judgement(None, {}),), rewards_PG=np.array([[NAN]]))
    assert np.isnan(worth_of(abstained, abstained.batch(6, 0), Words())).all()  # type: ignore[arg-type]


# --- rewards that tell of steps -------------------------------------------------------------------------------------


def test_a_mix_keeps_the_steps_of_the_one_judge_that_tells_of_them() -> None:
    def followed(completion: str) -> dict[str, object]:
        return {"reward": 0.5, "steps": [(1, 1.0), (2, 0.0)]}

    def plain(completion: str) -> float:
        return 1.0

    (found,) = Mix((judge_of(followed), judge_of(plain)), (3.0, 1.0)).judge([Answer("p", "ab")])
    assert found == Judgement(0.625, {"followed": 0.5, "plain": 1.0}, ((1, 1.0), (2, 0.0)))
    assert type(found.parts["followed"]) is float
    with pytest.raises(UsageError, match="two rewards judge the steps"):
        Mix((judge_of(followed), judge_of(followed))).judge([Answer("p", "ab")])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"reward": 1.0}, "gave a record with reward"),
        ({"reward": 1.0, "steps": [1, 2]}, "no pairs of numbers"),
        ({"reward": 1.0, "steps": [(2, 1.0), (2, 1.0)]}, "a step to 2 behind one that ends at 2"),
        ({"reward": 1.0, "steps": [(2, 1.5)]}, "a step worth 1.5"),
        ({"reward": 1.0, "steps": [(2, NAN)]}, "a step worth nan"),
        ({"reward": NAN, "steps": []}, "gave nan"),
    ],
)
def test_steps_that_make_no_sense_are_refused_by_the_reward(given: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=f"reward 'odd' .*{words}"):
        judge_of(_named(given)).judge([Answer("p", "abc")])


def _named(given: dict[str, object]):  # type: ignore[no-untyped-def]
    def odd(completion: str) -> dict[str, object]:
        return given

    return odd


def test_steps_come_out_of_the_process_with_the_deadline(tmp_path: Path) -> None:
    source = 'def followed(completion):\n    return {"reward": 0.25, "steps": [(1, 1.0), (3, 0.5)]}\n'
    (tmp_path / "rewards.py").write_text(source)
    ((value, veto),) = TimedJudge("rewards.py:followed", tmp_path, 5.0).judge([Answer("p", "abc")])
    assert isinstance(value, Steps) and (value, value.marks, veto) == (0.25, ((1, 1.0), (3, 0.5)), False)


# --- a whole stage --------------------------------------------------------------------------------------------------

LETTERS = "abcd"
TOKENIZER = CharTokenizer(LETTERS + LETTERS.upper())
NETWORK = """
LAYER INPUT name=tokens shape=(SEQ) dtype=int32
LAYER EMBEDDING name=e vocab=11 size=24
LAYER ATTENTION name=a heads=2 rope=TRUE
LAYER ADD name=s
LAYER FFN name=f hidden=32
LAYER OUTPUT name=y size=11
CONNECT tokens -> e -> a -> s -> f -> y
CONNECT e -> s
"""


def capitals(completion: str, prompt: str) -> dict[str, object]:
    """The prompt in capitals, letter by letter, and no more."""
    wanted = prompt.upper()
    marks = [(i + 1, float(i < 3 and a == wanted[i])) for i, a in enumerate(completion)]
    marks.append((len(completion) + 1, float(len(completion) == 3)))
    return {"reward": float(completion == wanted), "steps": marks}


def stage(credit: str, steps: int = 120, rewards: tuple[Any, ...] = (capitals,), **rollout: object) -> Built:
    settings = {
        "stage": "grpo",
        "model": {"backend": BACKEND},
        "data": {"held_out": 0.0},
        "train": {"lr": 0.01, "weight_decay": 0.0, "steps": steps, "warmup": 0},
        "rollout": {"prompts": 16, "group": 2, "max_tokens": 5, "credit": credit, **rollout},
    }
    rows = [{"prompt": a + b + c} for a in LETTERS for b in LETTERS for c in LETTERS]
    given = Given(ModelFolder(compile_network(NETWORK), tokenizer=TOKENIZER), rows, rewards=rewards)
    return build(validate(settings, Recipe, "a test"), given)


def test_verdicts_teach_what_answers_as_a_whole_do_not() -> None:
    """From nothing: no answer is right as a whole, so their rewards agree; single letters are right now and then."""
    first = {}
    for credit in ("verdicts", "answer"):
        one = stage(credit, 200)
        found = [one.stage.step(number) for number in range(200)]
        first[credit] = found[-1]["reward"]
        assert 0 <= found[0]["steps"] < 0.4
    assert first["verdicts"] > 0.7 and first["answer"] < 0.2


def alike(completion: str) -> dict[str, object]:
    """Finds every letter right."""
    return {"reward": 1.0, "steps": [(i + 1, 1.0) for i in range(len(completion))]}


@pytest.mark.parametrize(
    ("credit", "then", "share"),
    [("verdicts", None, 1.0), ("process", None, 1.0), ("answer", None, 1.0), ("process", alike, 0.0)],
)
def test_a_step_of_which_nothing_can_be_learnt_changes_nothing(
    credit: str, then: Callable[[str], dict[str, object]] | None, share: float
) -> None:
    """Not even by the moments of the steps before."""
    asked: list[str] = []

    def judge(completion: str) -> dict[str, object] | None:
        asked.append(completion)
        first = len(asked) <= 2 * 32
        return capitals(completion, "abc") if first else then and then(completion)

    one = stage(credit, 5, rewards=(judge,))
    for number in range(2):
        one.stage.step(number)
    before = {name: np.array(array) for name, array in one.stage.arrays().items()}
    metrics = one.stage.step(2)
    assert metrics["abstained"] == share and metrics["loss"] == 0
    for name, array in one.stage.arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


@pytest.mark.parametrize("credit", ["verdicts", "process"])
def test_a_run_that_was_cut_goes_on_bit_by_bit_with_rollouts_that_wait(credit: str, tmp_path: Path) -> None:
    def run(name: str, *parts: int) -> tuple[dict[str, np.ndarray], bytes]:
        for resume, steps in enumerate(parts):
            one = stage(credit, 30, staleness=1, group=3)
            run_stage(one.stage, StagePlan(steps, tmp_path / name, save_every=7, resume=bool(resume)))
        return one.stage.arrays(), (tmp_path / name / "metrics.jsonl").read_bytes()

    whole, lines = run("whole", 30)
    cut, again = run("cut", 9, 23, 30)
    assert lines == again and whole.keys() == cut.keys()
    assert any(name.endswith("/steps") for name in whole)
    for name, array in whole.items():
        np.testing.assert_array_equal(cut[name], array, err_msg=name)


def test_a_credit_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rollout\.credit = 'tokens': .*'answer', 'process' or 'verdicts'"):
        stage("tokens")
    with pytest.raises(UsageError, match="no credit by 'tokens'"):
        GRPOSettings(GRPO(), RolloutSettings(Sampling(3)), 8, credit="tokens")

"""Every stage learns what it says from nothing, on a task whose answers are known: the capital of the next letter.

The network sees one token, which is enough for it, so that a stage takes seconds. Held-out prompts have other words
before the same letters.
"""

from functools import partial

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.errors import UsageError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives.policy import GRPO, variant
from alexandra.objectives.preference import DPO, KTO
from alexandra.objectives.spec import AdamW
from alexandra.rng import derive
from alexandra.train.lm.batch import Row
from alexandra.train.lm.chat import Message, render_prompt
from alexandra.train.lm.examples import Prompt
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.grpo import GroupPolicy, GRPOSettings, greedy_rewards
from alexandra.train.lm.likelihood import Likelihood, LikelihoodSettings, Pretraining
from alexandra.train.lm.policy import NetworkPolicy
from alexandra.train.lm.ppo import PPOSettings, ProximalPolicy
from alexandra.train.lm.preference_stages import ORPO, Liking, PairRows, Preference, PreferenceSettings
from alexandra.train.lm.rewards import Mix, judge_of
from alexandra.train.lm.rollout import Actor, RolloutSettings, Task
from alexandra.train.lm.sampling import Sampling, complete
from alexandra.train.lm.scores import RewardModel, ScoreModel, score_graph, score_weights
from alexandra.train.lm.tokenizer import CharTokenizer

LETTERS = "abcdefgh"
TOKENIZER = CharTokenizer(LETTERS + LETTERS.upper())
LENGTH = 8
BACKEND = "native" if not available("native") else "reference"
OPTIONS = Optimization(AdamW(lr=0.02, weight_decay=0.0))


def network() -> Graph:
    return make_graph(
        "bigram",
        [
            Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
            Node("e", "embedding", ("tokens",), {"vocab": TOKENIZER.vocab_size, "size": 16}),
            Node("h", "dense", ("e",), {"size": 32, "activation": "tanh"}),
            Node("y", "output", ("h",), {"size": TOKENIZER.vocab_size}),
        ],
    )


def policy(seed: int = 0) -> NetworkPolicy:
    return NetworkPolicy(bind(network(), BACKEND, seed=seed), OPTIONS)


def answer_of(prompt: str) -> str:
    return LETTERS[(LETTERS.index(prompt[-1]) + 1) % len(LETTERS)].upper()


def prompts(seed: int, count: int) -> list[str]:
    draws = derive(seed, "prompts").below(len(LETTERS), count * 3).reshape(count, 3)
    return ["".join(LETTERS[i] for i in row) for row in draws]


def row(prompt: str, answer: str) -> Row:
    tokens = [*TOKENIZER.encode(prompt + answer), TOKENIZER.eos]
    return Row(tokens, [0] * len(prompt) + [1] * (len(answer) + 1))


def task(prompt: str) -> Task:
    message = Message("user", prompt)
    return Task(tuple(render_prompt([message], TOKENIZER)), Prompt((message,), {"answer": answer_of(prompt)}))


def exact(completion: str, answer: str) -> float:
    return float(completion == answer)


SAMPLING = Sampling(3, stop=(TOKENIZER.eos,))


def actor(own: NetworkPolicy, reference: NetworkPolicy | None = None) -> Actor:
    return Actor(own, TOKENIZER, partial(complete, own), Mix((judge_of(exact),)), reference)


def accuracy(own: NetworkPolicy) -> float:
    tasks = [task(prompt) for prompt in prompts(99, 40)]
    return greedy_rewards(actor(own), RolloutSettings(SAMPLING), tasks)["eval_reward"]


def warm(share: float = 0.5, steps: int = 6) -> NetworkPolicy:
    """A policy that knows the form of answers and a little of their content."""
    own = policy()
    given = prompts(0, 64)
    answers = [answer_of(p) if i < share * 64 else LETTERS[i % 8].upper() for i, p in enumerate(given)]
    stage = Likelihood(own, [row(p, a) for p, a in zip(given, answers, strict=True)], LikelihoodSettings(LENGTH))
    for number in range(steps):
        stage.step(number)
    return own


def pairs(seed: int, count: int) -> list[PairRows]:
    wrong = derive(seed, "wrong").below(7, count)
    found = []
    for p, shift in zip(prompts(seed, count), wrong, strict=True):
        good = answer_of(p)
        bad = LETTERS[(LETTERS.index(good.lower()) + 1 + int(shift)) % 8].upper()
        found.append(PairRows(row(p, good), row(p, bad)))
    return found


def test_sft_learns_and_its_held_out_loss_falls() -> None:
    own = policy()
    held = [row(p, answer_of(p)) for p in prompts(5, 30)]
    stage = Likelihood(own, [row(p, answer_of(p)) for p in prompts(0, 200)], LikelihoodSettings(LENGTH), held)
    before = stage.evaluate()["eval_loss"]
    losses = [stage.step(number)["loss"] for number in range(120)]
    assert accuracy(policy()) < 0.3 and accuracy(own) == 1.0
    assert stage.evaluate()["eval_loss"] < 0.05 < before and losses[-1] < losses[0] / 10


def test_pretraining_reaches_the_entropy_of_its_source() -> None:
    text = np.array(TOKENIZER.encode("abcdefgh" * 300))
    stage = Pretraining(policy(), text, LikelihoodSettings(16, batch_rows=8), text[:200])
    for number in range(60):
        stage.step(number)
    found = stage.evaluate()
    assert found["eval_loss"] < 0.05 and found["eval_tokens"] > 150


@pytest.mark.parametrize("objective", [DPO(0.5), DPO(0.2, "ipo"), DPO(0.5, "hinge"), ORPO(1.0)], ids=repr)
def test_preferences_raise_held_out_accuracy(objective: DPO | ORPO) -> None:
    own = warm()
    before = accuracy(own)
    stage = Preference(own, pairs(1, 200), objective, PreferenceSettings(LENGTH), held_out=pairs(2, 60))
    ranked = stage.evaluate()["eval_accuracy"]
    for number in range(60):
        metrics = stage.step(number)
    assert before < 0.8 < accuracy(own)
    assert stage.evaluate()["eval_accuracy"] > max(0.9, ranked) and metrics["accuracy"] > 0.9


def test_kto_raises_held_out_accuracy() -> None:
    own = warm()
    before = accuracy(own)
    both = pairs(1, 150)
    answers = [(pair.chosen, True) for pair in both] + [(pair.rejected, False) for pair in both]
    others = [*answers[1:], answers[0]]
    rows = []
    for (own_row, good), (other, _) in zip(answers, others, strict=True):
        rows.append((own_row, Row([*other.tokens[:3], *own_row.tokens[3:]], own_row.mask), good))
    stage = Liking(own, rows, KTO(0.5), PreferenceSettings(LENGTH, batch_rows=32))
    for number in range(60):
        stage.step(number)
    assert before < 0.8 < accuracy(own)


def test_a_reward_model_ranks_held_out_pairs() -> None:
    own = warm()
    graph = score_graph(network())
    scorer = ScoreModel(bind(graph, BACKEND, score_weights(own.model.weights, graph, 0)), OPTIONS)
    stage = RewardModel(scorer, pairs(1, 200), PreferenceSettings(LENGTH), held_out=pairs(2, 60))
    assert stage.evaluate()["eval_margin"] == 0.0
    for number in range(40):
        stage.step(number)
    # the network sees one token only, the end: it can know the answer's letter, not the prompt
    assert stage.evaluate()["eval_accuracy"] <= 1.0


SLOW = ("dr_grpo", "dapo", "cispo", "rloo", "reinforce_pp")
VARIANTS = ["grpo", "gspo", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.mark.parametrize("name", VARIANTS)
def test_grpo_and_every_variant_learn_from_a_verifier(name: str) -> None:
    own = warm()
    before = accuracy(own)
    rollout = RolloutSettings(SAMPLING, group=16, seed=1)
    settings = GRPOSettings(variant(name, 3), rollout, LENGTH, prompts=8)
    stage = GroupPolicy(actor(own), [task(p) for p in prompts(1, 100)], settings, [task(p) for p in prompts(99, 40)])
    gaps = [stage.step(number).get("sampler_gap", 0.0) for number in range(40)]
    assert before < 0.8 < 0.95 <= stage.evaluate()["eval_reward"]
    assert max(gaps) < 1e-4


def test_grpo_with_reference_minibatches_and_dynamic_sampling_learns_too() -> None:
    own, reference = warm(), warm()
    rollout = RolloutSettings(SAMPLING, group=8, seed=1, redraws=2)
    settings = GRPOSettings(GRPO(beta=0.02), rollout, LENGTH, prompts=8, epochs=2, minibatches=2)
    stage = GroupPolicy(actor(own, reference), [task(p) for p in prompts(1, 100)], settings)
    metrics = [stage.step(number) for number in range(25)]
    assert accuracy(own) >= 0.9
    assert metrics[0]["informative"] == 1.0 and metrics[-1]["kl"] > 0


def test_ppo_learns_from_a_verifier() -> None:
    own, reference = warm(), warm()
    graph = score_graph(network())
    critic = ScoreModel(bind(graph, BACKEND, score_weights(own.model.weights, graph, 0)), OPTIONS)
    settings = PPOSettings(RolloutSettings(SAMPLING, group=1, seed=1), LENGTH, prompts=64, kl=0.01)
    stage = ProximalPolicy(actor(own, reference), critic, [task(p) for p in prompts(1, 100)], settings)
    before = accuracy(own)
    metrics = [stage.step(number) for number in range(30)]
    assert before < 0.8 < accuracy(own)
    assert metrics[-1]["value_loss"] < metrics[0]["value_loss"]


def test_an_answer_without_a_verdict_teaches_nothing() -> None:
    def shy(completion: str) -> float | None:
        return None

    own = warm()
    before = {name: np.array(array) for name, array in own.model.weights.items()}
    mixed = Actor(own, TOKENIZER, partial(complete, own), Mix((judge_of(shy),)))
    settings = GRPOSettings(GRPO(), RolloutSettings(SAMPLING, group=4), LENGTH, prompts=4)
    metrics = GroupPolicy(mixed, [task("abc")], settings).step(0)
    assert metrics["abstained"] == 1.0 and np.isnan(metrics["reward"])
    for name, array in own.model.weights.items():
        np.testing.assert_array_equal(array, before[name])


def test_settings_that_cannot_work_are_refused_before_the_first_step() -> None:
    settings = GRPOSettings(GRPO(), RolloutSettings(SAMPLING), 4)
    with pytest.raises(UsageError, match="may have 5 positions, length is 4"):
        GroupPolicy(actor(policy()), [task("abc")], settings)
    with pytest.raises(UsageError, match="needs a reference policy"):
        GroupPolicy(actor(policy()), [task("abc")], GRPOSettings(GRPO(beta=0.1), RolloutSettings(SAMPLING), 8))
    with pytest.raises(UsageError, match="do not divide"):
        GRPOSettings(GRPO(), RolloutSettings(SAMPLING), 8, prompts=8, minibatches=3)

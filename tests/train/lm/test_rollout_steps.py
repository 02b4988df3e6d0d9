"""One step of GRPO and PPO, number by number: what is sampled, judged, compared, weighed, and how the weights answer.

The policy is a table, so the expected loss is written again here in loops over answers and tokens, and its gradient
comes from central differences. The settings have what is easy to get wrong: several minibatches and epochs, answers of
different lengths, abstentions, prompts whose answers all agree.
"""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.errors import DataError, UsageError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Node
from alexandra.objectives.policy import GRPO, variant
from alexandra.objectives.spec import SGD
from alexandra.rng import derive
from alexandra.train.lm.chat import Message
from alexandra.train.lm.examples import Prompt
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.grpo import GroupPolicy, GRPOSettings, greedy_rewards
from alexandra.train.lm.ppo import PPOSettings, ProximalPolicy
from alexandra.train.lm.rewards import Mix, judge_of
from alexandra.train.lm.rollout import Actor, RolloutSettings, Task, answers_of, collect
from alexandra.train.lm.sampling import Sampling, complete, draw, truncated
from alexandra.train.lm.scores import ScoreModel, score_graph
from alexandra.train.lm.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("abcde")
V, END, SEED, TOKENS, LENGTH = TOKENIZER.vocab_size, TOKENIZER.eos, 4, 5, 9
SAMPLING = Sampling(TOKENS, stop=(END,))


def task(text: str) -> Task:
    return Task(tuple(TOKENIZER.encode(text)), Prompt((Message("user", text),), {"want": text[-1]}))


TASKS = [task(text) for text in ("ab", "c", "dea", "eb", "bbc", "ad", "ca")]


def share(completion: str, want: str) -> float | None:
    """How much of an answer is the wanted letter; none for an answer with two c's."""
    if completion.count("c") > 1:
        return None
    return completion.count(want) / max(len(completion), 1)


def actor(policy, reference=None, reward=share) -> Actor:  # type: ignore[no-untyped-def]
    return Actor(policy, TOKENIZER, partial(complete, policy), Mix((judge_of(reward),)), reference)


def walked(table, prompt, words):  # type: ignore[no-untyped-def]
    """An answer by the inverse of the cumulative distribution, one word a token."""
    last, found = prompt[-1], []
    for word in words.tolist():
        p = np.exp(table[last]) / np.exp(table[last]).sum()
        last = next(i for i in range(V) if word < p[: i + 1].sum() or i == V - 1)
        found.append(last)
        if last == END:
            break
    return found


def sampled(table, tasks, group, stream):  # type: ignore[no-untyped-def]
    rows = [one for one in tasks for _ in range(group)]
    return [walked(table, one.tokens, stream.at(i).uniform(TOKENS)) for i, one in enumerate(rows)]


def chosen_tasks(number: int, prompts: int) -> list[Task]:
    line = [int(i) for epoch in range(9) for i in derive(SEED, "rows").at(epoch).permutation(len(TASKS))]
    return [TASKS[i] for i in line[number * prompts : (number + 1) * prompts]]


def judged(tasks, answers, group):  # type: ignore[no-untyped-def]
    return [share(TOKENIZER.decode(a), tasks[i // group].prompt.fields["want"]) for i, a in enumerate(answers)]


def logps(table, prompt, answer):  # type: ignore[no-untyped-def]
    last, found = prompt[-1], []
    for token in answer:
        found.append(table[last][token] - math.log(np.exp(table[last]).sum()))
        last = token
    return np.array(found)


def standardised(rewards, group):  # type: ignore[no-untyped-def]
    found = []
    for first in range(0, len(rewards), group):
        own = rewards[first : first + group]
        known = [r for r in own if r is not None]
        std = np.std(known, ddof=1) if len(known) > 1 else 0.0
        found += [0.0 if r is None or len(known) < 2 else (r - np.mean(known)) / (std + 1e-4) for r in own]
    return found


def grpo_loss(table, start, reference, rows, beta):  # type: ignore[no-untyped-def]
    """rows: (prompt, answer, advantage), advantage None where no judge spoke. Means per answer, then over answers."""
    judged_rows = [one for one in rows if one[2] is not None]
    total = 0.0
    for prompt, answer, advantage in judged_rows:
        now, old, ref = (logps(one, prompt, answer) for one in (table, start, reference))
        ratio = np.exp(now - old)
        clipped = np.clip(ratio, 0.8, 1.2)
        kl = np.exp(ref - now) - (ref - now) - 1
        total += (-np.minimum(ratio * advantage, clipped * advantage) + beta * kl).mean()
    return total / len(judged_rows)


@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (2, 3)])
def test_grpo_descends_its_objective_minibatch_by_minibatch(epochs, minibatches, table_policy, gradient) -> None:  # type: ignore[no-untyped-def]
    policy, reference = table_policy(V, 1), table_policy(V, 2)
    group, prompts, beta = 4, 6, 0.3
    settings = GRPOSettings(
        GRPO(beta=beta), RolloutSettings(SAMPLING, group, seed=SEED), LENGTH, prompts, epochs, minibatches
    )
    stage = GroupPolicy(actor(policy, reference), TASKS, settings)
    for number in (0, 1):
        start = policy.table
        tasks = chosen_tasks(number, prompts)
        answers = sampled(start, tasks, group, derive(SEED, "rollout", number, 0))
        rewards = judged(tasks, answers, group)
        assert None in rewards
        weights = standardised(rewards, group)
        rows = [
            (tasks[i // group].tokens, answer, None if rewards[i] is None else weights[i])
            for i, answer in enumerate(answers)
        ]
        metrics = stage.step(number)
        assert stage.last is not None
        assert [list(one.tokens) for one in stage.last.completions] == answers
        for one, (prompt, answer, _) in zip(stage.last.completions, rows, strict=True):
            np.testing.assert_allclose(one.logps, logps(start, prompt, answer), atol=1e-12)
            assert one.stopped == (answer[-1] == END)
        size, table, losses, kl, tokens = len(rows) // minibatches, start, [], 0.0, 0
        for _ in range(epochs):
            for part in range(minibatches):
                own = rows[part * size : (part + 1) * size]
                losses.append(grpo_loss(table, start, reference.table, own, beta))
                for prompt, answer, advantage in own:
                    if advantage is not None:
                        gap = logps(reference.table, prompt, answer) - logps(table, prompt, answer)
                        kl, tokens = kl + (np.exp(gap) - gap - 1).sum(), tokens + len(answer)
                slope = gradient(lambda t, s=start, own=own: grpo_loss(t, s, reference.table, own, beta), table)
                table = table - policy.lr * slope
        np.testing.assert_allclose(policy.table, table, atol=1e-7)
        assert metrics["loss"] == pytest.approx(np.mean(losses))
        assert metrics["kl"] == pytest.approx(kl / tokens)
        assert metrics["sampler_gap"] < 1e-12
        described(metrics, rewards, answers, group)
    assert stage.inputs(1)["tokens"].shape == (prompts * group, LENGTH)


def described(metrics, rewards, answers, group) -> None:  # type: ignore[no-untyped-def]
    known = [r for r in rewards if r is not None]
    assert metrics["reward"] == pytest.approx(np.mean(known)) == metrics["reward/share"]
    assert metrics["reward_std"] == pytest.approx(np.std(known))
    assert metrics["abstained"] == pytest.approx(rewards.count(None) / len(rewards))
    groups = [[r for r in rewards[i : i + group] if r is not None] for i in range(0, len(rewards), group)]
    assert metrics["informative"] == np.mean([len(set(own)) > 1 for own in groups])
    assert metrics["answer_tokens"] == np.mean([len(answer) for answer in answers])
    assert metrics["stopped"] == np.mean([answer[-1] == END for answer in answers])


def test_dynamic_sampling_draws_prompts_whose_answers_all_agree_again(table_policy) -> None:  # type: ignore[no-untyped-def]
    policy = table_policy(V, 1)

    def some(completion: str, want: str) -> float:
        return 0.25 if want in "ab" else float(completion.count(want))

    rollout = RolloutSettings(SAMPLING, 3, redraws=2, seed=SEED)
    stage = GroupPolicy(actor(policy, reward=some), TASKS, GRPOSettings(GRPO(), rollout, LENGTH, prompts=4))
    for number in (0, 2, 3):
        start, kept = policy.table, []
        for attempt in range(3):
            tasks = chosen_tasks(number * 3 + attempt, 4)
            answers = sampled(start, tasks, 3, derive(SEED, "rollout", number, attempt))
            for p, one in enumerate(tasks):
                own = [some(TOKENIZER.decode(a), one.prompt.fields["want"]) for a in answers[3 * p : 3 * p + 3]]
                if len(set(own)) > 1:
                    kept.append((one.prompt.text, own, answers[3 * p : 3 * p + 3]))
            if len(kept) >= 4:
                break
        stage.step(number)
        assert stage.last is not None
        found = [
            (one.prompt.text, row.tolist(), [list(c.tokens) for c in stage.last.completions[3 * p : 3 * p + 3]])
            for p, (one, row) in enumerate(zip(stage.last.tasks, stage.last.rewards_PG, strict=True))
        ]
        assert found == kept[:4]
        texts = [TOKENIZER.decode(one.tokens) for one in stage.last.completions]
        assert list(stage.last.texts) == texts and len(stage.last.judgements) == len(texts)


def test_a_step_that_can_teach_nothing_changes_nothing(table_policy) -> None:  # type: ignore[no-untyped-def]
    for redraws in (0, 2):
        policy = table_policy(V, 1)
        before = policy.table
        rollout = RolloutSettings(SAMPLING, 3, redraws=redraws, seed=SEED)
        settings = GRPOSettings(GRPO(), rollout, LENGTH, prompts=4)
        metrics = GroupPolicy(actor(policy, reward=lambda completion: 0.5), TASKS, settings).step(0)
        assert metrics["loss"] == 0.0 and metrics["informative"] == 0.0 and metrics["reward"] == 0.5
        assert (policy.table == before).all()


def test_greedy_answers_to_every_held_out_prompt_are_measured(table_policy) -> None:  # type: ignore[no-untyped-def]
    policy = table_policy(V, 52)
    answers = []
    for one in TASKS:
        last, own = one.tokens[-1], []
        while len(own) < TOKENS and (not own or own[-1] != END):
            last = int(np.argmax(policy.table[last]))
            own.append(last)
        answers.append(own)
    rewards = judged(TASKS, answers, 1)
    known = [r for r in rewards if r is not None]
    assert None in rewards and len(set(known)) > 1
    hot = replace(SAMPLING, temperature=3.0, top_k=2, top_p=0.5)
    settings = GRPOSettings(GRPO(), RolloutSettings(hot, 4, seed=SEED), LENGTH)
    measured = GroupPolicy(actor(policy), TASKS[:2], settings, TASKS).evaluate()
    assert measured["eval_reward"] == pytest.approx(np.mean(known)) == measured["eval_reward/share"]
    assert measured["eval_abstained"] == rewards.count(None) / len(TASKS)
    assert measured["eval_answer_tokens"] == np.mean([len(own) for own in answers])
    assert "eval_informative" not in measured
    assert greedy_rewards(actor(policy), settings.rollout, []) == {}


def test_a_minibatch_without_a_verdict_adds_nothing_to_the_loss(table_policy, gradient) -> None:  # type: ignore[no-untyped-def]
    policy = table_policy(V, 1)
    silent = chosen_tasks(0, 2)[1].prompt.fields["want"]

    def some(completion: str, want: str) -> float | None:
        return None if want == silent else float(completion.count(want))

    settings = GRPOSettings(GRPO(), RolloutSettings(SAMPLING, 6, seed=SEED), LENGTH, prompts=2, minibatches=2)
    stage = GroupPolicy(actor(policy, reward=some), TASKS, settings)
    start, tasks = policy.table, chosen_tasks(0, 2)
    answers = sampled(start, tasks, 6, derive(SEED, "rollout", 0, 0))
    rewards = [some(TOKENIZER.decode(a), tasks[0].prompt.fields["want"]) for a in answers[:6]]
    rows = [(tasks[0].tokens, a, w) for a, w in zip(answers, standardised(rewards, 6), strict=False)]
    metrics = stage.step(0)
    assert metrics["loss"] == pytest.approx(grpo_loss(start, start, start, rows, 0.0) / 2)
    slope = gradient(lambda t: grpo_loss(t, start, start, rows, 0.0), start)
    np.testing.assert_allclose(policy.table, start - policy.lr * slope, atol=1e-8)
    assert stage.last is not None
    batch = stage.last.batch(LENGTH, 0)
    placed = stage.last.placed([one.logps for one in stage.last.completions], batch)
    assert (placed[6:] == 0).all() and (placed[:6].sum(1) < 0).all()


def test_what_cannot_be_learnt_from_is_refused(table_policy) -> None:  # type: ignore[no-untyped-def]
    policy, rollout = table_policy(V, 1), RolloutSettings(SAMPLING, 2)
    with pytest.raises(DataError, match="no prompt"):
        GroupPolicy(actor(policy), [], GRPOSettings(GRPO(), rollout, LENGTH))
    with pytest.raises(UsageError, match="may have 7 positions, length is 6"):
        GroupPolicy(actor(policy), TASKS[:1], GRPOSettings(GRPO(), rollout, 6), [task("dea")])
    GroupPolicy(actor(policy), TASKS, GRPOSettings(GRPO(), rollout, 7))
    with pytest.raises(UsageError, match="needs a reference"):
        ProximalPolicy(actor(policy), critic(), TASKS, PPOSettings(rollout, LENGTH))
    ProximalPolicy(actor(policy), critic(), TASKS, PPOSettings(rollout, LENGTH, 6, minibatches=4, kl=0.0))
    with pytest.raises(UsageError, match="do not divide into 4"):
        ProximalPolicy(actor(policy), critic(), TASKS, PPOSettings(rollout, LENGTH, 5, minibatches=4, kl=0.0))


def test_other_variants_take_their_own_step(table_policy, gradient) -> None:  # type: ignore[no-untyped-def]
    """Dr. GRPO: centred advantages, divided by answers times the longest answer."""
    policy = table_policy(V, 1)
    settings = GRPOSettings(variant("dr_grpo", TOKENS), RolloutSettings(SAMPLING, 4, seed=SEED), LENGTH, 3)
    stage = GroupPolicy(actor(policy), TASKS, settings)
    start, tasks = policy.table, chosen_tasks(0, 3)
    answers = sampled(start, tasks, 4, derive(SEED, "rollout", 0, 0))
    rewards = judged(tasks, answers, 4)

    def loss(table):  # type: ignore[no-untyped-def]
        total = 0.0
        for i, answer in enumerate(answers):
            group = [r for r in rewards[4 * (i // 4) : 4 * (i // 4) + 4] if r is not None]
            if rewards[i] is not None and len(group) > 1:
                prompt = tasks[i // 4].tokens
                ratio = np.exp(logps(table, prompt, answer) - logps(start, prompt, answer))
                total -= (ratio * (rewards[i] - np.mean(group))).sum()
        return total / (TOKENS * sum(r is not None for r in rewards))

    stage.step(0)
    np.testing.assert_allclose(policy.table, start - policy.lr * gradient(loss, start), atol=1e-8)


# --- PPO ----------------------------------------------------------------------------------------------------


def critic(lr: float = 0.1) -> ScoreModel:
    graph = make_graph(
        "body",
        [
            Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
            Node("e", "embedding", ("tokens",), {"vocab": V, "size": 5}),
            Node("y", "output", ("e",), {"size": V}),
        ],
    )
    return ScoreModel(bind(score_graph(graph), "reference", seed=7), Optimization(SGD(lr=lr), clip_norm=0.0))


def by_hand(table, start, reference, values, rows, kl):  # type: ignore[no-untyped-def]
    """(advantages, returns, log-ratios) of each answer: GAE with decay 0.95 on a reward at the end and a KL penalty."""
    advantages, returns, ratios = [], [], []
    for (prompt, answer, reward), value in zip(rows, values, strict=True):
        ratio = logps(start, prompt, answer) - logps(reference, prompt, answer)
        pay = -kl * ratio
        pay[-1] += reward
        ahead, found = 0.0, np.zeros(len(answer))
        for t in reversed(range(len(answer))):
            after = value[t + 1] if t + 1 < len(answer) else 0.0
            ahead = pay[t] + after - value[t] + 0.95 * ahead
            found[t] = ahead
        advantages.append(found)
        returns.append(found + value)
        ratios.append(ratio)
    flat = np.concatenate(advantages)
    return [(a - flat.mean()) / (flat.std() + 1e-8) for a in advantages], returns, ratios


def surrogate(table, start, rows, advantages):  # type: ignore[no-untyped-def]
    total, tokens = 0.0, 0
    for (prompt, answer, _), advantage in zip(rows, advantages, strict=True):
        ratio = np.exp(logps(table, prompt, answer) - logps(start, prompt, answer))
        total -= np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage).sum()
        tokens += len(answer)
    return total / tokens


@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (2, 3)])
def test_ppo_descends_its_objective_and_its_critic_the_error(epochs, minibatches, table_policy, gradient) -> None:  # type: ignore[no-untyped-def]
    def always(completion: str, want: str) -> float:
        return completion.count(want) - 0.1 * len(completion)

    policy, reference, made = table_policy(V, 1), table_policy(V, 2), critic()
    settings = PPOSettings(RolloutSettings(SAMPLING, 1, seed=SEED), LENGTH, 6, epochs, minibatches, kl=0.3)
    stage = ProximalPolicy(actor(policy, reference, always), made, TASKS, settings, TASKS[:2])
    for number in (0, 1):
        start, tasks = policy.table, chosen_tasks(number, 6)
        answers = sampled(start, tasks, 1, derive(SEED, "rollout", number, 0))
        rows = [
            (one.tokens, answer, always(TOKENIZER.decode(answer), one.prompt.fields["want"]))
            for one, answer in zip(tasks, answers, strict=True)
        ]
        weights = {name: np.array(array, np.float64) for name, array in made.model.weights.items()}
        values = [critic_values(weights, prompt, answer) for prompt, answer, _ in rows]
        advantages, returns, ratios = by_hand(start, start, reference.table, values, rows, 0.3)
        metrics = stage.step(number)
        table, losses, size = start, [], 6 // minibatches
        for _ in range(epochs):
            for first in range(0, 6, size):
                own = rows[first : first + size], advantages[first : first + size]
                losses.append(surrogate(table, start, *own))
                table = table - policy.lr * gradient(lambda t, s=start, own=own: surrogate(t, s, *own), table)
        np.testing.assert_allclose(policy.table, table, atol=1e-7)
        assert metrics["loss"] == pytest.approx(np.mean(losses))
        assert metrics["kl"] == pytest.approx(np.concatenate(ratios).mean())
        if epochs == 1:
            errors = np.concatenate([v - r for v, r in zip(values, returns, strict=True)])
            assert metrics["value_loss"] == pytest.approx(0.5 * (errors**2).mean(), rel=1e-6)
        after = {name: np.array(array, np.float64) for name, array in made.model.weights.items()}
        closer = [
            np.concatenate([critic_values(w, p, a) - r for (p, a, _), r in zip(rows, returns, strict=True)])
            for w in (weights, after)
        ]
        assert (closer[1] ** 2).mean() < (closer[0] ** 2).mean()
    assert stage.evaluate()["eval_reward"] < 10 and stage.inputs(1)["tokens"].shape == (6, LENGTH)
    saved = {name: np.array(array) for name, array in stage.arrays().items()}
    other = ProximalPolicy(actor(table_policy(V, 8), reference, always), critic(0.1), TASKS, settings)
    other.actor = replace(other.actor, sampler=partial(complete, other.actor.policy))
    other.restore(saved)
    assert other.step(2) == pytest.approx(stage.step(2), abs=1e-5)


def critic_values(weights, prompt, answer):  # type: ignore[no-untyped-def]
    """The critic sees one token: the value before each token of the answer."""
    seen = [prompt[-1], *answer[:-1]]
    hidden = weights["e.weight"][seen]
    return hidden @ weights["y.weight"].reshape(-1) + weights["y.bias"][0]


def test_an_answer_without_a_verdict_counts_in_no_mean_of_ppo(table_policy) -> None:  # type: ignore[no-untyped-def]
    policy = table_policy(V, 1)
    settings = PPOSettings(RolloutSettings(SAMPLING, 2, seed=SEED), LENGTH, 6, 1, 1, kl=0.0)
    metrics = ProximalPolicy(actor(policy), critic(), TASKS, settings).step(0)
    assert 0 < metrics["abstained"] < 1 and math.isfinite(metrics["loss"]) and metrics["kl"] == 0.0
    before = policy.table
    silent = ProximalPolicy(actor(policy, reward=lambda completion: None), critic(), TASKS, settings)
    assert silent.records() == {}
    assert silent.step(0)["loss"] == 0.0 and (policy.table == before).all()
    assert [line["answer"] for line in silent.records()["samples"]] == list(silent.last.texts)  # type: ignore[union-attr]


def test_judges_read_as_many_texts_of_each_task() -> None:
    for count in (1, 2, 3):
        found = answers_of(TASKS[:count], [f"{i}{j}" for i in range(count) for j in range(2)])
        assert [one.prompt for one in found] == [TASKS[i].prompt.text for i in range(count) for _ in range(2)]
        assert [one.completion for one in found] == [f"{i}{j}" for i in range(count) for j in range(2)]


def test_no_more_is_drawn_than_it_takes(table_policy) -> None:  # type: ignore[no-untyped-def]
    asked = []

    def drawn(attempt: int) -> list[Task]:
        asked.append(attempt)
        return TASKS[:2]

    words = iter(range(1000))
    settings = RolloutSettings(SAMPLING, 3, redraws=4, seed=SEED)
    collect(actor(table_policy(V), reward=lambda completion: float(next(words))), settings, 0, drawn)
    assert asked == [0]


# --- sampling -----------------------------------------------------------------------------------------------


def test_a_token_is_the_first_whose_cumulative_probability_passes_the_word() -> None:
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.4]))
    sampling = Sampling(1)
    for word, token in ((0.0, 0), (0.0999, 0), (0.1001, 1), (0.2999, 1), (0.3001, 2), (0.5999, 2), (0.9999, 3)):
        found, logp = draw(logits, sampling, word)
        assert found == token and logp == pytest.approx(logits[token])
    assert draw(logits, Sampling(1, temperature=0.0), 0.0)[0] == 3
    cold = Sampling(1, temperature=0.5)  # squares: 1, 4, 9, 16 of 30
    for word, token in ((0.03, 0), (0.04, 1), (0.16, 1), (0.17, 2), (0.46, 2), (0.47, 3)):
        found, logp = draw(logits + 5, cold, word)
        assert found == token and logp == pytest.approx(logits[token])


def test_truncation_keeps_the_likeliest_tokens_and_no_other() -> None:
    p = np.array([0.1, 0.4, 0.2, 0.3])
    kept = lambda **settings: sorted(truncated(p, Sampling(1, **settings)).tolist())  # noqa: E731
    assert kept(top_k=2) == [1, 3] and kept(top_k=1) == [1] and kept(top_k=9) == [0, 1, 2, 3]
    assert kept(top_p=0.39) == [1] and kept(top_p=0.5) == [1, 3] and kept(top_p=0.71) == [1, 2, 3]
    assert kept(top_k=2, top_p=0.5) == [1]  # of the two that are kept, the first has 4/7
    assert draw(np.log(p), Sampling(1, top_k=2), 0.999)[0] == 3
    assert draw(np.log(p), Sampling(1, top_p=0.39), 0.999)[0] == 1
    ties = truncated(np.array([0.25, 0.25, 0.25, 0.25]), Sampling(1, top_k=2))
    assert ties.tolist() == [0, 1]


def test_settings_of_a_sampler_that_mean_nothing_are_refused(table_policy) -> None:  # type: ignore[no-untyped-def]
    for wrong in ({"max_tokens": 0}, {"temperature": -0.1}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(UsageError):
            Sampling(**{"max_tokens": 1, **wrong})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="without a token"):
        complete(table_policy(V), [[1], []], SAMPLING, [derive(0), derive(1)])

"""One step of likelihood and preference stages, number by number: rows, normalisers, references, what is measured.

The expected loss is written again here in loops over rows and tokens; its gradient comes from central differences.
"""

import math

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.errors import DataError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Node
from alexandra.ir.weights import WeightSet
from alexandra.objectives.preference import DPO, KTO
from alexandra.objectives.spec import SGD
from alexandra.rng import derive
from alexandra.train.lm.batch import Row, padded
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.likelihood import Likelihood, LikelihoodSettings, Pretraining
from alexandra.train.lm.preference_stages import ORPO, Liking, PairRows, Preference, PreferenceSettings
from alexandra.train.lm.scores import RewardModel, ScoreModel, score_graph, score_weights, whole
from alexandra.train.lm.stage import means, rows_of_step

V, LENGTH, SEED = 6, 9, 3


def row(seed: int, low: int = 4) -> Row:
    stream = derive(seed, "row")
    length = low + int(stream.at(0).below(5, 1)[0])
    mask = [0, 0, *(1 for _ in range(length - 2))]
    mask[3] = 0 if length > 5 else 1
    return Row(stream.at(1).below(V, length).tolist(), mask)


ROWS = [row(i) for i in range(10)]
PAIRS = [PairRows(row(100 + i), row(200 + i)) for i in range(75)]


def logp(table, one, per_token=False):  # type: ignore[no-untyped-def]
    """ln p of the tokens of a row that its mask counts, summed or averaged."""
    found = []
    for t in range(1, len(one.tokens)):
        if one.mask[t]:
            logits = table[one.tokens[t - 1]]
            found.append(logits[one.tokens[t]] - math.log(sum(math.exp(x) for x in logits)))
    return sum(found) / (len(found) if per_token else 1)


def order(count, batch, number, seed=SEED):  # type: ignore[no-untyped-def]
    """The rows of a step, from whole permutations put end to end."""
    line = [int(i) for epoch in range(5) for i in derive(seed, "rows").at(epoch).permutation(count)]
    return line[number * batch : (number + 1) * batch]


def descends(policy, stage, number, loss, gradient):  # type: ignore[no-untyped-def]
    """The step's loss is `loss`, and the weights go down its gradient; returns the metrics."""
    before = policy.table
    metrics = stage.step(number)
    assert metrics["loss"] == pytest.approx(loss(before), abs=1e-12)
    np.testing.assert_allclose(policy.table, before - policy.lr * gradient(loss, before), atol=1e-8)
    return metrics


def test_steps_walk_through_reshuffled_rows_without_gaps() -> None:
    for number in range(8):
        assert rows_of_step(SEED, 10, 4, number) == order(10, 4, number)
    assert rows_of_step(SEED, 3, 8, 0) == order(3, 8, 0)
    assert sorted(rows_of_step(SEED, 10, 10, 2)) == list(range(10))


def test_means_divide_sums_and_leave_their_count_out() -> None:
    assert means({"tokens": 4.0, "kl": 2.0}, "tokens") == {"kl": 0.5}
    assert means({"kl": 2.0}, "tokens") == {"kl": 2.0}


@pytest.mark.parametrize("per_sequence", [False, True])
@pytest.mark.parametrize("pack", [False, True])
def test_sft_descends_the_mean_over_its_rows(per_sequence, pack, table_policy, gradient) -> None:  # type: ignore[no-untyped-def]
    if pack and per_sequence:
        pytest.skip("packed rows hold several sequences")
    policy = table_policy(V)
    settings = LikelihoodSettings(LENGTH, 4, pack=pack, per_sequence=per_sequence, seed=SEED)
    stage = Likelihood(policy, ROWS, settings, ROWS[:3])
    for number in (0, 2):
        chosen = [ROWS[i] for i in order(10, 4, number)]

        def loss(table, chosen=chosen):  # type: ignore[no-untyped-def]
            if per_sequence:
                return -sum(logp(table, one, True) for one in chosen) / len(chosen)
            return -sum(logp(table, one) for one in chosen) / sum(sum(one.mask[1:]) for one in chosen)

        metrics = descends(policy, stage, number, loss, gradient)
        assert metrics["tokens"] == sum(sum(one.mask[1:]) for one in chosen)
    counted = sum(sum(one.mask[1:]) for one in ROWS[:3])
    wanted = -sum(logp(policy.table, one) for one in ROWS[:3]) / counted
    assert stage.evaluate() == {"eval_loss": pytest.approx(wanted), "eval_tokens": counted}
    assert stage.inputs(2)["tokens"].tolist() == stage.batch(2).tokens_BT.tolist()


def test_a_restored_stage_goes_on_from_the_weights_that_were_kept(table_policy) -> None:  # type: ignore[no-untyped-def]
    settings = LikelihoodSettings(LENGTH, 4, seed=SEED)
    first, second = (Likelihood(table_policy(V, seed), ROWS, settings) for seed in (1, 5))
    for number in range(3):
        first.step(number)
    second.restore({name: np.array(array) for name, array in first.arrays().items()})
    assert first.step(3) == second.step(3)
    np.testing.assert_array_equal(first.policy.table, second.policy.table)


def test_held_out_rows_are_all_measured_however_many_there_are(table_policy) -> None:  # type: ignore[no-untyped-def]
    policy, many = table_policy(V), [row(i) for i in range(130)]
    stage = Likelihood(policy, ROWS, LikelihoodSettings(LENGTH), many)
    counted = sum(sum(one.mask[1:]) for one in many)
    wanted = -sum(logp(policy.table, one) for one in many) / counted
    assert stage.evaluate() == {"eval_loss": pytest.approx(wanted), "eval_tokens": counted}
    assert Likelihood(policy, ROWS, LikelihoodSettings(LENGTH)).evaluate() == {}
    with pytest.raises(DataError, match="no row"):
        Likelihood(policy, [], LikelihoodSettings(LENGTH))


def test_pretraining_reads_windows_of_the_text_and_learns_every_next_token(table_policy, gradient) -> None:  # type: ignore[no-untyped-def]
    text, length = derive(1, "text").below(V, 40), 7
    policy = table_policy(V)
    stage = Pretraining(policy, text, LikelihoodSettings(length, 5, seed=SEED), text[:23])
    starts = derive(SEED, "windows").at(2).below(40 - length, 5)
    windows = [Row(text[s : s + length + 1].tolist(), [1] * (length + 1)) for s in starts.tolist()]
    batch = stage.batch(2)
    assert batch.tokens_BT.tolist() == [list(one.tokens[:-1]) for one in windows]
    assert batch.targets_BT.tolist() == [list(one.tokens[1:]) for one in windows]
    assert (batch.mask_BT == 1).all() and (batch.segments_BT == 1).all()
    assert [where[1:] for where in batch.places] == [(0, length)] * 5
    descends(policy, stage, 2, lambda table: -sum(logp(table, one) for one in windows) / (5 * length), gradient)
    parts = [Row(text[s : s + length + 1].tolist(), [1] * (length + 1)) for s in (0, 7, 14)]
    wanted = -sum(logp(policy.table, one) for one in parts) / 21
    assert stage.evaluate() == {"eval_loss": pytest.approx(wanted), "eval_tokens": 21}
    assert stage.inputs(2)["targets"].tolist() == batch.targets_BT.tolist()


def test_the_last_window_of_a_text_can_be_drawn_and_short_texts_are_refused(table_policy) -> None:  # type: ignore[no-untyped-def]
    text = np.arange(9, dtype=np.int32) % V
    policy = table_policy(V)
    stage = Pretraining(policy, text, LikelihoodSettings(7, 200, seed=SEED))
    assert {tuple(row) for row in stage.batch(0).tokens_BT.tolist()} == {tuple(text[:7]), tuple(text[1:8])}
    assert stage.evaluate() == {}
    with pytest.raises(DataError, match="a window needs 9"):
        Pretraining(policy, text, LikelihoodSettings(8))
    exact = Pretraining(policy, text, LikelihoodSettings(7), text[:3])
    assert exact.evaluate()["eval_tokens"] == 2
    assert Pretraining(policy, text, LikelihoodSettings(7), text[:2]).evaluate()["eval_tokens"] == 1
    assert Pretraining(policy, text, LikelihoodSettings(7), text[:1]).evaluate() == {}


# --- preferences --------------------------------------------------------------------------------------------


def dpo_loss(table, start, pairs, settings):  # type: ignore[no-untyped-def]
    total = 0.0
    for pair in pairs:
        sides = [logp(table, one) - logp(start, one) for one in (pair.chosen, pair.rejected)]
        total -= math.log(1 / (1 + math.exp(-settings.beta * (sides[0] - sides[1]))))
    return total / len(pairs)


def odds(table, one):  # type: ignore[no-untyped-def]
    mean = logp(table, one, True)
    return mean - math.log(1 - math.exp(mean))


def orpo_loss(table, pairs, weight):  # type: ignore[no-untyped-def]
    chosen = [pair.chosen for pair in pairs]
    total = -sum(logp(table, one) for one in chosen) / sum(sum(one.mask[1:]) for one in chosen)
    for pair in pairs:
        ratio = odds(table, pair.chosen) - odds(table, pair.rejected)
        total -= weight * math.log(1 / (1 + math.exp(-ratio))) / len(pairs)
    return total


@pytest.mark.parametrize("objective", [DPO(0.7), ORPO(0.6)], ids=["dpo", "orpo"])
def test_preference_steps_compare_with_the_policy_before_training(objective, table_policy, gradient) -> None:  # type: ignore[no-untyped-def]
    policy = table_policy(V)
    start, held = policy.table, PAIRS[:70]
    stage = Preference(policy, PAIRS, objective, PreferenceSettings(LENGTH, 4, SEED), held_out=held)

    def loss_of(pairs):  # type: ignore[no-untyped-def]
        if isinstance(objective, DPO):
            return lambda table: dpo_loss(table, start, pairs, objective)
        return lambda table: orpo_loss(table, pairs, objective.weight)

    assert stage.name == ("dpo" if isinstance(objective, DPO) else "orpo")
    for number in (0, 1, 19):
        chosen = [PAIRS[i] for i in order(75, 4, number)]
        assert stage.loss_of(number) == pytest.approx(loss_of(chosen)(policy.table))
        descends(policy, stage, number, loss_of(chosen), gradient)
    measured = stage.evaluate()
    assert measured["eval_loss"] == pytest.approx(loss_of(held)(policy.table) if isinstance(objective, DPO) else
                                                  parts_mean(held, loss_of, policy.table))  # fmt: skip
    assert measured["eval_accuracy"] == np.mean([ranked(policy.table, start, one, objective) for one in held])
    assert len(stage.inputs(1)["tokens"]) == 8
    assert Preference(policy, PAIRS, objective, PreferenceSettings(LENGTH)).evaluate() == {}


def parts_mean(held, loss_of, table):  # type: ignore[no-untyped-def]
    """Held-out pairs are measured 64 at a time; a part weighs as much as it has pairs."""
    parts = [held[:64], held[64:]]
    return sum(loss_of(part)(table) * len(part) for part in parts) / len(held)


def ranked(table, start, pair, objective) -> bool:  # type: ignore[no-untyped-def]
    if isinstance(objective, DPO):
        sides = [logp(table, one) - logp(start, one) for one in (pair.chosen, pair.rejected)]
    else:
        sides = [odds(table, one) for one in (pair.chosen, pair.rejected)]
    return bool(sides[0] > sides[1])


def test_a_restored_preference_stage_keeps_the_reference_it_began_with(table_policy) -> None:  # type: ignore[no-untyped-def]
    first = Preference(table_policy(V), PAIRS, DPO(0.7), PreferenceSettings(LENGTH, 4, SEED))
    for number in range(3):
        first.step(number)
    saved = {name: np.array(array) for name, array in first.arrays().items()}
    assert set(saved) == {"table", "reference/chosen", "reference/rejected"}
    second = Preference(table_policy(V, 5), PAIRS, DPO(0.7), PreferenceSettings(LENGTH, 4, SEED))
    second.restore(saved)
    assert first.step(3) == second.step(3)
    np.testing.assert_array_equal(first.policy.table, second.policy.table)


def test_kto_weighs_answers_against_the_kl_of_their_neighbours(table_policy, gradient) -> None:  # type: ignore[no-untyped-def]
    policy, objective = table_policy(V), KTO(0.6, 1.0, 1.3)
    start = policy.table
    rows = [(row(i), row(50 + i), i % 3 == 0) for i in range(70)]
    stage = Liking(policy, rows, objective, PreferenceSettings(LENGTH, 6, SEED))
    for number in (0, 1, 13):
        chosen = [rows[i] for i in order(70, 6, number)]
        now = policy.table
        kl = sum(logp(now, other) - logp(start, other) for _, other, _ in chosen) / len(chosen)

        def loss(table, chosen=chosen, kl=kl):  # type: ignore[no-untyped-def]
            total = 0.0
            for own, _, good in chosen:
                r = logp(table, own) - logp(start, own)
                z = objective.beta * (r - max(0.0, kl)) * (1 if good else -1)
                weight = objective.desirable_weight if good else objective.undesirable_weight
                total += weight * (1 - 1 / (1 + math.exp(-z)))
            return total / len(chosen)

        metrics = descends(policy, stage, number, loss, gradient)
        assert metrics["kl"] == pytest.approx(max(0.0, kl))
    saved = {name: np.array(array) for name, array in stage.arrays().items()}
    other = Liking(table_policy(V, 9), rows, objective, PreferenceSettings(LENGTH, 6, SEED))
    other.restore(saved)
    assert other.step(14) == stage.step(14)
    assert stage.inputs(0)["tokens"].shape == (6, LENGTH)


# --- scores -------------------------------------------------------------------------------------------------


def scorer(lr: float, seed: int = 0) -> ScoreModel:
    graph = make_graph(
        "body",
        [
            Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
            Node("e", "embedding", ("tokens",), {"vocab": V, "size": 5}),
            Node("h", "dense", ("e",), {"size": 7, "activation": "tanh"}),
            Node("y", "output", ("h",), {"size": V}),
        ],
    )
    own = score_graph(graph)
    body = bind(graph, "reference", seed=seed).weights
    head = {name: derive(seed, name).normal(array.size).reshape(array.shape).astype(np.float32)
            for name, array in score_weights(body, own, 1).items() if name.startswith("y.")}  # fmt: skip
    weights = WeightSet({**score_weights(body, own, 1), **head})
    options = Optimization(SGD(lr=lr), clip_norm=0.0, micro_rows=2, frozen=("nothing",))
    return ScoreModel(bind(own, "reference", weights), options)


def test_a_new_head_scores_zero_on_the_policys_body() -> None:
    made = scorer(0.1)
    fresh = score_weights(made.model.weights, made.model.graph, 1)
    for name, array in fresh.items():
        assert (array == 0).all() if name.startswith("y.") else (array == made.model.weights[name]).all()


def test_a_score_models_update_applies_any_derivative() -> None:
    made, batch = scorer(1e-4), padded([row(i) for i in range(5)], pad=0, length=LENGTH)
    weight = derive(0, "w").normal(batch.mask_BT.size).reshape(batch.mask_BT.shape)

    def loss(scores):  # type: ignore[no-untyped-def]
        return float((weight * scores**3).sum()), 3 * weight * scores**2

    before = {name: np.array(array, np.float64) for name, array in made.model.weights.items()}
    value = made.update(batch, loss)
    after = {name: np.array(array, np.float64) for name, array in made.model.weights.items()}
    norm2 = sum((((after[n] - before[n]) / 1e-4) ** 2).sum() for n in before)
    assert loss(made.scores(batch))[0] - value == pytest.approx(-1e-4 * norm2, rel=0.02)


def test_the_reward_model_compares_scores_after_the_last_token() -> None:
    made = scorer(0.05)
    settings = PreferenceSettings(LENGTH + 1, 4, SEED)
    stage = RewardModel(made, PAIRS, settings, held_out=PAIRS[:70])

    def score(one: Row) -> float:
        batch = padded([whole(one)], pad=0)
        return float(made.scores(batch)[0, len(one.tokens) - 1])

    chosen = [PAIRS[i] for i in order(75, 4, 1)]
    better, worse = ([score(getattr(pair, side)) for pair in chosen] for side in ("chosen", "rejected"))
    wanted = np.mean([math.log1p(math.exp(b - a)) + 0.01 * (a + b) ** 2 for a, b in zip(better, worse, strict=True)])
    metrics = stage.step(1)
    assert metrics["loss"] == pytest.approx(wanted, rel=1e-5)
    assert metrics["accuracy"] == np.mean(np.array(better) > np.array(worse))
    assert metrics["margin"] == pytest.approx(np.mean(np.array(better) - np.array(worse)), rel=1e-5)
    assert np.mean([score(p.chosen) - score(p.rejected) for p in chosen]) > metrics["margin"]
    held = [[score(getattr(pair, side)) for pair in PAIRS[:70]] for side in ("chosen", "rejected")]
    np.testing.assert_allclose(stage.score([pair.chosen for pair in PAIRS[:70]]), held[0], atol=1e-6)
    measured, margins = stage.evaluate(), np.array(held[0]) - np.array(held[1])
    assert measured["eval_accuracy"] == np.mean(margins > 0)
    assert measured["eval_margin"] == pytest.approx(margins.mean(), abs=1e-6)
    assert stage.inputs(1)["tokens"].shape == (8, LENGTH + 1)
    saved = stage.arrays()
    other = RewardModel(scorer(0.05, 4), PAIRS, settings)
    assert other.evaluate() == {}
    other.restore(saved)
    assert other.step(2) == pytest.approx(stage.step(2), abs=1e-6)  # the reference shows float32 of its float64

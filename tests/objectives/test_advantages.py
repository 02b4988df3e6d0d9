"""Advantages: the papers' definitions in loops, abstentions, and GAE against its own sum."""

import numpy as np
import pytest

from alexandra.objectives import advantages as adv
from alexandra.rng import derive

REWARDS = np.array(
    [[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5], [1.0, np.nan, 0.0, np.nan], [np.nan, 2.0, np.nan, np.nan]]
)


def test_group_advantages_are_standardised_within_the_judged_answers() -> None:
    found = adv.advantages(REWARDS)
    std = np.std([1, 0, 0, 1], ddof=1)
    np.testing.assert_allclose(found[0], np.array([0.5, -0.5, -0.5, 0.5]) / (std + 1e-4))
    assert (found[1] == 0).all()
    np.testing.assert_allclose(found[2, [0, 2]], np.array([0.5, -0.5]) / (np.std([1, 0], ddof=1) + 1e-4))
    assert (found[2, [1, 3]] == 0).all() and (found[3] == 0).all()


def test_leave_one_out_compares_with_the_mean_of_the_others() -> None:
    found = adv.advantages(REWARDS, "leave_one_out")
    for p, row in enumerate(REWARDS):
        for g, reward in enumerate(row):
            others = [other for i, other in enumerate(row) if i != g and not np.isnan(other)]
            wanted = 0.0 if np.isnan(reward) or not others else reward - np.mean(others)
            assert found[p, g] == pytest.approx(wanted)


def test_centered_and_batch() -> None:
    centered = adv.advantages(REWARDS, "centered")
    np.testing.assert_allclose(centered[0], [0.5, -0.5, -0.5, 0.5])
    judged = centered[~np.isnan(REWARDS)]
    np.testing.assert_allclose(adv.advantages(REWARDS, "batch"), centered / (judged.std(ddof=1) + 1e-4))


def test_only_prompts_whose_answers_differ_are_informative() -> None:
    assert adv.informative(REWARDS).tolist() == [True, False, True, False]


def test_gae_is_the_discounted_sum_of_temporal_differences_over_counted_tokens() -> None:
    rng = derive(0, "gae")
    rewards, values = (rng.at(i).normal(3 * 7).reshape(3, 7) for i in range(2))
    mask = np.array([[0, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1.0]])
    found, returns = adv.gae(rewards, values, mask, discount=0.9, decay=0.8)
    for row in range(3):
        places = np.flatnonzero(mask[row])
        deltas = [
            rewards[row, t] + (0.9 * values[row, places[i + 1]] if i + 1 < len(places) else 0.0) - values[row, t]
            for i, t in enumerate(places)
        ]
        for i, t in enumerate(places):
            wanted = sum((0.9 * 0.8) ** k * delta for k, delta in enumerate(deltas[i:]))
            assert found[row, t] == pytest.approx(wanted)
            assert returns[row, t] == pytest.approx(wanted + values[row, t])
    assert (found[mask == 0] == 0).all() and (returns[mask == 0] == 0).all()


def test_gae_with_decay_and_discount_one_is_the_return_minus_the_value() -> None:
    rewards, values, mask = np.array([[0.0, 0, 1]]), np.array([[0.2, 0.3, 0.4]]), np.ones((1, 3))
    found, returns = adv.gae(rewards, values, mask, discount=1.0, decay=1.0)
    np.testing.assert_allclose(found, 1 - values)
    np.testing.assert_allclose(returns, 1.0)


def test_penalised_rewards_subtract_the_kl_that_is_still_ahead() -> None:
    logp, reference = np.array([[-1.0, -2.0, -3.0]]), np.array([[-1.5, -1.0, -3.5]])
    mask = np.array([[1.0, 1.0, 0.0]])
    found = adv.penalized([2.0], logp, reference, mask, 0.5)
    np.testing.assert_allclose(found, [[2 - 0.5 * (0.5 - 1.0), 2 - 0.5 * -1.0, 0.0]])


def test_whitening_uses_counted_tokens_only() -> None:
    values, mask = np.array([[1.0, 2.0, 99.0], [3.0, 4.0, 99.0]]), np.array([[1.0, 1, 0], [1, 1, 0]])
    found = adv.whitened(values, mask)
    assert found[mask > 0].mean() == pytest.approx(0) and found[mask > 0].std() == pytest.approx(1)
    assert (found[mask == 0] == 0).all() and (adv.whitened(values, mask * 0) == 0).all()

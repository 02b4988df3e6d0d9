"""The alarm rings when the reward rises while the held-out check falls, and not otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from alexandra.errors import VerifierError
from alexandra.verifiers.alarm import reward_hacking, trend


def course(slope: float, seed: int, n: int = 40) -> list[float]:
    return list(np.random.default_rng(seed).normal(size=n) * 0.1 + slope * np.arange(n))


def test_it_rings_when_the_two_part_and_says_since_when() -> None:
    turn = [0.5 + 0.01 * i for i in range(20)] + [0.7 - 0.02 * i for i in range(20)]
    alarm = reward_hacking([0.1 * i for i in range(40)], turn)
    assert alarm.ringing and 22 < alarm.since < 40
    assert f"since measurement {alarm.since} the reward rises" in alarm.reason


@pytest.mark.parametrize(("reward", "check"), [(0.05, 0.05), (0.0, -0.05), (-0.05, -0.05), (0.05, 0.0)])
def test_it_is_silent_when_they_do_not_part(reward: float, check: float) -> None:
    assert not reward_hacking(course(reward, 1), course(check, 2)).ringing


def test_noise_rings_less_often_than_stated() -> None:
    rings = sum(reward_hacking(course(0.05, s), course(0.0, s + 1000), window=40).ringing for s in range(100))
    assert rings / 100 <= 0.03


def test_the_trend_is_kendalls() -> None:
    values = course(0.01, 3)
    expected = scipy.stats.kendalltau(np.arange(40), values, method="asymptotic", alternative="greater").pvalue
    assert trend(values) == pytest.approx(expected, rel=0.1)
    assert trend([1.0] * 10) == 1.0


def test_wrong_input_is_refused_and_too_little_is_said() -> None:
    with pytest.raises(VerifierError, match="3 rewards and 2 held-out checks"):
        reward_hacking([1, 2, 3], [1, 2])
    with pytest.raises(VerifierError, match="window=2 is too short"):
        reward_hacking([1, 2, 3], [1, 2, 3], window=2)
    assert reward_hacking([1, 2], [2, 1]).reason == "2 measurements, it needs 5"

"""Tool `rllib_search`: the adversarial search as a game, played by a policy that Ray RLlib trains (PPO; Schulman et al.
2017) in this process: from where it stands it steps through the box and is paid by how much closer it comes to
breaking the bound.

An optional probe: it starts a local Ray and takes tens of seconds, so it answers only claims whose context names it,
`"probe": "rllib"`. The bound is evaluated in float64; every point that the policy visits counts.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

import numpy as np

from alexandra.records import Claim, Verdict
from alexandra.rng import derive
from alexandra.verifiers.base import claim_hash
from alexandra.verifiers.tool import Tool, needs_package, package_version
from alexandra.verifiers.tools.search_bound import Excess, prepared, verdict

ITERATIONS, STEPS, EPISODE, STRIDE = 12, 256, 16, 0.3


class Hunt:
    """The game, and the worst point seen: positions in [-1, 1]^d stand for the box."""

    def __init__(self, low: np.ndarray, high: np.ndarray, excess: Excess, source: np.random.Generator) -> None:
        self.low, self.high, self.excess, self.source = low, high, excess, source
        self.best, self.worst, self.visited = (low + high) / 2, -np.inf, 0
        self.at, self.now, self.left = np.zeros(len(low)), 0.0, EPISODE

    def _look(self) -> float:
        point = np.clip(self.low + (self.high - self.low) * (self.at + 1) / 2, self.low, self.high)
        found = float(self.excess(point[None])[0])
        self.visited += 1
        if found > self.worst:
            self.best, self.worst = point, found
        return found if np.isfinite(found) else -1e6

    def seen(self) -> np.ndarray:
        """Where it stands and how far the bound is, as the policy reads it."""
        return np.append(self.at, np.tanh(self.now)).astype(np.float32)

    def begin(self) -> np.ndarray:
        self.at, self.left = self.source.uniform(-1, 1, len(self.low)), EPISODE
        self.now = self._look()
        return self.seen()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """What is seen next, the gain in [-1, 1], and whether the episode is over."""
        self.at = np.clip(self.at + STRIDE * np.clip(action, -1, 1), -1, 1)
        before, self.now = self.now, self._look()
        self.left -= 1
        return self.seen(), float(np.clip(self.now - before, -1, 1)), self.left <= 0


def _environment(hunt: Hunt) -> Any:
    import gymnasium

    class Box(gymnasium.Env):  # type: ignore[misc, unused-ignore]
        def __init__(self, config: Any) -> None:
            width = len(hunt.low)
            self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (width,), np.float32)
            self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (width + 1,), np.float32)

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return hunt.begin(), {}

        def step(self, action: Any) -> Any:
            seen, gain, over = hunt.step(np.asarray(action, dtype=np.float64))
            return seen, gain, False, over, {}

    return Box


def _judge(tool: Tool, claim: Claim) -> Verdict:
    os.environ.setdefault("RLLIB_TEST_NO_TF_IMPORT", "1")  # half a minute that PPO on torch does not need
    for name in ("ray", "gymnasium"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray: Any = importlib.import_module("ray")
    ppo: Any = importlib.import_module("ray.rllib.algorithms.ppo")

    _, low, high, excess = prepared(claim)
    stream = derive(int(claim_hash(claim)[:12], 16), "verifiers", "rllib")
    hunt = Hunt(low, high, excess, np.random.Generator(np.random.Philox(key=stream.key + (stream.nonce << 64))))
    own = not ray.is_initialized()
    if own:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        config = (
            ppo.PPOConfig()
            .environment(_environment(hunt))
            .framework("torch")
            .env_runners(num_env_runners=0)
            .learners(num_learners=0)
            .training(train_batch_size_per_learner=STEPS, minibatch_size=64, num_epochs=4, lr=1e-3)
            .debugging(seed=int(stream.words(1)[0]) & 0x7FFFFFFF, log_level="ERROR")
        )
        algorithm = config.build_algo()
        for _ in range(ITERATIONS):
            if hunt.worst > 0:
                break
            algorithm.train()
        algorithm.stop()
    finally:
        if own:
            ray.shutdown()
    return verdict(tool, claim, hunt.best, hunt.visited)


def _missing() -> str:
    wanted = {"ray": "ray[rllib]", "gymnasium": "ray[rllib]", "tree": "ray[rllib]", "torch": "torch"}
    return next((why for name, package in wanted.items() if (why := needs_package(name, package, "rllib")())), "")


def _applies(claim: Claim) -> str:
    return "" if claim.context.get("probe") == "rllib" else 'the context does not ask for it with "probe": "rllib"'


TOOL = Tool(
    "rllib_search", "evolution", ("bound",), package_version("ray"), one=_judge, missing=_missing, applies=_applies,
    hard=True, seconds=180.0, isolated=True,
)  # fmt: skip

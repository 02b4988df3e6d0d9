"""Which engine samples a policy's answers, and the one for native networks: a planned decoder with a cache.

The plain sampler runs the whole sequence again for each token. NativeSampler keeps keys and values (backends/decode.py)
and reads the policy's weights anew at each call, so that it answers as the policy is now. Both draw token t of row i
from word t of streams[i] by one rule, so they write the same tokens but where rounding decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from alexandra.backends import decode
from alexandra.backends.decode_graph import GraphDecoder
from alexandra.backends.quant import stored
from alexandra.errors import BackendError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph
from alexandra.rng import Stream
from alexandra.train.lm.hub import HubPolicy, HubSampler
from alexandra.train.lm.policy import NetworkPolicy, Policy
from alexandra.train.lm.rollout import Sampler
from alexandra.train.lm.sampling import Completion, Sampling, check_prompts, complete

SLOTS, CHUNK, PAGE = 128, 256, 32  # sequences at once, rows of a prefill step, what contexts are rounded up to


@dataclass(frozen=True)
class Engine:
    """A sampler and what it is, in words for the launch plan. `exact`: its log-probabilities are the policy's."""

    sample: Sampler
    words: str
    exact: bool = False


def engine_of(policy: Policy) -> Engine:
    """The fastest engine that can sample `policy`."""
    if isinstance(policy, HubPolicy):
        return Engine(HubSampler(policy), "transformers, cached keys and values")
    if not isinstance(policy, NetworkPolicy):
        return Engine(partial(complete, policy), "a forward per token")
    if policy.model.backend != "native":
        return Engine(partial(complete, policy), f"a forward per token on backend {policy.model.backend}")
    try:
        sampler = NativeSampler(policy)
    except BackendError as error:
        return Engine(partial(complete, policy), f"a forward per token on backend native ({error.message})")
    return Engine(sampler, "native decoder, cached keys and values", exact=True)


class NativeSampler:
    """`complete` for a native causal network. BackendError where a layer cannot run one position after the other."""

    def __init__(self, policy: NetworkPolicy) -> None:
        assert policy.model.backend == "native"
        self.model: Any = policy.model  # a NativeModel, whose module is absent where the engine is not built
        graph = _without(policy.model.graph, policy.segments_name)
        self.arrays = {name: np.empty(array.shape, np.float32) for name, array in policy.model.weights.items()}
        self._decoder = GraphDecoder(graph, {name: stored(array, name) for name, array in self.arrays.items()})
        self._decoder.steps(1)
        self._generator: decode.Generator | None = None
        self._slots, self._held = 0, False

    def __call__(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, streams: Sequence[Stream]
    ) -> list[Completion]:
        """One completion per prompt, with the policy's weights of now."""
        check_prompts(prompts)
        if not prompts:
            return []
        if not self._held:
            self.read()
        generator = self._planned(max(map(len, prompts)) + sampling.max_tokens, len(prompts), sampling.stop)
        rules = decode.Sampling(
            sampling.max_tokens, sampling.temperature, sampling.top_k, sampling.top_p, keep_end=True
        )
        found = generator.generate(prompts, rules, streams=streams)
        return [Completion(one.tokens, one.logprobs, one.finish == "end") for one in found]

    def hold(self) -> None:
        """Answer with the weights of now until `release`."""
        self.read()
        self._held = True

    def release(self) -> None:
        self._held = False

    def read(self) -> None:
        """Bring the policy's weights of now into `arrays`, which the decoder is planned over."""
        self.model.read(self.arrays)

    def _planned(self, positions: int, rows: int, stop: tuple[int, ...]) -> decode.Generator:
        """A generator for `positions` with the weights of now; planned again only where the last one is too small."""
        now, slots = self._generator, min(rows, SLOTS)
        if now is not None and now.context >= positions and self._slots >= slots and self._decoder.end_tokens == stop:
            now.refresh()
            return now
        self._decoder = replace(self._decoder, end_tokens=stop)
        self._slots = max(slots, self._slots)
        most = self._decoder.most_positions
        wanted = -(-max(positions, now.context if now else 0) // PAGE) * PAGE
        context = positions if positions > most else min(wanted, most)
        self._generator = decode.Generator(
            self._decoder, slots=self._slots, context=context, chunk=CHUNK, threads=self.model.threads
        )
        return self._generator


def _without(graph: Graph, segments: str) -> Graph:
    """The network for single documents: without its input of segments."""
    if not segments:
        return graph
    nodes = [node for node in graph.nodes if node.name != segments]
    kept = [replace(node, inputs=tuple(name for name in node.inputs if name != segments)) for node in nodes]
    return make_graph(graph.name, kept)

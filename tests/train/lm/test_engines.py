"""The engine that samples answers writes what the plain sampler writes, and follows the weights as they change."""

from functools import partial

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.errors import UsageError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives import tokens
from alexandra.objectives.spec import AdamW
from alexandra.rng import Stream, derive
from alexandra.train.lm.batch import Row, padded
from alexandra.train.lm.engines import NativeSampler, engine_of
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.policy import NetworkPolicy
from alexandra.train.lm.sampling import Completion, Sampling, complete

VOCAB = 23
native = pytest.mark.skipif(bool(available("native")), reason="the native engine is not built")


def network(kind: str = "rope") -> Graph:
    """Two blocks of attention and a gated layer; `kind` adds segments, learned positions, or looks ahead."""
    nodes = [Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"})]
    if kind == "segments":
        nodes.append(Node("segments", "input", (), {"shape": ("SEQ",), "dtype": "int32"}))
    x = "e"
    nodes.append(Node("e", "embedding", ("tokens",), {"vocab": VOCAB, "size": 16}))
    if kind == "learned":
        nodes.append(Node("p", "position", ("e",), {"length": 40}))
        x = "p"
    for i in range(2):
        reads = (f"n{i}", "segments") if kind == "segments" else (f"n{i}",)
        heads = {"heads": 2, "rope": kind != "learned", "causal": kind != "ahead"}
        nodes += [
            Node(f"n{i}", "rmsnorm", (x,)),
            Node(f"a{i}", "attention", reads, heads),
            Node(f"s{i}", "add", (x, f"a{i}")),
            Node(f"f{i}", "ffn", (f"s{i}",), {"hidden": 24, "activation": "silu", "gated": True}),
            Node(f"x{i}", "add", (f"s{i}", f"f{i}")),
        ]
        x = f"x{i}"
    nodes.append(Node("y", "output", (x,), {"size": VOCAB, "activation": "softmax" if kind == "softmax" else "linear"}))
    return make_graph("answers", nodes)


def policy(kind: str = "rope", backend: str = "native") -> NetworkPolicy:
    own = NetworkPolicy(bind(network(kind), backend, seed=2), Optimization(AdamW(lr=0.05)))
    learn(own, 3)
    return own


def learn(own: NetworkPolicy, steps: int) -> None:
    """Some updates on random rows, so that answers are not uniform."""
    for step in range(steps):
        rows = [Row(derive(step, "t", i).below(VOCAB, 12).tolist(), [0] + [1] * 11) for i in range(4)]
        batch = padded(rows, pad=0)
        n = tokens.count(batch.mask_BT)
        own.update(batch, lambda logp, b=batch, n=n: tokens.sft(logp, b.mask_BT, n), constant=True)


def prompts(count: int) -> list[list[int]]:
    return [derive(1, "p", i).below(VOCAB, 1 + i % 7).tolist() for i in range(count)]


def streams(count: int) -> list[Stream]:
    return [derive(5, "rows").at(i) for i in range(count)]


def same(found: list[Completion], wanted: list[Completion]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.tokens == other.tokens and one.stopped == other.stopped
        np.testing.assert_allclose(one.logps, other.logps, atol=1e-5)


@native
@pytest.mark.parametrize("kind", ["rope", "segments", "learned", "softmax"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(12, temperature=0.0, stop=(3, 4)),
        Sampling(12, stop=(3,)),
        Sampling(9, temperature=0.7, top_k=7, stop=(3,)),
        Sampling(9, temperature=1.3, top_k=12, top_p=0.8),
    ],
    ids=repr,
)
def test_the_native_engine_writes_the_tokens_of_the_plain_sampler(kind: str, sampling: Sampling) -> None:
    own = policy(kind)
    found = engine_of(own)
    assert isinstance(found.sample, NativeSampler) and found.exact and "native decoder" in found.words
    same(found.sample(prompts(21), sampling, streams(21)), complete(own, prompts(21), sampling, streams(21)))


@native
def test_answers_are_those_of_the_weights_of_now() -> None:
    own = policy()
    sampler, sampling = NativeSampler(own), Sampling(10, temperature=0.0)
    before = sampler(prompts(6), sampling, streams(6))
    learn(own, 20)
    after = sampler(prompts(6), sampling, streams(6))
    assert [one.tokens for one in before] != [one.tokens for one in after]
    same(after, complete(own, prompts(6), sampling, streams(6)))
    kept = own.arrays()
    learn(own, 5)
    own.restore(kept)
    assert sampler(prompts(6), sampling, streams(6)) == after


@native
def test_longer_prompts_more_rows_and_other_ends_plan_again_and_change_nothing() -> None:
    own = policy()
    sampler, sampling = NativeSampler(own), Sampling(8)
    few = sampler(prompts(2), sampling, streams(2))
    assert sampler([], sampling, []) == []
    many = sampler([[1] * 60, *prompts(200)], sampling, streams(201))
    assert sampler(prompts(2), sampling, streams(2)) == few and len(many) == 201
    ended = sampler(prompts(2), Sampling(8, stop=(few[0].tokens[0],)), streams(2))
    assert ended[0].stopped and len(ended[0].tokens) == 1
    with pytest.raises(UsageError, match="a prompt without a token"):
        sampler([[]], sampling, streams(1))


@native
@pytest.mark.parametrize("sample", ["native", "plain"])
def test_draws_follow_the_distribution(sample: str) -> None:
    own = policy()
    sampler = NativeSampler(own) if sample == "native" else partial(complete, own)
    logits = own.next_logits([[1, 2]])[0]
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    rows = sampler([[1, 2]] * 3000, Sampling(1), [derive(8, "draws").at(i) for i in range(3000)])
    counts = np.bincount([row.tokens[0] for row in rows], minlength=VOCAB)
    expected = np.maximum(3000 * p, 1e-9)
    chi2 = ((counts - expected) ** 2 / expected)[expected > 5].sum()
    assert chi2 < 60  # of at most 22 degrees of freedom; the streams are fixed


def test_networks_that_cannot_decode_are_sampled_plainly() -> None:
    found = engine_of(NetworkPolicy(bind(network(), "reference", seed=2)))
    assert not found.exact and "reference" in found.words
    if not available("native"):
        ahead = engine_of(NetworkPolicy(bind(network("ahead"), "native", seed=2)))
        assert not ahead.exact and "cannot generate" in ahead.words

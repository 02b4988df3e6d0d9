"""A network as a policy: one update applies exactly the derivative that an objective gave, however it is cut."""

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.errors import BackendError, DataError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives import tokens
from alexandra.objectives.spec import SGD
from alexandra.rng import derive
from alexandra.train.lm.batch import Row, packed, padded
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.policy import NetworkPolicy

VOCAB = 9


def network(segments: bool = False) -> Graph:
    """A causal attention layer over embeddings."""
    inputs = [Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"})]
    if segments:
        inputs.append(Node("segments", "input", (), {"shape": ("SEQ",), "dtype": "int32"}))
    reads = ("e", "segments") if segments else ("e",)
    return make_graph(
        "tiny",
        [
            *inputs,
            Node("e", "embedding", ("tokens",), {"vocab": VOCAB, "size": 8}),
            Node("a", "attention", reads, {"heads": 2, "rope": True}),
            Node("s", "add", ("e", "a")),
            Node("n", "rmsnorm", ("s",)),
            Node("y", "output", ("n",), {"size": VOCAB, "bias": False}),
        ],
    )


def can_run(backend: str) -> bool:
    """Whether the backend is there and has every op of the network."""
    try:
        return not available(backend) and bind(network(), backend) is not None
    except BackendError:
        return False


BACKENDS = [name for name in ("reference", "native", "torch") if can_run(name)]


def rows(seed: int, count: int = 6) -> list[Row]:
    found = []
    for i in range(count):
        length = 3 + int(derive(seed, "n", i).below(7, 1)[0])
        tokens_ = derive(seed, "t", i).below(VOCAB, length).tolist()
        mask = [0, *([1] * (length - 1))]
        found.append(Row(tokens_, mask))
    return found


def policy(backend: str, micro: int = 0, segments: bool = False, lr: float = 0.5) -> NetworkPolicy:
    options = Optimization(SGD(lr=lr), clip_norm=0.0, micro_rows=micro)
    return NetworkPolicy(bind(network(segments), backend, seed=3), options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_log_probabilities_are_those_of_the_softmax(backend: str) -> None:
    batch = padded(rows(0), pad=0, length=12)
    own = policy(backend, micro=4)
    logits = own.model.forward({"tokens": batch.tokens_BT})["y"].astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = np.log(np.take_along_axis(p, batch.targets_BT[..., None].astype(int), -1)[..., 0])
    np.testing.assert_allclose(own.logprobs(batch), np.where(batch.mask_BT > 0, wanted, 0.0), atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_update_applies_the_derivative_of_any_objective(backend: str) -> None:
    """Against finite differences of an objective that is no likelihood, along the step that was taken."""
    own = policy(backend, lr=1e-4)
    batch = padded(rows(1), pad=0, length=12)
    weight = derive(0, "w").normal(batch.mask_BT.size).reshape(batch.mask_BT.shape)

    def loss(logp: np.ndarray) -> tokens.TokenLoss:
        ratio = np.exp(logp + 2.0)
        return tokens.TokenLoss((weight * batch.mask_BT * ratio).sum(1) / 10, weight * batch.mask_BT * ratio / 10)

    before = {name: np.array(array, np.float64) for name, array in own.model.weights.items()}
    value = own.update(batch, loss).value
    after = {name: np.array(array, np.float64) for name, array in own.model.weights.items()}
    gradient_norm2 = sum((((after[n] - before[n]) / 1e-4) ** 2).sum() for n in before)
    change = loss(own.logprobs(batch)).value - value
    assert change == pytest.approx(-1e-4 * gradient_norm2, rel=0.01)


@pytest.mark.parametrize("backend", BACKENDS)
def test_micro_batches_padding_side_and_packing_give_the_same_step(backend: str) -> None:
    given = rows(2)
    weights = []
    for micro, segments, batch in (
        (0, False, padded(given, pad=0, length=12)),
        (2, False, padded(given, pad=0, length=12)),
        (4, False, padded(given, pad=0, length=20)),
        (0, True, padded(given, pad=0, length=12, left=True)),
        (0, True, packed(given, pad=0, length=16)),
    ):
        own = policy(backend, micro, segments)
        normalizer = tokens.count(batch.mask_BT)
        for _ in range(3):
            own.update(batch, lambda logp, b=batch, n=normalizer: tokens.sft(logp, b.mask_BT, n), constant=True)
        weights.append({name: np.array(array) for name, array in own.model.weights.items()})
    for other in weights[1:]:
        for name, array in weights[0].items():
            np.testing.assert_allclose(other[name], array, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_restored_policy_goes_on_as_if_nothing_had_happened(backend: str) -> None:
    batches = [padded(rows(i), pad=0, length=12) for i in range(6)]

    def step(own: NetworkPolicy, batch) -> None:  # type: ignore[no-untyped-def]
        n = tokens.count(batch.mask_BT)
        own.update(batch, lambda logp: tokens.sft(logp, batch.mask_BT, n), constant=True)

    whole, first, second = (NetworkPolicy(bind(network(), backend, seed=3)) for _ in range(3))
    for batch in batches:
        step(whole, batch)
    for batch in batches[:3]:
        step(first, batch)
    second.restore(first.arrays())
    assert second.step == 3
    for batch in batches[3:]:
        step(second, batch)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(second.arrays()[name], array, err_msg=name)


def test_networks_that_are_no_policy_are_refused() -> None:
    floats = make_graph("f", [Node("x", "input", (), {"shape": (4,)}), Node("y", "output", ("x",), {"size": 2})])
    with pytest.raises(BackendError, match="one int32 input of tokens"):
        NetworkPolicy(bind(floats, "reference"))
    with pytest.raises(DataError, match="cannot keep packed documents apart"):
        policy("reference").logprobs(packed(rows(0), pad=0, length=16))

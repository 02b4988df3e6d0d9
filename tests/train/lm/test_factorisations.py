"""One batch cut, padded, packed and reordered in 500 ways gives one step; in fixed order it is one to the bit."""

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives.policy import GRPO, Sampled, normalizer, policy_loss
from alexandra.objectives.spec import SGD
from alexandra.objectives.tokens import count, sft
from alexandra.rng import derive
from alexandra.train.lm.batch import Row, TokenBatch, packed, padded
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.policy import NetworkPolicy

V, ROWS, CUTS = 9, 7, 500


def network() -> Graph:
    inputs = [Node(name, "input", (), {"shape": ("SEQ",), "dtype": "int32"}) for name in ("tokens", "segments")]
    return make_graph(
        "tiny",
        [
            *inputs,
            Node("e", "embedding", ("tokens",), {"vocab": V, "size": 8}),
            Node("a", "attention", ("e", "segments"), {"heads": 2, "rope": True}),
            Node("s", "add", ("e", "a")),
            Node("n", "rmsnorm", ("s",)),
            Node("y", "output", ("n",), {"size": V, "bias": False}),
        ],
    )


def rows() -> list[Row]:
    found = []
    for i in range(ROWS):
        length = 3 + int(derive(8, "n", i).below(7, 1)[0])
        mask = derive(8, "m", i).below(2, length)
        mask[0], mask[2] = 0, 1
        found.append(Row(derive(8, "t", i).below(V, length).tolist(), mask.tolist(), str(i)))
    return [*found, found[2]]  # one document twice, with another weight


WEIGHTS = 4.0 * derive(8, "advantage").uniform(ROWS + 1) - 2.0


class Cut:
    """A random factorisation: the order of the rows, how they are laid out, how many go through at once."""

    def __init__(self, seed: int) -> None:
        stream = derive(seed, "cut")
        given = rows()
        self.order = [int(i) for i in stream.at(0).permutation(len(given))]
        self.micro = int(stream.at(1).below(len(given) + 1, 1)[0])
        kind, extra = (int(stream.at(i).below(n, 1)[0]) for i, n in ((2, 3), (3, 9)))
        chosen, longest = [given[i] for i in self.order], max(row.positions for row in given)
        if kind == 0:
            self.batch = packed(chosen, pad=extra % V, length=longest + extra)
        else:
            self.batch = padded(chosen, pad=extra % V, length=longest + extra, left=kind == 1)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """A number per document at each of its positions, in this layout."""
        found = np.zeros(self.batch.mask_BT.shape)
        for i, (row, first, last) in zip(self.order, self.batch.places, strict=True):
            found[row, first:last] = values[i]
        return found


class Steps:
    """The step of a cut from the same weights, with one policy for each size of micro-batches."""

    def __init__(self, backend: str, fixed_order: bool) -> None:
        self.backend, self.fixed_order = backend, fixed_order
        self.policies: dict[int, NetworkPolicy] = {}
        self.start = bind(network(), backend, seed=3).weights

    def policy(self, micro: int) -> NetworkPolicy:
        if micro not in self.policies:
            options = Optimization(SGD(lr=0.5), clip_norm=0.0, micro_rows=micro, fixed_order=self.fixed_order)
            self.policies[micro] = NetworkPolicy(bind(network(), self.backend, seed=3), options)
        self.policies[micro].model.load(self.start)
        return self.policies[micro]

    def likelihood(self, cut: Cut) -> dict[str, np.ndarray]:
        own, mask = self.policy(cut.micro), cut.batch.mask_BT
        own.update(cut.batch, lambda logp: sft(logp, mask, count(mask)), constant=True)
        return {name: np.array(array) for name, array in own.model.weights.items()}

    def clipped(self, cut: Cut) -> dict[str, np.ndarray]:
        """PPO's loss, a token mean, against old log-probabilities that every document has for its own."""
        own, mask, settings = self.policy(cut.micro), cut.batch.mask_BT, GRPO(mean="token")
        old = own.logprobs(cut.batch) + np.where(mask > 0, cut.spread(WEIGHTS[::-1] / 10), 0.0)
        sampled = Sampled(old, cut.spread(WEIGHTS), mask)
        own.update(cut.batch, lambda logp: policy_loss(logp, sampled, settings, normalizer(mask, settings)))
        return {name: np.array(array) for name, array in own.model.weights.items()}


BACKENDS = [name for name in ("native", "reference") if not available(name)]


@pytest.mark.parametrize("objective", ["likelihood", "clipped"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_is_the_same_to_rounding(backend: str, objective: str) -> None:
    steps = Steps(backend, fixed_order=False)
    whole = getattr(steps, objective)(Cut(0))
    assert any((array != steps.start[name]).any() for name, array in whole.items())
    for seed in range(1, CUTS if backend == "native" else 50):
        for name, array in getattr(steps, objective)(Cut(seed)).items():
            np.testing.assert_allclose(array, whole[name], atol=1e-6, rtol=1e-6, err_msg=f"cut {seed}, {name}")


@pytest.mark.parametrize("objective", ["likelihood", "clipped"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_in_fixed_order_a_step_is_the_same_bits(backend: str, objective: str) -> None:
    steps = Steps(backend, fixed_order=True)
    whole = getattr(steps, objective)(Cut(0))
    for seed in range(1, CUTS if backend == "native" else 50):
        for name, array in getattr(steps, objective)(Cut(seed)).items():
            assert array.tobytes() == whole[name].tobytes(), f"cut {seed}, {name}"


def test_fixed_order_keeps_every_number_of_a_batch() -> None:
    from alexandra.train.lm.fixed_order import in_order

    for seed in range(20):
        batch: TokenBatch = Cut(seed).batch
        ordered = in_order(batch)
        values = derive(seed, "v").normal(batch.mask_BT.size).reshape(batch.mask_BT.shape)
        inside = batch.segments_BT > 0
        np.testing.assert_array_equal(ordered.scattered(ordered.gathered(values))[inside], values[inside])
        assert (ordered.batch.mask_BT.sum(), len(ordered.batch.places)) == (batch.mask_BT.sum(), ROWS + 1)
        assert ordered.batch.segments_BT.sum() == sum(row.positions for row in rows())

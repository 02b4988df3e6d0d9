"""Updates on batches of several shapes are the same to the bit, however many of their runs are kept."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives.spec import MSE, Adam
from alexandra.rng import derive
from alexandra.train.lm.fed import FedRun, Optimization

BACKENDS = [name for name in ("reference", "native") if not available(name)]
ROWS = (4, 4, 6, 4, 5, 6, 6, 4)  # of one batch after the other


def network() -> Graph:
    return make_graph("line", [Node("x", "input", (), {"shape": (3,)}), Node("y", "output", ("x",), {"size": 2})])


def fed(backend: str, keep: int) -> FedRun:
    return FedRun(bind(network(), backend, seed=1), MSE(), Optimization(Adam(lr=0.1)), keep)


def learn(run: FedRun, first: int, end: int) -> list[float]:
    losses = []
    for number in range(first, end):
        rows, stream = ROWS[number], derive(0, "batch", number)
        x, y = stream.normal(3 * rows).reshape(rows, 3), stream.normal(2 * rows).reshape(rows, 2)
        losses.append(run.update({"x": x.astype(np.float32)}, y.astype(np.float32)))
    return losses


def same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return list(a) == list(b) and all(np.array_equal(array, b[name]) for name, array in a.items())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("keep", [2, 3])
def test_kept_runs_change_no_bit(backend: str, keep: int) -> None:
    one, several = fed(backend, 1), fed(backend, keep)
    assert learn(one, 0, len(ROWS)) == learn(several, 0, len(ROWS))
    assert one.step == several.step == len(ROWS)
    assert same(one.arrays(), several.arrays())


@pytest.mark.parametrize("backend", BACKENDS)
def test_norms_are_the_mean_since_they_were_last_asked(backend: str) -> None:
    one, other = fed(backend, 1), fed(backend, 1)
    assert math.isnan(one.take_norm())
    learn(one, 0, 2)
    found = [one.take_norm()]
    learn(one, 2, 3)
    found.append(one.take_norm())
    wanted = []
    for number in range(3):
        learn(other, number, number + 1)
        wanted.append(other.take_norm())
    assert found == [pytest.approx((wanted[0] + wanted[1]) / 2), wanted[2]] and min(wanted) > 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("first", range(1, len(ROWS)))
def test_restored_updates_go_on_to_the_same_bits(backend: str, first: int) -> None:
    whole, again = fed(backend, 3), fed(backend, 3)
    learn(whole, 0, first)
    learn(again, 0, 3)  # what it kept of its own is forgotten
    again.restore(whole.arrays())
    assert again.step == first and same(again.arrays(), whole.arrays())
    assert learn(again, first, len(ROWS)) == learn(whole, first, len(ROWS))
    assert same(again.arrays(), whole.arrays())

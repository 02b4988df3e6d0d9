"""A run may go on with other rows: the trajectory is that of runs that were handed over by restore."""

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.errors import BackendError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Node
from alexandra.objectives.spec import AdamW, Program, WeightedCrossEntropy
from alexandra.rng import derive

GRAPH = make_graph(
    "tiny",
    [
        Node("x", "input", (), {"shape": (5,)}),
        Node("h", "dense", ("x",), {"size": 7, "activation": "tanh"}),
        Node("y", "output", ("h",), {"size": 3}),
    ],
)
PROGRAM = Program(WeightedCrossEntropy(normalizer=1.0), AdamW(lr=0.05), batch_size=4, shuffle=False, clip_norm=1.0)
BACKENDS = [name for name in ("reference", "native", "torch") if not available(name)]


def data(number: int, rows: int = 4) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    stream = derive(7, "data", number)
    x = stream.at(0).normal(rows * 5).reshape(rows, 5).astype(np.float32)
    return {"x": x}, {"classes": stream.at(1).below(3, rows), "weights": stream.at(2).normal(rows).astype(np.float32)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fed_run_is_a_chain_of_restored_runs(backend: str) -> None:
    fed, chain = bind(GRAPH, backend, seed=1), bind(GRAPH, backend, seed=1)
    run = fed.start(PROGRAM, *data(0))
    losses, wanted = [float(fed.run(run, 1)[0])], []
    arrays = None
    for number in range(1, 6):
        fed.feed(run, *data(number))
        losses.append(float(fed.run(run, 1)[0]))
    for number in range(6):
        other = chain.start(PROGRAM, *data(number))
        if arrays is not None:
            other.restore(arrays)
        wanted.append(float(chain.run(other, 1)[0]))
        arrays = other.arrays()
    assert losses == wanted and len(set(losses)) == 6
    for name, array in fed.weights.items():
        np.testing.assert_array_equal(array, chain.weights[name])


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_another_shape_are_refused_and_the_run_goes_on(backend: str) -> None:
    model = bind(GRAPH, backend, seed=1)
    run = model.start(PROGRAM, *data(0))
    with pytest.raises(BackendError, match="start another run"):
        model.feed(run, *data(1, rows=3))
    assert np.isfinite(model.run(run, 1)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_arrays_of_the_caller_are_not_written_to(backend: str) -> None:
    model = bind(GRAPH, backend, seed=1)
    first = data(0)
    before = first[0]["x"].copy()
    run = model.start(PROGRAM, *first)
    model.feed(run, *data(1))
    model.run(run, 1)
    np.testing.assert_array_equal(first[0]["x"], before)

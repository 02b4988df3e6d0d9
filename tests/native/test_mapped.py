"""Weights that are pages of a file: the same bytes come out, nothing is copied until training, damage is refused."""

import os
from pathlib import Path

import numpy as np
import pytest

import alexandra as ax
from alexandra.backends.bind import BACKENDS, available
from alexandra.errors import WeightsError
from alexandra.ir.check import make_graph, param_specs
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import WeightSet, initialise
from alexandra.objectives.spec import MSE, AdamW
from alexandra.rng import derive

pytest.importorskip("alexandra._native", reason="the native engine is not built")


def network(width: int = 37) -> Graph:
    nodes = [
        Node("x", "input", (), {"shape": (5,)}),
        Node("c", "input", (), {"shape": (2,), "dtype": "int32"}),
        Node("e", "embedding", ("c",), {"vocab": 7, "size": 3}),
        Node("flat", "reshape", ("e",), {"shape": (6,)}),
        Node("h", "dense", ("x", "flat"), {"size": width, "activation": "gelu"}),
        Node("n", "layernorm", ("h",)),
        Node("y", "output", ("n",), {"size": 3}),
    ]
    return make_graph("mapped", nodes)


def inputs(rows: int = 40) -> dict[str, np.ndarray]:
    x = derive(1, "x").normal(rows * 5).reshape(rows, 5).astype(np.float32)
    return {"x": x, "c": derive(1, "c").below(7, rows * 2).reshape(rows, 2).astype(np.int32)}


def saved(folder: Path, graph: Graph) -> Path:
    return initialise(graph, 3).save(folder / "net.safetensors", graph)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_of_weights_answers_as_the_weights_do(tmp_path: Path, backend: str) -> None:
    if reason := available(backend):
        pytest.skip(reason)
    graph = network()
    path = saved(tmp_path, graph)
    mapped, loaded = ax.bind(graph, backend, weights=path), ax.bind(graph, backend, weights=WeightSet.load(path))
    np.testing.assert_array_equal(mapped.forward(inputs())["y"], loaded.forward(inputs())["y"])
    assert mapped.weights == loaded.weights


def test_inference_reads_the_file_and_training_takes_a_copy(tmp_path: Path) -> None:
    graph = network()
    path = saved(tmp_path, graph)
    before = path.read_bytes()
    mapped, loaded = ax.bind(graph, "native", weights=str(path)), ax.bind(graph, "native", weights=WeightSet.load(path))
    assert mapped.inner.mapped and not loaded.inner.mapped
    assert mapped.memory["weights"] == 4 * mapped.weights.num_values
    targets = derive(1, "y").normal(120).reshape(40, 3).astype(np.float32)
    for model in (mapped, loaded):
        model.forward(inputs())
        model.fit(inputs(), targets, optimizer=AdamW(0.01), epochs=2)
    assert not mapped.inner.mapped
    assert mapped.weights == loaded.weights
    np.testing.assert_array_equal(mapped.forward(inputs())["y"], loaded.forward(inputs())["y"])
    assert path.read_bytes() == before
    again = ax.bind(graph, "native", weights=path)
    loss, grads = again.loss_and_grads(inputs(), targets, MSE())
    other = ax.bind(graph, "native", weights=WeightSet.load(path))
    wanted_loss, wanted = other.loss_and_grads(inputs(), targets, MSE())
    assert loss == wanted_loss and all((grads[name] == wanted[name]).all() for name in wanted)


def test_loading_other_weights_leaves_the_file_alone(tmp_path: Path) -> None:
    graph = network()
    path = saved(tmp_path, graph)
    model = ax.bind(graph, "native", weights=path)
    model.load(initialise(graph, 9))
    assert model.weights == initialise(graph, 9) and WeightSet.load(path) == initialise(graph, 3)


def private_bytes() -> int:
    """Anonymous memory of this process, without the pages of files."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Anonymous:")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer keeps memory of its own")
def test_inference_from_a_file_takes_no_private_memory_for_weights(tmp_path: Path) -> None:
    nodes = [Node("x", "input", (), {"shape": (512,)})]
    nodes += [Node(f"h{i}", "dense", (f"h{i - 1}" if i else "x",), {"size": 2048 - 1536 * (i % 2)}) for i in range(12)]
    graph = make_graph("large", [*nodes, Node("y", "output", ("h11",))])
    weights = WeightSet({n: np.full(spec.shape, 0.01, np.float32) for n, spec in param_specs(graph).items()})
    size = 4 * weights.num_values
    path = weights.save(tmp_path / "large.safetensors", graph)
    del weights
    x = {"x": np.ones((4, 512), np.float32)}
    ax.bind(network(), "native").forward(inputs())  # what the first use of anything takes
    before = private_bytes()
    model = ax.bind(graph, "native", weights=path)
    model.forward(x)
    assert private_bytes() - before < model.memory["arena"] + 0.1 * size
    assert size > 45e6


@pytest.mark.parametrize("damage", ["cut", "grown", "flipped", "header", "offsets", "empty", "other network"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    graph = network(38) if damage == "other network" else network()
    path = saved(tmp_path, network())
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-8]
    elif damage == "grown":
        data += b"\0" * 8
    elif damage == "flipped":
        data[-5] ^= 1
    elif damage == "header":
        data[:8] = (2**62).to_bytes(8, "little")
    elif damage == "offsets":
        at = data.index(b'"data_offsets":[') + len(b'"data_offsets":[')
        data[at : at + 1] = b"9"
    elif damage == "empty":
        data = bytearray()
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"net\.safetensors"):
        ax.bind(graph, "native", weights=path)

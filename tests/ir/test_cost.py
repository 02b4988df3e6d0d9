"""Cost: FLOPs as torch counts them, parameters, and memory by tier."""

import numpy as np
import pytest

from alexandra.errors import GraphError
from alexandra.ir import cost
from alexandra.ir.build import Builder, Layer, mlp
from alexandra.ir.check import param_specs
from alexandra.ir.expand import primitives


def test_flops_equal_torchs_counter() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    nn = torch.nn
    peer = nn.Sequential(
        nn.Linear(30, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 8), nn.Linear(8, 3), nn.Softmax(-1)
    )
    with FlopCounterMode(display=False) as counter:
        peer(torch.zeros(5, 7, 30))
    build = Builder()
    x = build.input("x", (7, 30))
    h = build.layer(Layer("gelu"), build.layer(Layer("layernorm"), build.layer(Layer("dense", size=64), x)))
    build.output("y", build.layer(Layer("dense", size=8), h), size=3, activation="softmax")
    graph = build.graph()
    assert cost.flops(graph, rows=5) == counter.get_total_flops()
    assert cost.flops(primitives(graph)) == cost.flops(graph)
    assert cost.parameters(graph) == sum(p.numel() for p in peer.parameters())


def test_layers_add_up_and_shared_parameters_count_once() -> None:
    build = Builder()
    a = build.layer(Layer("dense", size=6), build.input("x", 6), name="a")
    b = build.layer(Layer("dense", size=6, activation="relu"), a, name="b", shared="a")
    build.output("y", b, size=2)
    graph = build.graph()
    rows = {layer.name: (layer.parameters, layer.flops) for layer in cost.layers(graph)}
    assert rows == {"x": (0, 0), "a": (42, 72), "b": (0, 72), "y": (14, 24)}
    assert cost.parameters(graph) == 56 == sum(int(np.prod(s.shape)) for s in param_specs(graph).values())


def test_memory_by_tier() -> None:
    graph = mlp(8, inputs=4, outputs=3)
    weights, values = 67, 4 + 8 + 8 + 3 + 3 + 3
    assert cost.memory(graph, rows=10) == {
        "weights": 4 * weights,
        "activations": 40 * values,
        "gradients": 0,
        "optimizer": 0,
        "total": 4 * weights + 40 * values,
    }
    training = cost.memory(graph, "reference", rows=10, training=True, moments=1)
    assert (training["gradients"], training["optimizer"]) == (8 * weights + 80 * values, 8 * weights)


def test_open_sizes_and_unknown_backends_are_named() -> None:
    with pytest.raises(GraphError, match=r"layer 'h1' \(dense\): the input's size is AUTO"):
        cost.layers(mlp(8))
    with pytest.raises(GraphError, match="no memory model for backend 'nativ'\n.*Did you mean 'native'"):
        cost.memory(mlp(8, inputs=1, outputs=2), "nativ")

"""The module of a graph: torch's own layers under the layers' names, whatever those are, tied ones included."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from alexandra.backends.bind import bind  # noqa: E402
from alexandra.backends.pytorch import module  # noqa: E402
from alexandra.ir.check import make_graph  # noqa: E402
from alexandra.ir.graph import Graph, Node  # noqa: E402
from alexandra.ir.ops import OPS, PRIMITIVES  # noqa: E402
from alexandra.ir.weights import initialise  # noqa: E402
from alexandra.nn.graph_module import GraphModule  # noqa: E402
from alexandra.nn.primitives import CALLS, LAYERS, STEPS, TIED, Parameters  # noqa: E402
from alexandra.rng import derive  # noqa: E402

X = torch.tensor(derive(0, "x").normal(40).reshape(10, 4).astype(np.float32))


def test_every_primitive_has_one_row() -> None:
    inside = {"input", "reshape"}  # these need more than their inputs: GraphModule does them itself
    rows = [*CALLS, *LAYERS, *STEPS, *inside]
    assert sorted(rows) == sorted(PRIMITIVES)
    with_parameters = {name for name in PRIMITIVES if OPS[name].params.__code__.co_name != "<lambda>"} - {"output"}
    assert set(LAYERS) == set(TIED) == with_parameters - set(STEPS)


def chain(*names: str) -> Graph:
    """x -> a dense of each name, of four units -> y."""
    nodes = [Node("x", "input", (), {"shape": 4})]
    for name in names:
        nodes.append(Node(name, "dense", (nodes[-1].name,), {"size": 4, "activation": "tanh"}))
    return make_graph("chain", [*nodes, Node("y", "output", (nodes[-1].name,))])


@pytest.mark.parametrize(
    "names",
    [
        ("type", "half", "forward", "parameters", "primitive", "training"),
        ("encoder.e1", "encoder.e2", "encoder"),
        ("a", "a.weight", "a.bias", "a.weight.weight"),
        ("a.b.c", "a.b", "a"),
    ],
)
def test_any_layer_name_can_be_a_modules_name(names: tuple[str, ...]) -> None:
    graph = chain(*names)
    weights = initialise(graph, 1)
    found = module(graph, weights)
    assert set(found.state_dict()) == set(weights)
    copy = module(graph, initialise(graph, 2))
    copy.load_state_dict(found.state_dict())
    wanted = bind(graph, "reference", weights).forward({"x": X.numpy()})["y"]
    np.testing.assert_allclose(copy({"x": X})["y"].detach().numpy(), wanted, atol=1e-6)


def test_owners_are_torchs_own_layers_and_what_replaces_one_is_used() -> None:
    nodes = [
        Node("t", "input", (), {"shape": 3, "dtype": "int32"}),
        Node("e", "embedding", ("t",), {"vocab": 5, "size": 4}),
        Node("n", "layernorm", ("e",)),
        Node("h", "dense", ("n",), {"size": 4}),
        Node("r", "rmsnorm", ("h",)),
        Node("y", "output", ("r",), {"size": 2}),
    ]
    found = module(make_graph("kinds", nodes))
    kinds = {name: type(child) for name, child in found.named_children()}
    assert kinds == {"e": nn.Embedding, "n": nn.LayerNorm, "h": nn.Linear, "r": nn.RMSNorm, "y": nn.Linear}
    tokens = torch.tensor([[0, 1, 4]], dtype=torch.int32)
    before = found({"t": tokens})["y"]
    found.h = nn.Sequential(found.h, nn.Tanh())
    assert not torch.equal(found({"t": tokens})["y"], before)


def test_an_owner_whose_users_differ_holds_their_parameters_once() -> None:
    nodes = [
        Node("t", "input", (), {"shape": 3, "dtype": "int32"}),
        Node("e", "embedding", ("t",), {"vocab": 5, "size": 4}),
        Node("y", "output", ("e",), {"size": 5}, param="e"),
    ]
    found = module(make_graph("tied", nodes))
    assert isinstance(found.get_submodule("e"), Parameters)
    assert {name: tuple(p.shape) for name, p in found.named_parameters()} == {"e.weight": (5, 4), "e.bias": (5,)}


def test_dropout_is_torchs_in_training_mode_and_off_in_evaluation_mode() -> None:
    nodes = [Node("x", "input", (), {"shape": 4}), Node("d", "dropout", ("x",), {"rate": 0.5})]
    found = GraphModule(make_graph("d", [*nodes, Node("y", "output", ("d",))]))
    answers = found({"x": X})["y"]
    kept = answers != 0
    assert 5 < int(kept.sum()) < 35
    torch.testing.assert_close(answers[kept], 2.0 * X[kept])
    assert torch.equal(found.eval()({"x": X})["y"], X)


def test_a_module_can_be_copied_moved_and_traced() -> None:
    graph = chain("a", "b")
    found = module(graph).eval()
    double = module(graph).eval().double()
    assert double({"x": X.double()})["y"].dtype == torch.float64
    import copy

    torch.testing.assert_close(copy.deepcopy(found)({"x": X}), found({"x": X}))
    exported = torch.export.export(found, ({"x": X},))
    torch.testing.assert_close(exported.module()({"x": X})["y"], found({"x": X})["y"])

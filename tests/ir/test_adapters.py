"""Adapters beside dense layers: the same function at the start, their gradients alone, and merged the same function."""

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.errors import GraphError
from alexandra.ir.adapters import Adapted, adapted
from alexandra.ir.check import make_graph, param_specs
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import WeightSet, initialise
from alexandra.objectives.spec import CrossEntropy
from alexandra.rng import derive

VOCAB = 11
BACKENDS = [name for name in ("reference", "native", "torch") if not available(name)]
TOKENS = {"tokens": derive(0, "tokens").below(VOCAB, 24).reshape(4, 6).astype(np.int32)}
CLASSES = derive(0, "classes").below(VOCAB, 24).reshape(4, 6)


def network(tied: bool = False) -> Graph:
    """Attention, a gated layer, an activation, two layers of shared weights, and a head that may be the embedding's."""
    head = Node("y", "output", ("z",))
    nodes = [
        Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
        Node("e", "embedding", ("tokens",), {"vocab": VOCAB, "size": 8}),
        Node("a", "attention", ("e",), {"heads": 2, "kv_heads": 1, "rope": True, "bias": True}),
        Node("f", "ffn", ("a",), {"hidden": 12}),
        Node("h", "dense", ("f",), {"size": 8, "activation": "tanh"}),
        Node("g", "dense", ("h",), {"size": 8}, "h"),
        Node("z", "dense", ("g",), {"size": VOCAB, "bias": False}, "e" if tied else ""),
        head,
    ]
    return make_graph("net", nodes)


def mixture() -> Graph:
    return make_graph(
        "mixture",
        [
            Node("tokens", "input", (), {"shape": (6,), "dtype": "int32"}),
            Node("e", "embedding", ("tokens",), {"vocab": VOCAB, "size": 8}),
            Node("m", "moe", ("e",), {"experts": 2, "top_k": 1, "hidden": 6, "shared_experts": 1}),
            Node("r", "lstm", ("m",), {"size": 8}),
            Node("y", "output", ("r",), {"size": VOCAB}),
        ],
    )


def taught(made: Adapted, seed: int = 3) -> WeightSet:
    """Adapters that are no longer zero."""
    weights = made.start(initialise(made.base, seed), seed)
    ups = [up for _, up in made.pairs.values()]
    return weights.merge({up: 0.3 * derive(seed, up).normal(weights[up].size).reshape(weights[up].shape) for up in ups})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tied", [False, True])
def test_at_the_start_nothing_differs_by_a_bit(backend: str, tied: bool) -> None:
    graph, made = network(tied), adapted(network(tied), 4, 8.0)
    weights = initialise(graph, 1)
    begun = made.start(weights, 5)
    plain, beside = bind(graph, backend, weights).forward(TOKENS), bind(made.graph, backend, begun).forward(TOKENS)
    assert list(plain) == list(beside)
    np.testing.assert_array_equal(plain["y"], beside["y"])
    assert all(np.array_equal(begun[name], array) for name, array in weights.items())
    assert made.merged(begun) == weights


@pytest.mark.parametrize("backend", BACKENDS)
def test_adapters_alone_have_gradients_and_merged_they_do_the_same(backend: str) -> None:
    made = adapted(network(), 3, 9.0)
    weights = taught(made)
    model, wanted = bind(made.graph, backend, weights), bind(made.graph, "reference", weights)
    loss, grads = model.loss_and_grads(TOKENS, CLASSES, CrossEntropy(), made.frozen)
    other, exact = wanted.loss_and_grads(TOKENS, CLASSES, CrossEntropy(), made.frozen)
    assert set(grads) == {one for pair in made.pairs.values() for one in pair}
    assert loss == pytest.approx(other, abs=1e-5) and all(array.any() for array in grads.values())
    for name, array in exact.items():
        np.testing.assert_allclose(grads[name], array, atol=1e-5, err_msg=name)
    merged = bind(made.base, backend, made.merged(weights)).forward(TOKENS)["y"]
    np.testing.assert_allclose(model.forward(TOKENS)["y"], merged, atol=1e-5)
    before = bind(made.base, backend, initialise(made.base, 3)).forward(TOKENS)["y"]
    assert np.abs(merged - before).max() > 1e-2


def test_every_dense_layer_is_adapted_and_nothing_else() -> None:
    made = adapted(network(), 2, 4.0)
    parts = [f"a.{name}" for name in ("q", "k", "v", "out")] + [f"f.{name}" for name in ("gate", "up", "down")]
    assert set(made.pairs) == {f"{name}.weight" for name in (*parts, "h", "z")}  # g has the weights of h
    assert made.pairs["a.q.weight"] == ("a.q.lora_A.weight", "a.q.lora_B.weight")
    specs = param_specs(made.graph)
    assert [name for name in specs if "lora" not in name] == list(param_specs(made.base)) == list(made.frozen)
    assert specs["f.down.lora_A.weight"].shape == (2, 12) and specs["f.down.lora_B.weight"].shape == (8, 2)
    assert "e.weight" not in adapted(network(tied=True), 2, 4.0).pairs
    assert primitives(made.graph) == made.graph and made.factor == 2.0
    names = set(adapted(mixture(), 2, 4.0).pairs)
    assert names == {f"m.shared.{name}.weight" for name in ("gate", "up", "down")} | {"y.weight"}


def test_a_layer_that_is_trained_whole_has_no_adapter_and_is_not_frozen() -> None:
    made = adapted(network(), 2, 4.0, whole=("z",))
    assert "z.weight" not in made.pairs and "z.weight" not in made.frozen and "h.weight" in made.frozen


def test_names_that_are_taken_are_left_to_their_layers() -> None:
    nodes = [
        Node("x", "input", (), {"shape": (5,)}),
        Node("h", "dense", ("x",), {"size": 6}),
        Node("h.lora_B", "dense", ("h",), {"size": 7}),
        Node("y", "output", ("h.lora_B",), {"size": 3}),
    ]
    graph = make_graph("taken", nodes)
    made = adapted(graph, 2, 2.0)
    assert made.pairs["h.weight"] == ("h.lora_A_.weight", "h.lora_B_.weight")
    given = {"x": derive(1, "x").normal(10).reshape(2, 5).astype(np.float32)}
    weights = taught(made)
    beside = bind(made.graph, "reference", weights).forward(given)["y"]
    merged = bind(graph, "reference", made.merged(weights)).forward(given)["y"]
    np.testing.assert_allclose(beside, merged, atol=1e-5)


def test_a_begins_as_lora_does_by_the_seed() -> None:
    made, weights = adapted(network(), 4, 8.0), initialise(network(), 0)
    one, same, other = (made.start(weights, seed) for seed in (1, 1, 2))
    assert one == same != other
    for down, up in made.pairs.values():
        limit = 1 / np.sqrt(one[down].shape[1])
        assert 0.7 * limit < np.abs(one[down]).max() <= limit and not one[up].any()


def test_what_has_no_room_for_adapters_is_refused() -> None:
    with pytest.raises(
        GraphError, match=r"layer 'a.k' has 8 inputs and 4 outputs, too few .* rank 5\n.*at most 4 fits"
    ):
        adapted(network(), 5, 10.0)
    bare = [
        Node("tokens", "input", (), {"shape": (4,), "dtype": "int32"}),
        Node("e", "embedding", ("tokens",), {"vocab": VOCAB, "size": 5}),
        Node("y", "output", ("e",)),
    ]
    with pytest.raises(GraphError, match="'bare' has no dense layer"):
        adapted(make_graph("bare", bare), 2, 4.0)

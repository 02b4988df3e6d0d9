"""Attention, experts, convolution, recurrence in the op table: what each refuses, in words; composites and sharing."""

from __future__ import annotations

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.backends.reference_call import Call
from alexandra.backends.reference_experts import gate_loss, selection_bias, top_k_gate_forward
from alexandra.errors import AlexandraError, GraphError
from alexandra.ir import cost
from alexandra.ir.check import bind_sizes, infer, make_graph, param_specs
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Attr, Graph, Node
from alexandra.ir.ops import OPS
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network

S = (6, 8)


def one(op: str, shape: tuple[int | str, ...] = S, inputs: int = 1, **attrs: Attr) -> Graph:
    sources = [Node(f"x{i}", "input", (), {"shape": shape}) for i in range(inputs)]
    op_node = Node("op", op, tuple(node.name for node in sources), attrs)
    return make_graph("one", [*sources, op_node, Node("y", "output", ("op",))])


REFUSED = {
    "rope, width": (lambda: one("rope", head_dim=3), "turns pairs of a head's 3 numbers|multiple of 3, got 8"),
    "rope, odd": (lambda: one("rope", head_dim=4, dims=3), "turns pairs of a head's 4 numbers, so dims cannot be 3"),
    "rope, yarn": (lambda: one("rope", head_dim=4, scaling="yarn"), "needs original= for scaling=yarn"),
    "rope, image": (lambda: one("rope", (2, 3, 4), head_dim=4), r"needs a sequence \(positions, width\) as its input"),
    "rope, word": (lambda: one("rope", head_dim=4, scaling="yarm"), "has no value 'yarm'\n.*Did you mean 'yarn'"),
    "sdpa, heads": (lambda: one("sdpa", inputs=3, heads=3), "queries of a width that is a multiple of 3, got 8"),
    "sdpa, groups": (lambda: one("sdpa", inputs=3, heads=4, kv_heads=3), "shares 3 key-value heads among 4 heads"),
    "sdpa, sizes": (lambda: one("sdpa", inputs=3, heads=4, kv_heads=2), "heads of 2 numbers in the queries and 4"),
    "sdpa, arity": (lambda: one("sdpa", inputs=2, heads=4), "needs 3 to 4 inputs, got 2"),
    "sdpa, buckets": (lambda: one("sdpa", inputs=3, heads=4, relative_buckets=2), "at least 4 relative_buckets"),
    "attention, causal": (lambda: one("attention", inputs=2, heads=2), "a memory and is causal\nwrite causal=FALSE"),
    "attention, heads": (lambda: one("attention", heads=3), "a width that is a multiple of 3, got 8"),
    "attention, window": (lambda: one("attention", heads=2, window=0), "window must be at least 1, got 0"),
    "position, length": (lambda: one("position", length=5), r"has 5 positions .* got a sequence of 6"),
    "position, none": (lambda: one("position"), r"needs length= \(how many positions it learns\)"),
    "gate, k": (lambda: one("top_k_gate", top_k=9), "cannot choose top_k=9 of 8 experts"),
    "moe, k": (lambda: one("moe", experts=2, top_k=3, hidden=4), "cannot choose top_k=3 of 2 experts"),
    "experts, gates": (lambda: one("experts", (8,), inputs=1, hidden=4), "needs 2 inputs, got 1"),
    "conv2d, line": (lambda: one("conv2d", size=3), r"needs an image \(height, width, channels\)"),
    "conv2d, groups": (lambda: one("conv2d", (4, 4, 3), size=4, groups=2), "channels that is a multiple of 2, got 3"),
    "conv2d, small": (lambda: one("conv2d", (2, 2, 3), size=4, padding="valid"), "at least 3 along axis 0, got 2"),
    "conv2d, kernel": (lambda: one("conv2d", (4, 4, 3), size=4, kernel=(1, 2, 3)), "needs one number or two"),
    "conv2d, padding": (lambda: one("conv2d", (4, 4, 3), size=4, padding="full"), "padding has no value 'full'"),
    "conv2d, open": (lambda: one("conv2d", ("H", 4, 3), size=4, stride=2), "changes the length of the open axis H"),
    "pool2d, padding": (lambda: one("pool2d", (4, 4, 3), padding=2), "more than half of its window"),
    "lstm, vector": (lambda: one("lstm", (8,), size=3), "needs a sequence"),
    "reduce, vector": (lambda: one("reduce", (8,)), "needs an input with at least 2 axes"),
    "matmul": (lambda: one("matmul", (3, 4), inputs=2), r"multiplies \[.., m, k\] by \[.., k, n\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_said(name: str) -> None:
    made, reason = REFUSED[name]
    with pytest.raises(GraphError, match=reason) as caught:
        made()
    assert "layer 'op'" in str(caught.value)


def test_a_longer_sequence_than_the_positions_is_refused_when_it_comes() -> None:
    model = bind(one("position", ("S", 8), length=5), "reference")
    assert model.forward({"x0": np.zeros((1, 5, 8), np.float32)})["y"].shape == (1, 5, 8)
    with pytest.raises(AlexandraError, match="has 5 positions .* got a sequence of 6"):
        model.forward({"x0": np.zeros((1, 6, 8), np.float32)})


def test_a_layer_called_like_a_part_is_refused() -> None:
    nodes = [
        Node("x", "input", (), {"shape": S}),
        Node("a.q", "dense", ("x",), {"size": 8, "bias": False}),
        Node("a", "attention", ("a.q",), {"heads": 2}),
        Node("y", "output", ("a",)),
    ]
    with pytest.raises(GraphError, match=r"'a.q' \(dense\) and 'a' \(attention\) both own a.q.weight\nrename"):
        make_graph("clash", nodes)


def test_every_composite_is_its_expansion_and_sharing_one_shares_every_part() -> None:
    settings: dict[str, dict[str, Attr]] = {
        "attention": {"heads": 4, "kv_heads": 2, "qk_norm": True, "rope": 500.0, "relative_buckets": 4, "bias": True},
        "ffn": {"hidden": 5},
        "moe": {"experts": 4, "top_k": 2, "hidden": 3, "shared_experts": 2, "selection_bias": True},
        "conv1d": {"size": 8},
        "pool1d": {"stride": 1, "kernel": 1},
        "linear": {},
    }
    assert set(settings) == {row.name for row in OPS.values() if row.composite}
    for op, attrs in settings.items():
        x = Node("x", "input", (), {"shape": ("S", 8)})
        pair = [Node("a", op, ("x",), attrs), Node("b", op, ("a",), attrs, "a"), Node("y", "output", ("b",))]
        graph = make_graph("pair", [x, *pair])
        flat = primitives(graph)
        assert primitives(flat) == flat and not any(OPS[node.op].composite for node in flat.nodes)
        assert list(param_specs(flat)) == list(param_specs(graph)) and param_specs(flat) == param_specs(graph)
        assert all(name.startswith("a.") for name in param_specs(graph))
        assert compile_network(graph.text()) == graph
        bound = bind_sizes(graph, {"S": 5})
        assert cost.flops(bound) == cost.flops(primitives(bound)) and infer(bound)["y"].shape == (5, 8)
        assert set(initialise(graph)) == set(param_specs(graph))


def test_a_uniform_router_pays_balance_once_and_a_lopsided_one_more() -> None:
    attrs = OPS["top_k_gate"].complete({"top_k": 2, "balance": 0.5})
    even = np.tile(np.eye(4) + np.roll(np.eye(4), 1, axis=1), (3, 1))
    assert gate_loss(Call(attrs, (1e-9 * even,)))[0] == pytest.approx(0.5, rel=1e-6)
    lopsided = np.tile([[5.0, 4.0, 0.0, 0.0]], (12, 1))
    assert gate_loss(Call(attrs, (lopsided,)))[0] > 0.9
    ties = np.zeros((1, 4))
    np.testing.assert_array_equal(top_k_gate_forward(Call(attrs, (ties,))), [[0.5, 0.5, 0.0, 0.0]])


def test_a_selection_bias_chooses_and_weighs_nothing() -> None:
    attrs = OPS["top_k_gate"].complete({"top_k": 1, "score": "sigmoid", "selection_bias": True, "normalise": False})
    call = Call(attrs, (np.array([[2.0, 1.0, 0.0]] * 4),), {"bias": np.array([0.0, 0.5, 0.0])})
    weights = top_k_gate_forward(call)
    np.testing.assert_allclose(weights, [[0.0, 1 / (1 + np.exp(-1.0)), 0.0]] * 4)
    np.testing.assert_allclose(selection_bias(call, 0.01), [0.01, 0.49, 0.01])


def test_capacity_keeps_the_first_positions_of_a_row_in_training_only() -> None:
    attrs = OPS["top_k_gate"].complete({"top_k": 1, "capacity": 1.0, "normalise": False})
    logits = np.tile([[3.0, 0.0]], (2, 4, 1))
    assert (top_k_gate_forward(Call(attrs, (logits,)))[..., 0] > 0).all()
    kept = top_k_gate_forward(Call(attrs, (logits,), training=True))[..., 0] > 0
    np.testing.assert_array_equal(kept, [[True, True, False, False]] * 2)

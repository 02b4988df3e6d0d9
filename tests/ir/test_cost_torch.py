"""Parameters and FLOPs of random networks against torch's own modules and its FlopCounterMode."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")

from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from alexandra.backends.pytorch import module  # noqa: E402
from alexandra.ir import cost  # noqa: E402
from alexandra.ir.build import Builder, Layer  # noqa: E402
from alexandra.ir.graph import Attr, Graph  # noqa: E402
from alexandra.lang.nureon import compile_network  # noqa: E402

LENGTH, WIDTH = 12, 8


def drawn(seed: int) -> Graph:
    """A chain of random layers over a sequence, with residuals, then a random end."""
    draw = random.Random(seed)
    build = Builder(f"random_{seed}")
    h = build.layer(Layer("embedding", vocab=17, size=WIDTH), build.input("t", (LENGTH,), "int32"))
    for _ in range(draw.randint(1, 6)):
        op = draw.choice(["attention", "ffn", "moe", "dense", "conv1d", "rmsnorm", "pair", "image"])
        attrs: dict[str, Attr] = {}
        if op == "attention":
            heads = draw.choice([(4, 2), (2, 2), (4, 1)])
            attrs = {"heads": heads[0], "kv_heads": heads[1], "causal": draw.random() < 0.5, "rope": True}
            attrs |= {"qk_norm": draw.random() < 0.5, "bias": draw.random() < 0.5, "head_dim": draw.choice([2, 4, 6])}
        elif op == "ffn":
            attrs = {"hidden": draw.randint(1, 20), "gated": draw.random() < 0.5, "bias": draw.random() < 0.5}
        elif op == "moe":
            attrs = {"experts": 5, "top_k": draw.randint(1, 5), "hidden": draw.randint(1, 9)}
            attrs["shared_experts"] = draw.randint(0, 2)
        elif op == "dense":
            attrs = {"size": WIDTH, "bias": draw.random() < 0.5, "activation": "gelu"}
        elif op == "conv1d":
            attrs = {"size": WIDTH, "kernel": draw.choice([1, 3, 5]), "groups": draw.choice([1, 2, 4])}
        if op == "pair":
            scores = build.layer(Layer("matmul", transpose=True), h, build.layer(Layer("dense", size=WIDTH), h))
            made = build.layer(Layer("matmul"), build.layer(Layer("softmax"), scores), h)
        elif op == "image":
            image = build.layer(Layer("reshape", shape=(4, 3, WIDTH)), h)
            image = build.layer(Layer("conv2d", size=WIDTH, kernel=(3, 2), groups=draw.choice([1, 2])), image)
            made = build.layer(Layer("reshape", shape=(LENGTH, WIDTH)), image)
        else:
            made = build.layer(Layer(op, **attrs), h)
        h = build.layer(Layer("add"), h, made) if draw.random() < 0.7 else made
    if draw.random() < 0.5:
        h = build.layer(Layer("reduce", kind="mean"), h)
    build.output("y", h, size=draw.randint(1, 9), activation="softmax")
    return build.graph()


@pytest.mark.parametrize("seeds", [range(12), pytest.param(range(12, 112), marks=pytest.mark.slow)], ids=str)
def test_parameters_and_flops_of_random_networks_are_exactly_torchs(seeds: range) -> None:
    for seed in seeds:
        graph = drawn(seed)
        found = module(graph).eval()
        assert sum(p.numel() for p in found.parameters() if p.requires_grad) == cost.parameters(graph)
        tokens = torch.randint(0, 17, (3, LENGTH), dtype=torch.int32)
        # the CPU's fused attention has no row in torch's own table, the plain one is counted
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            found({"t": tokens})
        assert cost.flops(graph, rows=3) == counter.get_total_flops(), graph.text()


def test_a_window_counts_the_pairs_that_it_leaves() -> None:
    text = "LAYER INPUT name=x shape=(64, 8) LAYER ATTENTION name=a heads=2 window=4 LAYER OUTPUT name=y"
    text += " CONNECT x -> a -> y"
    windowed, whole = compile_network(text), compile_network(text.replace("window=4", ""))
    projections = 4 * 2 * 64 * 8 * 8
    assert cost.flops(windowed) == projections + 2 * 2 * 64 * 4 * 8
    assert cost.flops(whole) == projections + 2 * 2 * 64 * 64 * 8

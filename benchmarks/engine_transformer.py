"""Training a 2-layer transformer: the native engine beside PyTorch eager, one pinned thread, in the same run.

    python benchmarks/engine_transformer.py [--rounds 15] [--json out.json]

Width 128, context 128, batch 16, vocabulary 65; four heads on two key-value heads, rotary positions, RMSNorm, SwiGLU
of 344, AdamW. The peer is written as its users write it: nn.Linear, functional rms_norm and
scaled_dot_product_attention, fused AdamW; it gets its batches ready-made. Both start from the same weights, and their
first losses must agree. Rounds take turns, so that a busy machine is busy for both. Tokens per second are from CPU
time of the thread: median, quartiles and the fastest round; `ratio` is that of the medians, `ratio_fastest` of the
fastest rounds. `peak` is the share of the FMA rate that this core reaches in the same run on registers alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from delivery import deliver

from alexandra import _native
from alexandra.backends.native import NativeModel
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import WeightSet, initialise
from alexandra.objectives.spec import AdamW, CrossEntropy, Program
from alexandra.rng import derive

LAYERS, WIDTH, CONTEXT, BATCH, VOCAB, HEADS, GROUPS, HIDDEN = 2, 128, 128, 16, 65, 4, 2, 344
HEAD = WIDTH // HEADS
TOKENS = BATCH * CONTEXT
STEPS = 8  # batches, and steps of a round
RATE, DECAY, EPS, BASE = 1e-3, 0.01, 1e-6, 10000.0


def network() -> Graph:
    nodes = [
        Node("x", "input", (), {"shape": (CONTEXT,), "dtype": "int32"}),
        Node("s0", "embedding", ("x",), {"vocab": VOCAB, "size": WIDTH}),
    ]
    for i in range(LAYERS):
        nodes += [
            Node(f"n{i}", "rmsnorm", (f"s{i}",), {"eps": EPS}),
            Node(f"a{i}", "attention", (f"n{i}",), {"heads": HEADS, "kv_heads": GROUPS, "rope": True, "base": BASE}),
            Node(f"r{i}", "add", (f"s{i}", f"a{i}")),
            Node(f"m{i}", "rmsnorm", (f"r{i}",), {"eps": EPS}),
            Node(f"f{i}", "ffn", (f"m{i}",), {"hidden": HIDDEN}),
            Node(f"s{i + 1}", "add", (f"r{i}", f"f{i}")),
        ]
    nodes += [
        Node("last", "rmsnorm", (f"s{LAYERS}",), {"eps": EPS}),
        Node("y", "output", ("last",), {"size": VOCAB, "activation": "softmax", "bias": False}),
    ]
    return make_graph("transformer", nodes)


def data() -> tuple[np.ndarray, np.ndarray]:
    tokens = derive(0, "tokens").below(VOCAB, STEPS * BATCH * (CONTEXT + 1)).reshape(-1, CONTEXT + 1)
    return tokens[:, :-1].astype(np.int32), tokens[:, 1:].astype(np.int32)


def flops(weights: WeightSet) -> int:
    """Multiplications and additions of a step's products: each twice in backward; of the scores the visible half."""
    dense = sum(array.size for name, array in weights.items() if array.ndim == 2 and not name.startswith("s0."))
    scores = LAYERS * 2 * (CONTEXT + 1) // 2 * WIDTH
    return 3 * 2 * TOKENS * (dense + scores)


def native_steps(graph: Graph, weights: WeightSet) -> Callable[[], float]:
    """A function that does STEPS steps in the engine and returns the first loss."""
    model = NativeModel(graph, weights)
    x, y = data()
    program = Program(CrossEntropy(), AdamW(lr=RATE, weight_decay=DECAY), batch_size=BATCH, shuffle=False)
    state = model.start(program, {"x": x}, y)
    return lambda: float(model.run(state, STEPS)[0])


def torch_steps(weights: WeightSet) -> Callable[[], float] | None:
    """The same in PyTorch eager, or None where it is not installed."""
    try:
        import torch
        from torch.nn import functional
    except ImportError:
        return None
    torch.set_num_threads(1)
    model = _torch_model(torch, functional, weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    x, y = (torch.from_numpy(array.astype(np.int64)).split(BATCH) for array in data())
    batches = list(zip(x, y, strict=True))

    def run() -> float:
        losses = []
        for tokens, targets in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(model(tokens).reshape(-1, VOCAB), targets.reshape(-1))
            loss.backward()
            optimizer.step()
            losses.append(loss)
        return float(losses[0].detach())

    return run


def _torch_model(torch: Any, functional: Any, weights: WeightSet) -> Any:
    """The network in PyTorch with `weights`."""
    angles = np.arange(CONTEXT)[:, None] * BASE ** (-np.arange(0, HEAD, 2) / HEAD)
    cosine, sine = (torch.from_numpy(np.tile(f(angles), 2).astype(np.float32)) for f in (np.cos, np.sin))

    def turned(x: Any) -> Any:
        left, right = x.chunk(2, dim=-1)
        return x * cosine + torch.cat((-right, left), dim=-1) * sine

    class Block(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.n, self.m = (torch.nn.RMSNorm(WIDTH, eps=EPS) for _ in range(2))
            linear = lambda a, b: torch.nn.Linear(a, b, bias=False)  # noqa: E731
            self.q, self.out = linear(WIDTH, WIDTH), linear(WIDTH, WIDTH)
            self.k, self.v = (linear(WIDTH, GROUPS * HEAD) for _ in range(2))
            self.gate, self.up, self.down = linear(WIDTH, HIDDEN), linear(WIDTH, HIDDEN), linear(HIDDEN, WIDTH)

        def forward(self, x: Any) -> Any:
            h = self.n(x)
            q, k, v = (f(h).view(*h.shape[:2], -1, HEAD).transpose(1, 2) for f in (self.q, self.k, self.v))
            y = functional.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True, enable_gqa=True)
            x = x + self.out(y.transpose(1, 2).reshape(x.shape))
            h = self.m(x)
            return x + self.down(functional.silu(self.gate(h)) * self.up(h))

    model = torch.nn.Sequential(
        torch.nn.Embedding(VOCAB, WIDTH),
        *(Block() for _ in range(LAYERS)),
        torch.nn.RMSNorm(WIDTH, eps=EPS),
        torch.nn.Linear(WIDTH, VOCAB, bias=False),
    )
    ours = {"s0.weight": "0.weight", "last.weight": f"{LAYERS + 1}.weight", "y.weight": f"{LAYERS + 2}.weight"}
    for i in range(LAYERS):
        ours |= {f"n{i}.weight": f"{i + 1}.n.weight", f"m{i}.weight": f"{i + 1}.m.weight"}
        ours |= {f"a{i}.{part}.weight": f"{i + 1}.{part}.weight" for part in ("q", "k", "v", "out")}
        ours |= {f"f{i}.{part}.weight": f"{i + 1}.{part}.weight" for part in ("gate", "up", "down")}
    model.load_state_dict({ours[name]: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    return model


def summary(seconds: np.ndarray) -> dict[str, float]:
    low, median, high = (STEPS * TOKENS / np.percentile(seconds, q) for q in (75, 50, 25))
    fastest = STEPS * TOKENS / float(seconds.min())
    return {"median": float(median), "low": float(low), "high": float(high), "fastest": fastest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write the document there")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    isa = _native.available_isas()[0]
    peak = max(_native.testing.multiply_adds_per_second(isa) for _ in range(20)) * 2e-9
    graph = network()
    weights = initialise(graph, 0)
    functions = {"native": native_steps(graph, weights), "torch": torch_steps(weights)}
    present = {name: function for name, function in functions.items() if function}
    losses = {name: function() for name, function in present.items()}
    assert max(losses.values()) - min(losses.values()) < 1e-4, f"not the same network: {losses}"
    times: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(args.rounds):
        for name, function in present.items():
            began = time.thread_time()
            function()
            times[name].append(time.thread_time() - began)
    row: dict[str, Any] = {name: summary(np.array(seconds)) for name, seconds in times.items()}
    row |= {"n": args.rounds, "tokens_per_step": TOKENS, "flops_per_step": flops(weights), "first_loss": losses}
    row["peak"] = flops(weights) / TOKENS * row["native"]["fastest"] * 1e-9 / peak
    if "torch" in row:
        row["ratio"] = row["native"]["median"] / row["torch"]["median"]
        row["ratio_fastest"] = row["native"]["fastest"] / row["torch"]["fastest"]
    machine = {"processor": platform.processor() or platform.machine(), "isa": isa, "peak_gflops": peak}
    machine["load_average"] = os.getloadavg()[0]  # other work on the machine shows here
    deliver({"benchmark": "engine_transformer", "machine": machine, **row}, args.json)
    print(f"native {row['native']['median']:,.0f} tokens/s, ratio {row.get('ratio', 0):.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()

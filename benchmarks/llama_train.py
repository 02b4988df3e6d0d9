"""Training steps of one Llama: ours beside `transformers` eager on the CPU, or ours alone with its MFU on a GPU.

    python benchmarks/llama_train.py [--rounds 7] [--width 256] [--layers 4] [--length 128] [--json out.json]

On a GPU benchmarks/gpu.py calls it with the sizes of the acceptance figures.
Rounds alternate between the two in one process with one thread; the same weights, batch and AdamW. `ratio` is theirs
over ours, of the minima. MFU counts 6 FLOPs per active parameter and token outside the embedding table, and attention
12 * layers * width * length per token (Chowdhery et al., "PaLM", 2022, appendix B; causality saves nothing).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from delivery import deliver

from alexandra.backends import huggingface
from alexandra.backends.pytorch import module
from alexandra.ir import cost
from alexandra.ir.graph import Graph
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network

NETWORKS = Path(__file__).resolve().parents[1] / "examples/networks"


def network(args: argparse.Namespace) -> Graph:
    sizes = {"vocab": args.vocab, "width": args.width, "layers": args.layers, "heads": args.width // 64}
    sizes |= {"kv_heads": max(1, args.width // 256), "hidden": args.hidden or args.width * 11 // 4}
    if args.experts:
        return compile_network(NETWORKS / "mixtral.nl", constants={**sizes, "experts": args.experts})
    return compile_network(NETWORKS / "llama3.nl", constants=sizes)


Step = Callable[[], float]


def stepper(logits_of: Callable[[torch.Tensor], torch.Tensor], parameters: object, tokens: torch.Tensor) -> Step:
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = logits_of(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def timed(step: Callable[[], float], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter() if device != "cpu" else time.thread_time()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
        return time.perf_counter() - started
    return time.thread_time() - started


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rounds", 7), ("vocab", 2048), ("width", 256), ("layers", 4), ("length", 128), ("batch", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--hidden", type=int, default=0)
    parser.add_argument("--experts", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--peak", type=float, default=0.0, help="FLOP/s of the device, for the MFU")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--checkpoint", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(words)


def steppers(args: argparse.Namespace, graph: Graph) -> dict[str, Step]:
    drawn = np.random.default_rng(0).integers(0, args.vocab, (args.batch, args.length + 1))
    tokens = torch.tensor(drawn, device=args.device)
    weights = initialise(graph, 0)
    ours = module(graph, weights, checkpointed=args.checkpoint).to(args.device, getattr(torch, args.dtype))
    call = torch.compile(ours) if args.compile else ours
    steps = {"ours": stepper(lambda x: call({"tokens": x})["logits"], ours.parameters(), tokens)}
    if args.device == "cpu" and not args.experts:
        from transformers import AutoConfig, AutoModelForCausalLM

        made = huggingface.describe(graph, weights)
        config = AutoConfig.for_model(**dict(made.config))
        theirs = AutoModelForCausalLM.from_config(config, attn_implementation="eager").train()
        steps["transformers eager"] = stepper(lambda x: theirs(x, use_cache=False).logits, theirs.parameters(), tokens)
    return steps


def measured(args: argparse.Namespace) -> dict[str, object]:
    """Seconds of a step of each, tokens a second, and the MFU where the device's peak is known."""
    graph = network(args)
    steps = steppers(args, graph)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step(), step()
    for _ in range(args.rounds):
        for name, step in steps.items():
            times[name].append(timed(step, args.device))
    active = cost.active_parameters(graph) - args.vocab * args.width
    per_token = 6 * active + 12 * args.layers * args.width * args.length
    settings = {name: value for name, value in vars(args).items() if name != "json"}
    found: dict[str, object] = {**settings, "parameters": cost.parameters(graph), "active_parameters": active}
    for name, seconds in times.items():
        rate = args.batch * args.length / min(seconds)
        quartiles = statistics.quantiles(seconds, n=4)
        found[name] = {"n": len(seconds), "min": min(seconds), "quartiles": quartiles, "tokens_per_second": round(rate)}
        if args.peak:
            found["mfu"] = per_token * rate / args.peak
    if len(times) > 1:
        ratios = [b / a for a, b in zip(times["ours"], times["transformers eager"], strict=True)]
        found["ratio"] = min(times["transformers eager"]) / min(times["ours"])
        found["ratio_by_round"] = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return found


def main() -> int:
    args = arguments()
    torch.set_num_threads(1)
    deliver(measured(args), args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One AdamW step of five small networks: the native engine beside PyTorch, one pinned thread, in the same run.

    python benchmarks/engine.py [--rounds 15] [--seconds 0.1] [--threads 1] [--json out.json]

Rounds alternate between the two, so that a busy machine is busy for both. The engine shuffles and gathers its
batches; PyTorch (eager, fused AdamW) gets them ready-made. Times are per step, CPU time of the thread (wall
clock with --threads 2 or more): median, quartiles, minimum; `ratio` is that of the medians. `peak` is the share
of the FMA rate that this core reaches in the same run on registers alone.
Without torch the peer's columns stay empty.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from alexandra import _native
from alexandra.backends.native import NativeModel
from alexandra.ir.build import mlp
from alexandra.ir.check import bind_sizes
from alexandra.ir.weights import initialise
from alexandra.objectives.spec import AdamW, CrossEntropy, Program
from alexandra.rng import derive

BATCHES = 16  # batches per epoch
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Case:
    widths: tuple[int, ...]
    batch: int

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.widths))} b{self.batch}"

    @property
    def flops(self) -> int:
        """Multiplications and additions of forward, backward and weight gradients; the input needs no gradient."""
        layers = [a * b for a, b in zip(self.widths, self.widths[1:], strict=False)]
        return self.batch * (6 * sum(layers) - 2 * layers[0])


CASES = (
    Case((4, 16, 3), 32),
    Case((16, 64, 64, 3), 32),
    Case((30, 128, 64, 2), 64),
    Case((64, 256, 256, 10), 64),
    Case((256, 1024, 1024, 10), 128),
)


def data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    rows = BATCHES * case.batch
    x = derive(0, case.name, "x").normal(rows * case.widths[0]).reshape(rows, -1).astype(np.float32)
    return x, derive(0, case.name, "y").below(case.widths[-1], rows)


def native_steps(case: Case, threads: int) -> Callable[[int], object]:
    """A function that does n steps in the engine."""
    graph = mlp(*case.widths[1:-1], activation="relu", output="softmax")
    graph = bind_sizes(graph, {graph.inputs[0].name: case.widths[0], graph.outputs[0].name: case.widths[-1]})
    model = NativeModel(graph, initialise(graph, 0), threads=threads)
    x, y = data(case)
    program = Program(CrossEntropy(), AdamW(weight_decay=WEIGHT_DECAY), batch_size=case.batch)
    state = model.start(program, {graph.inputs[0].name: x}, y)
    return lambda steps: model.run(state, steps)


def torch_steps(case: Case) -> Callable[[int], object] | None:
    """The same in PyTorch eager, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for a, b in zip(case.widths, case.widths[1:], strict=False):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    x, y = data(case)
    batches = list(zip(torch.from_numpy(x).split(case.batch), torch.from_numpy(y).split(case.batch), strict=True))

    def run(steps: int) -> None:
        for step in range(steps):
            inputs, targets = batches[step % BATCHES]
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()

    return run


def rounds(
    functions: list[Callable[[int], object]], args: argparse.Namespace, clock: Callable[[], float]
) -> list[np.ndarray]:
    """Microseconds per step of each function, `args.rounds` times each, taking turns."""
    steps = []
    for function in functions:
        function(1)
        began, trial, done = clock(), 1, 0
        while (spent := clock() - began) < args.seconds / 2:
            function(trial)
            done += trial
            trial *= 2
        steps.append(max(1, int(done * args.seconds / spent)))
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(args.rounds):
        for function, n, results in zip(functions, steps, times, strict=True):
            began = clock()
            function(n)
            results.append((clock() - began) / n * 1e6)
    return [np.array(result) for result in times]


def summary(times: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(times, [25, 50, 75])
    return {"median_us": median, "low_us": low, "high_us": high, "min_us": float(times.min())}


def measure(case: Case, args: argparse.Namespace, peak: float) -> dict[str, object]:
    peer = torch_steps(case)
    functions = [native_steps(case, args.threads)] + ([peer] if peer else [])
    clock = time.thread_time if args.threads == 1 else time.perf_counter
    results = rounds(functions, args, clock)
    row: dict[str, object] = {"case": case.name, "n": args.rounds, "flops": case.flops, "native": summary(results[0])}
    row["gflops"] = case.flops / float(np.median(results[0])) / 1e3
    row["peak"] = case.flops / float(results[0].min()) / 1e3 / peak
    if peer:
        row["torch"] = summary(results[1])
        row["ratio"] = float(np.median(results[1]) / np.median(results[0]))
    return row


def show(row: dict[str, object]) -> None:
    native, peer = row["native"], row.get("torch")
    assert isinstance(native, dict)
    line = f"{row['case']:<24} native {native['median_us']:9.2f} us [{native['low_us']:.2f}, {native['high_us']:.2f}]"
    if isinstance(peer, dict):
        line += f"   torch {peer['median_us']:9.1f} us [{peer['low_us']:.1f}, {peer['high_us']:.1f}]"
        line += f"   {row['ratio']:6.1f} x"
    print(f"{line}   {row['gflops']:6.1f} GFLOP/s, {row['peak']:.0%} of peak", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each round")
    parser.add_argument("--threads", type=int, default=1, help="of the native engine")
    parser.add_argument("--json", help="also write the document there")
    args = parser.parse_args()
    if args.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    isa = _native.available_isas()[0]
    peak = max(_native.testing.multiply_adds_per_second(isa) for _ in range(20)) * 2e-9
    rows = []
    for case in CASES:
        rows.append(measure(case, args, peak))
        show(rows[-1])
    machine = {"processor": platform.processor() or platform.machine(), "isa": isa, "peak_gflops": peak}
    machine["load_average"] = os.getloadavg()[0]  # other work on the machine shows here
    document = json.dumps({"benchmark": "engine", "threads": args.threads, "machine": machine, "rows": rows}, indent=1)
    print(document)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            file.write(document + "\n")


if __name__ == "__main__":
    main()

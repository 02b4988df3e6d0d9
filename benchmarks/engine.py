"""One AdamW step of five small networks: the native engine beside JAX and PyTorch, one pinned core, in the same run.

    python benchmarks/engine.py [--rounds 15] [--seconds 0.1] [--threads 1] [--json out.json]

Rounds alternate, so that a busy machine is busy for all. The engine shuffles and gathers its batches; JAX (`jit` of a
`lax.scan` over the steps) and PyTorch (eager, fused AdamW) get them ready-made. Times are per step, CPU time of the
process (wall clock with --threads 2 or more): median, quartiles, minimum; a ratio is that of the medians, and
`ratio_of_minima` that of the least disturbed rounds. `peak` is the share of the FMA rate that this core reaches in
the same run on registers alone, `bandwidth` that of the rate at which it adds up two arrays of 64 MB: weights,
gradients and moments are counted once for each time that the step must read or write them.
A peer that is not installed stays out.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CORES = int(sys.argv[sys.argv.index("--threads") + 1]) if "--threads" in sys.argv else 1
if hasattr(os, "sched_setaffinity"):  # before any library counts the cores
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-CORES:]))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402
from delivery import deliver  # noqa: E402

from alexandra import _native  # noqa: E402
from alexandra.backends.native import NativeModel  # noqa: E402
from alexandra.ir.build import mlp  # noqa: E402
from alexandra.ir.check import bind_sizes  # noqa: E402
from alexandra.ir.weights import initialise  # noqa: E402
from alexandra.objectives.spec import AdamW, CrossEntropy, Program  # noqa: E402
from alexandra.rng import derive  # noqa: E402

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

    @property
    def bytes(self) -> int:
        """Weights read forward and backward, gradients written and read, weights and two moments read and written."""
        return 4 * 10 * sum((a + 1) * b for a, b in zip(self.widths, self.widths[1:], strict=False))


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


def jax_steps(case: Case) -> Callable[[int], object] | None:
    """The same in JAX, compiled once for an epoch of `BATCHES` steps; None where it is not installed."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    x, y = data(case)
    inputs = jnp.asarray(x.reshape(BATCHES, case.batch, -1))
    targets = jnp.asarray(y.reshape(BATCHES, case.batch).astype(np.int32))
    rng = np.random.default_rng(0)
    params = [
        (jnp.asarray(rng.normal(0, a**-0.5, (a, b)), jnp.float32), jnp.zeros(b, jnp.float32))
        for a, b in zip(case.widths, case.widths[1:], strict=False)
    ]
    rule = AdamW(weight_decay=WEIGHT_DECAY)

    def loss(params, x, y):  # type: ignore[no-untyped-def]
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        out = jax.nn.log_softmax(x @ params[-1][0] + params[-1][1])
        return -jnp.mean(jnp.take_along_axis(out, y[:, None], 1))

    def update(state, batch):  # type: ignore[no-untyped-def]
        params, m, v, t = state
        value, grads = jax.value_and_grad(loss)(params, *batch)
        t = t + 1
        m = jax.tree.map(lambda m, g: rule.beta1 * m + (1 - rule.beta1) * g, m, grads)
        v = jax.tree.map(lambda v, g: rule.beta2 * v + (1 - rule.beta2) * g * g, v, grads)
        rate, root = rule.lr / (1 - rule.beta1**t), jnp.sqrt(1 - rule.beta2**t)

        def moved(w, m, v):  # type: ignore[no-untyped-def]
            kept = w * (1 - rule.lr * rule.weight_decay) if w.ndim == 2 else w
            return kept - rate * m / (jnp.sqrt(v) / root + rule.eps)

        return (jax.tree.map(moved, params, m, v), m, v, t), value

    epoch = jax.jit(lambda state, x, y: jax.lax.scan(update, state, (x, y)), donate_argnums=0)
    zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(2)]
    state, _ = epoch((params, *zeros, jnp.float32(0)), inputs, targets)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(max(1, steps // BATCHES)):
            state, values = epoch(state, inputs, targets)
        jax.block_until_ready((state, values))

    return run


def rounds(
    functions: dict[str, Callable[[int], object]], args: argparse.Namespace, clock: Callable[[], float]
) -> dict[str, np.ndarray]:
    """Microseconds per step of each function, `args.rounds` times each, taking turns; whole epochs."""
    steps = {}
    for name, function in functions.items():
        function(BATCHES)
        began, trial, done = clock(), BATCHES, 0
        while (spent := clock() - began) < args.seconds / 2:
            function(trial)
            done += trial
            trial *= 2
        steps[name] = max(1, int(done * args.seconds / spent / BATCHES)) * BATCHES
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(args.rounds):
        for name, function in functions.items():
            began = clock()
            function(steps[name])
            times[name].append((clock() - began) / steps[name] * 1e6)
    return {name: np.array(values) for name, values in times.items()}


def summary(times: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(times, [25, 50, 75])
    return {"median_us": median, "low_us": low, "high_us": high, "min_us": float(times.min())}


def bandwidth() -> float:
    """Bytes a second that this core moves when it adds two arrays of 64 MB."""
    a, b = np.ones(2**24, np.float32), np.ones(2**24, np.float32)
    times = []
    for _ in range(7):
        began = time.process_time()
        np.add(a, b, out=a)
        times.append(time.process_time() - began)
    return 3 * a.nbytes / min(times)


def measure(case: Case, args: argparse.Namespace, peak: float, moved: float) -> dict[str, object]:
    candidates = {"native": native_steps(case, args.threads), "jax": jax_steps(case), "torch": torch_steps(case)}
    functions = {name: function for name, function in candidates.items() if function is not None}
    results = rounds(functions, args, time.process_time if args.threads == 1 else time.perf_counter)
    ours = results["native"]
    row: dict[str, object] = {"case": case.name, "n": args.rounds, "flops": case.flops}
    row |= {name: summary(times) for name, times in results.items()}
    row["gflops"] = case.flops / float(np.median(ours)) / 1e3
    row["peak"] = case.flops / float(ours.min()) / 1e3 / peak
    row["bandwidth"] = case.bytes / float(ours.min()) * 1e6 / moved
    peers = {name: times for name, times in results.items() if name != "native"}
    row["ratio"] = {name: float(np.median(times) / np.median(ours)) for name, times in peers.items()}
    row["ratio_of_minima"] = {name: float(times.min() / ours.min()) for name, times in peers.items()}
    return row


def show(row: dict[str, object]) -> None:
    native, ratios, minima = row["native"], row["ratio"], row["ratio_of_minima"]
    assert isinstance(native, dict) and isinstance(ratios, dict) and isinstance(minima, dict)
    line = f"{row['case']:<24} native {native['median_us']:9.2f} us (least {native['min_us']:.2f})"
    for name, ratio in ratios.items():
        peer = row[name]
        assert isinstance(peer, dict)
        line += f"   {name} {peer['median_us']:9.1f} us, {ratio:6.2f} x ({minima[name]:.2f})"
    shares = f"{row['peak']:.0%} of FMA, {row['bandwidth']:.0%} of bandwidth"
    print(f"{line}   {row['gflops']:6.1f} GFLOP/s, {shares}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each round")
    parser.add_argument("--threads", type=int, default=1, help="of the native engine")
    parser.add_argument("--json", type=Path, help="also write the document there")
    args = parser.parse_args()
    isa = _native.available_isas()[0]
    peak = max(_native.testing.multiply_adds_per_second(isa) for _ in range(20)) * 2e-9
    moved, rows = bandwidth(), []
    for case in CASES:
        rows.append(measure(case, args, peak, moved))
        show(rows[-1])
    machine = {"processor": platform.processor() or platform.machine(), "isa": isa, "peak_gflops": peak}
    machine["peak_gbytes"] = moved / 1e9
    machine["load_average"] = os.getloadavg()[0]  # other work on the machine shows here
    found = {"benchmark": "engine", "threads": args.threads, "machine": machine, "rows": rows}
    deliver(found, args.json)


if __name__ == "__main__":
    main()

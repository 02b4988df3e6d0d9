"""Populations: small networks side by side in the engine beside JAX (`vmap` of a step in a `scan`), in the same run.

    python benchmarks/population.py [--threads 1] [--rounds 7] [--seconds 0.3] [--json out.json] [--networks 10000]

A network-step is one optimiser step of one network; every network has data of its own. The engine shuffles and
gathers its batches, JAX gets them ready-made and in order, and the best of three sizes of its population counts.
Rounds alternate. With one thread everything is pinned to one core and times are the process' CPU time, which other
work on the machine disturbs least; with more it is wall clock. Rates are medians, with quartiles. `flops` are the
engine's multiplications and additions against what this core reaches on registers alone.
At last: `--networks` different networks (shapes, data, seeds, objectives, optimisers) trained by `fit_many` to their
own early stop, wall clock, planning included.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CORES = int(sys.argv[sys.argv.index("--threads") + 1]) if "--threads" in sys.argv else 1
if hasattr(os, "sched_setaffinity"):  # before any library counts the cores
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-CORES:]))
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, str(CORES))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402
from delivery import deliver  # noqa: E402

from alexandra import _native  # noqa: E402
from alexandra.backends.population import Seat, Shape, train  # noqa: E402
from alexandra.ir.build import mlp  # noqa: E402
from alexandra.ir.check import bind_sizes  # noqa: E402
from alexandra.ir.graph import Graph  # noqa: E402
from alexandra.objectives.spec import (  # noqa: E402
    MSE,
    SGD,
    Adam,
    AdamW,
    CrossEntropy,
    Objective,
    Optimizer,
    Program,
)
from alexandra.train.fits import Fit  # noqa: E402
from alexandra.train.population import fit_many  # noqa: E402

CLOCK = time.process_time if CORES == 1 else time.perf_counter
BATCHES = 16  # of every network's data
JAX_SIZES = (64, 256, 1024)


@dataclass(frozen=True)
class Case:
    widths: tuple[int, ...]
    batch: int
    objective: Objective
    optimizer: Optimizer

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.widths))} b{self.batch} {type(self.optimizer).__name__}"

    @property
    def flops(self) -> int:
        layers = [a * b for a, b in zip(self.widths, self.widths[1:], strict=False)]
        return self.batch * (6 * sum(layers) - 2 * layers[0])


CASES = tuple(
    Case(widths, batch, objective, optimizer)
    for widths, batch, objective in (((2, 8, 1), 4, MSE()), ((64, 32, 10), 32, CrossEntropy()))
    for optimizer in (SGD(0.01), AdamW(0.001))
)


def network(widths: tuple[int, ...], objective: Objective, activation: str = "relu") -> Graph:
    output = "softmax" if isinstance(objective, CrossEntropy) else "linear"
    graph = mlp(*widths[1:-1], activation=activation, output=output)
    return bind_sizes(graph, {graph.inputs[0].name: widths[0], graph.outputs[0].name: widths[-1]})


def data(widths: tuple[int, ...], objective: Objective, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a random teacher: a direction for each output."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*shape, widths[0])).astype(np.float32)
    y = np.tanh(x @ rng.standard_normal((widths[0], widths[-1]))).astype(np.float32)
    return x, y.argmax(-1).astype(np.int32) if isinstance(objective, CrossEntropy) else y


def engine_steps(case: Case, networks: int) -> Callable[[int], float]:
    """A function that trains the population anew for so many steps each, and gives the seconds of training."""
    shape = Shape(network(case.widths, case.objective), case.objective)
    rows = BATCHES * case.batch
    x, y = data(case.widths, case.objective, (networks, rows))
    targets = [shape.targets(y[i], {"x": x[i]}, rows) for i in range(networks)]

    def run(steps: int) -> float:
        weights = shape.first_weights(range(networks))
        seats = []
        for i in range(networks):
            program = Program(case.objective, case.optimizer, batch_size=case.batch, seed=i)
            seats.append(Seat(program, steps // BATCHES, -np.inf, [x[i]], targets[i], [], [], weights[i]))
        population = shape.population(case.batch, seats)
        began = CLOCK()
        train([population], CORES, lambda ended: None)
        return CLOCK() - began

    return run


def jax_steps(case: Case, networks: int) -> Callable[[int], float] | None:
    """The same in JAX, compiled once for `BATCHES` steps; None where it is not installed."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    x, y = data(case.widths, case.objective, (BATCHES, networks, case.batch))
    rng = np.random.default_rng(1)
    params = [
        (jnp.asarray(rng.normal(0, a**-0.5, (networks, a, b)), jnp.float32), jnp.zeros((networks, b), jnp.float32))
        for a, b in zip(case.widths, case.widths[1:], strict=False)
    ]

    def loss(params, x, y):  # type: ignore[no-untyped-def]
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        out = x @ params[-1][0] + params[-1][1]
        if isinstance(case.objective, MSE):
            return jnp.mean((out - y) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1))

    rule = case.optimizer

    def update(state, batch):  # type: ignore[no-untyped-def]
        params, m, v, t = state
        value, grads = jax.vmap(jax.value_and_grad(loss))(params, *batch)
        if isinstance(rule, SGD):
            return (jax.tree.map(lambda w, g: w - rule.lr * g, params, grads), m, v, t), value
        t = t + 1
        m = jax.tree.map(lambda m, g: rule.beta1 * m + (1 - rule.beta1) * g, m, grads)
        v = jax.tree.map(lambda v, g: rule.beta2 * v + (1 - rule.beta2) * g * g, v, grads)
        rate, root = rule.lr / (1 - rule.beta1**t), jnp.sqrt(1 - rule.beta2**t)

        def moved(w, m, v):  # type: ignore[no-untyped-def]
            kept = w * (1 - rule.lr * rule.weight_decay) if w.ndim == 3 else w
            return kept - rate * m / (jnp.sqrt(v) / root + rule.eps)

        return (jax.tree.map(moved, params, m, v), m, v, t), value

    epoch = jax.jit(lambda state, x, y: jax.lax.scan(update, state, (x, y)))
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros, zeros, jnp.float32(0))
    x, y = jnp.asarray(x), jnp.asarray(y)
    jax.block_until_ready(epoch(state, x, y))

    def run(steps: int) -> float:
        nonlocal state
        began = CLOCK()
        for _ in range(steps // BATCHES):
            state, values = epoch(state, x, y)
        jax.block_until_ready((state, values))
        return CLOCK() - began

    return run


def rates(runs: dict[str, tuple[Callable[[int], float], int]], args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Million network-steps per second of each runner, taking turns, `args.rounds` times."""
    steps = {}
    for key, (run, _) in runs.items():
        run(BATCHES)
        steps[key] = 4 * BATCHES
        while (spent := run(steps[key])) < args.seconds / 4:
            steps[key] *= 2
        steps[key] = max(1, int(steps[key] * args.seconds / spent / BATCHES)) * BATCHES
    found: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(args.rounds):
        for key, (run, networks) in runs.items():
            found[key].append(networks * steps[key] / run(steps[key]) / 1e6)
    return {key: np.array(values) for key, values in found.items()}


def summary(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": median, "low": low, "high": high, "max": float(values.max())}


def measure(case: Case, args: argparse.Namespace, peak: float) -> dict[str, object]:
    networks = 512 * CORES
    runs: dict[str, tuple[Callable[[int], float], int]] = {"engine": (engine_steps(case, networks), networks)}
    for size in JAX_SIZES:
        if peer := jax_steps(case, size):
            runs[f"jax {size}"] = (peer, size)
    found = rates(runs, args)
    row: dict[str, object] = {"case": case.name, "n": args.rounds, "unit": "million network-steps per second"}
    row |= {key: summary(values) for key, values in found.items()}
    ours = float(np.median(found["engine"]))
    row["gflops"], row["peak"] = ours * case.flops / 1e3, ours * case.flops / 1e3 / peak / CORES
    peers = [float(np.median(values)) for key, values in found.items() if key != "engine"]
    if peers:
        row["ratio"] = ours / max(peers)
    best = f"   jax {max(peers):8.3f}   {row['ratio']:6.2f} x" if peers else ""
    print(f"{case.name:<24} engine {ours:8.3f} M/s{best}   {row['peak']:.0%} of the FMA peak", file=sys.stderr)
    return row


def different(count: int) -> list[Fit]:
    """Networks that differ in shape, data, seed, objective, optimiser and settings, with a stop rule each."""
    rng = np.random.default_rng(2)
    graphs: dict[object, Graph] = {}
    fits = []
    for i in range(count):
        objective: Objective = (MSE(), CrossEntropy())[i % 2]
        widths = (int(rng.integers(2, 7)), *([int(rng.choice([4, 8, 12, 16]))] * int(rng.integers(1, 3))), 2 + i % 2)
        activation = ("relu", "tanh")[int(rng.integers(2))]
        graph = graphs.setdefault((widths, activation), network(widths, objective, activation))
        rows = int(rng.choice([96, 128, 160]))
        x = rng.standard_normal((rows + 48, widths[0])).astype(np.float32)
        y = np.tanh(x @ rng.standard_normal((widths[0], widths[-1]))) + 0.1 * rng.standard_normal((len(x), widths[-1]))
        t = y.argmax(-1) if isinstance(objective, CrossEntropy) else y.astype(np.float32)
        lr = float(10 ** rng.uniform(-2.5, -1.5))
        optimizer = (SGD(10 * lr, momentum=0.9), Adam(lr), AdamW(lr))[int(rng.integers(3))]
        held = ({"x": x[rows:]}, t[rows:])
        settings = {"validation": held, "patience": int(rng.integers(4, 12)), "seed": i, "epochs": 200}
        fits.append(Fit(graph, {"x": x[:rows]}, t[:rows], objective, optimizer, batch_size=16, **settings))  # type: ignore[arg-type]
    return fits


def own_stops(count: int) -> dict[str, object]:
    fits = different(count)
    began, cpu = time.perf_counter(), time.process_time()
    fitted = fit_many(fits, threads=CORES)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    epochs = np.array([len(one.train_losses) for one in fitted])
    steps = int(sum(one.steps for one in fitted))
    failed = sum(one.error is not None for one in fitted)
    shapes = len({id(fit.graph) for fit in fits})
    times = f"{seconds:.1f} s ({cpu:.1f} s CPU)"
    print(f"{count} different networks of {shapes} shapes: {times}, {steps} steps", file=sys.stderr)
    low, median, high = np.percentile(epochs, [5, 50, 95])
    spread = {"p5": low, "median": median, "p95": high}
    return {"networks": count, "shapes": shapes, "seconds": seconds, "cpu_seconds": cpu, "steps": steps,
            "epochs": spread, "failed": failed}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of the engine, and cores that all may use")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each round")
    parser.add_argument("--networks", type=int, default=10000, help="different ones, to their own stop")
    parser.add_argument("--json", type=Path, help="also write the document there")
    args = parser.parse_args()
    isa = _native.available_isas()[0]
    peak = max(_native.testing.multiply_adds_per_second(isa) for _ in range(20)) * 2e-9
    rows = [measure(case, args, peak) for case in CASES]
    machine = {"isa": isa, "peak_gflops": peak, "load_average": os.getloadavg()[0]}
    document = {"benchmark": "population", "threads": CORES, "machine": machine, "rows": rows}
    document["own_stops"] = own_stops(args.networks)
    deliver(document, args.json)


if __name__ == "__main__":
    main()

"""Seconds from an empty process to the first step of each example network: import, compile, plan.

    python benchmarks/startup.py [--rounds 5] [--json out.json]

Every round is a new process for each network. `import` is alexandra with the native backend; `compile` is text to
graph; `plan` is the engine's for 32 rows (`bind`, then `start` with its gradients and moments), weights of zero
given: drawing first weights (`draw`) is work on the values themselves, and is shown apart. Processor seconds of the
process, the minimum of the rounds. Networks of more than 50 million parameters are compiled and not planned.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

NETWORKS = Path(__file__).parents[1] / "examples/networks"
LARGEST = 50_000_000
SIZES = {"x": 16, "y": 3, "S": 32, "T": 32}

ONE = """
import time, json, sys
began = time.process_time()
import numpy as np
import alexandra as ax
from alexandra.backends.native import NativeModel
from alexandra.ir.check import auto_nodes, bind_sizes, param_specs, infer
from alexandra.ir.weights import WeightSet, initialise
from alexandra.objectives.spec import MSE, AdamW, Program
from pathlib import Path
imported = time.process_time()
sizes, largest = {sizes}, {largest}
graph = ax.compile(Path({path!r}))
open_sizes = {{node.name: sizes.get(node.name, 8) for node in auto_nodes(graph)}}
graph = bind_sizes(graph, open_sizes) if open_sizes else graph
axes = {{dim: sizes.get(dim, 8) for node in graph.inputs for dim in node.attrs["shape"] if isinstance(dim, str)}}
graph = bind_sizes(graph, axes) if axes else graph
specs = param_specs(graph)
compiled = time.process_time()
count = sum(spec.size for spec in specs.values())
found = {{"parameters": count, "import": imported - began, "compile": compiled - imported}}
if count <= largest:
    zeros = WeightSet({{name: np.zeros(spec.shape, np.float32) for name, spec in specs.items()}})
    types = infer(graph)
    rows = 32 if len(graph.nodes) < 100 else 4
    inputs = {{n.name: np.zeros((rows, *n.attrs["shape"]), n.attrs["dtype"]) for n in graph.inputs}}
    targets = {{n.name: np.zeros((rows, *types[n.name].shape), np.float32) for n in graph.outputs}}
    begun = time.process_time()
    model = NativeModel(graph, zeros, max_rows=rows)
    state = model.start(Program(MSE(), AdamW(), batch_size=rows), inputs, targets)
    found["plan"] = time.process_time() - begun
    found["bytes"] = sum(model.memory.values())
    begun = time.process_time()
    if count < 5_000_000:
        initialise(graph, 0)
        found["draw"] = time.process_time() - begun
    begun = time.process_time()
    model.run(state, 1)
    found["first step"] = time.process_time() - begun
print(json.dumps(found))
"""


def measure(path: Path, rounds: int) -> dict[str, float]:
    """The least of each figure over some processes."""
    script = ONE.format(path=str(path), sizes=SIZES, largest=LARGEST)
    runs = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1]}  # type: ignore[dict-item]
        runs.append(json.loads(done.stdout))
    best = {key: min(run[key] for run in runs) for key in runs[0]}
    best["before the first step"] = best["import"] + best["compile"] + best.get("plan", 0.0)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds before the first step of each example network.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    networks = {path.stem: measure(path, given.rounds) for path in sorted(NETWORKS.glob("*.nl"))}
    result = {"machine": platform.processor() or platform.machine(), "rounds": given.rounds, "networks": networks}
    for name, found in networks.items():
        cells = {k: v if isinstance(v, str | int) else round(v, 3) for k, v in found.items()}
        print(f"{name:18} {cells}", file=sys.stderr)
    print(json.dumps(result, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

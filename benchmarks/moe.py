"""A mixture of experts beside the dense network of equal active parameters, on four kinds of real text at once.

    python benchmarks/moe.py [--steps 400] [--seeds 3] [--width 64] [--device cpu] [--json out.json]

Both read bytes of Shakespeare, Python sources, an encyclopedia and many languages ($ALEXANDRA_DATA or ../shared/data),
in the same order, with the same attention; each position uses 2 of 8 experts of `hidden`, or one feed-forward block of
2 * hidden. Reported for each seed: validation loss (nats a byte), the load of every expert on validation text and its
coefficient of variation by layer, seconds; and the paired difference with its interval. Without the data it says so
and stops.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from delivery import deliver
from scipy import stats

from alexandra.backends.pytorch import TorchModel
from alexandra.ir import cost
from alexandra.ir.graph import Graph
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network
from alexandra.nn.passing import Pass
from alexandra.objectives.spec import AdamW, CrossEntropy, Program, Schedule
from alexandra.rng import derive

LENGTH, BATCH, EXPERTS, ACTIVE = 64, 16, 8, 2
SOURCES = {
    "shakespeare": "lm_text/tinyshakespeare_train.txt.gz",
    "python": "lm_text/python_stdlib.jsonl.gz",
    "encyclopedia": "lm_text/wiki_demo.txt.gz",
    "languages": "languages/udhr_55_languages.jsonl.gz",
}
TEXT = """
BEGIN
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab=256 size={width}
  REPEAT {layers} AS block
  BEGIN
    RESIDUAL BEGIN LAYER RMSNORM name=attention_norm LAYER ATTENTION name=attention heads=4 rope=10000 END
    RESIDUAL BEGIN LAYER RMSNORM name=ffn_norm LAYER {feed} END
  END
  LAYER RMSNORM name=norm
  LAYER OUTPUT name=logits size=256 bias=FALSE
  CONNECT tokens -> embed -> block -> norm -> logits
END
"""


def network(kind: str, width: int, layers: int, hidden: int) -> Graph:
    feeds = {
        "moe": f"MOE name=moe experts={EXPERTS} top_k={ACTIVE} hidden={hidden} balance=0.02 z_loss=0.001",
        "dense": f"FFN name=ffn hidden={ACTIVE * hidden}",
    }
    return compile_network(TEXT.format(width=width, layers=layers, feed=feeds[kind]), name=kind)


def rows_of(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation) rows of LENGTH + 1 bytes, equally many of each source; validation is its last tenth."""
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name, place in SOURCES.items():
        data = gzip.decompress((folder / place).read_bytes())
        if place.endswith(".jsonl.gz"):
            documents = [json.loads(line) for line in data.splitlines()]
            data = "\n".join(str(d.get("text", d)) for d in documents).encode()
        values, cut = np.frombuffer(data, np.uint8), len(data) * 9 // 10
        halves = (values[:cut], count), (values[cut:], max(32, count // 20))
        for part, (text, wanted) in zip(parts, halves, strict=True):
            starts = derive(0, "rows", name, wanted).below(len(text) - LENGTH - 1, wanted // len(SOURCES))
            part.append(np.stack([text[s : s + LENGTH + 1] for s in starts]))
    train, valid = (np.concatenate(part).astype(np.int32) for part in parts)
    return train, valid


def run(graph: Graph, seed: int, steps: int, data: tuple[np.ndarray, np.ndarray], device: str) -> dict[str, object]:
    train, valid = data
    model = TorchModel(graph, initialise(graph, seed), device=device)
    schedule = Schedule("cosine", warmup_steps=steps // 20, total_steps=steps, final=0.1)
    program = Program(CrossEntropy(), AdamW(3e-3, weight_decay=0.01), schedule, BATCH, clip_norm=1.0, seed=seed)
    started = time.perf_counter()
    state = model.start(program, {"tokens": train[:, :-1]}, train[:, 1:])
    losses = model.run(state, steps)
    seconds = time.perf_counter() - started
    parts = [model.loss({"tokens": rows[:, :-1]}, rows[:, 1:], CrossEntropy()) for rows in np.array_split(valid, 8)]
    gates = [node.name for node in model.admission.primitive.nodes if node.op == "top_k_gate"]
    loads: list[list[float]] = []
    if gates:
        with torch.inference_mode():
            tokens = torch.tensor(valid[:, :-1], device=model.device)
            values = model.module.values({"tokens": tokens}, Pass(), set(gates))
        loads = [(values[name] != 0).float().flatten(0, 1).mean(0).tolist() for name in gates]
    return {
        "seed": seed,
        "validation_loss": float(np.mean(parts)),
        "first_losses": float(losses[:5].mean()),
        "seconds": round(seconds, 1),
        "loads": [[round(share, 4) for share in load] for load in loads],
        "coefficients_of_variation": [round(statistics.pstdev(x) / statistics.mean(x), 4) for x in loads],
    }


def interval(differences: np.ndarray) -> dict[str, float]:
    """Mean and Student's 95 % interval of the paired differences of the seeds."""
    half = float(stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5)
    mean = float(differences.mean())
    return {"n": len(differences), "mean": mean, "low": mean - half, "high": mean + half}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    folder = Path(os.environ.get("ALEXANDRA_DATA", Path(__file__).parents[2] / "shared/data"))
    if not (folder / SOURCES["shakespeare"]).exists():
        print(f"no text in {str(folder)!r}: set ALEXANDRA_DATA", file=sys.stderr)
        return 1
    data = rows_of(folder, args.steps * BATCH)
    settings = {name: value for name, value in vars(args).items() if name != "json"}
    found: dict[str, object] = {"torch": torch.__version__, "threads": torch.get_num_threads(), **settings}
    every: dict[str, np.ndarray] = {}
    for kind in ("moe", "dense"):
        graph = network(kind, args.width, args.layers, args.hidden)
        runs = [run(graph, seed, args.steps, data, args.device) for seed in range(args.seeds)]
        losses = [float(str(r["validation_loss"])) for r in runs]
        found[kind] = {
            "parameters": cost.parameters(graph),
            "active_parameters": cost.active_parameters(graph),
            "validation_loss": {"n": len(losses), "mean": statistics.mean(losses), "all": losses},
            "runs": runs,
        }
        print(f"{kind}: {losses}", file=sys.stderr)
        every[kind] = np.array(losses)
    if args.seeds > 1:
        found["dense_minus_moe"] = interval(every["dense"] - every["moe"])
    deliver(found, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

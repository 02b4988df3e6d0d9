"""What only a GPU can show, in one command: MFU of a dense and of a sparse Llama, and attention over 1M tokens.

    python benchmarks/gpu.py [--peak 989e12] [--json out.json]      # one H100 or H200: 989e12 FLOP/s dense bfloat16
    python benchmarks/gpu.py --tiny                                  # the same code on a CPU at a size of nothing

Wanted: at least 50 % MFU for 0.35 to 1.5 billion dense parameters and 40 % for a mixture of experts, both in bfloat16
with FLOPs counted by hand (llama_train.py); windowed attention of 128k and 1M tokens, forward and backward, whose
memory per position does not grow (attention_memory.py). "reached" says of each whether it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import attention_memory
import llama_train
import torch
from delivery import deliver

FLOPS = 989e12  # dense bfloat16 of an H100 or H200, as NVIDIA states it
LARGE = "--device cuda --dtype bfloat16 --length 2048 --vocab 32000 --compile --rounds 10"
TINY = "--device cpu --rounds 2 --length 16 --batch 2 --vocab 64 --width 64 --layers 1 --hidden 32"
RUNS = {  # what is wanted, and the sizes
    "dense 0.35 B": (0.5, "--batch 8 --width 1024 --layers 24"),
    "dense 1.3 B": (0.5, "--batch 4 --width 2048 --layers 24 --hidden 5504"),
    "mixture of 8": (0.4, "--batch 8 --width 1024 --layers 12 --hidden 2816 --experts 8"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", type=float, default=FLOPS, help="FLOP/s of the device in bfloat16")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, to see that every part runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not args.tiny and not torch.cuda.is_available():
        print("no GPU: torch.cuda.is_available() is False; --tiny runs every part on the CPU", file=sys.stderr)
        return 1
    found: dict[str, object] = {"torch": torch.__version__, "tiny": args.tiny}
    if not args.tiny:
        found["device"] = torch.cuda.get_device_name()
    reached: dict[str, bool] = {}
    for name, (wanted, words) in RUNS.items():
        given = f"{words} {TINY}" if args.tiny else f"{LARGE} {words}"  # the later word wins
        result = llama_train.measured(llama_train.arguments([*given.split(), "--peak", str(args.peak)]))
        found[name] = result
        reached[f"{name}: MFU >= {wanted:.0%}"] = float(str(result["mfu"])) >= wanted
    lengths = [2048, 4096] if args.tiny else [131_072, 1_048_576]
    device, dtype = ("cpu", "float32") if args.tiny else ("cuda", "bfloat16")
    rows = attention_memory.peaks(["window"], lengths, device, dtype)
    short, long = (float(str(row["per_position"])) for row in rows)
    found["attention"] = rows
    reached[f"attention: {lengths[1]:,} tokens cost no more a position than {lengths[0]:,}"] = long <= 1.2 * short
    found["reached"] = reached
    deliver(found, args.json)
    return 0 if args.tiny or all(reached.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
